"""From tested contrasts to decided claims.

A claim states that all of its contrasts are above 0: one group is above each of its rivals, in each
part of the claim. Let θ be the smallest contrast. The claim is true if θ > 0.

- support: every contrast has to be above 0, so the largest one-sided p counts, without a correction
  (intersection-union test, Berger 1982).
- contradiction: one contrast below 0 is enough, so the smallest opposite p counts, times the number
  of contrasts (Bonferroni).
- equality: θ is within the margin, -m < θ < m. Every contrast is above -m (intersection-union), and
  one is below m (Bonferroni). For a single contrast these are the two one-sided tests (TOST).

All functions take arrays, (..., contrasts) or (..., claims).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from affectlocus.claims.contrasts import Errors, p_above, sensitivity

SUPPORT, AGAINST, EQUAL, OPEN = 1, -1, 2, 0
POWER = 0.8
_NUMBERS = np.unique(np.concatenate([np.arange(2, 61), np.geomspace(60, 1000, 60).round()]))


@dataclass(frozen=True)
class OneSided:
    """One-sided p values of contrasts, each (..., contrasts).

    Attributes:
        above, below: of the alternatives that the contrast is above 0, and below 0.
        not_far_below, not_far_above: that it is above -margin, and below the margin.
    """

    above: np.ndarray
    below: np.ndarray
    not_far_below: np.ndarray
    not_far_above: np.ndarray


def one_sided(effect: np.ndarray, errors: Errors, margin: float | np.ndarray) -> OneSided:
    """The p values of contrasts.

    Args:
        margin: in the unit of the contrasts; NaN: equality is not tested, and its p are 1.
    """
    margin = np.asarray(margin, float)
    above = p_above(effect, errors)
    near = [p_above(effect, errors, -margin), 1 - p_above(effect, errors, margin)]
    low, high = (np.where(np.isnan(margin), 1.0, p) for p in near)
    return OneSided(above, 1 - above, low, high)


@dataclass(frozen=True)
class ClaimP:
    """The p values of claims, each (..., claims) or, of one claim, (...,)."""

    support: np.ndarray
    against: np.ndarray
    equal: np.ndarray

    @property
    def two_sided(self) -> np.ndarray:
        """The p of the hypothesis that the claim is neither true nor false: θ = 0."""
        return np.minimum(1, 2 * np.minimum(self.support, self.against))


def claim_p(tests: OneSided, places: Sequence[int] | slice = slice(None)) -> ClaimP:
    """The p values of a claim from those of its contrasts.

    Args:
        places: the claim's contrasts.
    """
    above, below = tests.above[..., places], tests.below[..., places]
    low, high = tests.not_far_below[..., places], tests.not_far_above[..., places]
    number = above.shape[-1]
    return ClaimP(
        above.max(axis=-1),
        np.minimum(1, number * below.min(axis=-1)),
        np.minimum(1, np.maximum(low.max(axis=-1), number * high.min(axis=-1))),
    )


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """p after the correction of Benjamini and Hochberg (1995), over the last axis."""
    return np.asarray(false_discovery_control(p, axis=-1)) if p.shape[-1] else p


def holm(p: np.ndarray) -> np.ndarray:
    """p after Holm's correction (Holm 1979), over the last axis."""
    order = np.argsort(p, axis=-1, kind="stable")
    steps = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(steps)
    values = np.minimum(1, np.maximum.accumulate(steps, axis=-1))
    np.put_along_axis(adjusted, order, values, -1)
    return adjusted


def outcomes(claims: ClaimP, corrected: np.ndarray, level: float = 0.05) -> np.ndarray:
    """The outcome of each claim: SUPPORT, AGAINST, EQUAL or OPEN, (..., claims).

    A claim is supported or contradicted if its corrected two-sided p is below the level. Otherwise
    it is equal if the test of equality is; that test is not corrected over claims.
    """
    side = np.where(claims.support <= claims.against, SUPPORT, AGAINST)
    otherwise = np.where(claims.equal < level, EQUAL, OPEN)
    return np.where(corrected < level, side, otherwise)


def needed_replicates(
    effect: np.ndarray,
    variance: np.ndarray,
    prior_df: np.ndarray,
    samples: np.ndarray,
    margin: np.ndarray,
    level: float,
    equality_level: float,
) -> float:
    """The number of replicates with which a claim would probably (80 %) be decided.

    It is computed from the observed effects and variances, and is as uncertain as they are. It is
    the smallest number for any of the three outcomes that the observed effects point to.

    Args:
        effect, variance, prior_df, samples, margin: (contrasts,); the variance is that of one
            replicate, `samples` that of the mean by test samples.
        level: the two-sided p that decides the claim.
        equality_level: the p of the test of equality.

    Returns:
        A whole number, or infinity if a thousand replicates are too few: then more test samples are
        needed, or the true difference is next to a limit.
    """
    number = _NUMBERS[:, None]  # (numbers, 1)
    df = number - 1 + prior_df
    contrasts = len(effect)

    def found(level: float) -> np.ndarray:
        return sensitivity(variance, df, samples, number, level, POWER)

    enough = (effect >= found(level / 2)).all(axis=-1)
    enough |= (-effect >= found(level / 2 / contrasts)).any(axis=-1)
    with np.errstate(invalid="ignore"):
        near = (effect + margin >= found(equality_level)).all(axis=-1)
        near &= (margin - effect >= found(equality_level / contrasts)).any(axis=-1)
    enough |= near
    return float(number[enough.argmax(), 0]) if enough.any() else np.inf
