"""Tests of contrasts over replicates.

A contrast is a difference that each replicate gives once, such as the mean score with gate minus
that with up. Its error has two sources: replicates, estimated by the variance between them, and
test samples, which all replicates share, estimated by the bootstrap. All functions take arrays of
contrasts, (..., contrasts), so that a simulation tests many experiments in one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

MOST_PRIOR_DF = 4.0
"""The limit of the degrees of freedom of the prior of variances.

An unlimited prior can replace the variances of all contrasts by a common one. The variances of the
embedded default's contrasts differ by a factor of 50, and its verdicts were then often false.
"""
_TRUSTED = 0.01  # the level of the check of the prior
_LEAST_CONTRASTS = 5  # a prior of fewer variances would itself be a guess
_NODES = 64


@dataclass(frozen=True)
class Prior:
    """The prior of variances of an experiment's contrasts (Smyth 2004).

    Attributes:
        variance: (...,), its scale; NaN without a prior.
        df: (...,), its degrees of freedom; 0 without a prior.
        trusted: (..., contrasts) bool, whether the contrast's own variance agrees with the prior.
            The others keep their own variance.
    """

    variance: np.ndarray
    df: np.ndarray
    trusted: np.ndarray


def fit_prior(variance: np.ndarray, df: np.ndarray) -> Prior:
    """The prior from the logarithms of all variances of one unit of measurement.

    limma's moments estimate (Smyth 2004, section 6.2), with at most `MOST_PRIOR_DF` degrees of
    freedom. With fewer than five contrasts there is no prior.

    The check: if the model is right, a variance divided by the prior's is F distributed. A contrast
    whose variance is too large for it (1 %, Bonferroni) is not trusted.

    Args:
        variance: (..., contrasts), between replicates.
        df: (contrasts,), replicates - 1, at least 1.
    """
    shape, contrasts = variance.shape[:-1], variance.shape[-1]
    floor = 1e-5 * np.median(variance, axis=-1, keepdims=True)
    if contrasts < _LEAST_CONTRASTS or not (floor > 0).all():
        none = np.zeros(shape)
        return Prior(none + np.nan, none, np.zeros(variance.shape, bool))
    shifted = np.log(np.maximum(variance, floor)) - special.digamma(df / 2) + np.log(df / 2)
    spread = shifted.var(axis=-1, ddof=1) - special.polygamma(1, df / 2).mean()
    own = 2 * _trigamma_inverse(np.maximum(spread, 1e-3))
    prior_df = np.minimum(own, MOST_PRIOR_DF)
    scale = np.exp(shifted.mean(axis=-1) + special.digamma(prior_df / 2) - np.log(prior_df / 2))
    excess = stats.f.sf(variance / scale[..., None], df, prior_df[..., None])
    return Prior(scale, prior_df, excess * contrasts >= _TRUSTED)


def _trigamma_inverse(values: np.ndarray) -> np.ndarray:
    """Solves trigamma(y) = value by Newton's method (Smyth 2004, appendix)."""
    y = 0.5 + 1 / values
    for _ in range(12):
        trigamma = special.polygamma(1, y)
        y = y + trigamma * (1 - trigamma / values) / special.polygamma(2, y)
    return y


def moderated(variance: np.ndarray, df: np.ndarray, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Variances and degrees of freedom, moderated by the prior where it is trusted.

    (d0 s0² + d s²) / (d0 + d) with d0 + d degrees of freedom (Smyth 2004, equation 3).

    Args:
        variance: (..., contrasts).
        df: (contrasts,).

    Returns:
        Two arrays (..., contrasts).
    """
    weight = np.where(prior.trusted, prior.df[..., None], 0.0)
    scale = np.where(prior.trusted, prior.variance[..., None], 0.0)
    return (weight * scale + df * variance) / (weight + df), weight + df


@dataclass(frozen=True)
class Errors:
    """The error of estimated contrasts; arrays that broadcast to (..., contrasts).

    Attributes:
        replicates: the standard error by replicates; 0 if there is one replicate.
        df: its degrees of freedom; any positive number if there is one replicate.
        samples: the variance by test samples.
    """

    replicates: np.ndarray
    df: np.ndarray
    samples: np.ndarray


def p_above(effect: np.ndarray, errors: Errors, null: float | np.ndarray = 0.0) -> np.ndarray:
    """One-sided p of the hypothesis that a contrast is at most `null`.

    P(t(df) · replicates + N(0, samples) ≥ effect - null), integrated over the chi-squared variable
    that Student's t contains. The convolution is exact; Satterthwaite's approximation of it
    rejects too often with few replicates.
    """
    error, df, samples = map(np.asarray, (errors.replicates, errors.df, errors.samples))
    half = df / 2
    low = np.log(2 * special.gammaincinv(half, 1e-11))
    high = np.log(2 * special.gammainccinv(half, 1e-11))
    # The trapezoid rule over log(chi-squared): its error falls exponentially with the nodes.
    at = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, _NODES)
    weight = np.exp(half[..., None] * at - np.exp(at) / 2 - high[..., None] * half[..., None])
    weight /= weight.sum(axis=-1, keepdims=True)
    chi = np.exp(at) / df[..., None]  # chi-squared / df
    total = np.sqrt(error[..., None] ** 2 / chi + samples[..., None])
    gap = (np.asarray(effect, float) - null)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = special.ndtr(-gap / total)
    tail = np.where(total > 0, tail, np.where(gap > 0, 0.0, np.where(gap < 0, 1.0, 0.5)))
    return np.asarray((weight * tail).sum(axis=-1))


def half_width(errors: Errors, confidence: float) -> np.ndarray:
    """Half of the width of the two-sided interval: the effect at which `p_above` is the tail."""
    tail = (1 - confidence) / 2
    scale = np.asarray(np.sqrt(errors.replicates**2 + errors.samples), float)
    low, high = np.zeros_like(scale), scale * (1 + stats.t.isf(tail, np.asarray(errors.df))) * 2
    for _ in range(40):  # to 1e-12 of the width
        middle = (low + high) / 2
        above = p_above(middle, errors) > tail
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def sensitivity(
    variance: np.ndarray,
    df: np.ndarray,
    samples: np.ndarray,
    replicates: int | np.ndarray,
    level: float,
    power: float,
) -> np.ndarray:
    """The smallest effect that a one-sided test at `level` finds with a certain power.

    Args:
        variance, df: (...,), of one replicate, and its degrees of freedom with `replicates`.
    """
    total = np.sqrt(variance / replicates + samples)
    return np.asarray(total * (special.stdtrit(df, power) - special.stdtrit(df, level)))
