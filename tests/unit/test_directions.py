"""Directions from factors and from whole deltas, against numpy on the dense matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from refusal import refused

from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.deltas import directions as module
from affectlocus.deltas.directions import (
    FullDelta,
    LowRankDelta,
    compare_deltas,
    directions,
    inner,
    overlap,
)

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def thin(seed: int, rank: int = 3, shape: tuple[int, int] = (24, 16)) -> LowRankDelta:
    """A low-rank delta, its factors in float32 as adapters are stored."""
    a, b = drawn(rank, shape[1], seed=seed), drawn(shape[0], rank, seed=seed + 1)
    return LowRankDelta(LowRank(a.astype("float32"), b.astype("float32"), 1 / 3))


def whole(delta: LowRankDelta) -> FullDelta:
    factors = delta.factors
    return FullDelta(factors.scaling * (factors.b @ factors.a))


def by_numpy(one: np.ndarray, two: np.ndarray, ranks: tuple[int, int]) -> dict[str, float]:
    """The same numbers from full decompositions."""
    row = {"cosine": float((one * two).sum() / np.linalg.norm(one) / np.linalg.norm(two))}
    first, second = np.linalg.svd(one), np.linalg.svd(two)
    for side, u, v in (
        ("left", first[0][:, : ranks[0]], second[0][:, : ranks[1]]),
        ("right", first[2][: ranks[0]].T, second[2][: ranks[1]].T),
    ):
        cosines = np.linalg.svd(u.T @ v, compute_uv=False)
        row[f"{side}_overlap"] = float((cosines**2).sum() / min(ranks))
        row[f"{side}_angle"] = math.degrees(math.acos(min(1.0, cosines[0])))
    return row


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kinds", ["thin thin", "thin full", "full thin", "full full"])
def test_factors_and_whole_deltas_give_what_numpy_gives(rank: int, kinds: str) -> None:
    pair = [thin(0), thin(10)]
    dense = [whole(delta).matrix for delta in pair]
    made = [
        one if kind == "thin" else whole(one) for one, kind in zip(pair, kinds.split(), strict=True)
    ]
    row = compare_deltas(made[0], made[1], rank)
    for key, value in by_numpy(*dense, (rank, rank)).items():
        assert row[key] == pytest.approx(value, abs=1e-6), key
    assert row["rank_first"] == row["rank_second"] == rank
    assert row["left_expected"] == rank / 24
    assert row["right_expected"] == rank / 16


def test_a_rank_beyond_the_deltas_own_takes_what_there_is() -> None:
    one, two = thin(0, rank=2), thin(10, rank=5)
    for first, second in ((one, two), (whole(one), whole(two))):
        row = compare_deltas(first, second, 8)
        assert (row["rank_first"], row["rank_second"]) == (2, 5)
        expected = by_numpy(whole(one).matrix, whole(two).matrix, (2, 5))
        assert row["left_overlap"] == pytest.approx(expected["left_overlap"], abs=1e-6)
        assert row["left_expected"] == 5 / 24


def test_an_adapter_with_dependent_factors_has_the_rank_of_its_product() -> None:
    a, b = drawn(1, 9), drawn(7, 2, seed=1)
    twice = LowRankDelta(LowRank(np.concatenate([a, a]), b, 1.0))
    assert twice.leading(8)[0].shape == (7, 1)


def test_equal_directions_differ_from_equal_locations() -> None:
    one = thin(0)
    turned = LowRankDelta(LowRank(one.factors.a, -2 * one.factors.b, 1.0))
    row = compare_deltas(one, turned, 3)
    assert row["cosine"] == pytest.approx(-1)
    assert [row["left_overlap"], row["right_overlap"]] == pytest.approx([1, 1])
    assert row["left_angle"] == pytest.approx(0, abs=1e-4)
    # The same A and another B: they read the same, and write elsewhere.
    other = LowRankDelta(LowRank(one.factors.a, drawn(24, 3, seed=9), 1.0))
    row = compare_deltas(one, other, 3)
    assert row["right_overlap"] == pytest.approx(1)
    assert row["left_overlap"] < 0.6


def test_chance_is_what_random_deltas_have() -> None:
    rows = [compare_deltas(thin(seed), thin(seed + 500), 3) for seed in range(0, 400, 2)]
    for side in ("left", "right"):
        found = np.array([row[f"{side}_overlap"] for row in rows])
        error = found.std() / math.sqrt(len(found))
        assert found.mean() == pytest.approx(rows[0][f"{side}_expected"], abs=4 * error)
    cosines = np.array([row["cosine"] for row in rows])
    assert cosines.std() == pytest.approx(rows[0]["cosine_sd"], rel=0.2)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_iteration_finds_the_leading_directions_of_a_large_delta(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    matrix = drawn(*shape)
    exact = FullDelta(matrix).leading(4)
    monkeypatch.setattr(module, "_SMALL", 1)
    found = FullDelta(matrix).leading(4)
    for one, two in zip(exact, found, strict=True):
        assert one.shape == two.shape
        assert overlap(one, two)[0] == pytest.approx(1, abs=1e-9)
        # In order: each vector is its own, up to a sign.
        assert np.allclose(np.abs((one * two).sum(0)), 1)


def test_a_delta_of_nothing_has_no_direction() -> None:
    nothing = FullDelta(np.zeros((24, 16)))
    row = compare_deltas(nothing, thin(0), 3)
    assert (row["rank_first"], row["rank_second"]) == (0, 3)
    assert all(math.isnan(row[key]) for key in ("cosine", "left_overlap", "right_angle"))


def test_deltas_of_other_shapes_do_not_compare() -> None:
    with pytest.raises(ValueError, match="shapes"):
        compare_deltas(thin(0), thin(0, shape=(16, 24)), 2)


def test_an_inner_product_is_symmetric_in_its_kinds() -> None:
    one, two = thin(0), thin(4)
    values = [inner(a, b) for a in (one, whole(one)) for b in (two, whole(two))]
    assert values == pytest.approx([values[0]] * 4, rel=1e-12)


def test_pairs_on_one_base_are_compared_weight_by_weight(
    checkpoint: Callable, lora: Callable, twin: Callable, merged: Callable
) -> None:
    base = checkpoint()
    adapter, other = lora(base, PROJECTIONS), lora(base, ["gate_proj", "q_proj"], seed=2)
    full = twin(base)
    pairs = {name: Pair(base, path) for name, path in (("a", adapter), ("b", other), ("c", full))}
    frame = directions(pairs, 2)
    counts = frame.groupby(["first", "second"]).size().to_dict()
    assert counts == {("a", "b"): 4, ("a", "c"): 14, ("b", "c"): 4}
    row = frame[
        (frame["first"] == "a")
        & (frame["second"] == "c")
        & (frame["layer"] == 1)
        & (frame["projection"] == "gate")
    ].iloc[0]
    name = "model.layers.1.mlp.gate_proj.weight"
    deltas = [
        tuned[name].double() - Pair(base, full).base.tensor(name).double()
        for tuned in (merged(base, adapter), {name: Pair(base, full).sides(name)[1]})
    ]
    for key, value in by_numpy(deltas[0].numpy(), deltas[1].numpy(), (2, 2)).items():
        # peft merges in float32.
        assert row[key] == pytest.approx(value, abs=1e-4), key


def test_pairs_on_other_bases_are_refused(checkpoint: Callable, lora: Callable) -> None:
    bases = [checkpoint(), checkpoint(intermediate_size=64)]
    pairs: dict[str, Pair] = {
        name: Pair(base, lora(base, ["gate_proj"])) for name, base in zip("ab", bases, strict=True)
    }
    with refused("pair.bases-differ", found=("a", "b")):
        directions(pairs)


def test_nan_has_no_direction(checkpoint: Callable, twin: Callable, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    base = checkpoint()
    broken = tmp_path / "broken"
    shutil.copytree(twin(base), broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    name = "model.layers.0.mlp.up_proj.weight"
    with refused("checkpoint.not-finite", file=broken, tensor=name):
        directions({"a": Pair(base, broken), "b": Pair(base, twin(base))})
