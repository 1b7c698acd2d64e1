"""The bootstrap of statistics that are functions of sums over samples, and of several seeds.

All cells share the draws of a task's samples, so every comparison of two cells is paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_BLOCK = 256  # draws that are converted to float64 at a time
_CACHED_TASKS = 16  # the usual number of tasks of a matrix


@dataclass(frozen=True)
class Stream:
    """The random draws of one task.

    The draws are the same for every cell and do not depend on the other tasks.
    """

    seed: int
    task: str
    resamples: int

    def generator(self) -> np.random.Generator:
        """A new generator; each call starts at the same state."""
        return np.random.default_rng([self.seed, *self.task.encode()])


@lru_cache(maxsize=_CACHED_TASKS)
def draw_counts(stream: Stream, n: int) -> np.ndarray:
    """How often each of n samples is drawn, with replacement, in each draw.

    Returns:
        uint16 of shape (1 + resamples, n); the first row is the observed samples, all ones.
    """
    rng = stream.generator()
    counts = np.ones((1 + stream.resamples, n), np.uint16)
    for row in counts[1:]:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    counts.flags.writeable = False
    return counts


def drawn_sums(values: np.ndarray, stream: Stream) -> np.ndarray:
    """Sums over the observed samples (first row), and over n samples drawn with replacement.

    Args:
        values: (samples, columns). A draw takes whole rows, so columns stay paired.

    Returns:
        float64 of shape (1 + resamples, columns).
    """
    counts = draw_counts(stream, len(values))
    return np.vstack(
        [
            counts[start : start + _BLOCK].astype(float) @ values
            for start in range(0, len(counts), _BLOCK)
        ]
    )


def category_counts(categories: np.ndarray, number: int, stream: Stream) -> np.ndarray:
    """The number of drawn samples in each category; the first row counts the observed samples.

    Args:
        categories: (samples,), the category of each sample, from 0 to `number` - 1.
        number: how many categories exist.

    Returns:
        int64 of shape (1 + resamples, number).
    """
    order = np.argsort(categories, kind="stable")
    present, starts = np.unique(categories[order], return_index=True)
    found = np.zeros((1 + stream.resamples, number), np.int64)
    counts = draw_counts(stream, len(categories))[:, order]
    found[:, present] = np.add.reduceat(counts, starts, axis=1, dtype=np.int64)
    return found


def centred(values: np.ndarray) -> np.ndarray:
    """The values with the draws shifted to have the observed value as their mean.

    This removes the bootstrap's bias. Where the observed samples bring a statistic near its minimum
    (the F1 of a uniform guess on balanced labels), almost all draws are larger, and their
    percentile interval does not include the observed value.

    Args:
        values: (1 + draws,), the observed value first.
    """
    moved = values.copy()
    moved[1:] += values[0] - values[1:].mean()
    return moved


def percentile_interval(values: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The percentile interval of a statistic; it always includes the observed value.

    Where the percentiles do not include the observed value, the draws are `centred` first.

    Args:
        values: (1 + draws,), the observed value first; at least one draw, no NaN.
        shares: (2,), the shares of the draws below the interval's ends, 0 to 1.

    Returns:
        The draws that the interval is computed from, (draws,), and the two ends.
    """
    observed, drawn = values[0], values[1:]
    low, high = np.quantile(drawn, shares)
    if not low <= observed <= high:
        drawn = centred(values)[1:]
        low, high = np.quantile(drawn, shares)
    return drawn, float(min(low, observed)), float(max(high, observed))


def seed_weights(seeds: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(1 + draws, seeds) weights that sum to 1; the first row has equal weights.

    Drawing three seeds with replacement gives intervals that are far too narrow: the variance is a
    third too small, and the tails are normal instead of Student's t. The weights are therefore
    1 / S plus Gaussian deviations divided by an independent chi variable. The weighted mean of S
    normal values then varies about their mean exactly as Student's t with S - 1 degrees of freedom,
    as in the textbook interval. The score of a single draw can therefore leave the range 0 to 100.
    """
    weights = np.full((1 + draws, seeds), 1 / seeds)
    if seeds > 1:
        noise = rng.standard_normal((draws, seeds))
        chi = np.sqrt(rng.chisquare(seeds - 1, (draws, 1)) / (seeds - 1))
        noise -= noise.mean(axis=1, keepdims=True)
        weights[1:] += noise / chi / np.sqrt(seeds * (seeds - 1))
    return weights
