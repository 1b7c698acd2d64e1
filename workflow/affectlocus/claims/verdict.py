"""A row of claims.csv.

This module does not import scipy, because the report imports it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import chain

SUPPORTED, CONTRADICTED, WITHIN, UNDECIDED, UNTESTABLE = (
    "supported",
    "contradicted",
    "equal",
    "undecided",
    "untestable",
)
PRINTED = " (as printed)"


@dataclass(frozen=True)
class Verdict:
    """A row of claims.csv.

    Attributes:
        level: `claim` for the verdict on a claim, `detail` for its statements tested alone.
        contrast: the contrast that decides: the one with the largest p for the claim, or, if the
            claim is contradicted, with the smallest p against it.
        effect, low, high, unit: that contrast and its interval.
        n: samples, or layers.
        replicates, sd, df, variance: of that contrast: replicates, the standard deviation of one
            as the test uses it, degrees of freedom, and where the variance comes from.
        prior_sd, prior_df: the prior of variances.
        p_for, p_against: one-sided p that the claim is true, and that it is not.
        p: the claim's own two-sided p; p_bh, p_holm: corrected over the claims.
        p_equal: the p of equality within `margin`.
        equal_low, equal_high: the interval of that contrast at which it would be equal: 90 % if
            verdicts are at 5 %.
        posterior: the probability that the contrast is above 0, with a flat prior.
        needed: the number of replicates with which an undecided claim would probably be decided.
        claim_set: the set that the claim belongs to.
        claim_sha256: the SHA-256 of everything that the claim says.
        source, text: of the claim; only in its row of level `claim`.
    """

    claim: str
    by: str
    pair: str = ""
    part: str = ""
    stated: bool = True
    level: str = "detail"
    verdict: str = UNTESTABLE
    why: str = ""
    contrast: str = ""
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    n: int = 0
    replicates: int = 0
    sd: float = math.nan
    df: float = math.nan
    variance: str = ""
    prior_sd: float = math.nan
    prior_df: float = math.nan
    p_for: float = math.nan
    p_against: float = math.nan
    p: float = math.nan
    p_bh: float = math.nan
    p_holm: float = math.nan
    p_equal: float = math.nan
    margin: float = math.nan
    posterior: float = math.nan
    needed: float = math.nan
    cohens_h: float = math.nan
    mcnemar_p: float = math.nan
    basis: str = ""
    claim_set: str = ""
    claim_sha256: str = ""
    source: str = ""
    text: str = ""
    equal_low: float = math.nan
    equal_high: float = math.nan


COLUMNS = tuple(
    chain.from_iterable(
        (one.name, "confidence") if one.name == "high" else (one.name,) for one in fields(Verdict)
    )
)
_PLACES = ("claim", "level", "pair", "part", "by", "stated", "verdict", "why")
COLUMNS = (*_PLACES, *(name for name in COLUMNS if name not in _PLACES))
