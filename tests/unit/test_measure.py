"""The one pass over a pair, against numpy in float64 and against actual rounding."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusal import refused
from safetensors.torch import save_file
from single import measure

from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.tensor_files import ArrayReader, FileReader, Tensors
from affectlocus.deltas import measure as module
from affectlocus.deltas.measure import BINS, DeltaJob, measure_all

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BASIC = ["l2", "base_l2", "relative", "rms", "cosine", "cosine_distance"]
SCORES = [*BASIC, "mean", "std", "max_abs", "dtype_floor"]

# Of many blocks, and rows that are no multiple of anything.
LARGE = (331, 1019)


def held(tensor: torch.Tensor) -> ArrayReader:
    """A side in memory."""
    return ArrayReader(tensor.double().numpy(), str(tensor.dtype).removeprefix("torch."))


def stored(tensor: torch.Tensor) -> FileReader:
    """A side in a file, which is gone once the last that reads it is."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        save_file({"w": tensor.contiguous()}, file.name)
        return Tensors([Path(file.name)]).part("w")


def scores(base, tuned, delta=None, **options) -> dict[str, float]:
    sides = [side if side is None else stored(side) for side in (base, tuned)]
    return measure(*sides, None if delta is None else held(delta), **options).scores()


def reference(base: torch.Tensor, tuned: torch.Tensor) -> dict[str, float]:
    """The definitions, written out in numpy; all but the floor."""
    a, b = (side.double().numpy().ravel() for side in (base, tuned))
    d = b - a
    # Half the square of the chord between the unit vectors is 1 − cos, without the cancellation.
    chord = a / np.linalg.norm(a) - b / np.linalg.norm(b)
    return {
        "l2": np.linalg.norm(d),
        "base_l2": np.linalg.norm(a),
        "relative": np.linalg.norm(d) / np.linalg.norm(a),
        "rms": np.sqrt(np.mean(d**2)),
        "cosine": (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)),
        "cosine_distance": (chord @ chord) / 2,
        "mean": d.mean(),
        "std": d.std(),
        "max_abs": np.abs(d).max(),
    }


def floor(tuned: torch.Tensor) -> float:
    """√Σulp²/12, with the ulp from the distance to the next number of the dtype."""
    flat = tuned.flatten()
    kind = torch.finfo(flat.dtype)
    _, exponent = np.frexp(flat.double().numpy())
    ulp = np.maximum(kind.eps * 2.0 ** (exponent - 1), kind.eps * kind.tiny)
    return math.sqrt(float(np.sum(np.where(flat.double().numpy() == 0, 0, ulp) ** 2)) / 12)


def drawn(shape: tuple[int, ...], dtype: torch.dtype, size: float, seed: int = 0):
    """A base with entries about 0.05 and a tuned tensor `size` away, with a mean that is not 0."""
    random = torch.Generator().manual_seed(seed)
    base = 0.05 * torch.randn(shape, generator=random, dtype=torch.float64)
    delta = size * (torch.randn(shape, generator=random, dtype=torch.float64) + 0.3)
    return base.to(dtype), (base + delta).to(dtype)


def agrees(found: dict[str, float], expected: dict[str, float], rel: float) -> None:
    for name, value in expected.items():
        # A distance of zero is a difference of near ones, and the deviation of one entry too.
        absolute = 1e-9 * expected["max_abs"] if name == "std" else 1e-12 if rel < 1e-6 else 0
        assert found[name] == pytest.approx(value, rel=rel, abs=absolute), name


# Against float64


@pytest.mark.parametrize("size", [0.002, 0.05, 3.0])
@pytest.mark.parametrize("shape", [(1,), (7,), (32, 48), (129, 33)])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_small_tensors_are_measured_in_float64(dtype, shape, size) -> None:
    base, tuned = drawn(shape, dtype, size)
    found = scores(base, tuned)
    assert list(found) == SCORES
    agrees(found, reference(base, tuned), 1e-9)
    assert found["dtype_floor"] == pytest.approx(floor(tuned), rel=1e-12)


