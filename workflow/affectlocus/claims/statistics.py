"""Paired bootstrap over samples and seeds, and the tests that verdicts rest on.

All cells of a matrix share every draw: the same samples of each task, the same seeds. So the
difference of any two of them is a paired comparison, whichever two a claim names, and ten thousand
draws of a whole matrix cost one multiplication of draws by samples with samples by cells per label.
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
from affectlocus.scoring.bootstrap import percentile_interval, seed_weights

DRAWS = 10_000
_CHUNK = 1000  # draws at a time: what bounds the memory
_PERMUTATIONS = 4999
_MANY_RATERS = 15  # from here on Friedman's chi-squared is as good as permutations


class Scored(Protocol):
    """One task: its samples, and what each cell scores on any weighting of them."""

    @property
    def samples(self) -> np.ndarray:
        """(n,) ids."""

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(draws, n) weights → (draws, cells) scores."""


@dataclass(frozen=True)
class Labelled:
    """What every cell answered to the samples of one task with labels.

    `samples` (n,) ids; `truth` (n,) codes of labels from 0; `given` (cells, n) codes, -1 for an
    answer that is no label; `labels` is their number; `metric` one of the
    registry's metrics of labels;
    `positive` the code of the label that `binary_f1` is the F1 of.
    """

    samples: np.ndarray
    truth: np.ndarray
    given: np.ndarray
    labels: int
    metric: str = "weighted_f1"
    positive: int | None = None

    def __post_init__(self) -> None:
        kinds = ("labels",) if self.positive is None else ("labels", "positive")
        if self.metric not in metric_names(*kinds):
            raise InputError(
                f"no intervals for metric {self.metric!r}; expected one of "
                f"{', '.join(metric_names(*kinds))}"
            )

    @property
    def _formula(self) -> Formula:
        formula = METRICS[self.metric].formula
        assert formula is not None
        return formula

    @property
    def right(self) -> np.ndarray:
        """(cells, n), whether an answer is the true label."""
        return self.given == self.truth

    @cached_property
    def _columns(self) -> np.ndarray:
        """(n, labels · cells), 1 where a cell gave a label, label by label."""
        hot = self.given[None] == np.arange(self.labels)[:, None, None]  # (labels, cells, n)
        return np.ascontiguousarray(hot.reshape(-1, len(self.truth)).T.astype(np.float32))

    @cached_property
    def _rows(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.truth == label) for label in range(self.labels)]

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(draws, cells), in percent, as the registry defines them (`core.metrics`).

        Args:
            weights: (draws, n), float32: how often a draw has each sample.
        """
        cells, shape = len(self.given), (len(weights), len(self.given), self.labels)
        # Whole numbers below 2^24: float32 adds them without error.
        answered = (weights @ self._columns).reshape(len(weights), self.labels, cells)
        hits, truth = np.empty(shape), np.empty((len(weights), 1, self.labels))
        for label, rows in enumerate(self._rows):
            true = weights[:, rows]
            hits[..., label] = true @ self._columns[rows, label * cells : (label + 1) * cells]
            truth[..., 0, label] = true.sum(axis=1)
        counts = LabelCounts(hits, truth, answered.swapaxes(1, 2).astype(float), self.positive)
        return self._formula(counts)


@dataclass(frozen=True)
class Texts:
    """What every cell makes of general text: `samples` (n,) ids, `nll` (cells, n) negative
    log-likelihoods in nats, `tokens` (n,) their lengths."""

    samples: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """(draws, cells): the logarithm of the perplexity, nats per token."""
        each = weights.astype(np.float64)
        return (each @ self.nll.T) / (each @ self.tokens)[:, None]


@dataclass(frozen=True)
class Group:
    """Cells that are one thing but for their seed.

    Args:
        key: what the group is asked for by; anything hashable.
        members: for each seed the cells' places; several cells of one seed are averaged.
        seeds: a name for each seed; groups of the same seeds are drawn together.
    """

    key: Any
    members: tuple[tuple[int, ...], ...]
    seeds: tuple[Hashable, ...] = (0,)


@dataclass(frozen=True)
class Draws:
    """Scores of every group on every task: as observed (first), and in each draw.

    `values` has shape (1 + draws, groups, tasks); only the first row where nothing was drawn.
    """

    groups: Mapping[Any, int]
    tasks: tuple[str, ...]
    values: np.ndarray

    def tasks_of(self, key: Hashable) -> np.ndarray:
        """(1 + draws, tasks) of one group."""
        return self.values[:, self.groups[key]]

    def mean(self, key: Hashable) -> np.ndarray:
        """(1 + draws,), the group's mean over tasks, which weigh alike."""
        return self.tasks_of(key).mean(axis=1)


