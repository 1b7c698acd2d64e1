"""Step `directions`: whether the deltas of two pairs on one base point the same way."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from affectlocus.orchestration.rule_values import as_images, repeated
from affectlocus.orchestration.steps.step import StepJobs


class DirectionsJobs(StepJobs):
    """The jobs of rules/directions.smk."""

    @cached_property
    def pairs_of_pairs(self) -> dict[str, tuple[str, str]]:
        """FIRST-and-SECOND → two tuned checkpoints on one base, for which a figure is drawn.

        Each pair of the matrix is compared with every other pair on its base, and with itself: two
        seeds of one recipe show how much agreement to expect. The two seeds differ where there
        are several, because two adapters with one seed start from the same factors, and so agree
        whatever they learn. Where each seed has a base of its own, both have the first seed.
        """
        pairs, checkpoints = self.parameters.pairs, self.artifacts.checkpoints
        found: dict[frozenset[str], tuple[str, str]] = {}
        for first in self.parameters.matrix.pairs:
            for second, pair in pairs.items():
                domains = (pairs[first].evidence, pair.evidence)
                if pair.base == pairs[first].base and "affective" in domains:
                    last = 0 if self.parameters.bases[pair.base].replicated else -1
                    pair_of_pairs = checkpoints[first][0], checkpoints[second][last]
                    found.setdefault(frozenset((first, second)), pair_of_pairs)
        return {f"{one}-and-{two}": (one, two) for one, two in found.values() if one != two}

    @property
    def files(self) -> list[str]:
        """The directions of every base for which a figure is drawn."""
        bases = dict.fromkeys(
            self.artifacts.base_of(first) for first, _ in self.pairs_of_pairs.values()
        )
        return [f"results/directions/{base}.parquet" for base in bases]

    @property
    def figures(self) -> list[str]:
        """Every figure that compares two pairs."""
        return as_images(f"directions.{pair_of_pairs}" for pair_of_pairs in self.pairs_of_pairs)

    def tuned(self, wildcards: Any) -> list[str]:
        """The tuned checkpoints of a base."""
        return self.artifacts.siblings[wildcards.base]

    def weights(self, wildcards: Any) -> list[str]:
        """The weights of a base and of its tuned checkpoints that the workflow makes."""
        base = wildcards.base
        return self.artifacts.weights(base, *self.artifacts.siblings[base])

    def readings(self, wildcards: Any) -> str:
        """How each tuned checkpoint is read, as JSON."""
        pairs, artifacts = self.parameters.pairs, self.artifacts
        names = artifacts.siblings[wildcards.base]
        read = {name: pairs[artifacts.pair_of[name]].reading for name in names}
        return json.dumps({name: reading.model_dump() for name, reading in read.items()})

    def chain(self, wildcards: Any) -> list[str]:
        """The adapters that are merged into a base, as inputs."""
        return self.artifacts.chain(wildcards.base)

    def chain_flags(self, wildcards: Any) -> str:
        """The adapters that are merged into a base, as options."""
        return self.artifacts.chain_flags(wildcards.base)

    def common_base(self, wildcards: Any) -> str:
        """The base of a figure's two checkpoints."""
        first, _ = self.pairs_of_pairs[wildcards.pair_of_pairs]
        return self.artifacts.base_of(first)

    def figure_flags(self, wildcards: Any, input: Any) -> str:  # noqa: A002
        """The directions and the two checkpoints of a figure, as options."""
        pair = repeated("pair", self.pairs_of_pairs[wildcards.pair_of_pairs])
        return f"{repeated('directions', input)} {pair}"
