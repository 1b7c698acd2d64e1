"""Step `evaluate`: the cells of the matrix, and which of them share a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from affectlocus.config.cells import CellList
from affectlocus.config.pairs import Reading
from affectlocus.core.cells import NONE, Cell
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.matrix import arm_of
from affectlocus.orchestration.rule_values import checkpoint, index_of, settings
from affectlocus.orchestration.steps.step import StepJobs, equal_parts
from affectlocus.orchestration.wildcard_patterns import combinations_of


@dataclass(frozen=True)
class Evaluation:
    """The inputs and parameters of a job that evaluates cells."""

    base: list[str]
    weights: list[str]
    tuned: list[str]
    data: list[str]
    chain: list[str]
    chain_flags: str
    reading: str
    features: list[str]
    indices: list[str]
    initial: list[str]


class EvaluateJobs(StepJobs):
    """The jobs of rules/evaluate.smk."""

    def __init__(self, artifacts: Artifacts) -> None:
        super().__init__(artifacts)
        self._evaluations: dict[str, Evaluation] = {}

    @cached_property
    def groups(self) -> list[list[Cell]]:
        """The cells that share a job: of one pair and arm.

        The tuned cell shares a job with the load cells because both read the same checkpoints.
        Cells of different arms never share a job, so that a table does not wait for the cells of
        another.

        Cells of one seed come first, then several seeds share a job if all their cells fit.
        Starting a process costs more than evaluating a small model. If a cell is added to a job,
        the answers of the others come from the prediction cache.

        The groups follow from the matrix alone.
        """
        alike: dict[tuple[Any, ...], dict[int | None, list[Cell]]] = {}
        for cell in self.artifacts.cells.values():
            alike.setdefault(self._group_key(cell), {}).setdefault(cell.seed, []).append(cell)
        size = self.parameters.matrix.cells_per_job
        chunks: list[list[Cell]] = []
        for seeds in alike.values():
            fitting = size // max(map(len, seeds.values()))
            if fitting > 1:
                parts = equal_parts(list(seeds.values()), fitting)
                chunks += [[cell for cells in part for cell in cells] for part in parts]
            else:
                chunks += [chunk for cells in seeds.values() for chunk in equal_parts(cells, size)]
        return [chunk for chunk in chunks if len(chunk) > 1]

    def _group_key(self, cell: Cell) -> tuple[Any, ...]:
        """Cells with the same key may share a job."""
        if cell.kind == "base":
            return "base", cell.base
        if cell.kind == "tune":
            return "tune", cell.pair, cell.mode
        if cell.pair not in (*self.parameters.matrix.pairs, *self.parameters.matrix.beside):
            return "tuned", cell.pair
        return arm_of(cell) or "load", cell.pair

    @cached_property
    def single(self) -> list[str]:
        """The ids of the cells that have a job of their own."""
        grouped = {cell.id for group in self.groups for cell in group}
        return [name for name in self.artifacts.cells if name not in grouped]

    def pattern(self, names: Iterable[str]) -> str:
        """A regular expression of exactly these cell ids."""
        parts = []
        for name in names:
            cell = self.artifacts.cells[name]
            # The head is PAIR/KIND/MODULES, the tail is mode and seed.
            head = "/".join(name.split("/")[: 3 if cell.modules else 2])
            parts.append((head, name.removeprefix(head)))
        return combinations_of(parts)

    def data(self, cell: Cell) -> list[str]:
        """The prepared benchmarks that a cell answers, and the texts that every cell reads."""
        parameters = self.parameters
        asked = parameters.benchmarks if cell.pair is None else parameters.columns_of(cell.pair)
        return [f"results/data/{task}.parquet" for task in (*asked, *parameters.texts)]

    def features(self, cell: Cell) -> list[str]:
        """The features that a cell reads; none for cells of text."""
        if cell.bridge in ("", NONE):
            return []
        return self.artifacts.features(cell.pair, self.parameters.columns_of(str(cell.pair)))

    def together(self, cells: list[Cell]) -> Evaluation:
        """The inputs and parameters of a job that evaluates cells of one pair and arm."""
        bases = list(
            dict.fromkeys(self.artifacts.base_checkpoint(cell.base, cell.seed) for cell in cells)
        )
        pair = self.parameters.pairs.get(cells[0].pair or "")
        # A checkpoint that the workflow tuned for a cell needs no settings of the pair.
        reading = pair.reading if pair and cells[0].kind != "tune" else Reading()
        tuned = [name for name in dict.fromkeys(map(self.artifacts.tuned_of, cells)) if name]
        features = list(dict.fromkeys(file for cell in cells for file in self.features(cell)))
        return Evaluation(
            base=[checkpoint(name) for name in bases],
            weights=self.artifacts.weights(*bases, *tuned),
            tuned=[checkpoint(name) for name in tuned],
            data=self.data(cells[0]),
            chain=self.artifacts.chain(bases[0]),
            chain_flags=self.artifacts.chain_flags(bases[0]),
            reading=settings(reading),
            features=features,
            indices=[index_of(file) for file in features],
            initial=self.artifacts.initial(cells[0].pair),
        )

    def cells_json(self, wildcards: Any, output: Any) -> str:  # noqa: ARG002
        """The cells of a job's outputs, as JSON.

        Snakemake does not compare parameters that are derived from `output`. So another number of
        cells in a job (matrix.cells_per_job) reruns nothing.
        """
        files = output.predictions
        cells = [self._cell_of[file] for file in ([files] if isinstance(files, str) else files)]
        return CellList.json_of(cells)

    @cached_property
    def _cell_of(self) -> dict[str, Cell]:
        """The predictions of a cell → the cell."""
        cells = self.artifacts.cells.values()
        return {f"results/cells/{cell.id}/predictions.parquet": cell for cell in cells}

    def of_cell(self, field: str) -> Callable[[Any], Any]:
        """An input or parameter function that returns a field of a cell's `Evaluation`."""

        def value(wildcards: Any) -> Any:
            name = wildcards.cell
            if name not in self._evaluations:
                self._evaluations[name] = self.together([self.artifacts.cells[name]])
            return getattr(self._evaluations[name], field)

        return value
