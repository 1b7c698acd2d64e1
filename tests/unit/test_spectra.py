"""Spectra from factors and from Gram matrices, against numpy's SVD of the whole delta."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.checkpoints import spectra
from affectlocus.checkpoints.spectra import (
    LowRank,
    full_spectrum,
    low_rank_scores,
    spectrum_of_values,
)
from affectlocus.checkpoints.tensor_files import ArrayReader


def drawn(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def product(delta: LowRank) -> np.ndarray:
    return delta.scaling * (delta.b @ delta.a)


sizes = st.integers(1, 9)


@given(
    d_out=sizes,
    d_in=sizes,
    rank=st.integers(1, 12),
    scaling=st.sampled_from([0.5, 2.0, -1.5]),
    seed=st.integers(0, 2**16),
)
def test_norms_and_values_from_the_factors_are_those_of_the_product(
    d_out, d_in, rank, scaling, seed
) -> None:
    # Also where the rank exceeds the matrix.
    a, b = drawn(rank, d_in, seed=seed), drawn(d_out, rank, seed=seed + 1)
    delta = LowRank(a, b, scaling)
    whole = product(delta)
    size = np.linalg.norm(whole)
    assert delta.shape == whole.shape
    scores = delta.scores()
    assert delta.l2 == pytest.approx(size, rel=1e-9)
    assert scores["l2"] == delta.l2
    assert scores["rms"] == pytest.approx(math.sqrt((whole**2).mean()), rel=1e-9)
    assert scores["mean"] == pytest.approx(whole.mean(), rel=1e-9, abs=1e-12 * size)
    assert scores["std"] == pytest.approx(whole.std(), rel=1e-6, abs=1e-6 * size)
    values = np.linalg.svd(whole, compute_uv=False)
    found = delta.singular_values()
    assert len(found) == min(rank, d_out, d_in)
    assert np.allclose(found, values[: len(found)], rtol=1e-9, atol=1e-12 * size)
    assert np.allclose(values[len(found) :], 0, atol=1e-9 * size)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_factors_are_multiplied_in_float64(dtype) -> None:
    delta = LowRank(drawn(16, 300, dtype=dtype), drawn(200, 16, dtype=dtype, seed=1), 1 / 3)
    whole = product(delta)
    assert delta.dtype == "float64"
    assert delta.l2 == pytest.approx(np.linalg.norm(whole), rel=1e-12)
    assert np.allclose(delta.singular_values(), np.linalg.svd(whole)[1][:16], rtol=1e-10)


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e7])
def test_factors_of_any_condition_keep_their_digits(condition) -> None:
    scales = np.logspace(0, -math.log10(condition), 5)
    left, _ = np.linalg.qr(drawn(50, 5))
    right, _ = np.linalg.qr(drawn(30, 5, seed=1))
    turn, _ = np.linalg.qr(drawn(5, 5, seed=2))
    delta = LowRank(turn.T @ right.T, left @ np.diag(scales) @ turn, 1.0)
    assert np.allclose(delta.singular_values(), scales, rtol=1e-8 if condition > 1e3 else 1e-10)


def test_factors_with_nan_have_a_norm_and_values_of_nan() -> None:
    for bad in (math.nan, math.inf):
        delta = LowRank(drawn(2, 9), np.full((7, 2), bad), 1.0)
        assert not math.isfinite(delta.l2)
        assert math.isnan(delta.spectrum().spectral_norm)
        assert not math.isfinite(delta.scores()["l2"])


@given(start=st.integers(0, 63), stop=st.integers(0, 63))
def test_any_range_of_the_product_can_be_read(start, stop) -> None:
    start, stop = min(start, stop), max(start, stop)
    delta = LowRank(drawn(2, 9), drawn(7, 2, seed=1), 2.0)
    out = np.full(stop - start, math.nan)
    delta.read(start, stop, out)
    assert np.allclose(out, product(delta).ravel()[start:stop], rtol=1e-12, atol=1e-12)


def test_factors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"A \(4, 8\), B \(8, 3\)"):
        LowRank(np.ones((4, 8)), np.ones((8, 3)), 1.0)


def test_many_spectra_come_in_order_with_the_scores_of_the_factors() -> None:
    deltas = [LowRank(drawn(3, 40, seed=i), drawn(20, 3, seed=i + 9), -0.5) for i in range(9)]
    found = list(low_rank_scores(deltas, 3))
    for (scores, spectrum), seed in zip(found, range(9), strict=True):
        fresh = LowRank(drawn(3, 40, seed=seed), drawn(20, 3, seed=seed + 9), -0.5)
        assert scores == pytest.approx(fresh.scores(), rel=1e-12)
        assert np.array_equal(spectrum.values, fresh.singular_values())


# Spectra


def test_equal_values_have_the_rank_of_their_number() -> None:
    found = spectrum_of_values(np.full(7, 3.0))
    assert found.spectral_norm == 3
    assert found.stable_rank == pytest.approx(7)
    assert found.effective_rank == pytest.approx(7)


def test_one_value_has_rank_one_and_zeros_add_nothing() -> None:
    found = spectrum_of_values(np.array([0.0, 2.0, 0.0]))
    assert (found.spectral_norm, found.stable_rank) == (2, 1)
    assert found.effective_rank == pytest.approx(1)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(-200, 200))
def test_ranks_are_ordered_and_do_not_depend_on_scale(values, power) -> None:
    # Stable rank ≤ effective rank need not hold; both lie between 1 and the number of values.
    found = spectrum_of_values(np.array(values))
    scaled = spectrum_of_values(np.array(values) * 2.0**power)
    assert 1 - 1e-9 <= found.stable_rank <= len(values) + 1e-9
    assert 1 - 1e-9 <= found.effective_rank <= len(values) + 1e-9
    assert scaled.stable_rank == pytest.approx(found.stable_rank)
    assert scaled.effective_rank == pytest.approx(found.effective_rank)
    assert found.stable_rank == pytest.approx(sum(v**2 for v in values) / max(values) ** 2)
    share = np.array(values) / sum(values)
    assert found.effective_rank == pytest.approx(math.exp(-(share * np.log(share)).sum()))


def test_a_delta_of_zero_has_no_rank() -> None:
    zero = LowRank(drawn(4, 9), np.zeros((6, 4)), 2.0)
    assert set(zero.scores().values()) == {0}
    same = ArrayReader(drawn(6, 9))
    for found in (
        zero.spectrum(),
        full_spectrum(same, same),
        spectrum_of_values(np.zeros(0)),
    ):
        assert found.spectral_norm == 0
        assert math.isnan(found.stable_rank)
        assert math.isnan(found.effective_rank)


def test_a_delta_with_nan_has_no_spectrum() -> None:
    tuned = drawn(6, 9)
    tuned[2, 3] = math.nan
    assert math.isnan(full_spectrum(ArrayReader(drawn(6, 9)), ArrayReader(tuned)).spectral_norm)
    assert math.isnan(spectrum_of_values(np.array([1.0, math.inf])).stable_rank)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 17), (17, 40), (64, 64)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_full_deltas_spectrum_is_its_svd(monkeypatch, shape, dtype) -> None:
    # Blocks so small that there are several, by rows and by columns.
    monkeypatch.setattr(spectra, "_BLOCK", 100)
    base, tuned = drawn(*shape, dtype=dtype), drawn(*shape, dtype=dtype, seed=1)
    delta = tuned.astype(float) - base
    values = np.linalg.svd(delta, compute_uv=False)
    for found in (
        full_spectrum(ArrayReader(base), ArrayReader(tuned)),
        full_spectrum(ArrayReader(base), None, ArrayReader(delta)),
    ):
        assert np.allclose(found.values, values, rtol=1e-9, atol=1e-8 * values[0])
        expected = spectrum_of_values(values)
        assert found.spectral_norm == pytest.approx(values[0], rel=1e-9)
        assert found.stable_rank == pytest.approx(expected.stable_rank, rel=1e-9)
        assert found.effective_rank == pytest.approx(expected.effective_rank, rel=1e-6)


def test_a_full_delta_of_low_rank_has_the_spectrum_of_its_factors() -> None:
    factors = LowRank(drawn(3, 200), drawn(120, 3, seed=1), 1.0)
    found = full_spectrum(ArrayReader(np.zeros((120, 200))), None, factors)
    assert int((found.values > 0).sum()) == 3
    assert np.allclose(found.values[:3], factors.singular_values(), rtol=1e-9)
    assert found.effective_rank == pytest.approx(factors.spectrum().effective_rank, rel=1e-9)


def test_what_is_no_matrix_or_no_pair_is_refused() -> None:
    for base, tuned in ((np.ones(3), np.ones(3)), (np.ones((3, 2)), np.ones((2, 3)))):
        with pytest.raises(ValueError, match="no spectrum of a delta between shapes"):
            full_spectrum(ArrayReader(base), ArrayReader(tuned))
    with pytest.raises(ValueError, match="no spectrum"):
        full_spectrum(ArrayReader(np.ones((3, 2))), None)
