"""Step `score`: the scores of each table's cells, and of the cells in no table."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from affectlocus.core.cells import Cell
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.matrix import table_cells
from affectlocus.orchestration.steps.openset import OpensetJobs
from affectlocus.orchestration.steps.step import StepJobs


class ScoreJobs(StepJobs):
    """The jobs of rules/score.smk."""

    def __init__(self, artifacts: Artifacts, openset: OpensetJobs) -> None:
        super().__init__(artifacts)
        self._openset = openset

    def _cells(self, wildcards: Any) -> list[Cell]:
        cells = list(self.artifacts.cells.values())
        return table_cells(cells, wildcards.pair, wildcards.arm)

    def answers(self, wildcards: Any) -> list[str]:
        """The answers of a table's cells, in the order of its rows."""
        return self._openset.answers(self._cells(wildcards))

    def order(self, wildcards: Any) -> str:
        """The order of a table's rows: Snakemake does not compare the order of inputs."""
        return " ".join(cell.id for cell in self._cells(wildcards))

    @cached_property
    def _other_cells(self) -> list[Cell]:
        """The cells in no table, after the bases that they are compared with."""
        cells = list(self.artifacts.cells.values())
        listed = {
            cell.id
            for pair, arm in self.artifacts.table_rows.values()
            for cell in table_cells(cells, pair, arm)
        }
        rest = [cell for cell in cells if cell.id not in listed]
        used = {cell.base for cell in rest}
        bases = [cell for cell in cells if cell.kind == "base" and cell.base in used]
        return list(dict.fromkeys([*bases, *rest]))

    def other_answers(self, _: Any = None) -> list[str]:
        """The answers of the cells in no table, after the bases that they are compared with."""
        return self._openset.answers(self._other_cells)

    def other_order(self, _: Any = None) -> str:
        """The order of these cells."""
        return " ".join(cell.id for cell in self._other_cells)

    def files(self, _: Any = None) -> list[str]:
        """The scores of every table, and of the cells in no table."""
        rows = self.artifacts.table_rows.values()
        scores = [f"results/scores/{pair}/{arm}.parquet" for pair, arm in rows]
        return [*scores, *(["results/scores/others.parquet"] if self._other_cells else [])]
