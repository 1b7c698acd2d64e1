"""Step `tune`: the checkpoints that the workflow tunes, and which of them share a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from affectlocus.config.tuning import Recipe
from affectlocus.core.cells import tune_checkpoint
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.rule_values import checkpoint, settings
from affectlocus.orchestration.steps.step import StepJobs, equal_parts
from affectlocus.orchestration.wildcard_patterns import combinations_of


@dataclass(frozen=True)
class TuningInputs:
    """The inputs and parameters of a job, which are those of each of its tunings."""

    base: str
    weights: list[str]
    data: list[str]
    settings: str


class TuneJobs(StepJobs):
    """The jobs of rules/tune.smk."""

    def __init__(self, artifacts: Artifacts) -> None:
        super().__init__(artifacts)
        self._inputs: dict[str, TuningInputs] = {}

    @cached_property
    def groups(self) -> list[list[str]]:
        """The checkpoints that share a job: tune cells of one pair and seed.

        They have the section `tune` as their recipe, and start from the same base. The tunings of
        pairs have a job each, because each has a recipe of its own: a job with several would rerun
        whenever one of them changes.

        The groups follow from the matrix alone. A seed that is added makes new groups.
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
        """The inputs and parameters of a tuning; those of the tunings of a job are the same."""
        if name not in self._inputs:
            base, recipe = self.artifacts.tunings[name]
            self._inputs[name] = TuningInputs(
                base=checkpoint(base),
                weights=self.artifacts.weights(base),
                data=[f"results/data/{task}.parquet" for task in recipe.data],
                settings=settings(self._shared(name)),
            )
        return self._inputs[name]

    def of(self, field: str) -> Callable[[Any], Any]:
        """An input or parameter function that returns a field of `TuningInputs`."""
        return lambda wildcards: getattr(self.inputs(wildcards.name), field)

    def tunings_json(self, wildcards: Any, output: Any) -> str:  # noqa: ARG002
        """What the tunings of a job have of their own, as JSON: outputs, seed and module set.

        Snakemake does not compare parameters that are derived from `output`. So another number of
        tunings in a job (matrix.tunings_per_job) reruns nothing.
        """
        files = [output.manifest] if isinstance(output.manifest, str) else output.manifest
        names = [Path(file).name.removesuffix(".json") for file in files]
        return json.dumps(
            [
                {"folder": f"checkpoints/{name}", "out": file, **self._own(name)}
                for name, file in zip(names, files, strict=True)
            ]
        )

    def _shared(self, name: str) -> Recipe:
        """The recipe without what follows from the checkpoint's name."""
        pair = self.artifacts.pair_of.get(name)
        found = self.parameters.tune if pair is None else self.parameters.pairs[pair].tuning
        assert found is not None
        return found

    def _own(self, name: str) -> dict[str, Any]:
        """The keys of the recipe that follow from the checkpoint's name."""
        recipe = self.artifacts.tunings[name][1].model_dump(mode="json")
        shared = self._shared(name).model_dump(mode="json")
        return {key: value for key, value in recipe.items() if key not in shared}
