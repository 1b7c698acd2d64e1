"""Step `collect`: all scores in one tidy table, and their summary for `dvc metrics`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from affectlocus.config.scoring import MEAN, MEAN_OF_CONTROL
from affectlocus.scoring.tables import each_once, metric_rows, without_replicates

_REPLICATE = re.compile(r"(seed|draw)\d+")


def join_scores(scores: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables. A cell of several tables (the base) occurs once.

    The columns `bridge` and `media` are there if a pair has a bridge; they are empty for text.
    """
    joined = pd.concat(scores, ignore_index=True)
    media = [name for name in ("bridge", "media") if name in joined]
    return each_once(joined.fillna(dict.fromkeys(media, "")) if media else joined)


def summarise(
    scores: pd.DataFrame, metric: str, bases: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The summary of all scores, as nested dictionaries.

    Args:
        scores: the rows of all tables.
        metric: the metric whose mean over tasks is reported.
        bases: base → its manifest; a pre-trained base has `perplexity`, measured on documents
            that end with an end token.

    Returns:
        `metric`: each cell's mean over tasks, by pair and kind; `metric (control)`: the same over
        a control's own tasks; `fluency`: text → each cell's perplexity; `distinct_2`: task → each
        cell's distinct-2; `perplexity`: each base's perplexity in pre-training. Keys without
        values are left out, except `metric`.
    """
    scores = without_replicates(scores)
    rows = metric_rows(scores, metric)
    fluency, diversity = (
        {
            str(task): _nested(part)
            for task, part in scores[scores["metric"] == name].groupby("task", sort=False)
        }
        for name in ("perplexity", "distinct_2")
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
        **({"distinct_2": diversity} if diversity else {}),
        **({"perplexity": perplexity} if perplexity else {}),
    }


def _nested(rows: pd.DataFrame) -> dict[str, Any]:
    """The cells' values: pair or base → kind → module set and mode, if the cell has a module set.

    Module set and mode are one key, because a set can occur with a mode (a dose) and without one.
    """
    nested: dict[str, Any] = {}
    for cell, value in zip(rows["cell"], rows["value"], strict=True):
        name, kind, *rest = cell.split("/")
        place = nested.setdefault(name, {})
        if kind == "tuned" and rest and not _REPLICATE.fullmatch(rest[0]):
            # A control of media is no part of the tuned model's own value.
            kind, rest = f"{kind} {rest[0]}", rest[1:]
        if rest:
            place = place.setdefault(kind, {})
        place[" ".join(rest) or kind] = round(float(value), 2)
    return nested
