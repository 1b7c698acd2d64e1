"""The bootstrap of whatever is a function of sums over samples, and of several seeds.

All cells share the draws of a task's samples, so that any two of them are compared in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Draws at a time: their counts become float64.
_BLOCK = 256
_TASKS = 16  # whose draws are kept: those of a matrix's usual number of tasks


@dataclass(frozen=True)
class Stream:
    """A task's own stream of draws: the same for every cell, whatever other tasks there are."""

    seed: int
    task: str
    resamples: int

    def generator(self) -> np.random.Generator:
        """Fresh at every call."""
        return np.random.default_rng([self.seed, *self.task.encode()])


@lru_cache(maxsize=_TASKS)
def counts(stream: Stream, n: int) -> np.ndarray:
    """How often each of n samples is drawn, with replacement, in each of the draws.

    Returns:
        uint16 of shape (1 + resamples, n); the first row is the samples as observed, each once.
    """
    rng = stream.generator()
    found = np.ones((1 + stream.resamples, n), np.uint16)
    for row in found[1:]:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    found.flags.writeable = False
    return found


def drawn_sums(values: np.ndarray, stream: Stream) -> np.ndarray:
    """Sums over samples as observed (first), and over as many samples drawn with replacement.

    Args:
        values: (samples, columns); a draw takes whole rows, so that columns stay paired.

    Returns:
        float64 of shape (1 + resamples, columns).
    """
    drawn = counts(stream, len(values))
    return np.vstack(
        [
            drawn[start : start + _BLOCK].astype(float) @ values
            for start in range(0, len(drawn), _BLOCK)
        ]
    )


def drawn_kinds(kinds: np.ndarray, many: int, stream: Stream) -> np.ndarray:
    """How many of the drawn samples are of each kind; the observed ones first.

    Args:
        kinds: (samples,), the kind of each, from 0 to `many` - 1.

    Returns:
        int64 of shape (1 + resamples, many).
    """
    order = np.argsort(kinds, kind="stable")
    present, starts = np.unique(kinds[order], return_index=True)
    found = np.zeros((1 + stream.resamples, many), np.int64)
    drawn = counts(stream, len(kinds))[:, order]
    found[:, present] = np.add.reduceat(drawn, starts, axis=1, dtype=np.int64)
    return found


def centred(values: np.ndarray) -> np.ndarray:
    """Values with the mean of the draws moved onto the observed one: the bootstrap's bias is gone.

    A statistic that the observed samples bring near its minimum (the F1 of a uniform guess where
    labels are balanced) is larger in almost all draws, and their percentiles leave it out.

    Args:
        values: (1 + draws,), the observed one first.
    """
    moved = values.copy()
    moved[1:] += values[0] - values[1:].mean()
    return moved


def interval(values: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The percentile interval of a statistic, which holds the observed value.

    Where the percentiles leave the observed value out, the draws are `centred` first.

    Args:
        values: (1 + draws,), the observed one first; one draw at least, and no NaN.
        shares: (2,), the shares of the draws below the interval's ends, 0 to 1.

    Returns:
        (draws,) as the interval took them, and its two ends.
    """
    observed, drawn = values[0], values[1:]
    low, high = np.quantile(drawn, shares)
    if not low <= observed <= high:
        drawn = centred(values)[1:]
        low, high = np.quantile(drawn, shares)
    return drawn, float(min(low, observed)), float(max(high, observed))


def seed_weights(seeds: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(1 + draws, seeds) weights that sum to 1; the first row weighs alike.

    Drawing three seeds with replacement makes intervals far too narrow: by a third in variance,
    and with normal tails where Student's are due. So the weights are 1 / S plus Gaussian
    deviations, divided by an independent chi: the weighted mean of S normal values then varies
    about their mean as Student's t with S - 1 degrees of freedom, the textbook interval exactly.
    A draw's score may so lie outside of 0 to 100.
    """
    weights = np.full((1 + draws, seeds), 1 / seeds)
    if seeds > 1:
        noise = rng.standard_normal((draws, seeds))
        chi = np.sqrt(rng.chisquare(seeds - 1, (draws, 1)) / (seeds - 1))
        noise -= noise.mean(axis=1, keepdims=True)
        weights[1:] += noise / chi / np.sqrt(seeds * (seeds - 1))
    return weights
