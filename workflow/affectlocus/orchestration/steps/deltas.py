"""Step `deltas`: what tuning changed."""

from __future__ import annotations

from functools import cached_property

from affectlocus.orchestration.steps.step import PairInputs


class DeltasJobs(PairInputs):
    """The jobs of rules/deltas.smk."""

    @cached_property
    def groups(self) -> list[list[str]]:
        """The checkpoints whose deltas share a job."""
        return self.measured_together(self.artifacts.checkpoints)

    @cached_property
    def single(self) -> list[str]:
        """The checkpoints that have a job of their own."""
        grouped = {name for group in self.groups for name in group}
        return [name for name in self.artifacts.pair_of if name not in grouped]

    @property
    def files(self) -> list[str]:
        """The deltas of every tuned checkpoint of every pair."""
        return [f"results/deltas/{name}.parquet" for name in self.artifacts.pair_of]

    def of(self, pair: str) -> list[str]:
        """The deltas of a pair, a file for each seed."""
        return [f"results/deltas/{name}.parquet" for name in self.artifacts.checkpoints[pair]]
