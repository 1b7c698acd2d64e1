"""Step `trajectory`: the delta at several steps of the tuning, and its cosine with the final delta.

A high cosine at early steps means that the direction is found early and the delta then only grows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from affectlocus.checkpoints.pairs import Pair
from affectlocus.core.checkpoint_files import snapshot_folder
from affectlocus.core.errors import InputError
from affectlocus.deltas.delta_tables import DELTA_SCORES
from affectlocus.deltas.deltas import deltas
from affectlocus.deltas.directions import delta_of, inner

COLUMNS = ("step", "layer", "projection", "numel", *DELTA_SCORES, "cosine")


def snapshots(folder: Path, steps: list[int], last: int) -> dict[int, Path]:
    """Step → folder of its snapshot; for the last step, the folder of the checkpoint.

    Args:
        folder: the folder of the tuned checkpoint.
        steps: the steps before the last, from its manifest (`snapshots`).
        last: the last step.

    Raises:
        InputError: the checkpoint has no snapshots, or one is missing.
    """
    if not steps:
        raise InputError(
            "checkpoint.no-snapshots",
            f"{folder}: no snapshots; set trajectory in the recipe of the pair to the number of "
            "steps to measure (two or more), and tune again",
            file=folder,
            key="trajectory",
        )
    found = {step: snapshot_folder(folder, step) for step in steps}
    for path in found.values():
        if not path.is_dir():
            raise InputError(
                "checkpoint.missing-snapshot",
                f"{path}: missing; delete the checkpoint's manifest and tune again",
                file=path,
            )
    return found | {last: folder}


def trajectory(base: Path, states: Mapping[int, Path]) -> pd.DataFrame:
    """The deltas of the snapshots of a tuning, and their cosine with the final delta.

    Args:
        base: folder of the base.
        states: step → folder, in order; the last is the tuned checkpoint.

    Returns:
        `COLUMNS`, a row per (step, layer, projection) that was tuned. The scores are those of step
        `deltas`. `cosine` is ⟨Δ, Δ_end⟩ / (‖Δ‖ ‖Δ_end‖), and null for a delta of 0; the experts of
        a mixture count as one matrix.
    """
    pairs = {step: Pair([base], folder) for step, folder in states.items()}
    end = pairs[max(pairs)]
    rows = []
    for step, pair in pairs.items():
        cosines = _cosines(pair, end)
        for row in deltas(pair, spectra=False, companions=False).rows:
            if row["parameter"] == "weight" and row["adapted"]:
                place = row["layer"], row["projection"]
                kept = {name: row[name] for name in ("layer", "projection", "numel", *DELTA_SCORES)}
                rows.append({"step": step, **kept, "cosine": cosines[place]})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _cosines(pair: Pair, end: Pair) -> dict[tuple[int, str], float]:
    sums: dict[tuple[int, str], list[float]] = {}
    for location, (name, rows) in end.projections.items():
        if location.parameter != "weight" or not end.adapted(name):
            continue
        now, last = delta_of(pair, name, rows), delta_of(end, name, rows)
        total = sums.setdefault((location.layer, location.projection), [0.0, 0.0, 0.0])
        parts = inner(now, last), now.l2**2, last.l2**2
        total[:] = [one + two for one, two in zip(total, parts, strict=True)]
    return {
        place: product / math.sqrt(mine * other) if mine * other else math.nan
        for place, (product, mine, other) in sums.items()
    }
