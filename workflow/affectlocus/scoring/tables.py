"""Step `tables`: scores in the layout of the paper's tables, and a companion with the intervals."""

from __future__ import annotations

import pandas as pd

from affectlocus.config.scoring import FREE_METRICS, MEAN, MEAN_OF_CONTROL, PERCENT
from affectlocus.core.errors import InputError

KEYS = ["num", "modules", "mode"]
INTERVAL_COLUMNS = (
    *(*KEYS, "kind", "seeds", "draws", "task", "metric", "value", "n"),
    *("low", "high", "gain", "gain_low", "gain_high", "confidence", "reference", "cell"),
)
"""The columns that a table's intervals need."""
_REPLICATE = r"/(?:seed|draw)\d+$"
SHAPE = ["auc", "top_answer", "one_answer"]
"""What a table says of how a cell answers: see `answer_shape`."""


def table_tasks(scores: pd.DataFrame, metric: str) -> list[str]:
    """The columns of a table: the tasks with scores in percent, in the order of params.yaml.

    Raises:
        InputError: the metric is not a percentage, so its mean over tasks is not meaningful; or a
            task does not have the metric, and the table would have a gap.
    """
    scores = common_tasks(scores)
    with_metric = set(metric_rows(scores, metric)["task"])
    shown = (*PERCENT, *FREE_METRICS)
    if metric not in shown:
        raise InputError(
            "score.metric-not-in-percent",
            f"metric {metric!r} is not a percentage and has no mean over tasks; expected one of "
            f"{', '.join(shown)} (scores.parquet contains the other metrics)",
            metric=metric,
            expected=shown,
        )
    tasks = scores.loc[scores["metric"].isin(shown), "task"].unique()
    for task in tasks:
        if task not in with_metric and task != MEAN:
            raise InputError(
                "score.task-without-metric",
                f"task {task} has no {metric}, which other tasks have; set score.metric to a "
                "metric that all tasks have, or give the task a positive label or a cutoff",
                task=task,
                metric=metric,
            )
    return [task for task in tasks if task != MEAN]


def table(scores: pd.DataFrame, metric: str, tasks: list[str]) -> pd.DataFrame:
    """One table in percent: `num`, `modules`, `mode` (ablations), a column per task, `mean`, shape.

    Args:
        scores: the rows of one table in order, a row per (cell, task, metric). The first cell is
            the base (`modules` base), the last one the whole tuned model (`modules` all).
        metric: the metric to show.
        tasks: the columns, in order.

    Returns:
        Observed values; the mean where a cell has several seeds. After the mean, how the cell
        answers (`answer_shape`).
    """
    rows = intervals(scores, metric)
    wide = rows.pivot_table(
        index=["num", "modules", "mode"], columns="task", values="value", sort=False
    )
    shape = rows[rows["task"] == MEAN].groupby(["num", "modules", "mode"])[SHAPE].mean()
    result = wide.join(shape).reset_index().rename_axis(columns=None)
    result["one_answer"] = result["one_answer"].round().astype("Int64")
    known = [name for name in SHAPE if result[name].notna().any()]
    result = result[[*KEYS, *tasks, MEAN, *known]]
    return result.drop(columns="mode") if (result["mode"] == "").all() else result


def intervals(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The companion: a row per (cell, task) with n, seeds, draws, interval and paired gain."""
    rows = without_replicates(metric_rows(common_tasks(scores), metric))
    rows["modules"] = rows["modules"].mask(rows["kind"] == "base", "base")
    rows["modules"] = rows["modules"].mask(rows["kind"] == "tuned", "all")
    # A table has one row per (kind, modules, mode), whatever the number of seeds and draws.
    rows.insert(
        0, "num", pd.factorize(rows["kind"] + "|" + rows["modules"] + "|" + rows["mode"])[0]
    )
    rows = rows.merge(answer_shape(scores), on=["cell", "task"], how="left", sort=False)
    return rows[[*INTERVAL_COLUMNS[:-2], *SHAPE, *INTERVAL_COLUMNS[-2:]]]


def answer_shape(scores: pd.DataFrame) -> pd.DataFrame:
    """How each cell answers each task: the columns `cell`, `task`, and those of `SHAPE`.

    `auc`: area under the ROC curve in percent; 50 is chance. `top_answer`: share of the most
    frequent answer in percent. `one_answer`: the number of tasks, counted in every replicate, in
    which all samples get the same answer. NaN where a task has no candidates or no labels.
    """
    scores = common_tasks(scores)
    shape = scores[scores["metric"].isin(["auc", "top_answer"])]
    if shape.empty:
        return pd.DataFrame(columns=["cell", "task", *SHAPE])
    wide = shape.pivot_table(index=["cell", "task"], columns="metric", values="value", sort=False)
    top = shape[(shape["metric"] == "top_answer") & (shape["task"] != MEAN)]
    top = top.assign(
        one_answer=top["value"].eq(100.0),
        condition=top["cell"].str.replace(_REPLICATE, "", regex=True),
    )
    replicates = top[top["cell"] != top["condition"]]
    # The mean of replicates counts those of its replicates, not itself.
    alone = top[~top["cell"].isin(replicates["condition"])]
    counted = pd.concat([alone, replicates.assign(cell=replicates["condition"])])
    counted = pd.concat([counted, counted.assign(task=MEAN)])
    counts = counted.groupby(["cell", "task"])["one_answer"].sum()
    wide = wide.join(counts.astype("Int64"))
    return wide.reindex(columns=SHAPE).reset_index()


def each_once(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of several tables with each (cell, task, metric) once.

    The base and the tuned model are in every table of a pair. The table of an arm with fewer
    replicates has their mean over these only: the row with the most replicates is kept.
    """
    most = scores.sort_values("seeds", ascending=False, kind="stable")
    kept = most.drop_duplicates(["cell", "task", "metric"])
    return scores.loc[kept.index.sort_values()].reset_index(drop=True)


def without_replicates(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows that a table shows: of cells that differ only in seed or draw, only their mean."""
    alike = scores["cell"].str.replace(_REPLICATE, "", regex=True)
    replicates = scores["seeds"] * scores["draws"]
    return scores[replicates == replicates.groupby(alike).transform("max")]


def common_tasks(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the tasks that all cells answered.

    A base answers more tasks than the cells of a control. If the common tasks are a control's, the
    mean over these tasks is named `mean`.
    """
    cells = scores.groupby("task", sort=False)["cell"].nunique()
    shared = set(cells.index[cells == scores["cell"].nunique()])
    rows = scores[scores["task"].isin(shared - ({MEAN_OF_CONTROL} if MEAN in shared else set()))]
    return rows.assign(task=rows["task"].replace(MEAN_OF_CONTROL, MEAN))


def metric_rows(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric.

    Raises:
        InputError: no row has this metric.
    """
    rows = scores[scores["metric"] == metric]
    if rows.empty:
        known = scores["metric"].unique().tolist()
        raise InputError(
            "score.no-such-metric",
            f"no scores of metric {metric!r}; expected one of {', '.join(map(str, known))}",
            metric=metric,
            expected=known,
        )
    return rows
