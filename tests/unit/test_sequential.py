"""Levels of repeated looks, against simulation and published values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from affectlocus.claims.decisions import AGAINST, EQUAL, OPEN, SUPPORT
from affectlocus.claims.sequential import Look, one_sided_levels, planned_looks


def test_one_look_has_the_whole_level() -> None:
    (look,) = planned_looks([12])
    assert look.level == pytest.approx(0.05, rel=1e-4)
    assert look.equality_level == pytest.approx(0.05, rel=1e-4)


def test_equal_levels_at_five_looks_are_pococks() -> None:
    """Pocock (1977): five looks at 0.0158, two-sided, have an error of 5 %."""
    rng = np.random.default_rng(0)
    sums = np.cumsum(rng.standard_normal((400_000, 5)), axis=1) / np.sqrt(np.arange(1, 6))
    crossed = np.maximum.accumulate(sums > norm.isf(0.0158 / 2), axis=1).mean(axis=0)
    assert one_sided_levels(range(1, 6), crossed) == pytest.approx(0.0079, rel=0.05)


@pytest.mark.parametrize("numbers", [[6, 8, 10, 12], [3, 4, 5, 6, 7, 8, 9, 10, 20]])
def test_the_error_of_all_looks_is_what_was_spent(numbers: list[int]) -> None:
    looks = planned_looks(numbers)
    rng = np.random.default_rng(1)
    sums = np.cumsum(rng.standard_normal((200_000, numbers[-1])), axis=1)
    sums = sums[:, np.array(numbers) - 1] / np.sqrt(numbers)
    bounds = norm.isf(np.array([look.level for look in looks]) / 2)
    found = np.maximum.accumulate(np.abs(sums) > bounds, axis=1).mean(axis=0)
    assert found == pytest.approx([look.spent for look in looks], abs=0.002)
    assert looks[-1].spent == pytest.approx(0.05)
    assert all(a.level < b.level for a, b in pairwise(looks))


def test_a_look_has_the_four_outcomes() -> None:
    look = Look(6, 0.02, 0.01, 0.02)
    assert look.outcome(0.001, 1.0, 1.0) == SUPPORT
    assert look.outcome(1.0, 0.001, 1.0) == AGAINST
    assert look.outcome(0.4, 0.6, 0.005) == EQUAL
    assert look.outcome(0.011, 1.0, 0.011) == OPEN
