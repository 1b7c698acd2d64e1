"""The predictions of a cell, as `evaluate` and `openset` write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from affectlocus.core.cells import Cell
from affectlocus.core.step_tables import read_facts, read_step_table, write_step_table

COLUMNS = ("task", "sample", "label", "loglik")


@dataclass(frozen=True)
class Predictions:
    """The predictions of one cell.

    Attributes:
        cell: the cell.
        labels: task → its candidates; the list is empty for a text that the model only reads.
        rows: a row per candidate (or text, or generated answer) of a sample, with `COLUMNS`
            (`loglik` in nats); `candidate`, `tokens` and `text` if a task has them; `openset`,
            `valence` and `answer` after the step `openset`.
    """

    cell: Cell
    labels: dict[str, list[str]]
    rows: pd.DataFrame

    @classmethod
    def read(cls, path: Path, *columns: str) -> Self:
        """Predictions from their file.

        Args:
            columns: columns that the file must have in addition to `COLUMNS`.

        Raises:
            InputError: no such file, or one that is not predictions.
        """
        rows = read_step_table(path, *COLUMNS, *columns)
        facts = read_facts(path, cell=Cell, labels=dict[str, list[str]])
        return cls(facts["cell"], facts["labels"], rows)

    def write(self, path: Path) -> None:
        """Writes the predictions as a parquet file."""
        write_step_table(path, self.rows, {"cell": self.cell.fields, "labels": self.labels})
