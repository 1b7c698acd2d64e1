"""Scores of one cell in every bootstrap draw, and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from affectlocus.core.metrics import LabelCounts, label_metrics, value_range
from affectlocus.scoring.bootstrap import Stream, percentile_interval


@dataclass(frozen=True)
class ScoreDraws:
    """Scores of one cell and of the cell that it is compared with.

    Attributes:
        cell, reference: metric → (1 + draws,) scores; the first is the observed one.
        n: the number of samples.
    """

    cell: dict[str, np.ndarray]
    reference: dict[str, np.ndarray]
    n: int


Protocol = Callable[[pd.DataFrame, pd.DataFrame, Stream], ScoreDraws]
"""Additional scores of one task, from the answers of a cell and of its reference.

Both frames have the same samples in the same order.
"""


def confusion_metrics(confusion: np.ndarray, positive: int | None = None) -> dict[str, np.ndarray]:
    """Scores of a task with labels, in percent, from a confusion table.

    Args:
        confusion: (..., labels, labels) counts, with the true label first. Leading axes may hold
            bootstrap draws. Columns beyond the labels count answers that are not a label: they are
            wrong, and no average includes them.
        positive: the index of the label whose F1 is `binary_f1`.

    Returns:
        Metric → scores of shape (...): all metrics of labels in the registry (`core.metrics`), and
        `binary_f1` if `positive` is given.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    truth = confusion.sum(axis=-1).astype(float)
    answered = confusion[..., : confusion.shape[-2]].sum(axis=-2).astype(float)
    return label_metrics(LabelCounts(hits, truth, answered, positive))


def score_interval(
    values: np.ndarray, confidence: float, least: float = -np.inf, most: float = np.inf
) -> tuple[float, float, float]:
    """The observed score and its percentile interval over the draws.

    The interval includes the observed score (`bootstrap.percentile_interval`). Draws in which the
    score is undefined (for instance because no sample of a rare label was drawn) are left out. An
    undefined score has no interval.

    Args:
        values: (1 + draws,), the observed score first.
        confidence: level of the interval, 0 to 1.
        least, most: the range of the score. The interval is clipped to it: over two or three
            seeds the weights vary as Student's t, and draws can leave the range.

    Returns:
        (score, low, high); NaN where undefined.
    """
    tail = 100 * (1 - confidence) / 2
    value = float(values[0])
    known = values[~np.isnan(values)]
    if np.isnan(value) or len(known) < 2:
        return value, np.nan, np.nan
    _, *ends = percentile_interval(known, np.array([tail, 100 - tail]) / 100)
    low, high = np.clip(ends, least, most)
    return value, min(float(low), value), max(float(high), value)


def mean_over_tasks(tasks: Sequence[ScoreDraws]) -> ScoreDraws:
    """The mean of the metrics that all tasks have; every task has the same weight."""
    shared = [metric for metric in tasks[0].cell if all(metric in task.cell for task in tasks)]
    return ScoreDraws(
        cell={metric: np.mean([task.cell[metric] for task in tasks], axis=0) for metric in shared},
        reference={
            metric: np.mean([task.reference[metric] for task in tasks], axis=0) for metric in shared
        },
        n=sum(task.n for task in tasks),
    )


def mean_over_seeds(cells: Sequence[ScoreDraws], weights: np.ndarray) -> ScoreDraws:
    """The mean of cells that differ only in their seed or in their random draw.

    Args:
        weights: (1 + draws, cells) from `bootstrap.seed_weights`; the same weights for all scores
            that are compared.
    """

    def mean(scores: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        shared = [metric for metric in scores[0] if all(metric in own for own in scores)]
        return {
            metric: (np.stack([own[metric] for own in scores], axis=1) * weights).sum(axis=1)
            for metric in shared
        }

    return ScoreDraws(
        mean([draws.cell for draws in cells]),
        mean([draws.reference for draws in cells]),
        cells[0].n,
    )


def score_rows(scores: Iterable[tuple[str, ScoreDraws]], confidence: float) -> pd.DataFrame:
    """A row per (task, metric) of one cell, with percentile bootstrap intervals.

    Args:
        scores: (task, scores) pairs.
        confidence: level of the intervals, 0 to 1.

    Returns:
        Columns `task`, `metric`, `value`, `n` (samples), `low`, `high`; `gain`, `gain_low`,
        `gain_high` over the reference on the same samples, in points where the metric is in
        percent; `confidence`.
    """
    return pd.DataFrame(
        [row for task, draws in scores for row in _task_rows(task, draws, confidence)]
    )


def _task_rows(task: str, draws: ScoreDraws, confidence: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for metric in draws.cell:
        least, most = value_range(metric)
        value, low, high = score_interval(draws.cell[metric], confidence, least, most)
        gains = draws.cell[metric] - draws.reference[metric]
        gain, gain_low, gain_high = score_interval(gains, confidence, least - most, most - least)
        rows.append(
            {
                "task": task,
                "metric": metric,
                "value": value,
                "n": draws.n,
                "low": low,
                "high": high,
                "gain": gain,
                "gain_low": gain_low,
                "gain_high": gain_high,
                "confidence": confidence,
            }
        )
    return rows
