"""The prediction caches of cells: keys of everything that their answers depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from affectlocus.checkpoints.checkpoint_manifests import weights_digest
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.core.cells import Cell
from affectlocus.core.files import sha256
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.prediction_cache import PredictionCache, frame_digest


@dataclass(frozen=True)
class CellCaches:
    """The prediction caches of the cells of one base.

    Args:
        folder: gets a folder for each cell.
        tasks: `task_keys`.
        alike: `base_key`.
        reading: how tuned checkpoints are read.
        initial: the checkpoint with the bridge before the tuning.
    """

    folder: Path
    tasks: Mapping[str, Any]
    alike: Mapping[str, Any]
    reading: Mapping[str, Any]
    initial: Path | None

    def of(self, cell: Cell, tuned: Path | None) -> PredictionCache:
        """The cache of a cell with this tuned checkpoint."""
        weights = {"cell": cell.fields, "tuned": tuned and weights_digest(tuned), **self.reading}
        if self.initial is not None:
            weights["initial"] = weights_digest(self.initial)
        return PredictionCache(self.folder / cell.id, {**self.alike, **weights}, self.tasks)


def base_key(chain: Sequence[Path], hardware: Hardware, code: str, machine: str) -> dict[str, Any]:
    """What the answers of all cells of a base depend on.

    Args:
        chain: the base and the adapters that are merged into it.
        code: digest of the command's code.
        machine: the hardware that rounding depends on.
    """
    how = hardware.model_dump(exclude={"save_minutes"})
    return {
        "base": [weights_digest(one) for one in chain],
        "code": code,
        "device": [machine, torch.get_num_threads(), how],
    }


def task_keys(
    tasks: Sequence[PreparedTask], settings: Evaluate, features: Mapping[str, Mapping[str, Path]]
) -> dict[str, Any]:
    """Task → what the answers to it depend on: test samples, settings and features.

    Args:
        features: task → medium → the file of its features.
    """
    return {task.name: _task_key(task, settings, features.get(task.name, {})) for task in tasks}


def _task_key(
    task: PreparedTask, settings: Evaluate, features: Mapping[str, Path]
) -> dict[str, Any]:
    asked: dict[str, Any] = {"data": frame_digest(task.test), "labels": task.labels}
    if features:
        asked["features"] = {
            medium: [sha256(file), sha256(file.with_suffix(".parquet"))]
            for medium, file in sorted(features.items())
        }
    if not task.labels:
        few = settings.samples
        asked["samples"] = [few.count, few.opening, few.generation.model_dump()]
    elif settings.of(task.name) == "generation":
        asked["generation"] = settings.generation.model_dump()
    return asked | {"batch_tokens": settings.batch_tokens, "max_length": settings.max_length}
