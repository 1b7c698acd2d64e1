"""Sums over samples, as observed and over samples drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from affectlocus.resampling import drawn_sums


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_first_row_is_what_was_observed_and_every_draw_takes_as_many_samples() -> None:
    values = np.column_stack([np.arange(5.0), np.ones(5)])
    sums = drawn_sums(values, 150, generator())
    assert sums.shape == (151, 2)
    assert sums[0].tolist() == [10, 5]
    assert (sums[:, 1] == 5).all()
    assert len(np.unique(sums[1:, 0])) > 5


def test_columns_stay_paired() -> None:
    values = generator(1).normal(size=20)
    sums = drawn_sums(np.column_stack([values, values + 2]), 100, generator())
    np.testing.assert_allclose(sums[:, 1] - sums[:, 0], 40)


def test_the_spread_is_that_of_a_mean() -> None:
    values = generator(2).normal(size=(400, 1))
    means = drawn_sums(values, 4000, generator())[1:, 0] / 400
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=0.005)


def test_the_same_seed_gives_the_same_draws_and_more_of_them_begin_alike() -> None:
    values = generator(3).normal(size=(7, 2))
    few, more = (drawn_sums(values, draws, generator(4)) for draws in (64, 100))
    np.testing.assert_array_equal(few, more[:65])
