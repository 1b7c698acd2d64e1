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
    """Counts of true and answered labels of a task; leading axes are bootstrap draws and cells.

    Attributes:
        hits: (..., labels) float64, samples of a label that were answered correctly.
        truth: (..., labels) float64, samples whose true label this is.
        answered: (..., labels) float64, samples that were answered with this label.
        positive: the index of the positive label; None if the task has none.
    """

    hits: np.ndarray
    truth: np.ndarray
    answered: np.ndarray
    positive: int | None = None

    @cached_property
    def present(self) -> np.ndarray:
        """(..., labels) bool: whether the label occurs as true label or as answer."""
        return (self.truth + self.answered) > 0

    @cached_property
    def f1(self) -> np.ndarray:
        """(..., labels), 0 to 1: F1 of each label; 0 if it does not occur, as in scikit-learn."""
        return np.divide(
            2 * self.hits,
            self.truth + self.answered,
            out=np.zeros(np.broadcast_shapes(self.hits.shape, self.answered.shape)),
            where=self.present,
        )

    @cached_property
    def total(self) -> np.ndarray:
        """(...): number of samples."""
        return self.truth.sum(axis=-1)


Formula = Callable[[LabelCounts], np.ndarray]
"""Takes counts and returns scores in percent, (...)."""


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: the name in params.yaml and in the column `metric` of scores.
        label: the label of a figure's axis, with the unit.
        answers: the kind of answers that have this metric: `labels`, `positive` (labels with a
            positive one, or numbers with a cutoff), `shape` (labels; how a cell answers, not how
            well), `protocol` (free text under a protocol), `number`, `text` (text that is read),
            `written` (text that a cell writes) or `outputs` (corrected scores of outputs that
            were brought).
        higher_is_better: whether a higher value is better.
        lowest, highest: the range.
        formula: for tasks with labels; None if another module computes the score.
        heading: the heading of its column in the terminal; empty if no command prints the column.
    """

    name: str
    label: str
    answers: str
    higher_is_better: bool = True
    lowest: float = 0.0
    highest: float = 100.0
    formula: Formula | None = None
    heading: str = ""


def _weighted_f1(counts: LabelCounts) -> np.ndarray:
    return 100 * (counts.f1 * counts.truth).sum(axis=-1) / counts.total


def _accuracy(counts: LabelCounts) -> np.ndarray:
    return 100 * counts.hits.sum(axis=-1) / counts.total


def _macro_f1(counts: LabelCounts) -> np.ndarray:
    """The mean over the labels that occur as true label or as answer."""
    return 100 * counts.f1.sum(axis=-1) / counts.present.sum(axis=-1)


def _binary_f1(counts: LabelCounts) -> np.ndarray:
    assert counts.positive is not None
    return 100 * counts.f1[..., counts.positive]


def _top_answer(counts: LabelCounts) -> np.ndarray:
    """How often the most frequent answer is given; 100 if a cell gives one answer throughout."""
    return 100 * counts.answered.max(axis=-1) / counts.total


_ALL = (
    Metric("weighted_f1", "weighted F1 (%)", "labels", formula=_weighted_f1),
    Metric("accuracy", "accuracy (%)", "labels", formula=_accuracy),
    Metric("macro_f1", "macro F1 (%)", "labels", formula=_macro_f1),
    Metric("binary_f1", "F1 of the positive class (%)", "positive", formula=_binary_f1),
    Metric("auc", "area under the ROC curve (%)", "shape"),
    Metric("top_answer", "share of the most frequent answer (%)", "shape", formula=_top_answer),
    Metric("mer_unibench", "MER-UniBench score (%)", "protocol"),
    Metric("corrected_f1", "corrected F1 (%)", "protocol"),
    Metric("corrected_macro_f1", "corrected macro F1 (%)", "protocol"),
    Metric(
        "labels_per_sample",
        "labels named per sample",
        "protocol",
        highest=math.inf,
        heading="labels",
    ),
    Metric("mae", "mean absolute error", "number", False, highest=math.inf),
    Metric("rmse", "root mean squared error", "number", False, highest=math.inf),
    Metric("perplexity", "perplexity of the text", "text", False, lowest=1.0, highest=math.inf),
    Metric("distinct_1", "distinct-1 of what it writes (%)", "written"),
    Metric("distinct_2", "distinct-2 of what it writes (%)", "written"),
    Metric("words_per_text", "words per text", "written", highest=math.inf),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Name → metric. A metric in percent that is not listed here ranges from 0 to 100."""


_CORRECTED = (
    Metric("precision", "corrected precision (%)", "outputs", heading="precision"),
    Metric("recall", "corrected recall (%)", "outputs", heading="recall"),
    Metric("f1", "corrected F1 (%)", "outputs", heading="F1"),
    Metric("accuracy", "accuracy of three classes (%)", "outputs", heading="3-way acc."),
    Metric("weighted_f1", "weighted F1 of three classes (%)", "outputs", heading="3-way wF1"),
    Metric("macro_f1", "macro F1 (%)", "outputs", heading="macro F1"),
    Metric("binary_macro_f1", "macro F1 of two classes (%)", "outputs", heading="binary mF1"),
    Metric("coverage", "share of samples that are scored (%)", "outputs", heading="coverage"),
    Metric("polar", "share answered positive or negative (%)", "outputs", heading="polar"),
)

CORRECTED_METRICS: dict[str, Metric] = {metric.name: metric for metric in _CORRECTED}
"""Field of the corrected scores of outputs (`scoring.corrected_protocol`) → metric, in order."""


def metric_names(*answers: str) -> tuple[str, ...]:
    """The names of the metrics of some kinds of answers, in the registry's order."""
    return tuple(name for name, metric in METRICS.items() if metric.answers in answers)


def value_range(name: str) -> tuple[float, float]:
    """The lowest and the highest possible value of a metric."""
    metric = METRICS.get(name)
    return (0.0, 100.0) if metric is None else (metric.lowest, metric.highest)


def axis_label(name: str) -> str:
    """The label of an axis that shows a metric; the metric's name if it is not in the registry."""
    return METRICS[name].label if name in METRICS else name


def label_metrics(counts: LabelCounts) -> dict[str, np.ndarray]:
    """Every metric of a task with labels: name → scores in percent, (...).

    Metrics of a positive label are left out if the task has none.
    """
    kinds = ("labels", "shape", *(() if counts.positive is None else ("positive",)))
    found = ((name, METRICS[name].formula) for name in metric_names(*kinds))
    return {name: formula(counts) for name, formula in found if formula is not None}
