"""The contrasts of an experiment, tested together: their variances are moderated by each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from affectlocus.claims.contrasts import Errors, fit_prior, half_width, moderated
from affectlocus.claims.decisions import OneSided, one_sided
from affectlocus.claims.findings import Contrast, LayerTest

MODERATED, PLAIN, SAMPLES, LAYERS, PRINTED = (
    "replicates, moderated",
    "replicates, plain",
    "samples",
    "layers",
    "none",
)
"""Where the variance of a test comes from."""


@dataclass(frozen=True, eq=False)
class TestedContrast:
    """A contrast with its test.

    Attributes:
        effect, low, high: the mean over replicates and its interval; for the layer rule, the share
            of layers.
        equal_low, equal_high: the interval of the test of equality: two one-sided tests at 5 % are
            an interval of 90 %.
        p: one-sided p values, each of shape (1,); NaN if nothing was drawn.
        replicates: their number.
        variance: the variance of one replicate as the test uses it.
        prior_df: the degrees of freedom that moderation adds.
        df: those of the test; NaN without replicates.
        kind: where the variance comes from.
        prior_sd: the standard deviation that the prior expects.
    """

    contrast: Contrast | LayerTest
    effect: float
    low: float
    high: float
    p: OneSided
    replicates: int = 1
    variance: float = math.nan
    prior_df: float = 0.0
    df: float = math.nan
    kind: str = SAMPLES
    prior_sd: float = math.nan
    equal_low: float = math.nan
    equal_high: float = math.nan

    @property
    def unit(self) -> str:
        """The unit of the effect."""
        return self.contrast.unit

    @property
    def margin(self) -> float:
        """The margin of equality; NaN if it is not tested."""
        return math.nan if isinstance(self.contrast, LayerTest) else self.contrast.margin

    @property
    def samples(self) -> float:
        """The variance of the effect by test samples."""
        return 0.0 if isinstance(self.contrast, LayerTest) else self.contrast.samples


def tested(contrasts: Sequence[Contrast | LayerTest], confidence: float) -> list[TestedContrast]:
    """Tests contrasts; those of one unit have a common prior of their variances.

    The same contrast in several claims counts once for the prior.
    """
    drawn = [
        place
        for place, one in enumerate(contrasts)
        if isinstance(one, Contrast) and not math.isnan(one.samples)
    ]
    found = dict(zip(drawn, _drawn([contrasts[at] for at in drawn], confidence), strict=True))  # type: ignore[misc]
    return [found.get(at) or _without_draws(one) for at, one in enumerate(contrasts)]


def _without_draws(contrast: Contrast | LayerTest) -> TestedContrast:
    """The layer rule, or a printed number."""
    if isinstance(contrast, LayerTest):
        none = np.ones(1)
        p = OneSided(np.array([contrast.above]), np.array([contrast.below]), none, none)
        return TestedContrast(
            contrast, contrast.effect, contrast.low, contrast.high, p, kind=LAYERS
        )
    unknown = np.full(1, math.nan)
    p = OneSided(unknown, unknown, unknown, unknown)
    return TestedContrast(
        contrast, float(contrast.values.mean()), math.nan, math.nan, p, kind=PRINTED
    )


def _drawn(contrasts: Sequence[Contrast], confidence: float) -> list[TestedContrast]:
    if not contrasts:
        return []
    effect = np.array([one.values.mean() for one in contrasts])
    replicates = np.array([len(one.values) for one in contrasts])
    variance, prior_df, prior_sd = _variances(contrasts)
    df = np.where(replicates > 1, replicates - 1 + prior_df, 1.0)
    margin = np.array([one.margin for one in contrasts])
    samples = np.array([one.samples for one in contrasts])
    errors = Errors(np.sqrt(variance / replicates), df, samples)
    p = one_sided(effect, errors, margin)
    half, equal_half = half_width(errors, confidence), half_width(errors, 2 * confidence - 1)
    return [
        TestedContrast(
            one,
            float(effect[at]),
            float(effect[at] - half[at]),
            float(effect[at] + half[at]),
            OneSided(*(getattr(p, name.name)[[at]] for name in fields(OneSided))),
            int(replicates[at]),
            float(variance[at]),
            float(prior_df[at]),
            float(df[at]) if replicates[at] > 1 else math.nan,
            SAMPLES if replicates[at] == 1 else MODERATED if prior_df[at] else PLAIN,
            float(prior_sd[at]),
            float(effect[at] - equal_half[at]),
            float(effect[at] + equal_half[at]),
        )
        for at, one in enumerate(contrasts)
    ]


def _variances(contrasts: Sequence[Contrast]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each (contrasts,): the moderated variance, 0 of one replicate; the prior's df and sd."""
    variance, prior_df = np.zeros(len(contrasts)), np.zeros(len(contrasts))
    prior_sd = np.full(len(contrasts), math.nan)
    units = {(one.unit, one.moderate) for one in contrasts if len(one.values) > 1}
    for unit, moderate in units:
        places = [
            at
            for at, one in enumerate(contrasts)
            if (one.unit, one.moderate) == (unit, moderate) and len(one.values) > 1
        ]
        # A contrast that several claims test has the same values up to rounding.
        names = [contrasts[at].values.round(9).tobytes() for at in places]
        distinct = dict(zip(names, places, strict=True))
        own = np.array([contrasts[at].values.var(ddof=1) for at in distinct.values()])
        df = np.array([len(contrasts[at].values) - 1.0 for at in distinct.values()])
        if not moderate:
            variance[places] = [contrasts[at].values.var(ddof=1) for at in places]
            continue
        prior = fit_prior(own, df)
        found, total = moderated(own, df, prior)
        for at, name in zip(places, names, strict=True):
            row = list(distinct).index(name)
            variance[at], prior_df[at] = found[row], total[row] - df[row]
            prior_sd[at] = math.sqrt(prior.variance)
    return variance, prior_df, prior_sd
