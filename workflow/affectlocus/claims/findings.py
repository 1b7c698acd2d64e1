"""What the rules of the claims find: contrasts, and statements that are true if all are above 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class Contrast:
    """A difference that a statement claims to be above 0, for each replicate.

    Attributes:
        name: what is compared, as text.
        values: (replicates,).
        samples: the variance of their mean by test samples; NaN if nothing was drawn.
        unit: the unit of measurement. Variances are compared between contrasts of one unit.
        margin: a difference below it counts as none; NaN: equality is not tested.
        moderate: whether its variance is comparable to those of the other contrasts of its unit.
    """

    name: str
    values: np.ndarray
    samples: float
    unit: str
    margin: float = math.nan
    moderate: bool = True


@dataclass(frozen=True)
class LayerTest:
    """A test over the layers of a single pair, which has no replicates.

    Attributes:
        name: the statement as text.
        effect, low, high: the estimate, such as the share of layers, and its interval.
        above, below: one-sided p that it is above, and below, what the claim states.
        unit: the unit of the effect.
    """

    name: str
    effect: float
    low: float
    high: float
    above: float
    below: float
    unit: str = "share of layers"


def layer_test(name: str, wins: np.ndarray, confidence: float) -> LayerTest:
    """The layer rule: a statement is true in more than half of the layers.

    Exact binomial test; interval of Clopper and Pearson. With fewer than six layers it cannot reach
    significance at the 95% level, because each layer is one trial.

    Args:
        wins: (layers,) bool, whether the statement is true.
    """
    won, layers = int(wins.sum()), len(wins)
    ends = binomtest(won, layers).proportion_ci(confidence)
    above, below = (binomtest(won, layers, alternative=side).pvalue for side in _SIDES)
    return LayerTest(
        name, won / layers, float(ends.low), float(ends.high), float(above), float(below)
    )


_SIDES: tuple[Literal["greater"], Literal["less"]] = ("greater", "less")


@dataclass(frozen=True)
class ClaimFinding:
    """One statement of a claim, to be tested.

    Attributes:
        claim: C1 to C14.
        by: the measure: a score of `deltas`, or a metric of answers.
        pair: the group of pairs that the statement is about.
        part: the statement, if a claim makes several.
        stated: whether the paper makes this statement; otherwise it is an additional test.
        contrasts: the statement is true if all of them are above 0.
        requires: a contrast that has to be above 0 for any verdict.
        n: samples, or layers.
        unreplicated: `tuning` or `draw` if the difference comes from a single tuning or a single
            random draw, whose variance is unknown. Otherwise empty.
        why: the numbers in a sentence.
        basis: the source of the numbers.
        missing: what the test needs and the experiment does not have; the statement is untestable.
    """

    claim: str
    by: str
    pair: str = ""
    part: str = ""
    stated: bool = True
    contrasts: tuple[Contrast | LayerTest, ...] = ()
    requires: Contrast | None = None
    n: int = 0
    unreplicated: Literal["", "tuning", "draw"] = ""
    cohens_h: float = math.nan
    mcnemar_p: float = math.nan
    why: str = ""
    basis: str = ""
    missing: str = ""
