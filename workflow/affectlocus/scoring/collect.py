"""Step `collect`: all scores in one tidy table, and their summary for `dvc metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from affectlocus.config.scoring import MEAN, MEAN_OF_CONTROL
from affectlocus.scoring.tables import of_metric, over_seeds


def joined(scores: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables; a cell that stands in several (the base) once."""
    frame = pd.concat(scores, ignore_index=True)
    return frame.drop_duplicates(["cell", "task", "metric"], ignore_index=True)


def summarise(
    scores: pd.DataFrame, metric: str, bases: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Mean score over tasks of every cell, by pair and kind, and over a control's own tasks
    apart; its perplexity of each text, and distinct-2 of whatever it wrote; and the bases'
    perplexity in pre-training, whose documents end with an end token."""
    scores = over_seeds(scores)
    rows = of_metric(scores, metric)
    fluency, varied = (
        {
            str(task): _nested(part)
            for task, part in scores[scores["metric"] == one].groupby("task", sort=False)
        }
        for one in ("perplexity", "distinct_2")
    )
    perplexity = {
        name: round(record["perplexity"], 4)
        for name, record in bases.items()
        if "perplexity" in record
    }
    control = rows[rows["task"] == MEAN_OF_CONTROL]
    return {
        metric: _nested(rows[rows["task"] == MEAN]),
        **({} if control.empty else {f"{metric} (control)": _nested(control)}),
        **({"fluency": fluency} if fluency else {}),
        **({"distinct_2": varied} if varied else {}),
        **({"perplexity": perplexity} if perplexity else {}),
    }


def _nested(rows: pd.DataFrame) -> dict[str, Any]:
    """The cells' values: pair (or base) → kind, and of cells with a module set → set and mode.

    Set and mode are one key, because a set can stand with a mode (a dose) and without.
    """
    nested: dict[str, Any] = {}
    for cell, value in zip(rows["cell"], rows["value"], strict=True):
        name, kind, *rest = cell.split("/")
        place = nested.setdefault(name, {})
        if rest:
            place = place.setdefault(kind, {})
        place[" ".join(rest) or kind] = round(float(value), 2)
    return nested
