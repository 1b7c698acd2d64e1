"""Step `deltas`: what tuning changed."""

from __future__ import annotations

from affectlocus.orchestration.steps.step import PairInputs


class DeltasJobs(PairInputs):
    """The jobs of rules/deltas.smk."""

    @property
    def files(self) -> list[str]:
        """The deltas of every tuned checkpoint of every pair."""
        return [f"results/deltas/{name}.parquet" for name in self.artifacts.pair_of]

    def of(self, pair: str) -> list[str]:
        """The deltas of a pair, a file for each seed."""
        return [f"results/deltas/{name}.parquet" for name in self.artifacts.checkpoints[pair]]