@pytest.mark.parametrize("size", [1e-4, 0.002, 0.05, 3.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tensors_are_right_to_a_millionth(dtype, size) -> None:
    base, tuned = drawn(LARGE, dtype, size)
    found = scores(base, tuned)
    agrees(found, reference(base, tuned), 1e-6)
    assert found["dtype_floor"] == pytest.approx(floor(tuned), rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sides_of_two_dtypes_are_compared_by_value(dtype) -> None:
    base, tuned = drawn(LARGE, torch.float64, 0.002)
    agrees(scores(base.to(dtype), tuned), reference(base.to(dtype), tuned), 1e-6)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_a_side_in_memory_gives_what_one_in_a_file_gives(dtype) -> None:
    pair = drawn(LARGE, dtype, 0.01)
    options = {"histogram": True, "neurons": "rows"}
    one, other = (measure(*map(way, pair), **options) for way in (stored, held))
    agrees(one.scores(), other.scores(), 1e-6)
    # Of float32, a quotient right beside an edge may be rounded to it.
    assert np.abs(one.histogram - other.histogram).sum() <= (4 if dtype == torch.float32 else 0)
    assert np.allclose(one.row_squares, other.row_squares, rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_16_bits_is_read_as_what_it_is(dtype) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(dtype)
    column = every[every.isfinite()][:, None]
    ones = torch.ones_like(column)
    found = measure(stored(ones), stored(column), neurons="rows")
    assert np.array_equal(found.row_squares, (column.double().numpy()[:, 0] - 1) ** 2)


@settings(max_examples=30)
@given(exponent=st.floats(-7, 2), slant=st.floats(0, math.pi), seed=st.integers(0, 99))
def test_cosine_distance_is_right_in_every_direction(exponent, slant, seed) -> None:
    # Also where the delta is (nearly) a multiple of the base, which float32 cannot tell.
    random = np.random.default_rng(seed)
    plane, _ = np.linalg.qr(random.normal(size=(70_000, 2)))
    along, across = 10**exponent * math.cos(slant), 10**exponent * max(1e-3, math.sin(slant))
    base, delta = plane[:, 0], plane @ [along, across]
    kept = [torch.from_numpy(side).float() for side in (base, base + delta, delta)]
    found = measure(*map(held, kept)).scores()
    a, d = (kept[i].double().numpy() for i in (0, 2))
    aa, ad, dd = a @ a, a @ d, d @ d
    angle = math.atan2(math.sqrt(max(0, aa * dd - ad**2)), aa + ad)
    assert found["cosine_distance"] == pytest.approx(2 * math.sin(angle / 2) ** 2, rel=1e-6)


def test_scaling_and_rotation_have_different_scores() -> None:
    base, _ = drawn(LARGE, torch.float32, 0.1)
    tuned = base * 1.01
    found = scores(base, tuned)
    assert found["relative"] == pytest.approx(0.01, rel=1e-4)
    assert found["cosine_distance"] == pytest.approx(
        reference(base, tuned)["cosine_distance"], rel=1e-6, abs=1e-17
    )


@pytest.mark.parametrize("value", [0.1, 0.7, 3.3])
def test_entries_that_are_all_alike_add_up_right(value) -> None:
    # Every rounding of a running float32 sum is off the same way here.
    base = torch.full(LARGE, value)
    tuned = base + 0.017
    found = scores(base, tuned)
    for name in ("l2", "base_l2", "rms", "mean", "max_abs"):
        assert found[name] == pytest.approx(reference(base, tuned)[name], rel=1e-6), name


@pytest.mark.parametrize("power", [-130, -90, -60, 40, 70, 120])
def test_squares_that_float32_cannot_hold_are_added_up(power) -> None:
    base, tuned = drawn(LARGE, torch.float32, 0.01)
    found, scaled = scores(base, tuned), scores(base * 2.0**power, tuned * 2.0**power)
    for name in ("l2", "base_l2", "rms", "max_abs"):
        assert scaled[name] == pytest.approx(found[name] * 2.0**power, rel=1e-5), name
    assert scaled["relative"] == pytest.approx(found["relative"], rel=1e-5)


def test_a_tensor_that_is_not_contiguous_is_measured_entry_by_entry() -> None:
    base, tuned = drawn((16, 24), torch.float32, 0.01)
    agrees(scores(base.T, tuned.T.contiguous()), scores(base, tuned), 1e-12)


@pytest.mark.parametrize("shape", [(70_001,), (3, 5, 7001), (2, 70_000), (40_000, 3)])
def test_any_shape_is_measured_whole(shape) -> None:
    base, tuned = drawn(shape, torch.bfloat16, 0.01)
    agrees(scores(base, tuned), reference(base, tuned), 1e-6)


def test_a_tensor_of_many_turns_is_measured_whole(monkeypatch) -> None:
    monkeypatch.setattr(module, "_TURN", 1 << 17)
    base, tuned = drawn((5, 100_000), torch.bfloat16, 0.01)
    agrees(scores(base, tuned), reference(base, tuned), 1e-6)


@pytest.mark.parametrize("shape", [(0,), (0, 5)])
def test_an_empty_tensor_has_no_scores_and_breaks_nothing(shape) -> None:
    empty = torch.zeros(shape)
    found = measure(stored(empty), stored(empty), histogram=True)
    assert found.numel == 0
    assert found.scores()["l2"] == 0
    assert math.isnan(found.scores()["rms"])


# A delta that is known, sides that are not


@pytest.mark.parametrize("shape", [(16, 16), LARGE])
def test_a_delta_that_is_known_takes_the_place_of_the_difference(shape) -> None:
    base, tuned = drawn(shape, torch.bfloat16, 1e-5)
    delta = 1e-5 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = scores(base, tuned, delta)
    exact = {
        name: value
        for name, value in reference(base.double(), base.double() + delta).items()
        if name in ("l2", "base_l2", "relative", "cosine_distance")
    }
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert found["l2"] != pytest.approx(scores(base, tuned)["l2"], rel=0.01)
    assert found["dtype_floor"] == scores(base, tuned)["dtype_floor"]


@pytest.mark.parametrize("shape", [(16, 16), LARGE])
def test_an_adapter_alone_has_absolute_scores_only(shape) -> None:
    _, delta = drawn(shape, torch.float32, 0.01)
    found = scores(None, None, delta)
    expected = reference(delta, 2 * delta)
    for name in ("l2", "rms", "mean", "std", "max_abs"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    for name in ("base_l2", "relative", "cosine", "cosine_distance", "dtype_floor"):
        assert math.isnan(found[name]), name


@pytest.mark.parametrize("shape", [(16, 16), LARGE])
def test_a_base_alone_has_its_norm_and_nothing_else(shape) -> None:
    base, _ = drawn(shape, torch.bfloat16, 0.01)
    found = scores(base, None)
    assert found.pop("base_l2") == pytest.approx(float(base.double().norm()), rel=1e-6)
    assert all(math.isnan(value) for value in found.values())


def test_a_low_rank_delta_is_a_side_like_any_other() -> None:
    random = torch.Generator().manual_seed(3)
    a, b = (torch.randn(shape, generator=random) for shape in ((4, 600), (250, 4)))
    base = torch.randn(250, 600, generator=random)
    delta = LowRank(a, b, 0.5)
    found = measure(stored(base), None, delta)
    exact = 0.5 * b.double() @ a.double()
    agrees(found.scores(), reference(base.double(), base.double() + exact), 1e-6)
    assert delta.l2 == pytest.approx(found.scores()["l2"], rel=1e-6)


@pytest.mark.parametrize(
    ("sides", "problem"),
    [
        ((torch.ones(2, 3), torch.ones(3, 2), None), "shapes"),
        ((torch.ones(2), torch.ones(2), torch.ones(3)), "shapes"),
        ((None, None, None), "needs a base or a delta"),
        ((None, torch.ones(2), None), "needs a base or a delta"),
    ],
)
def test_sides_that_do_not_fit_are_refused(sides, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        scores(*sides)
    held = [side if side is None else stored(side) for side in sides]
    with pytest.raises(ValueError, match=f"v_proj: {problem}"):
        next(measure_all([DeltaJob("v_proj", *held)]))


def test_neurons_of_a_bias_are_refused() -> None:
    with pytest.raises(ValueError, match="neurons of shape"):
        scores(torch.ones(3), torch.ones(3), neurons="rows")


# Edges of the scores


@pytest.mark.parametrize("shape", [(8, 8), LARGE])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_unchanged_tensor_has_a_delta_of_exactly_zero(dtype, shape) -> None:
    base, _ = drawn(shape, dtype, 1.0)
    found = scores(base, base.clone())
    for name in ("l2", "relative", "rms", "cosine_distance", "mean", "std", "max_abs"):
        assert found[name] == 0, name
    assert found["cosine"] == 1
    assert found["base_l2"] > 0


def test_opposite_and_orthogonal_tensors() -> None:
    base = torch.tensor([1.0, -2.0, 3.0])
    assert scores(base, -2 * base)["cosine_distance"] == pytest.approx(2)
    found = scores(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0]))
    assert found["cosine_distance"] == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("shape", [(4,), LARGE])
def test_a_base_of_zeros_has_no_relative_change_and_no_angle(shape) -> None:
    found = scores(torch.zeros(shape), torch.ones(shape))
    assert found["l2"] == math.sqrt(math.prod(shape))
    assert math.isnan(found["relative"])
    assert math.isnan(found["cosine_distance"])


@pytest.mark.parametrize("shape", [(4,), LARGE])
def test_a_tensor_tuned_to_zeros_has_no_angle(shape) -> None:
    found = scores(torch.ones(shape), torch.zeros(shape))
    assert found["relative"] == 1
    assert math.isnan(found["cosine_distance"])
    assert found["dtype_floor"] == 0


def test_basic_scores_are_the_same_and_the_rest_is_left_out() -> None:
    base, tuned = drawn(LARGE, torch.bfloat16, 0.01)
    whole, basic = scores(base, tuned), scores(base, tuned, whole=False)
    for name in BASIC:
        assert basic[name] == pytest.approx(whole[name], rel=1e-7), name
    for name in set(SCORES) - set(BASIC):
        assert math.isnan(basic[name]), name


@given(seed=st.integers(0, 2**16), cut=st.integers(1, 7))
def test_sums_of_two_parts_are_the_sums_of_the_whole(seed, cut) -> None:
    base, tuned = drawn((8, 6), torch.float32, 0.02, seed)
    base[3, 2] = 0
    top, bottom, whole = (
        measure(stored(base[rows]), stored(tuned[rows]), histogram=True, neurons="rows")
        for rows in (slice(cut), slice(cut, 8), slice(8))
    )
    both = top + bottom
    agrees(both.scores(), whole.scores(), 1e-9)
    assert both.numel == 48
    assert both.zeros == whole.zeros == 1
    assert np.array_equal(both.histogram, whole.histogram)
    assert np.allclose(both.row_squares, whole.row_squares, rtol=1e-12)


# What rounding alone would give


@pytest.mark.parametrize("spread", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_floor_is_the_norm_of_an_actual_rounding(dtype, spread) -> None:
    random = torch.Generator().manual_seed(4)
    exact = spread * torch.randn(200_000, generator=random, dtype=torch.float64)
    rounded = exact.to(dtype)
    error = float(np.linalg.norm(rounded.double().numpy() - exact.numpy()))
    assert scores(rounded, rounded)["dtype_floor"] == pytest.approx(error, rel=0.01)
    assert scores(rounded, rounded)["dtype_floor"] == pytest.approx(floor(rounded), rel=1e-6)


@pytest.mark.parametrize("number", [1000, 200_000])
def test_the_dtype_floor_holds_for_float16_below_its_normal_range(number) -> None:
    random = torch.Generator().manual_seed(4)
    exact = 1e-5 * torch.randn(number, generator=random, dtype=torch.float64)
    rounded = exact.to(torch.float16)
    rounded[::7] = 0
    assert scores(rounded, rounded)["dtype_floor"] == pytest.approx(floor(rounded), rel=1e-6)


# NaN and infinity


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("shape", [(30, 20), LARGE])
@pytest.mark.parametrize("whole", [True, False])
def test_nan_and_infinity_are_counted_and_located(shape, side, value, whole) -> None:
    sides = drawn(shape, torch.bfloat16, 0.01)
    places = [shape[1] * 25 + 3, shape[1] * 28 + 1]
    for place in places:
        sides[side].view(-1)[place] = value
    found = measure(*map(stored, sides), whole=whole, histogram=True)
    assert found.nonfinite == 2
    assert found.first_nonfinite == places[0]
    [(_, spread)] = measure_all([DeltaJob(0, *map(stored, sides), whole=whole)])
    assert (spread.nonfinite, spread.first_nonfinite) == (2, places[0])


def test_nan_is_located_in_a_later_turn(monkeypatch) -> None:
    monkeypatch.setattr(module, "_TURN", 1 << 17)
    base, tuned = drawn((9, 50_000), torch.bfloat16, 0.01)
    tuned[8, 17] = math.nan
    found = measure(stored(base), stored(tuned), whole=False)
    assert (found.nonfinite, found.first_nonfinite) == (1, 400_017)


def test_a_known_delta_with_nan_is_seen_though_its_sides_are_well() -> None:
    base, tuned = drawn((4, 4), torch.float32, 0.01)
    delta = tuned - base
    delta[2, 1] = math.nan
    found = measure(stored(base), stored(tuned), held(delta))
    assert (found.nonfinite, found.first_nonfinite) == (1, 9)


# Histograms and neurons


@pytest.mark.parametrize("shape", [(1, 1), (33, 7), LARGE, (2, 70_000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_histogram_counts_relative_changes(dtype, shape) -> None:
    base, tuned = drawn(shape, dtype, 0.02)
    base.view(-1)[5::11] = 0
    found = measure(stored(base), stored(tuned), histogram=True)
    a, b = base.double(), tuned.double()
    ratio = ((b - a) / a)[a != 0].clamp(-1, 1)
    places = np.rint(ratio.numpy() * 64).astype(int) + 64
    expected = np.bincount(places, minlength=BINS)
    moved = np.abs(found.histogram - expected).sum()
    # Stored in bfloat16, no ratio comes near an edge without lying on it.
    assert moved <= (0 if dtype == torch.bfloat16 or base.numel() < 70_000 else 4)
    assert found.zeros == int((base == 0).sum())
    assert int(found.histogram.sum()) + found.zeros == base.numel()


def test_no_change_is_the_middle_bin_and_far_changes_are_the_outer_ones() -> None:
    base = torch.tensor([1.0, 2.0, -1.0, 4.0, 0.0, 128.0, -128.0])
    tuned = torch.tensor([1.0, 20.0, 3.0, 5.0, 1.0, 129.0, -127.0])
    found = measure(stored(base), stored(tuned), histogram=True)
    assert {k - 64: int(n) for k, n in enumerate(found.histogram) if n} == {
        0: 3,
        64: 1,
        -64: 1,
        16: 1,
    }
    assert found.zeros == 1


@pytest.mark.parametrize("shape", [(1, 1), (48, 32), LARGE, (3, 70_000), (40_000, 3)])
@pytest.mark.parametrize("neurons", ["rows", "columns"])
def test_neurons_add_up_the_squares_of_their_row_or_column(neurons, shape) -> None:
    base, tuned = drawn(shape, torch.bfloat16, 0.01)
    found = measure(stored(base), stored(tuned), neurons=neurons)
    squares = ((tuned.double() - base.double()) ** 2).numpy()
    if neurons == "rows":
        got, expected = found.row_squares, squares.sum(1)
        assert found.column_squares is None
    else:
        got, expected = found.column_squares, squares.sum(0)
        assert found.row_squares is None
    assert got.dtype == np.float64
    assert np.allclose(got, expected, rtol=2e-6, atol=0)
    agrees(found.scores(), reference(base, tuned), 1e-6)


# Many tensors on threads


def test_many_tensors_come_in_order_and_equal_to_one_by_one(tmp_path) -> None:
    pairs = {f"w{i}": drawn((40 * i + 1, 999), torch.bfloat16, 0.01, i) for i in range(6)}
    for place, side in enumerate(("base", "tuned")):
        save_file({k: v[place] for k, v in pairs.items()}, tmp_path / f"{side}.safetensors")
    base, tuned = (Tensors([tmp_path / f"{side}.safetensors"]) for side in ("base", "tuned"))
    told: list[tuple[int, int]] = []
    jobs = [DeltaJob(name, base.part(name), tuned.part(name), neurons="rows") for name in pairs]
    found = list(measure_all(jobs, 3, lambda done, total: told.append((done, total))))
    assert [key for key, _ in found] == list(pairs)
    assert told == [(done, 6) for done in range(1, 7)]
    for name, sums in found:
        alone = measure(base.part(name), tuned.part(name), neurons="rows")
        assert sums.scores() == alone.scores()
        assert np.array_equal(sums.row_squares, alone.row_squares)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_basic_scores_of_files_are_right_however_they_lie(tmp_path, dtype, suffix) -> None:
    # With a last block that is not whole; a slice, and a transposed one.
    pair = drawn((701, 1019), dtype, 0.01)
    for side, tensor in zip(("base", "tuned"), pair, strict=True):
        save = save_file if suffix == "safetensors" else torch.save
        save({"w": tensor, "v": tensor[0].clone()}, tmp_path / f"{side}.{suffix}")
    torch.save({"w": pair[1].T}, tmp_path / "turned.pth")
    base, tuned = (Tensors([tmp_path / f"{side}.{suffix}"]) for side in ("base", "tuned"))
    rows = [(5, 200), (200, 600), (0, 3)]
    taken = [torch.cat([side[start:stop] for start, stop in rows]) for side in pair]
    turned = Tensors([tmp_path / "turned.pth"]).part("w")
    for sides, expected in (
        ((base.part("w"), tuned.part("w")), pair),
        ((base.part("v"), tuned.part("v")), [side[0] for side in pair]),
        ((base.part("w", rows), tuned.part("w", rows)), taken),
        ((held(pair[0].T), turned), pair),
    ):
        found = measure(*sides, whole=False).scores()
        exact = {k: v for k, v in reference(*expected).items() if k in BASIC}
        agrees(found, exact, 1e-6)


def test_the_number_of_threads_changes_no_digit(monkeypatch) -> None:
    monkeypatch.setattr(module, "_TURN", 1 << 14)
    sides = [stored(side) for side in drawn((300, 1000), torch.bfloat16, 0.01)]
    one, two, four = (
        [sums for _, sums in measure_all([DeltaJob(0, *sides, neurons="columns")], threads)]
        for threads in (1, 2, 4)
    )
    assert one[0].scores() == two[0].scores() == four[0].scores()
    assert np.array_equal(one[0].column_squares, four[0].column_squares)


class Broken:
    """A side that cannot be read."""

    shape, dtype = (5,), "float32"

    def read(self, *_: object) -> None:
        raise OSError("disk gone")


def test_an_error_of_a_side_reaches_the_caller() -> None:
    with pytest.raises(OSError, match="disk gone"):
        list(measure_all([DeltaJob(0, Broken(), Broken())] * 3, threads=2))


def test_no_thread_stays_behind() -> None:
    before = threading.active_count()
    found = measure_all(
        [DeltaJob(i, stored(torch.ones(9)), stored(torch.ones(9))) for i in range(40)]
    )
    next(found)
    found.close()
    assert threading.active_count() == before


def test_nothing_stays_mapped(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"w": drawn((700, 2000), torch.bfloat16, 0.01)[0]}, path)
    side = Tensors([path]).part("w")
    window = side.window(0, side.numel)
    assert str(path) in Path("/proc/self/maps").read_text()
    del window
    measure(side, side, histogram=True)
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_file_that_was_cut_is_refused_and_ends_no_process(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(1 << 20)}, path)
    side = Tensors([path]).part("w")
    os.truncate(path, 3 << 20)
    with refused("checkpoint.cut-while-read", file=path):
        measure(side, side)
