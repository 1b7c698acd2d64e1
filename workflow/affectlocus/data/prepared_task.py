"""A task as `prepare` writes it, and as other steps read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from affectlocus.core.step_tables import read_facts, read_step_table, write_step_table

COLUMNS = ("id", "split", "text", "prompt", "answer")


@dataclass(frozen=True)
class PreparedTask:
    """The samples of a task.

    Attributes:
        name: the task's name.
        labels: the possible answers, in the order that decides ties; empty for tasks without
            labels.
        samples: a row per sample with `COLUMNS`, all text; and `score` (float64) if the task has
            one.
    """

    name: str
    labels: list[str]
    samples: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> Self:
        """A task from its file.

        Raises:
            InputError: no such file, or one that `prepare` did not write.
        """
        samples = read_step_table(path, *COLUMNS)
        facts = read_facts(path, task=str, labels=list[str])
        return cls(facts["task"], facts["labels"], samples)

    def write(self, path: Path) -> None:
        """Writes the task as a parquet file."""
        write_step_table(path, self.samples, {"task": self.name, "labels": self.labels})

    @property
    def test(self) -> pd.DataFrame:
        """The test samples."""
        return self.samples[self.samples["split"] == "test"]
