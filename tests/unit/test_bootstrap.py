"""Sums over samples, as observed and over resampled samples."""

from __future__ import annotations

import numpy as np
import pytest

from affectlocus.scoring.bootstrap import Stream, category_counts, drawn_sums


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_first_row_is_observed_and_every_draw_takes_as_many_samples() -> None:
    values = np.column_stack([np.arange(5.0), np.ones(5)])
    sums = drawn_sums(values, Stream(0, "", 150))
    assert sums.shape == (151, 2)
    assert sums[0].tolist() == [10, 5]
    assert (sums[:, 1] == 5).all()
    assert len(np.unique(sums[1:, 0])) > 5


def test_columns_stay_paired() -> None:
    values = generator(1).normal(size=20)
    sums = drawn_sums(np.column_stack([values, values + 2]), Stream(0, "", 100))
    np.testing.assert_allclose(sums[:, 1] - sums[:, 0], 40)


def test_the_spread_is_that_of_a_mean() -> None:
    values = generator(2).normal(size=(400, 1))
    means = drawn_sums(values, Stream(0, "", 4000))[1:, 0] / 400
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=0.005)


def test_more_draws_with_the_same_seed_start_with_the_same_draws() -> None:
    values = generator(3).normal(size=(7, 2))
    few, more = (drawn_sums(values, Stream(4, "", draws)) for draws in (64, 100))
    np.testing.assert_array_equal(few, more[:65])


def test_categories_are_counted_in_the_same_draws_as_sums() -> None:
    categories = generator(5).integers(4, size=60)
    stream = Stream(0, "moods", 300)
    hot = (categories[:, None] == np.arange(6)).astype(float)
    assert (category_counts(categories, 6, stream) == drawn_sums(hot, stream)).all()


def test_another_task_or_seed_has_other_draws() -> None:
    values = generator(6).normal(size=(30, 1))
    one, *others = (
        drawn_sums(values, stream)[1:]
        for stream in (Stream(0, "a", 50), Stream(0, "b", 50), Stream(1, "a", 50))
    )
    assert all((one != other).any() for other in others)
