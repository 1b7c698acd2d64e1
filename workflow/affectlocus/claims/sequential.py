"""Repeated looks at a claim while replicates are added: a group-sequential rule.

A claim that is tested after every added replicate at 5 % is decided falsely far more often than in
5 % of all cases. Here the 5 % are spent over the looks (Lan and DeMets 1983; the power family of
Kim and DeMets 1987): until a share t of the planned replicates, 5 % · t². Each look gets a level so
that the error of all looks up to it is what has been spent. Levels are computed for a normal
statistic whose increments are independent, and compared with the p values of the claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from affectlocus.claims.decisions import AGAINST, EQUAL, OPEN, SUPPORT

SPENDING = 2.0
"""The exponent of the spending function: little is spent at early looks."""
_GRID = 1500
_ERROR = 0.05


@dataclass(frozen=True)
class Look:
    """One look at a claim.

    Attributes:
        replicates: their number at the look.
        level: the claim is supported or contradicted if its two-sided p is below it.
        equality_level: the claim is equal if its p of equality is below it.
        spent: the error spent until this look.
    """

    replicates: int
    level: float
    equality_level: float
    spent: float

    def outcome(self, support: float, against: float, equal: float) -> int:
        """SUPPORT, AGAINST, EQUAL or OPEN, by the claim's own p values."""
        if 2 * min(support, against) < self.level:
            return SUPPORT if support <= against else AGAINST
        return EQUAL if equal < self.equality_level else OPEN


def planned_looks(numbers: Sequence[int]) -> list[Look]:
    """The looks at these numbers of replicates, whose error is 5 % together.

    The last number is the budget. The plan has to be made before the first look and kept.

    Args:
        numbers: increasing.
    """
    spent = _ERROR * (np.asarray(numbers) / numbers[-1]) ** SPENDING
    sides = one_sided_levels(numbers, spent / 2)
    equal = one_sided_levels(numbers, spent)
    return [
        Look(int(number), float(2 * side), float(one), float(until))
        for number, side, one, until in zip(numbers, sides, equal, spent, strict=True)
    ]


def one_sided_levels(numbers: Sequence[int], spent: np.ndarray) -> np.ndarray:
    """(looks,), the level of each look, so that the error until it is what is spent until it.

    Recursive integration (Armitage, McPherson and Rowe 1969): the density of the sum of all
    replicates, where no look has decided yet.

    Args:
        numbers: of replicates at the looks, increasing.
        spent: (looks,), the error until each look, increasing.
    """
    information = np.asarray(numbers, float) / numbers[-1]
    at, density = np.zeros(1), np.ones(1)  # the sum before the first look is 0
    levels: list[float] = []
    previous, used = 0.0, np.ones(1)
    for until, error in zip(information, np.diff(spent, prepend=0.0), strict=True):
        step = np.sqrt(until - previous)

        def crossed(bound: float) -> float:
            return float((used * density * ndtr((at - bound) / step)).sum())  # noqa: B023

        bound = float(brentq(lambda b: crossed(b) - error, -1.0, 12.0))  # noqa: B023
        levels.append(norm.sf(bound / np.sqrt(until)))
        grid = np.linspace(-8 * np.sqrt(until), bound, _GRID)
        moved = norm.pdf((grid[:, None] - at) / step) / step
        density = moved @ (used * density)
        weights = np.full(_GRID, grid[1] - grid[0])
        weights[[0, -1]] /= 2
        at, used, previous = grid, weights, until
    return np.array(levels)