def _samples(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, n), float32: how often each of n samples is drawn with replacement."""
    picks = rng.integers(n, size=(draws, n), dtype=np.int32)
    picks += n * np.arange(draws, dtype=np.int32)[:, None]
    return np.bincount(picks.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32)


def bootstrap(
    tasks: Mapping[str, Scored],
    groups: Sequence[Group],
    draws: int = DRAWS,
    seed: int = 0,
    chunk: int = _CHUNK,
) -> Draws:
    """Draws of samples within each task and of seeds, the same for all groups.

    Tasks whose samples have the same ids (MELD's emotion and sentiment) are drawn together; where
    they are other samples all the same, that changes no interval on average. Samples and seeds
    are crossed, and their interaction counts in both: intervals over several seeds are rather too
    wide than too narrow (Owen 2007, the pigeonhole bootstrap).

    Args:
        draws: 0 for the observed scores alone.
        chunk: draws at a time; memory grows with it, no result depends on it.
    """
    values = np.empty((1 + draws, len(groups), len(tasks)))
    alike: dict[tuple[Hashable, ...], list[int]] = {}
    for number, group in enumerate(groups):
        alike.setdefault(group.seeds, []).append(number)
    plans = [
        (
            numbers,
            seed_weights(len(seeds), draws, _rng(seed, repr(seeds))),
            [member for number in numbers for member in groups[number].members],
        )
        for seeds, numbers in alike.items()
    ]
    for place, task in enumerate(tasks.values()):
        rng = _rng(seed, first_alike(tasks, task))
        for start, drawn in _chunks(len(task.samples), draws, chunk, rng):
            scores = task.scores(drawn)  # (chunk, cells)
            rows = slice(start, start + len(drawn))
            for numbers, weights, members in plans:
                each = _averaged(scores, members).reshape(len(drawn), len(numbers), -1)
                values[rows, numbers, place] = np.einsum("dgs,ds->dg", each, weights[rows])
    return Draws({group.key: place for place, group in enumerate(groups)}, tuple(tasks), values)


def _averaged(scores: np.ndarray, members: list[tuple[int, ...]]) -> np.ndarray:
    """(draws, members), the mean over each member's cells."""
    if all(len(member) == 1 for member in members):
        return scores[:, [member[0] for member in members]]
    return np.stack([scores[:, list(member)].mean(axis=1) for member in members], axis=1)


def first_alike(tasks: Mapping[str, Scored], task: Scored) -> str:
    """The name of the first task on the same samples."""
    return next(n for n, one in tasks.items() if np.array_equal(one.samples, task.samples))


def _rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def _chunks(
    n: int, draws: int, chunk: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """(row, weights): the observed samples once, then the draws."""
    yield 0, np.ones((1, n), np.float32)
    for start in range(0, draws, chunk):
        yield 1 + start, _samples(n, min(chunk, draws - start), rng)


@dataclass(frozen=True)
class Estimate:
    """A statistic as observed, its percentile interval, and the two-sided p of `null`.

    Interval and p are NaN where nothing was drawn.
    """

    value: float
    low: float
    high: float
    p: float
    null: float = 0.0


def estimate(values: np.ndarray, confidence: float = 0.95, null: float = 0.0) -> Estimate:
    """Of (1 + draws,) values, the observed first; p is the interval's, turned round.

    The interval holds the observed value (`resampling.interval`).

    The smallest p that B draws can give is 2 / (B + 1).
    """
    observed = float(values[0])
    if len(values) == 1:
        return Estimate(observed, np.nan, np.nan, np.nan, null)
    tail = (1 - confidence) / 2
    drawn, low, high = percentile_interval(values, np.array([tail, 1 - tail]))
    beyond = min((drawn <= null).sum(), (drawn >= null).sum())
    p = min(1.0, 2 * (1 + beyond) / (1 + len(drawn)))
    return Estimate(observed, low, high, float(p), null)


def holm(values: Sequence[float]) -> np.ndarray:
    """p values adjusted for being a family (Holm 1979), in their order; NaN stays, uncounted."""
    p = np.asarray(values, float)
    adjusted = np.full(p.shape, np.nan)
    places = np.flatnonzero(~np.isnan(p))
    order = places[np.argsort(p[places], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p that two cells are equally often right on the same samples.

    Args:
        first, second: (n,), whether each was right; of tasks on the same samples in how many it
            was (the sign test of the difference), of other tasks one after the other.
    """
    only = int((first > second).sum())
    differing = only + int((first < second).sum())
    return float(binomtest(only, differing).pvalue) if differing else 1.0


def cohens_h(first: np.ndarray, second: np.ndarray) -> float:
    """Difference of two accuracies on the arcsine scale, averaged over tasks; 0.2 is small.

    Chosen over a standardised paired difference, which grows with how alike two models answer and
    shrinks with the seeds' spread: h depends on the two accuracies alone, so that rows compare.

    Args:
        first, second: (tasks,) shares of right answers, 0 to 1.
    """
    angles = 2 * np.arcsin(np.sqrt(np.clip([first, second], 0, 1)))
    return float(np.mean(angles[0] - angles[1]))


def kendalls_w(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """How far raters agree on a ranking, 0 to 1 (Kendall's W, ties corrected), and its p.

    p is that of independent random rankings: by permutation, of many raters by Friedman's
    chi-squared.

    Args:
        values: (raters, items), what each rater ranks the items by.

    Returns:
        NaN for both where there are fewer than two raters or items, or all are tied.
    """
    raters, items = values.shape
    if raters < 2 or items < 2:
        return np.nan, np.nan
    ranks = rankdata(values, axis=1)
    ties = sum(float((n**3 - n).sum()) for n in map(_tied, ranks))
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


def _tied(ranks: np.ndarray) -> np.ndarray:
    return np.unique(ranks, return_counts=True)[1]
