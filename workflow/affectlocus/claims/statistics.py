"""Paired bootstrap over test samples, effect sizes, and the agreement of rankings.

All cells of a matrix share every draw of the samples. The difference of any two cells is therefore
a paired comparison. Drawing a whole matrix two thousand times costs one matrix product per label:
(draws, samples) times (samples, cells).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.stats import binomtest, chi2, rankdata

from affectlocus.core.errors import InputError
from affectlocus.core.metrics import METRICS, Formula, LabelCounts, metric_names

DRAWS = 2000
_CHUNK = 1000  # draws at a time; limits the memory
_PERMUTATIONS = 4999
_MANY_RATERS = 15  # from this number on, Friedman's chi-squared is as accurate as permutations


class ScoredTask(Protocol):
    """One task: its samples, and the score of each cell for any weights of the samples."""

    @property
    def samples(self) -> np.ndarray:
        """(n,) ids."""

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(draws, n) weights → (draws, cells) scores."""


@dataclass(frozen=True)
class LabelAnswers:
    """The answers of all cells to one task with labels.

    Attributes:
        samples: (n,) ids.
        truth: (n,) codes of the true labels, from 0.
        answers: (cells, n) codes of the answered labels; -1 for an answer that is not a label.
        labels: the number of labels.
        metric: a metric of labels from the registry (`core.metrics`).
        positive: the code of the label whose F1 is `binary_f1`.
    """

    samples: np.ndarray
    truth: np.ndarray
    answers: np.ndarray
    labels: int
    metric: str = "weighted_f1"
    positive: int | None = None

    def __post_init__(self) -> None:
        kinds = ("labels",) if self.positive is None else ("labels", "positive")
        expected = metric_names(*kinds)
        if self.metric not in expected:
            raise InputError(
                "metric.no-intervals",
                f"no intervals for metric {self.metric!r}; expected one of {', '.join(expected)}",
                found=self.metric,
                expected=expected,
            )

    @property
    def _formula(self) -> Formula:
        formula = METRICS[self.metric].formula
        assert formula is not None
        return formula

    @property
    def correct(self) -> np.ndarray:
        """(cells, n) bool: the answer is the true label."""
        return self.answers == self.truth

    @cached_property
    def _columns(self) -> np.ndarray:
        """(n, labels · cells) float32, 1 where a cell answered a label; grouped by label."""
        hot = self.answers[None] == np.arange(self.labels)[:, None, None]  # (labels, cells, n)
        return np.ascontiguousarray(hot.reshape(-1, len(self.truth)).T.astype(np.float32))

    @cached_property
    def _rows(self) -> list[np.ndarray]:
        """The samples of each true label."""
        return [np.flatnonzero(self.truth == label) for label in range(self.labels)]

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(draws, cells), in percent, as the registry defines the metric.

        Args:
            weights: (draws, n) float32: how often a draw contains each sample.
        """
        cells, shape = len(self.answers), (len(weights), len(self.answers), self.labels)
        # float32 adds whole numbers below 2^24 exactly.
        answered = (weights @ self._columns).reshape(len(weights), self.labels, cells)
        hits, truth = np.empty(shape), np.empty((len(weights), 1, self.labels))
        for label, rows in enumerate(self._rows):
            true = weights[:, rows]
            hits[..., label] = true @ self._columns[rows, label * cells : (label + 1) * cells]
            truth[..., 0, label] = true.sum(axis=1)
        counts = LabelCounts(hits, truth, answered.swapaxes(1, 2).astype(float), self.positive)
        return self._formula(counts)


@dataclass(frozen=True)
class TextLikelihoods:
    """The likelihoods of general text in all cells.

    Attributes:
        samples: (n,) ids.
        nll: (cells, n) negative log-likelihoods in nats.
        tokens: (n,) lengths.
    """

    samples: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(draws, cells): the logarithm of the perplexity, in nats per token."""
        weights = weights.astype(np.float64)
        return (weights @ self.nll.T) / (weights @ self.tokens)[:, None]


@dataclass(frozen=True)
class CellGroup:
    """Cells whose scores are averaged.

    Attributes:
        key: any hashable value that identifies the group.
        members: the indices of its cells.
    """

    key: Any
    members: tuple[int, ...]


@dataclass(frozen=True)
class GroupDraws:
    """Scores of every group on every task, as observed and in each draw.

    Attributes:
        groups: key of a group → its index.
        tasks: names of the tasks.
        values: (1 + draws, groups, tasks), the observed scores first; only the first row if nothing
            was drawn.
    """

    groups: Mapping[Any, int]
    tasks: tuple[str, ...]
    values: np.ndarray

    def by_task(self, key: Hashable) -> np.ndarray:
        """(1 + draws, tasks) of one group."""
        return self.values[:, self.groups[key]]

    def mean(self, key: Hashable) -> np.ndarray:
        """(1 + draws,), the mean of one group over tasks, unweighted."""
        return self.by_task(key).mean(axis=1)


