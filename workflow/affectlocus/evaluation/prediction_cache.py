"""What a cell has answered to a task, kept from the moment that the task is through.

A job that is killed goes on behind its last whole task, and a task more, or one whose samples
changed, costs its own answers and no others. An answer is kept with all that decides it, and is
asked anew where any of that is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.core.errors import InputError
from affectlocus.core.output_files import replacing
from affectlocus.training.pretrained_cache import key

_KEY = "kept"


@dataclass
class PredictionCache:
    """One cell's answers, a parquet file for each task.

    Args:
        folder: the cell's own, made when the first answer is kept; None, and nothing is.
        cell: what decides every answer of it, as JSON: weights, settings, code, device.
        tasks: task → what decides its answer alone: its samples, and how they are asked.
    """

    folder: Path | None
    cell: Mapping[str, Any]
    tasks: Mapping[str, Any]
    found: list[str] = field(default_factory=list, init=False)
    """Tasks that were not asked again."""

    def get(self, task: str) -> pd.DataFrame | None:
        """A task's answer, if it was kept and everything is as it was then."""
        if self.folder is None or not (path := self._path(self.folder, task)).is_file():
            return None
        try:
            frame = pd.read_parquet(path)
            known = frame.attrs.pop(_KEY, None) == [self._key(task), frame_digest(frame)]
        except Exception:
            # Whatever a damaged file raises: it is no more than an answer to ask for again.
            return None
        if not known:
            return None
        self.found.append(task)
        return frame

    def keep(self, task: str, answer: pd.DataFrame) -> None:
        """Keeps a task's answer; a disk that has no room for it does not stop the cell."""
        if self.folder is None:
            return
        kept = answer.copy(deep=False)
        kept.attrs = {_KEY: [self._key(task), frame_digest(answer)]}
        try:
            with replacing(self._path(self.folder, task)) as temporary:
                kept.to_parquet(temporary, compression="zstd", index=False)
        except (InputError, OSError):
            pass

    @staticmethod
    def _path(folder: Path, task: str) -> Path:
        return folder / f"{task}.parquet"

    def _key(self, task: str) -> str:
        return key(cell=dict(self.cell), task=task, asked=self.tasks[task])


def frame_digest(frame: pd.DataFrame) -> str:
    """A digest of what stands in a frame, names and types of its columns included."""
    about = [[str(name), str(dtype)] for name, dtype in frame.dtypes.items()]
    rows = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return hashlib.sha256(json.dumps(about).encode() + rows.tobytes()).hexdigest()
