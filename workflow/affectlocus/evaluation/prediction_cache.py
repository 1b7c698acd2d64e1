"""Cache of a cell's predictions, written after each task.

An interrupted job resumes after its last finished task. If a task is added or changed, only that
task is evaluated. Predictions are stored with a key of everything that they depend on, and are
reused only if the key is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.core.cache_key import cache_key
from affectlocus.core.errors import InputError
from affectlocus.core.step_tables import read_facts, read_step_table, write_step_table


@dataclass
class PredictionCache:
    """One cell's predictions, in one parquet file per task.

    Args:
        folder: the cell's folder, created with the first entry. With None, nothing is cached.
        cell: what the predictions of every task depend on, as JSON: weights, settings, code,
            device.
        tasks: task → what the predictions of this task depend on: samples and prompts.
    """

    folder: Path | None
    cell: Mapping[str, Any]
    tasks: Mapping[str, Any]
    found: list[str] = field(default_factory=list, init=False)
    """The tasks whose predictions came from the cache."""

    def get(self, task: str) -> pd.DataFrame | None:
        """A task's cached predictions, or None if there are none with the same key."""
        if self.folder is None or not (path := self._path(self.folder, task)).is_file():
            return None
        try:
            frame = read_step_table(path)
            known = read_facts(path, kept=list[str])["kept"] == self._marks(task, frame)
        except Exception:
            # A damaged file may raise anything. The task is then evaluated again.
            return None
        if not known:
            return None
        self.found.append(task)
        return frame

    def keep(self, task: str, answer: pd.DataFrame) -> None:
        """Caches a task's predictions. A full disk does not stop the cell."""
        if self.folder is None:
            return
        with suppress(InputError, OSError):
            path = self._path(self.folder, task)
            write_step_table(path, answer, {"kept": self._marks(task, answer)})

    @staticmethod
    def _path(folder: Path, task: str) -> Path:
        return folder / f"{task}.parquet"

    def _marks(self, task: str, answer: pd.DataFrame) -> list[str]:
        """The key of a task's predictions, and the digest of the rows."""
        name = cache_key(cell=dict(self.cell), task=task, asked=self.tasks[task])
        return [name, frame_digest(answer)]


def frame_digest(frame: pd.DataFrame) -> str:
    """A digest of a frame's values, column names and dtypes."""
    about = [[str(name), str(dtype)] for name, dtype in frame.dtypes.items()]
    rows = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return hashlib.sha256(json.dumps(about).encode() + rows.tobytes()).hexdigest()