def _draw_samples(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, n) float32: how often each of n samples is drawn with replacement."""
    picks = rng.integers(n, size=(draws, n), dtype=np.int32)
    picks += n * np.arange(draws, dtype=np.int32)[:, None]
    return np.bincount(picks.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32)


def bootstrap(
    tasks: Mapping[str, ScoredTask],
    groups: Sequence[CellGroup],
    draws: int = DRAWS,
    seed: int = 0,
    chunk: int = _CHUNK,
) -> GroupDraws:
    """Draws samples within each task; the draws are the same for all groups.

    Tasks whose samples have the same ids (MELD's emotion and sentiment) are drawn together. If the
    ids are equal but the samples are not, variances stay correct on average. Samples and replicates
    are crossed, and their interaction counts in both variances: intervals are slightly too wide
    rather than too narrow (Owen 2007, the pigeonhole bootstrap).

    Args:
        draws: the number of draws; 0 computes only the observed scores.
        chunk: draws at a time; it changes the memory, not the result.
    """
    values = np.empty((1 + draws, len(groups), len(tasks)))
    for place, task in enumerate(tasks.values()):
        rng = np.random.default_rng([seed, *first_with_same_samples(tasks, task).encode()])
        for start, drawn in _chunks(len(task.samples), draws, chunk, rng):
            scores = task.scores(drawn)  # (chunk, cells)
            rows = slice(start, start + len(drawn))
            for number, group in enumerate(groups):
                values[rows, number, place] = scores[:, list(group.members)].mean(axis=1)
    return GroupDraws({group.key: at for at, group in enumerate(groups)}, tuple(tasks), values)


def first_with_same_samples(tasks: Mapping[str, ScoredTask], task: ScoredTask) -> str:
    """The name of the first task with the same samples."""
    return next(
        name for name, other in tasks.items() if np.array_equal(other.samples, task.samples)
    )


def _chunks(
    n: int, draws: int, chunk: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, weights) of each chunk: the observed samples, then the draws."""
    yield 0, np.ones((1, n), np.float32)
    for start in range(0, draws, chunk):
        yield 1 + start, _draw_samples(n, min(chunk, draws - start), rng)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The exact two-sided p of McNemar's test: two cells are correct equally often.

    Args:
        first, second: (n,), whether each cell's answer is correct. For tasks on the same samples,
            in how many tasks it is correct (the sign test of the difference). Tasks on other
            samples are concatenated.
    """
    more = int((first > second).sum())
    differing = more + int((first < second).sum())
    return float(binomtest(more, differing).pvalue) if differing else 1.0


def cohens_h(first: np.ndarray, second: np.ndarray) -> float:
    """Cohen's h: the difference of two accuracies on the arcsine scale, averaged over tasks.

    0.2 is a small effect. A standardised paired difference would depend on the agreement of the two
    models' answers and on the variance over seeds. h depends only on the two accuracies, so values
    of different rows are comparable.

    Args:
        first, second: (tasks,) shares of correct answers, 0 to 1.
    """
    angles = 2 * np.arcsin(np.sqrt(np.clip([first, second], 0, 1)))
    return float(np.mean(angles[0] - angles[1]))


def kendalls_w(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Kendall's W, the agreement of raters on a ranking (0 to 1, corrected for ties), and its p.

    The null hypothesis is independent random rankings. p comes from permutations; with many raters
    it comes from Friedman's chi-squared.

    Args:
        values: (raters, items), the values that each rater ranks the items by.

    Returns:
        (W, p); both NaN if there are fewer than two raters or items, or if all items are tied.
    """
    raters, items = values.shape
    if raters < 2 or items < 2:
        return np.nan, np.nan
    ranks = rankdata(values, axis=1)
    sizes = (np.unique(own, return_counts=True)[1] for own in ranks)
    ties = sum(float((n**3 - n).sum()) for n in sizes)
    scale = raters**2 * (items**3 - items) - raters * ties
    if scale <= 0:
        return np.nan, np.nan

    def spread(ranked: np.ndarray) -> np.ndarray:
        sums = ranked.sum(axis=-2)  # (..., items)
        return ((sums - raters * (items + 1) / 2) ** 2).sum(axis=-1)

    w = float(12 * spread(ranks) / scale)
    if raters > _MANY_RATERS:
        return w, float(chi2.sf(raters * (items - 1) * w, items - 1))
    shape = (_PERMUTATIONS, raters, items)
    mixed = np.random.default_rng(seed).permuted(np.broadcast_to(ranks, shape), axis=2)
    beyond = (spread(mixed) >= spread(ranks) - 1e-9).sum()
    return w, float((1 + beyond) / (1 + _PERMUTATIONS))
