"""Norms and moments of deltas, against numpy in float64 and against actual rounding."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from affectlocus.deltas import deltas, measure
from affectlocus.errors import InputError

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
MEASURES = [
    "l2",
    "base_l2",
    "relative",
    "rms",
    "cosine",
    "cosine_distance",
    "mean",
    "std",
    "max_abs",
    "dtype_floor",
]


def reference(base: torch.Tensor, tuned: torch.Tensor) -> dict[str, float]:
    """The definitions, written out in numpy; all but the floor."""
    a, b = (side.double().numpy().ravel() for side in (base, tuned))
    d = b - a
    cosine = (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
    # Half the square of the chord between the unit vectors is 1 − cos, without the cancellation.
    chord = a / np.linalg.norm(a) - b / np.linalg.norm(b)
    return {
        "l2": np.linalg.norm(d),
        "base_l2": np.linalg.norm(a),
        "relative": np.linalg.norm(d) / np.linalg.norm(a),
        "rms": np.sqrt(np.mean(d**2)),
        "cosine": cosine,
        "cosine_distance": (chord @ chord) / 2,
        "mean": d.mean(),
        "std": d.std(),
        "max_abs": np.abs(d).max(),
    }


def drawn(shape: tuple[int, ...], dtype: torch.dtype, size: float, seed: int = 0):
    """A base with entries about 0.05 and a tuned tensor `size` away, with a mean that is not 0."""
    random = torch.Generator().manual_seed(seed)
    base = 0.05 * torch.randn(shape, generator=random, dtype=torch.float64)
    delta = size * (torch.randn(shape, generator=random, dtype=torch.float64) + 0.3)
    return base.to(dtype), (base + delta).to(dtype)


@pytest.mark.parametrize("size", [0.002, 0.05, 3.0])
@pytest.mark.parametrize("shape", [(1,), (7,), (32, 48), (129, 33)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_measure_is_numpys_in_float64(dtype, shape, size) -> None:
    base, tuned = drawn(shape, dtype, size)
    found = measure(base, tuned)
    assert list(found) == MEASURES
    for name, value in reference(base, tuned).items():
        # A distance of zero is a difference of near ones, and the deviation of one entry too.
        absolute = 1e-9 * found["max_abs"] if name == "std" else 1e-12
        assert found[name] == pytest.approx(value, rel=1e-9, abs=absolute), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_several_chunks_is_measured_whole(dtype) -> None:
    # Above 1M entries a float32 norm of the whole is wrong in the fifth digit.
    base, tuned = drawn((1031, 2048), dtype, 0.01)
    found = measure(base, tuned)
    for name, value in reference(base, tuned).items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_a_delta_that_is_known_takes_the_place_of_the_difference() -> None:
    base, tuned = drawn((16, 16), torch.bfloat16, 1e-5)
    delta = 1e-5 * torch.randn(16, 16, generator=torch.Generator().manual_seed(1)).double()
    found = measure(base, tuned, delta)
    exact = reference(base.double(), base.double() + delta)
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert found["l2"] != pytest.approx(measure(base, tuned)["l2"], rel=0.01)
    assert found["dtype_floor"] == measure(base, tuned)["dtype_floor"]


def test_a_tensor_that_is_not_contiguous_is_measured_entry_by_entry() -> None:
    base, tuned = drawn((16, 24), torch.float32, 0.01)
    found = measure(base.T, tuned.T.contiguous())
    for name, value in measure(base, tuned).items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


@given(exponent=st.floats(-9, 3), slant=st.floats(0.2, math.pi - 0.2), seed=st.integers(0, 2**16))
def test_cosine_distance_is_right_for_tiny_large_and_obtuse_deltas(exponent, slant, seed) -> None:
    # A base of length 1 and a delta of known length and direction, in a random plane.
    plane, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(30, 2)))
    along, across = 10**exponent * math.cos(slant), 10**exponent * math.sin(slant)
    base = torch.from_numpy(plane[:, 0].copy())
    delta = torch.from_numpy(plane @ [along, across])
    found = measure(base, base + delta, delta)
    angle = math.atan2(across, 1 + along)
    assert found["cosine_distance"] == pytest.approx(2 * math.sin(angle / 2) ** 2, rel=1e-6)
    assert found["cosine"] == pytest.approx(math.cos(angle), abs=1e-6)


def test_cosine_distance_of_a_right_angle_is_one() -> None:
    found = measure(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0]))
    assert found["cosine_distance"] == pytest.approx(1, abs=1e-7)
    assert found["cosine"] == pytest.approx(0, abs=1e-7)


def test_cosine_distance_of_opposite_tensors_is_two() -> None:
    base = torch.tensor([1.0, -2.0, 3.0])
    found = measure(base, -2 * base)
    assert found["cosine_distance"] == pytest.approx(2)
    assert found["cosine"] == pytest.approx(-1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_unchanged_tensor_has_a_delta_of_exactly_zero(dtype) -> None:
    base, _ = drawn((8, 8), dtype, 1.0)
    found = measure(base, base.clone())
    for name in ("l2", "relative", "rms", "cosine_distance", "mean", "std", "max_abs"):
        assert found[name] == 0, name
    assert found["cosine"] == 1
    assert found["base_l2"] > 0


def test_a_base_of_zeros_has_no_relative_change_and_no_angle() -> None:
    found = measure(torch.zeros(4), torch.ones(4))
    assert found["l2"] == 2
    assert math.isnan(found["relative"])
    assert math.isnan(found["cosine_distance"])


def test_a_tensor_tuned_to_zeros_has_no_angle() -> None:
    found = measure(torch.ones(4), torch.zeros(4))
    assert found["relative"] == 1
    assert math.isnan(found["cosine_distance"])
    assert found["dtype_floor"] == 0


@given(power=st.integers(-8, 8), seed=st.integers(0, 2**16))
def test_scaling_both_tensors_scales_norms_and_keeps_ratios(power, seed) -> None:
    base, tuned = drawn((9, 5), torch.float32, 0.02, seed)
    found, scaled = measure(base, tuned), measure(base * 2.0**power, tuned * 2.0**power)
    for name in ("l2", "base_l2", "rms", "mean", "std", "max_abs", "dtype_floor"):
        assert scaled[name] == pytest.approx(found[name] * 2.0**power, rel=1e-12), name
    for name in ("relative", "cosine", "cosine_distance"):
        assert scaled[name] == pytest.approx(found[name], rel=1e-12), name


@given(seed=st.integers(0, 2**16))
def test_the_squares_of_two_halves_norms_add_up(seed) -> None:
    base, tuned = drawn((8, 6), torch.float32, 0.02, seed)
    top, bottom, whole = (
        measure(base[rows], tuned[rows]) for rows in (slice(3), slice(3, 8), slice(8))
    )
    for name in ("l2", "base_l2", "dtype_floor"):
        assert math.hypot(top[name], bottom[name]) == pytest.approx(whole[name], rel=1e-12), name


@pytest.mark.parametrize("spread", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_floor_is_the_norm_of_an_actual_rounding(dtype, spread) -> None:
    random = torch.Generator().manual_seed(4)
    exact = spread * torch.randn(200_000, generator=random, dtype=torch.float64)
    rounded = exact.to(dtype)
    error = float(np.linalg.norm(rounded.double().numpy() - exact.numpy()))
    assert measure(rounded, rounded)["dtype_floor"] == pytest.approx(error, rel=0.01)


def test_the_dtype_floor_holds_for_float16_below_its_normal_range() -> None:
    random = torch.Generator().manual_seed(4)
    exact = 1e-5 * torch.randn(200_000, generator=random, dtype=torch.float64)
    rounded = exact.to(torch.float16)
    error = float(np.linalg.norm(rounded.double().numpy() - exact.numpy()))
    assert measure(rounded, rounded)["dtype_floor"] == pytest.approx(error, rel=0.05)


# A pair's frame


def test_the_frame_of_a_full_pair_has_a_row_for_each_weight_and_bias(checkpoint, twin) -> None:
    base = checkpoint(dtype="bfloat16")
    tuned = twin(base)
    frame = deltas(base, tuned)
    assert list(frame.columns) == [
        "layer",
        "projection",
        "parameter",
        "numel",
        "shape",
        "dtype",
        "adapted",
        *MEASURES,
    ]
    # Seven weights and the biases of q, k and v, in two layers.
    assert len(frame) == 20
    assert not frame[["layer", "projection", "parameter"]].duplicated().any()
    assert frame["adapted"].all()
    assert set(frame["dtype"]) == {"bfloat16"}
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    for row in frame.to_dict("records"):
        block = "mlp" if row["projection"] in ("gate", "up", "down") else "self_attn"
        name = f"model.layers.{row['layer']}.{block}.{row['projection']}_proj.{row['parameter']}"
        assert row["numel"] == before[name].numel()
        assert row["shape"] == "x".join(str(side) for side in before[name].shape)
        for measured, value in reference(before[name], after[name]).items():
            assert row[measured] == pytest.approx(value, rel=1e-9, abs=1e-15), (name, measured)


def test_biases_of_qwen2_have_rows_of_their_own(checkpoint, twin) -> None:
    base = checkpoint()
    tuned = twin(base, lambda name: name.endswith("v_proj.bias"))
    frame = deltas(base, tuned).set_index(["projection", "parameter"]).sort_index()
    biases = frame.xs("bias", level="parameter")
    assert sorted(biases.index) == sorted(["q", "k", "v"] * 2)
    assert (frame.loc[("v", "bias"), "l2"] > 0.1).all()
    assert (frame.loc[("v", "weight"), "l2"] == 0).all()
    assert (frame.loc[("q", "bias"), "l2"] == 0).all()


def test_what_an_adapter_cannot_touch_has_a_base_and_no_delta(checkpoint, lora) -> None:
    base = checkpoint()
    frame = deltas(base, lora(base, ["gate_proj", "q_proj"]))
    touched = frame["projection"].isin(["gate", "q"]) & (frame["parameter"] == "weight")
    assert frame["adapted"].tolist() == touched.tolist()
    assert touched.sum() == 4
    measured = [name for name in MEASURES if name != "base_l2"]
    assert frame.loc[~touched, measured].isna().all(axis=None)
    assert frame.loc[touched, measured].notna().all(axis=None)
    stored = load_file(base / "model.safetensors")
    down = frame[(frame["projection"] == "down") & (frame["layer"] == 1)].iloc[0]
    expected = np.linalg.norm(stored["model.layers.1.mlp.down_proj.weight"].double())
    assert down["base_l2"] == pytest.approx(expected, rel=1e-9)


def test_an_adapters_delta_is_measured_before_it_is_rounded(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama", dtype="bfloat16")
    folder = shutil.copytree(lora(base, ["down_proj"], r=2, lora_alpha=8), tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    # So small that most of it is lost in a bfloat16 weight.
    stored = {
        name: tensor * (1e-3 if "lora_B" in name else 1) for name, tensor in load_file(file).items()
    }
    save_file(stored, file)
    frame = deltas(base, folder)
    row = frame[(frame["projection"] == "down") & (frame["layer"] == 0)].iloc[0]
    prefix = "base_model.model.model.layers.0.mlp.down_proj.lora_"
    a, b = (stored[f"{prefix}{factor}.weight"].double().numpy() for factor in "AB")
    assert row["l2"] == pytest.approx(np.linalg.norm(8 / 2 * (b @ a)), rel=1e-9)
    assert row["l2"] < row["dtype_floor"]
    assert row["dtype"] == "bfloat16"


def test_progress_is_told_after_every_tensor(checkpoint, twin) -> None:
    told: list[tuple[int, int]] = []
    base = checkpoint("mistral")
    deltas(base, twin(base), lambda done, total: told.append((done, total)))
    assert told == [(done, 14) for done in range(1, 15)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_tensor_with_nan_or_infinity_is_refused_by_name(
    checkpoint, tmp_path, side, value
) -> None:
    folders: dict[str, Path] = {}
    for name in ("base", "tuned"):
        folders[name] = shutil.copytree(checkpoint(), tmp_path / name)
    file = folders[side] / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        deltas(folders["base"], folders["tuned"])


def test_a_model_without_the_seven_projections_is_refused(tmp_path) -> None:
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        save_file({"h.0.attn.c_attn.weight": torch.ones(2, 2)}, tmp_path / side / "m.safetensors")
    with pytest.raises(InputError, match="expected the names of Qwen2, LLaMA or Mistral") as error:
        deltas(tmp_path / "base", tmp_path / "tuned")
    assert str(tmp_path / "base") in str(error.value)


def test_a_pair_stored_in_two_dtypes_is_compared_by_value(checkpoint, tmp_path) -> None:
    base = checkpoint(dtype="bfloat16")
    tuned = shutil.copytree(base, tmp_path / "tuned")
    tensors = load_file(tuned / "model.safetensors")
    save_file(
        {name: tensor.float() for name, tensor in tensors.items()}, tuned / "model.safetensors"
    )
    frame: pd.DataFrame = deltas(base, tuned)
    assert (frame["l2"] == 0).all()
    assert set(frame["dtype"]) == {"float32"}
