"""The registry of metrics: one entry holds a metric's label, range, direction and formula.

To add a metric of tasks with labels, add one entry with a formula. Scores, tables, claims, figures
and the choices of params.yaml read this registry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class LabelCounts:
    """What the answers to a task are counted as, for any number of draws and cells.

    Attributes:
        hits: (..., labels) float64, samples of a label that were answered with it.
        truth: (..., labels) float64, samples of a label.
        answered: (..., labels) float64, samples that were answered with a label.
        positive: the number of the label that is the positive, where the task has one.
    """

    hits: np.ndarray
    truth: np.ndarray
    answered: np.ndarray
    positive: int | None = None

    @cached_property
    def present(self) -> np.ndarray:
        """(..., labels) bool: the label occurs as truth or as answer."""
        return (self.truth + self.answered) > 0

    @cached_property
    def f1(self) -> np.ndarray:
        """(..., labels), 0 to 1: each label's F1; 0 where it does not occur, as in scikit-learn."""
        return np.divide(
            2 * self.hits,
            self.truth + self.answered,
            out=np.zeros(np.broadcast_shapes(self.hits.shape, self.answered.shape)),
            where=self.present,
        )

    @cached_property
    def total(self) -> np.ndarray:
        """(...), samples."""
        return self.truth.sum(axis=-1)


Formula = Callable[[LabelCounts], np.ndarray]
"""Counts → scores in percent, (...)."""


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: as in params.yaml and in the column `metric` of scores.
        label: what an axis of a figure says, with the unit.
        higher_is_better: the direction.
        lowest, highest: the ends of its range.
        formula: of a task with labels; None where scores come from elsewhere.
        of: the answers that have it: `labels`, `positive` (labels with a positive one, or numbers
            with a cutoff), `protocol` (free text under a protocol), `number`, `text` or `written`.
    """

    name: str
    label: str
    of: str
    higher_is_better: bool = True
    lowest: float = 0.0
    highest: float = 100.0
    formula: Formula | None = None


def _weighted_f1(counts: LabelCounts) -> np.ndarray:
    return 100 * (counts.f1 * counts.truth).sum(axis=-1) / counts.total


def _accuracy(counts: LabelCounts) -> np.ndarray:
    return 100 * counts.hits.sum(axis=-1) / counts.total


def _macro_f1(counts: LabelCounts) -> np.ndarray:
    """Over the labels that occur as truth or as answer."""
    return 100 * counts.f1.sum(axis=-1) / counts.present.sum(axis=-1)


def _binary_f1(counts: LabelCounts) -> np.ndarray:
    assert counts.positive is not None
    return 100 * counts.f1[..., counts.positive]


_ALL = (
    Metric("weighted_f1", "weighted F1 (%)", "labels", formula=_weighted_f1),
    Metric("accuracy", "accuracy (%)", "labels", formula=_accuracy),
    Metric("macro_f1", "macro F1 (%)", "labels", formula=_macro_f1),
    Metric("binary_f1", "F1 of the positive class (%)", "positive", formula=_binary_f1),
    Metric("mer_unibench", "MER-UniBench score (%)", "protocol"),
    Metric("corrected_f1", "corrected F1 (%)", "protocol"),
    Metric("corrected_macro_f1", "corrected macro F1 (%)", "protocol"),
    Metric("labels_per_sample", "labels named per sample", "protocol", highest=math.inf),
    Metric("mae", "mean absolute error", "number", False, highest=math.inf),
    Metric("rmse", "root mean squared error", "number", False, highest=math.inf),
    Metric("perplexity", "perplexity of the text", "text", False, lowest=1.0, highest=math.inf),
    Metric("distinct_1", "distinct-1 of what it writes (%)", "written"),
    Metric("distinct_2", "distinct-2 of what it writes (%)", "written"),
    Metric("words_per_text", "words per text", "written", highest=math.inf),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Name → metric. A metric in percent that is not listed here ranges from 0 to 100."""


def metric_names(*of: str) -> tuple[str, ...]:
    """The names of the metrics of these kinds of answers, in the registry's order."""
    return tuple(name for name, metric in METRICS.items() if metric.of in of)


def value_range(name: str) -> tuple[float, float]:
    """The ends of a metric's range."""
    metric = METRICS.get(name)
    return (0.0, 100.0) if metric is None else (metric.lowest, metric.highest)


def axis_label(name: str) -> str:
    """What an axis says of a metric: its label, or its name where it is not listed."""
    return METRICS[name].label if name in METRICS else name


def label_metrics(counts: LabelCounts) -> dict[str, np.ndarray]:
    """Every metric of a task with labels, in percent, (...) each.

    Those of a positive label are left out where the task has none.
    """
    kinds = ("labels",) if counts.positive is None else ("labels", "positive")
    found = ((name, METRICS[name].formula) for name in metric_names(*kinds))
    return {name: formula(counts) for name, formula in found if formula is not None}
