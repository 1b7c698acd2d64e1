"""Step `fluency`: what general text costs each cell, and how varied what it writes is.

Perplexity alone would call a cell fluent that likes every text and says one thing; distinct-n alone
one that says anything at all.
"""

from __future__ import annotations

import pandas as pd

from affectlocus.core.errors import InputError
from affectlocus.scoring.distinct_n import METRICS as VARIED
from affectlocus.scoring.perplexity import METRICS as COST
from affectlocus.scoring.tables import over_seeds

METRICS = (*COST, *VARIED)
_KEYS = ["task", "cell", "kind", "modules", "mode"]


def intervals(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of every text that cells read: a row per (task, cell, metric) with n and interval.

    Args:
        scores: of any cells, as `score` writes them; one that stands in several tables counts once.

    Raises:
        InputError: no cell has read a text.
    """
    read = scores.loc[scores["metric"] == COST[0], "task"].unique()
    if not len(read):
        raise InputError("no perplexity among the scores; a task with fluency: true gives one")
    rows = scores[scores["task"].isin(read) & scores["metric"].isin(METRICS)]
    rows = over_seeds(rows.drop_duplicates(["task", "cell", "metric"]))
    columns = ["value", "n", "low", "high", "gain", "gain_low", "gain_high"]
    columns += ["confidence", "reference"]
    return rows[[*_KEYS, "seeds", "draws", "metric", *columns]].sort_values("task", kind="stable")


def table(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per (task, cell): `perplexity`, `distinct_1`, `distinct_2`, `words_per_text`."""
    rows = intervals(scores).fillna({"mode": "", "modules": ""})
    wide = rows.pivot_table(index=_KEYS, columns="metric", values="value", sort=False)
    shown = [metric for metric in METRICS if metric in wide]
    return wide.reset_index().rename_axis(columns=None)[[*_KEYS, *shown]]
