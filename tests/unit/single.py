"""One model, one tuning or one tensor, where the package works on several together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

    from affectlocus.checkpoints.tensor_files import TensorReader
    from affectlocus.config.tuning import Tuning
    from affectlocus.core.cells import Cell
    from affectlocus.deltas.measure import Sums


def build(
    base: Path | Sequence[Path], tuned: Path | None, cell: Cell, **reading: Any
) -> tuple[PreTrainedModel, dict[str, int]]:
    """One cell's model, and the counts of `CellModel.become`."""
    from affectlocus.evaluation.evaluate import CellModel

    shared = CellModel(base)
    counts = shared.become(tuned, cell, **reading)
    return shared.model, counts


def tune(
    base: Path, frames: Sequence[pd.DataFrame], recipe: Tuning, folder: Path, **options: Any
) -> dict[str, Any]:
    """What `Tuner.tune` measures of one recipe; options are `hardware` and `states`."""
    from affectlocus.training.tune import Tuner, TuningJob

    states = options.pop("states", None)
    (measured,) = Tuner(base, **options).tune([TuningJob(recipe, frames, folder, states)])
    return measured


def measure(
    base: TensorReader | None,
    tuned: TensorReader | None,
    delta: TensorReader | None = None,
    *,
    whole: bool = True,
    histogram: bool = False,
    neurons: Literal["rows", "columns"] | None = None,
) -> Sums:
    """The sums of one tensor's delta, on one thread; arguments as in `DeltaJob`."""
    from affectlocus.deltas.measure import DeltaJob, measure_all

    job = DeltaJob(None, base, tuned, delta, whole, histogram, neurons)
    ((_, sums),) = measure_all([job], threads=1)
    return sums
