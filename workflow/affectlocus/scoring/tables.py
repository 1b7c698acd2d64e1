"""Step `tables`: scores laid out as the paper's tables, and their intervals beside them."""

from __future__ import annotations

import pandas as pd

from affectlocus.config.scoring import FREE_METRICS, MEAN, MEAN_OF_CONTROL, PERCENT
from affectlocus.core.errors import InputError

KEYS = ["num", "modules", "mode"]


def tasks_of(scores: pd.DataFrame, metric: str) -> list[str]:
    """The columns of a table: the tasks that have scores in percent, in the order of params.yaml.

    Raises:
        InputError: the metric is no percentage, whose means over tasks make no sense; or a task
            lacks it, and the table would have a gap.
    """
    scores = common(scores)
    having = set(of_metric(scores, metric)["task"])
    shown = (*PERCENT, *FREE_METRICS)
    if metric not in shown:
        raise InputError(
            f"metric {metric!r} is in no percent, and has no mean over tasks; a table shows one of "
            f"{', '.join(shown)} (scores.parquet holds the others)"
        )
    tasks = scores.loc[scores["metric"].isin(shown), "task"].unique()
    for task in tasks:
        if task not in having and task != MEAN:
            raise InputError(
                f"task {task} has no {metric}, which the other tasks have; set score.metric to "
                "one that all of them have, or give the task a positive label or a cutoff"
            )
    return [task for task in tasks if task != MEAN]


def table(scores: pd.DataFrame, metric: str, tasks: list[str]) -> pd.DataFrame:
    """One table: `num`, `modules`, (`mode` for ablations,) a column per task, `mean`; in percent.

    Args:
        scores: the rows of one table in order, a row per (cell, task, metric); the first cell is
            the base (`modules` base), the last the whole affective model (`modules` all).
        metric: which metric to show.
        tasks: the columns, in order.

    Returns:
        Values as measured; of several seeds their mean.
    """
    wide = intervals(scores, metric).pivot_table(
        index=["num", "modules", "mode"], columns="task", values="value", sort=False
    )
    result = wide.reset_index().rename_axis(columns=None)[[*KEYS, *tasks, MEAN]]
    return result.drop(columns="mode") if (result["mode"] == "").all() else result


def intervals(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The companion: a row per (cell, task) with n, seeds, draws, interval, paired gain."""
    rows = over_seeds(of_metric(common(scores), metric))
    rows["modules"] = rows["modules"].mask(rows["kind"] == "base", "base")
    rows["modules"] = rows["modules"].mask(rows["kind"] == "tuned", "all")
    # A row of the table for each (kind, modules, mode), whatever the number of seeds and draws.
    rows.insert(
        0, "num", pd.factorize(rows["kind"] + "|" + rows["modules"] + "|" + rows["mode"])[0]
    )
    return rows[
        [
            *KEYS,
            "kind",
            "seeds",
            "draws",
            "task",
            "metric",
            "value",
            "n",
            "low",
            "high",
            "gain",
            "gain_low",
            "gain_high",
            "confidence",
            "reference",
            "cell",
        ]
    ]


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows that a table shows: of cells that differ in seed or draw alone, their mean."""
    alike = scores["cell"].str.replace(r"/(?:seed|draw)\d+$", "", regex=True)
    replicates = scores["seeds"] * scores["draws"]
    return scores[replicates == replicates.groupby(alike).transform("max")]


def common(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of tasks that all cells answered: a base has more beside a control's cells.

    Where these are a control's own tasks, their mean is the table's.
    """
    cells = scores.groupby("task", sort=False)["cell"].nunique()
    shared = set(cells.index[cells == scores["cell"].nunique()])
    rows = scores[scores["task"].isin(shared - ({MEAN_OF_CONTROL} if MEAN in shared else set()))]
    return rows.assign(task=rows["task"].replace(MEAN_OF_CONTROL, MEAN))


def of_metric(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric; `InputError` where there are none."""
    rows = scores[scores["metric"] == metric]
    if rows.empty:
        known = ", ".join(map(str, scores["metric"].unique()))
        raise InputError(f"no scores of metric {metric!r}; expected one of {known}")
    return rows
