"""What the steps have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.rule_values import checkpoint, settings

T = TypeVar("T")


def equal_parts(members: list[T], most: int) -> list[list[T]]:
    """Splits members into the fewest parts of at most `most` members, of nearly equal length."""
    parts = -(-len(members) // most)
    ends = [round(part * len(members) / parts) for part in range(parts + 1)]
    return [members[start:end] for start, end in pairwise(ends)]


class StepJobs:
    """The inputs, parameters and outputs of one step's rules."""

    def __init__(self, artifacts: Artifacts) -> None:
        self.artifacts = artifacts
        self.parameters = artifacts.parameters

    def of_pair(self, wildcards: Any) -> list[str]:
        """The tuned checkpoints of a pair, one for each seed."""
        return self.artifacts.checkpoints[wildcards.pair]


class TrainingJobs(StepJobs):
    """A step that trains checkpoints, several of which may share a job."""

    def seeds_together(self, names: list[str], pairs: Iterable[str]) -> list[list[str]]:
        """Splits a checkpoint's seeds into jobs.

        Those that a table waits for are at least two jobs.

        Args:
            pairs: the pairs that the checkpoint belongs to.
        """
        matrix = self.parameters.matrix
        size = matrix.tunings_per_job
        if not {*matrix.pairs, *matrix.beside}.isdisjoint(pairs):
            size = min(size, -(-len(names) // 2))
        return equal_parts(names, size)

    def own_json(self, wildcards: Any, output: Any) -> str:  # noqa: ARG002
        """What the checkpoints of a job have of their own, as JSON: their outputs and `_own`.

        Snakemake does not compare parameters that are derived from `output`. So another number of
        checkpoints in a job (matrix.tunings_per_job) reruns nothing.
        """
        files = [output.manifest] if isinstance(output.manifest, str) else output.manifest
        names = [Path(file).name.removesuffix(".json") for file in files]
        return json.dumps(
            [
                {"folder": f"checkpoints/{name}", "out": file, **self._own(name)}
                for name, file in zip(names, files, strict=True)
            ]
        )

    def _own(self, name: str) -> dict[str, Any]:
        """The keys of a checkpoint's recipe that differ from those of the others in its job."""
        raise NotImplementedError


@dataclass(frozen=True)
class PairReading:
    """The inputs and parameters of a job that reads tuned checkpoints of one pair.

    Attributes:
        base: the base of each tuned checkpoint.
    """

    base: list[str]
    tuned: list[str]
    weights: list[str]
    chain: list[str]
    chain_flags: str
    reading: str


class PairInputs(StepJobs):
    """A step whose jobs read a pair's base and tuned checkpoint, by the wildcard `tuned`."""

    def measured_together(self, pairs: Iterable[str]) -> list[list[str]]:
        """The tuned checkpoints that share a job: those of a pair (deltas.checkpoints_per_job)."""
        size = self.parameters.deltas.checkpoints_per_job
        parts = [equal_parts(self.artifacts.checkpoints[pair], size) for pair in pairs]
        return [part for own in parts for part in own if len(part) > 1]

    def together(self, names: list[str]) -> PairReading:
        """The inputs and parameters of a job that reads these checkpoints of one pair."""
        bases = [self.artifacts.base_of(name) for name in names]
        return PairReading(
            base=[checkpoint(base) for base in bases],
            tuned=[checkpoint(name) for name in names],
            weights=self.artifacts.weights(*bases, *names),
            chain=self.artifacts.chain(bases[0]),
            chain_flags=self.artifacts.chain_flags(bases[0]),
            reading=settings(self.parameters.pairs[self.artifacts.pair_of[names[0]]].reading),
        )

    def pair_base(self, wildcards: Any) -> str:
        """The pair's base."""
        return self.artifacts.base_of(wildcards.tuned)

    def pair_weights(self, wildcards: Any) -> list[str]:
        """The weights of the base and of the tuned checkpoint that the workflow makes."""
        base = self.artifacts.base_of(wildcards.tuned)
        return self.artifacts.weights(base, wildcards.tuned)

    def pair_reading(self, wildcards: Any) -> str:
        """How the tuned checkpoint is read, as JSON."""
        pair = self.artifacts.pair_of[wildcards.tuned]
        return settings(self.parameters.pairs[pair].reading)

    def pair_chain(self, wildcards: Any) -> list[str]:
        """The adapters that are merged into the base, as inputs."""
        return self.artifacts.chain(self.artifacts.base_of(wildcards.tuned))

    def pair_chain_flags(self, wildcards: Any) -> str:
        """The adapters that are merged into the base, as options."""
        return self.artifacts.chain_flags(self.artifacts.base_of(wildcards.tuned))
