"""Step `tune`: the checkpoints that the workflow tunes, and which of them share a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from affectlocus.config.tuning import Recipe, Tuning
from affectlocus.core.cells import Cell, tune_checkpoint
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.rule_values import checkpoint, index_of
from affectlocus.orchestration.steps.forecast import ForecastJobs
from affectlocus.orchestration.steps.step import TrainingJobs, equal_parts
from affectlocus.orchestration.wildcard_patterns import combinations_of


@dataclass(frozen=True)
class TuningInputs:
    """The inputs and parameters of a job."""

    base: list[str]
    weights: list[str]
    data: list[str]
    forecast: list[str]
    settings: str
    features: list[str]
    indices: list[str]


class TuneJobs(TrainingJobs):
    """The jobs of rules/tune.smk."""

    def __init__(self, artifacts: Artifacts, forecast: ForecastJobs) -> None:
        super().__init__(artifacts)
        self._forecast = forecast
        self._inputs: dict[str, TuningInputs] = {}

    @cached_property
    def groups(self) -> list[list[str]]:
        """The checkpoints that share a job, which all have the same recipe but for the module set.

        They are tune cells of one pair and seed, which start from the same base, or the tunings of
        one pair, each with a seed and a base of its own. Tunings of several pairs never share a
        job: it would rerun whenever the recipe of one of them changes.

        The groups follow from the matrix alone. A seed that is added makes new groups of tune
        cells. A pair of the matrix has at least two jobs, because Table 1 waits for them.
        """
        alike: dict[tuple[str, int | None], list[str]] = {}
        for cell in self.artifacts.cells.values():
            if cell.kind == "tune":
                assert cell.pair is not None
                name = tune_checkpoint(cell)
                if name in self.artifacts.tunings:
                    alike.setdefault((cell.pair, cell.seed), []).append(name)
        size = self.parameters.matrix.tunings_per_job
        chunks = [chunk for names in alike.values() for chunk in equal_parts(names, size)]
        for pair, names in self.artifacts.checkpoints.items():
            if self.parameters.pairs[pair].tuning is not None:
                chunks += self.seeds_together(names, [pair])
        return [chunk for chunk in chunks if len(chunk) > 1]

    @cached_property
    def single(self) -> list[str]:
        """The checkpoints that have a job of their own."""
        grouped = {name for group in self.groups for name in group}
        return [name for name in self.artifacts.tuned if name not in grouped]

    @property
    def pattern(self) -> str:
        """A regular expression of exactly the checkpoints that have a job of their own."""
        return combinations_of(
            (head, f"{dot}{seed}")
            for head, dot, seed in (name.rpartition(".") for name in self.single)
        )

    def inputs(self, name: str) -> TuningInputs:
        """The inputs and parameters of a checkpoint that has a job of its own."""
        if name not in self._inputs:
            self._inputs[name] = self.together([name])
        return self._inputs[name]

    def together(self, names: list[str]) -> TuningInputs:
        """The inputs and parameters of a job that tunes these checkpoints."""
        bases = list(dict.fromkeys(self.artifacts.tunings[name][0] for name in names))
        recipe = self.artifacts.tunings[names[0]][1]
        features = self._features(names[0], recipe)
        return TuningInputs(
            base=[checkpoint(base) for base in bases],
            weights=self.artifacts.weights(*bases),
            data=[f"results/data/{task}.parquet" for task in recipe.data],
            forecast=self._forecast.before(names),
            settings=json.dumps(self._shared_keys(names[0])),
            features=features,
            indices=[index_of(file) for file in features],
        )

    def _features(self, name: str, recipe: Tuning) -> list[str]:
        """The features that a tuning reads: those of its bridge, of all tasks with media."""
        pair = self.artifacts.pair_of.get(name) or self._tune_cells[name].pair
        return self.artifacts.features(pair, recipe.data)

    @cached_property
    def _tune_cells(self) -> dict[str, Cell]:
        """Checkpoint of a tune cell → the cell."""
        cells = self.artifacts.cells.values()
        return {tune_checkpoint(cell): cell for cell in cells if cell.kind == "tune"}

    def of(self, field: str) -> Callable[[Any], Any]:
        """An input or parameter function that returns a field of `TuningInputs`."""
        return lambda wildcards: getattr(self.inputs(wildcards.name), field)

    def _shared(self, name: str) -> Recipe:
        """The recipe without what follows from the checkpoint's name."""
        pair = self.artifacts.pair_of.get(name)
        found = self.parameters.tune if pair is None else self.parameters.pairs[pair].tuning
        assert found is not None
        return found

    def _shared_keys(self, name: str) -> dict[str, Any]:
        """The keys of a recipe that all checkpoints of a job share, with the bridge of their pair.

        They are a parameter that Snakemake compares, so that another bridge reruns the job.
        """
        bridge = self.artifacts.tunings[name][1].bridge
        keys = self._shared(name).model_dump(mode="json")
        return keys if bridge is None else keys | {"bridge": bridge.model_dump(mode="json")}

    def _own(self, name: str) -> dict[str, Any]:
        """The keys of the recipe that follow from the checkpoint's name."""
        recipe = self.artifacts.tunings[name][1].model_dump(mode="json")
        shared = self._shared_keys(name)
        return {key: value for key, value in recipe.items() if key not in shared}
