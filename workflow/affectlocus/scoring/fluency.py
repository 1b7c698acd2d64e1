"""Step `fluency`: each cell's perplexity of general text, and the diversity of what it generates.

Neither measure is enough alone. A cell that always generates the same text can have a low
perplexity; a cell that generates random words has a high distinct-n.
"""

from __future__ import annotations

import pandas as pd

from affectlocus.core.errors import InputError
from affectlocus.scoring.distinct_n import METRICS as DIVERSITY
from affectlocus.scoring.perplexity import METRICS as PERPLEXITY
from affectlocus.scoring.tables import each_once, without_replicates

METRICS = (*PERPLEXITY, *DIVERSITY)
_KEYS = ["task", "cell", "kind", "modules", "mode"]


def intervals(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of all tasks with fluency: a row per (task, cell, metric) with n and interval.

    Args:
        scores: scores of any cells, as `score` writes them. A cell that occurs in several tables
            counts once.

    Raises:
        InputError: no score is a perplexity.
    """
    texts = scores.loc[scores["metric"] == PERPLEXITY[0], "task"].unique()
    if not len(texts):
        raise InputError(
            "score.no-perplexity",
            "found no perplexity among the scores; expected at least one task with `fluency: true`",
        )
    rows = scores[scores["task"].isin(texts) & scores["metric"].isin(METRICS)]
    rows = without_replicates(each_once(rows.reset_index(drop=True)))
    columns = ["value", "n", "low", "high", "gain", "gain_low", "gain_high"]
    columns += ["confidence", "reference"]
    return rows[[*_KEYS, "seeds", "draws", "metric", *columns]].sort_values("task", kind="stable")


def table(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per (task, cell): `seeds`, `draws` and the scores of `METRICS`."""
    rows = intervals(scores).fillna({"mode": "", "modules": ""})
    keys = [*_KEYS, "seeds", "draws"]
    wide = rows.pivot_table(index=keys, columns="metric", values="value", sort=False)
    shown = [metric for metric in METRICS if metric in wide]
    return wide.reset_index().rename_axis(columns=None)[[*keys, *shown]]
