"""Step `places`: module sets among random places of the same size."""

from __future__ import annotations

from typing import Any

from affectlocus.orchestration.matrix import seeds_of
from affectlocus.orchestration.rule_values import as_images, index_of, options
from affectlocus.orchestration.steps.step import PairInputs


class PlacesJobs(PairInputs):
    """The jobs of rules/places.smk."""

    @property
    def pairs(self) -> list[str]:
        """The pairs whose module sets are compared with random places."""
        matrix = self.parameters.matrix
        return list(matrix.pairs) if matrix.random_places.modules else []

    @property
    def tuned(self) -> list[str]:
        """Their tuned checkpoints, with a job each."""
        return [name for pair in self.pairs for name in self.artifacts.checkpoints[pair]]

    @property
    def files(self) -> list[str]:
        """The percentiles of every pair, and the scores that they follow from."""
        return [
            file
            for pair in self.pairs
            for file in (f"results/random_places.{pair}.csv", f"results/places/{pair}.csv")
        ]

    @property
    def figures(self) -> list[str]:
        """A figure for each pair."""
        return as_images(f"places.{pair}" for pair in self.pairs)

    def answers(self, wildcards: Any) -> list[str]:
        """The answers of a pair's checkpoints."""
        return [f"results/places/{name}.parquet" for name in self.of_pair(wildcards)]

    def tasks(self, tuned: str) -> list[str]:
        """The benchmarks of a checkpoint whose answers are candidates."""
        asked = self.parameters.columns_of(self.artifacts.pair_of[tuned])
        return [name for name in asked if name not in self.parameters.spoken]

    def data(self, wildcards: Any) -> list[str]:
        """The prepared benchmarks that a job's cells answer."""
        return [f"results/data/{task}.parquet" for task in self.tasks(wildcards.tuned)]

    def features(self, wildcards: Any) -> list[str]:
        """The features that the pair's bridge reads."""
        pair = self.artifacts.pair_of[wildcards.tuned]
        return self.artifacts.features(pair, self.tasks(wildcards.tuned))

    def indices(self, wildcards: Any) -> list[str]:
        """The indexes of these features."""
        return [index_of(file) for file in self.features(wildcards)]

    def initial(self, wildcards: Any) -> list[str]:
        """The manifest of the initial bridge that a user brings."""
        return self.artifacts.initial(self.artifacts.pair_of[wildcards.tuned])

    def flags(self, wildcards: Any) -> str:
        """The pair and the seed of a checkpoint, as options."""
        pair = self.artifacts.pair_of[wildcards.tuned]
        names = self.artifacts.checkpoints[pair]
        seed = seeds_of(self.parameters, pair)[names.index(wildcards.tuned)]
        return options(pair=pair) + ("" if seed is None else f" {options(seed=seed)}")

    def figure_flags(self, wildcards: Any, input: Any) -> str:  # noqa: A002, ARG002
        """The percentiles and the scores that a figure shows, as options."""
        return options(places=input.summary, draws=input.draws)

    def cells(self) -> int:
        """The number of cells of a job."""
        places = self.parameters.matrix.random_places
        return 2 + len(places.modules) * (1 + places.draws * len(places.kinds))
