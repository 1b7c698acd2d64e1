"""A table for reading: every number with its interval, n and seeds, and whether it differs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from affectlocus.scoring.tables import MEAN

COLUMNS = (
    *("num", "modules", "mode", "kind", "seeds", "draws", "task", "metric", "value", "n"),
    *("low", "high", "gain", "gain_low", "gain_high", "confidence", "reference", "cell"),
)
"""What a table's intervals have to have."""
NAMES = {"majority": "majority answer", "uniform": "uniform guess"}


@dataclass(frozen=True)
class Number:
    """A number and its interval.

    Args:
        sign: "+" or "−" where it is better or worse by a paired interval without zero; else empty.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    sign: str = ""


@dataclass(frozen=True)
class Row:
    """A row: a module set, its numbers in the columns' order, and the cell behind them.

    Args:
        seeds: over how many tunings its numbers are means.
        draws: over how many random draws of the intervention.
    """

    modules: str
    mode: str = ""
    num: int | None = None
    seeds: int = 1
    draws: int = 1
    numbers: list[Number | None] = field(default_factory=list)
    gain: Number | None = None
    fluency: list[Number | None] = field(default_factory=list)
    cell: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """A table: its metric, the columns (task, n), the texts of fluency, its rows and baselines.

    The mean is the first column: it is what is looked for.
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
    """Lays out a table from its companions.

    Args:
        intervals: `tableN_intervals.csv`, a row per (cell, task), the mean among the tasks.
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
    below = []
    if baselines is not None:
        ours = baselines[baselines["metric"] == metric]
        for name, part in ours.groupby("baseline", sort=False):
            numbers = [_number(part[part["task"] == task]) for task in tasks]
            below.append(Row(modules=NAMES.get(str(name), str(name)), numbers=numbers))
    pairs = [row.cell.split("/")[0] for row in rows if not row.cell.endswith("/base")]
    return ScoreTable(
        metric=metric,
        pair=pairs[0] if pairs else "",
        reference=reference,
        columns=[(str(task), int(sizes[task])) for task in tasks],
        texts=_texts(texts),
        rows=rows,
        baselines=below,
    )


Spans = dict[tuple[int, str], tuple[float, float]]
"""(row, column) of a plain table → the interval of the number there."""


def with_intervals(frame: pd.DataFrame, intervals: pd.DataFrame) -> tuple[pd.DataFrame, Spans]:
    """A table whose columns are metrics, with n, seeds and draws of its rows, and its intervals.

    Args:
        frame: a row per (task, cell), as `fluency.csv`.
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
    keys = [name for name in frame.columns if name not in metrics]
    counts = intervals.groupby(["task", "cell"], as_index=False)[["n", "seeds", "draws"]].max()
    counted = frame.merge(counts, on=["task", "cell"], how="left")
    return counted[[*keys, "n", "seeds", "draws", *metrics]], spans


def _texts(texts: pd.DataFrame | None) -> list[str]:
    return [] if texts is None else [str(name) for name in dict.fromkeys(texts["task"])]


def _row(part: pd.DataFrame, tasks: list[str], texts: pd.DataFrame | None, reference: str) -> Row:
    first = part.iloc[0]
    # Below ablations stands the tuned model, and above them the base: neither is compared.
    compared = first["reference"] == reference and first["cell"] != reference
    mean = part[part["task"] == MEAN]
    mine = texts[texts["cell"] == first["cell"]] if texts is not None else None
    return Row(
        num=int(first["num"]),
        modules=str(first["modules"]),
        mode=_text(first["mode"]),
        seeds=int(first["seeds"]),
        draws=int(first["draws"]),
        numbers=[_number(part[part["task"] == task], int(compared)) for task in tasks],
        gain=_number(mean, 1, "gain") if compared else None,
        fluency=[
            _number(mine[mine["task"] == text], -int(compared))
            for text in _texts(texts)
            if mine is not None
        ],
        cell=str(first["cell"]),
    )


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _number(rows: pd.DataFrame, better: int = 0, what: str = "value") -> Number | None:
    """The number of one row; None where there is none.

    Args:
        better: 1 where more is better, -1 where less is; 0 where nothing is compared.
    """
    if rows.empty:
        return None
    first = rows.iloc[0]
    low, high = ("low", "high") if what == "value" else (f"{what}_low", f"{what}_high")
    sign = ""
    if better:
        above, below = first["gain_low"] > 0, first["gain_high"] < 0
        good, bad = (above, below) if better > 0 else (below, above)
        sign = "+" if good else "−" if bad else ""
    return Number(float(first[what]), float(first[low]), float(first[high]), sign)
