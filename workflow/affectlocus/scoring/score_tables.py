"""A table for reading: each number with its interval, n, seeds, and the sign of its difference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from affectlocus.scoring.tables import MEAN

NAMES = {"majority": "majority answer", "uniform": "uniform guess"}


@dataclass(frozen=True)
class TableValue:
    """A number of a table and its interval.

    Attributes:
        sign: "+" if the value is better than the reference, "−" if it is worse; empty if the
            interval of the paired difference includes zero.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    sign: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table: a module set, and its numbers in the order of the columns.

    Attributes:
        seeds: the number of tunings that the numbers are means over.
        draws: the number of random draws of the intervention that they are means over.
        gain: the gain in the mean over tasks.
        auc, top_answer: means over the tasks in percent (`tables.answer_shape`).
        one_answer: in how many tasks, counted in every replicate, all samples get one answer.
        fluency: the perplexity of each text.
        cell: the id of the cell.
    """

    modules: str
    mode: str = ""
    num: int | None = None
    seeds: int = 1
    draws: int = 1
    numbers: list[TableValue | None] = field(default_factory=list)
    gain: TableValue | None = None
    auc: TableValue | None = None
    top_answer: TableValue | None = None
    one_answer: int = 0
    fluency: list[TableValue | None] = field(default_factory=list)
    cell: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether the cell answers one label throughout, in every task and replicate."""
        return self.top_answer is not None and self.top_answer.value >= 99.995


@dataclass(frozen=True)
class ScoreTable:
    """A table.

    Attributes:
        columns: (task, n). The mean is the first column, because readers look for it first.
        texts: the tasks whose perplexity the table shows.
    """

    metric: str
    pair: str
    reference: str
    columns: list[tuple[str, int]]
    texts: list[str]
    rows: list[Row]
    baselines: list[Row]


def score_table(
    intervals: pd.DataFrame,
    baselines: pd.DataFrame | None = None,
    scores: pd.DataFrame | None = None,
) -> ScoreTable:
    """A table from its companion files.

    Args:
        intervals: `tableN_intervals.csv`, a row per (cell, task); the mean is one of the tasks.
        baselines: `tableN_baselines.csv`.
        scores: `scores.parquet`, for the perplexity of texts.
    """
    tasks = [MEAN, *(task for task in dict.fromkeys(intervals["task"]) if task != MEAN)]
    sizes = intervals.groupby("task")["n"].max()
    metric = str(intervals["metric"].iloc[0])
    texts = scores[scores["metric"] == "perplexity"] if scores is not None else None
    if texts is not None:
        texts = texts[texts["cell"].isin(set(intervals["cell"]))]
    arm = intervals[~intervals["kind"].isin(["base", "tuned"])]
    reference = str((intervals if arm.empty else arm)["reference"].iloc[0])
    rows = [_row(part, tasks, texts, reference) for _, part in intervals.groupby("num")]
    baseline_rows = []
    if baselines is not None:
        ours = baselines[baselines["metric"] == metric]
        for name, part in ours.groupby("baseline", sort=False):
            numbers = [_value(part[part["task"] == task]) for task in tasks]
            baseline_rows.append(Row(modules=NAMES.get(str(name), str(name)), numbers=numbers))
    pairs = [row.cell.split("/")[0] for row in rows if not row.cell.endswith("/base")]
    return ScoreTable(
        metric=metric,
        pair=pairs[0] if pairs else "",
        reference=reference,
        columns=[(str(task), int(sizes[task])) for task in tasks],
        texts=_text_names(texts),
        rows=rows,
        baselines=baseline_rows,
    )


Spans = dict[tuple[int, str], tuple[float, float]]
"""(row, column) of a table → the interval of the number in that place."""


def with_intervals(frame: pd.DataFrame, intervals: pd.DataFrame) -> tuple[pd.DataFrame, Spans]:
    """A table with a column per metric: with n, seeds and draws added, and its intervals.

    Args:
        frame: a row per (task, cell), as in `fluency.csv`.
        intervals: its companion, a row per (task, cell, metric).
    """
    metrics = [name for name in frame.columns if name in set(intervals["metric"])]
    known = {
        (row["task"], row["cell"], row["metric"]): (float(row["low"]), float(row["high"]))
        for row in intervals.to_dict("records")
    }
    spans = {
        (place, name): known[key]
        for place, (task, cell) in enumerate(zip(frame["task"], frame["cell"], strict=True))
        for name in metrics
        if (key := (task, cell, name)) in known
    }
    # Tables of earlier versions lack the numbers of replicates and draws; the companion has them.
    keys = [name for name in frame.columns if name not in {"seeds", "draws", *metrics}]
    counts = intervals.groupby(["task", "cell"], as_index=False)[["n", "seeds", "draws"]].max()
    counted = frame[[*keys, *metrics]].merge(counts, on=["task", "cell"], how="left")
    return counted[[*keys, "n", "seeds", "draws", *metrics]], spans


def _text_names(texts: pd.DataFrame | None) -> list[str]:
    return [] if texts is None else [str(name) for name in dict.fromkeys(texts["task"])]


def _row(part: pd.DataFrame, tasks: list[str], texts: pd.DataFrame | None, reference: str) -> Row:
    """The row of one cell.

    Args:
        part: the cell's intervals.
    """
    first = part.iloc[0]
    # A table of ablations shows the base (first row) and the tuned model (last row). Neither is
    # compared: the tuned model is the reference, and the base has another reference.
    compared = first["reference"] == reference and first["cell"] != reference
    mean = part[part["task"] == MEAN]
    first_mean = mean.iloc[0] if len(mean) else part.iloc[0]
    own_texts = texts[texts["cell"] == first["cell"]] if texts is not None else None
    return Row(
        num=int(first["num"]),
        modules=str(first["modules"]),
        mode="" if pd.isna(first["mode"]) else str(first["mode"]),
        seeds=int(first["seeds"]),
        draws=int(first["draws"]),
        numbers=[_value(part[part["task"] == task], int(compared)) for task in tasks],
        gain=_value(mean, 1, "gain") if compared else None,
        # Absent from tables of an earlier version.
        auc=_plain(first_mean.get("auc")),
        top_answer=_plain(first_mean.get("top_answer")),
        one_answer=int(_number(first_mean.get("one_answer"))),
        fluency=[
            _value(own_texts[own_texts["task"] == text], -int(compared))
            for text in _text_names(texts)
            if own_texts is not None
        ],
        cell=str(first["cell"]),
    )


def _plain(value: Any) -> TableValue | None:
    """A number without an interval; None if it is missing."""
    return None if pd.isna(value) else TableValue(float(value))


def _number(value: Any) -> float:
    return 0.0 if pd.isna(value) else float(value)


def _value(rows: pd.DataFrame, direction: int = 0, column: str = "value") -> TableValue | None:
    """The number of the first row; None without rows.

    Args:
        direction: 1 if higher is better, -1 if lower is better, 0 if nothing is compared.
        column: `value` or `gain`.
    """
    if rows.empty:
        return None
    first = rows.iloc[0]
    low, high = ("low", "high") if column == "value" else (f"{column}_low", f"{column}_high")
    sign = ""
    if direction:
        above, below = first["gain_low"] > 0, first["gain_high"] < 0
        better, worse = (above, below) if direction > 0 else (below, above)
        sign = "+" if better else "−" if worse else ""
    return TableValue(float(first[column]), float(first[low]), float(first[high]), sign)
