"""The cells' weights, tensor by tensor and bit for bit; the bits are compared by numpy."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from refusal import refused
from safetensors.torch import load_file, save_file
from single import build

from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.stored import as_torch
from affectlocus.core.cells import EVEN, Cell
from affectlocus.core.errors import InputError
from affectlocus.evaluation import interventions
from affectlocus.evaluation.interventions import (
    TorchChanges,
    ablated_tensor,
    generator,
    projections_inside,
    verify,
    verify_folders,
)

MODES = ("revert", "zero", "shuffle", "noise")
SETS = ("gate", "k", "q+k+v+o", "o+gate", "all")
PARTS = ("q", "k", "v", "o", "gate", "up", "down")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
GATE = "model.layers.1.mlp.gate_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"

some_sets = st.sets(st.sampled_from(PARTS), min_size=1)


def intervened(pair: Pair, name: str, cell: Cell) -> torch.Tensor:
    return as_torch(interventions.intervened(pair, name, cell))


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equal in dtype, shape and every bit."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    whole = {2: torch.int16, 4: torch.int32}[left.element_size()]
    return np.array_equal(left.view(whole).numpy(), right.view(whole).numpy())


def load(modules: str, mode: str = "", seed: int | None = None) -> Cell:
    return Cell("load", "base", "pair", modules, mode, seed)


def ablate(modules: str, mode: str, seed: int | None = None) -> Cell:
    return Cell("ablate", "base", "pair", modules, mode, seed)


def model(pair: Pair, cell: Cell) -> dict[str, torch.Tensor]:
    """The cell's tensors, each a copy that may be written to."""
    return {name: intervened(pair, name, cell).clone() for name in pair.names}


@pytest.fixture(scope="module")
def pairs(checkpoint, twin, lora) -> dict[str, Pair]:
    """An adapter on five of the projections and a full tuning of everything, in two dtypes."""
    made = {}
    for dtype in ("float32", "bfloat16"):
        base = checkpoint(dtype=dtype)
        made[f"lora {dtype}"] = Pair(base, lora(base, [*ATTENTION, "gate_proj"]))
        made[f"full {dtype}"] = Pair(base, twin(base))
    return made


@pytest.fixture(
    params=[f"{kind} {dtype}" for kind in ("lora", "full") for dtype in ("float32", "bfloat16")]
)
def pair(request, pairs) -> Pair:
    return pairs[request.param]


def members(pair: Pair, projection: Callable[[str], str], modules: str) -> set[str]:
    """The names inside a set, by plain splitting; never empty, never all."""
    wanted = PARTS if modules == "all" else modules.split("+")
    found = {name for name in pair.names if projection(name) in wanted}
    assert found
    assert found != set(pair.names)
    return found


# Layers


def test_a_load_of_one_layer_takes_that_layer_alone(pair, projection) -> None:
    for name, tensor in model(pair, load("q@0+gate@1")).items():
        base, tuned = pair.sides(name)
        inside = (projection(name), ".layers.1." in name) in [("q", False), ("gate", True)]
        assert same(tensor, tuned if inside else base), name


def test_the_layers_of_a_projection_make_up_the_projection(pair) -> None:
    both, whole = (model(pair, load(one)) for one in ("gate@0,1", "gate"))
    assert all(same(both[name], whole[name]) for name in whole)


def test_verify_refuses_a_change_in_another_layer_of_the_projection(pairs) -> None:
    one = pairs["full float32"]
    tensors = model(one, load("gate@0"))
    assert verify(tensors, one, load("gate@0"))["inside"] == 1
    tensors[GATE] = one.sides(GATE)[1]
    with refused("cell.changed-outside", tensor=GATE):
        verify(tensors, one, load("gate@0"))


# Load


@pytest.mark.parametrize("modules", SETS)
def test_load_takes_the_set_from_the_tuned_model_and_all_else_from_the_base(
    pair, projection, modules
) -> None:
    chosen = members(pair, projection, modules)
    for name, tensor in model(pair, load(modules)).items():
        base, tuned = pair.sides(name)
        assert same(tensor, tuned if name in chosen else base), name
    assert any(not same(*pair.sides(name)) for name in chosen), "the pair differs nowhere here"


def test_a_dose_of_nothing_is_the_base_and_of_one_the_load(pair, projection) -> None:
    chosen = members(pair, projection, "o+gate")
    for name in pair.names:
        none, whole = (intervened(pair, name, load("o+gate", f"x{times}")) for times in (0, 1))
        base, tuned = pair.sides(name)
        assert same(none, base), name
        assert same(whole, tuned if name in chosen else base), name


def test_a_dose_between_lies_between(pair) -> None:
    half = intervened(pair, GATE, load("gate", "x0.5")).double()
    base, tuned = (side.double() for side in pair.sides(GATE))
    spread = 2.0**-7 if pair.base.dtype(GATE) == "bfloat16" else 1e-6
    torch.testing.assert_close(half, (base + tuned) / 2, rtol=spread, atol=spread)


def test_even_noise_has_one_size_in_every_projection_and_the_whole_deltas_norm(pairs) -> None:
    for pair in (pairs["lora float32"], pairs["full float32"]):
        squares, entries, whole = [], [], 0.0
        for location, (name, _) in pair.projections.items():
            if location.parameter == "weight":
                noise = intervened(pair, name, load("all", "even", 3)).double()
                noise -= as_torch(pair.stored_base(name)).double()
                squares.append(float(noise.square().sum()))
                entries.append(noise.numel())
                whole += float(pair.delta(name).square().sum())
        assert sum(squares) == pytest.approx(whole, rel=0.05)
        rms = np.sqrt(np.array(squares) / np.array(entries))
        assert rms.std() / rms.mean() < 0.1
    again = intervened(pair, GATE, load("all", "even", 3))
    assert same(again, intervened(pair, GATE, load("gate", "even", 3)))
    assert not same(again, intervened(pair, GATE, load("all", "even", 4)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_load_all_of_an_adapter_is_the_tuned_model_bit_for_bit(pairs, dtype) -> None:
    pair = pairs[f"lora {dtype}"]
    tuned = model(pair, Cell("tuned", "base", "pair"))
    for name, tensor in model(pair, load("all")).items():
        assert same(tensor, tuned[name]), name


def test_load_all_of_a_full_tuning_leaves_embeddings_and_norms_to_the_base(pairs) -> None:
    pair = pairs["full float32"]
    loaded = model(pair, load("all"))
    for name in ("model.embed_tokens.weight", NORM, "model.norm.weight"):
        base, tuned = pair.sides(name)
        assert not same(base, tuned)
        assert same(loaded[name], base)


def test_base_and_tuned_cells_are_the_checkpoints_themselves(pair) -> None:
    for kind, side in (("base", 0), ("tuned", 1), ("tune", 1)):
        modules = "all" if kind == "tune" else ""
        for name, tensor in model(pair, Cell(kind, "base", "pair", modules)).items():
            assert same(tensor, pair.sides(name)[side]), (kind, name)


# Ablate


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("modules", SETS)
def test_an_ablation_leaves_every_other_tensor_as_tuned_bit_for_bit(
    pair, projection, modules, mode
) -> None:
    chosen = members(pair, projection, modules)
    for name, tensor in model(pair, ablate(modules, mode, 0)).items():
        base, tuned = pair.sides(name)
        if name not in chosen:
            assert same(tensor, tuned), name
            continue
        assert tensor.dtype == tuned.dtype
        assert tensor.shape == tuned.shape
        if mode == "revert":
            assert same(tensor, base), name
        elif mode == "zero":
            assert not tensor.any(), name
        elif pair.adapted(name):
            assert not same(tensor, tuned), name
            assert not same(tensor, base), name
        else:
            assert torch.equal(tensor, base), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_revert_of_all_of_an_adapter_is_the_base_bit_for_bit(pairs, dtype) -> None:
    pair = pairs[f"lora {dtype}"]
    for name, tensor in model(pair, ablate("all", "revert")).items():
        assert same(tensor, pair.base.tensor(name)), name


@settings(max_examples=25)
@given(chosen=some_sets.filter(lambda parts: len(parts) < len(PARTS)))
def test_loading_a_set_of_an_adapter_is_reverting_all_other_projections(pairs, chosen) -> None:
    pair = pairs["lora bfloat16"]
    rest = [part for part in PARTS if part not in chosen]
    loaded = model(pair, load("+".join(chosen)))
    for name, tensor in model(pair, ablate("+".join(rest), "revert")).items():
        assert same(tensor, loaded[name]), name


@settings(max_examples=25)
@given(first=some_sets, second=some_sets)
def test_the_set_of_a_union_is_the_union_of_the_sets(pairs, first, second) -> None:
    cells = [load("+".join(parts)) for parts in (first, second, first | second)]
    pair = pairs["full float32"]
    for name in pair.names:
        one, two, both = (projections_inside(pair, name, cell) for cell in cells)
        assert both == (one or two)


def test_shuffle_keeps_the_entries_of_a_stored_delta(pairs) -> None:
    pair = pairs["full float32"]
    for name in (GATE, "model.layers.0.self_attn.k_proj.bias"):
        base, tuned = pair.sides(name)
        delta = tuned.double() - base.double()
        found = intervened(pair, name, ablate("k+gate", "shuffle", 0)).double() - base.double()
        # The sum of base and shuffled delta is rounded to float32, with entries below 2.
        np.testing.assert_allclose(
            np.sort(found.flatten()), np.sort(delta.flatten()), rtol=0, atol=2**-23
        )
        assert not torch.allclose(found, delta, rtol=0, atol=0.01)
        assert float(found.norm()) == pytest.approx(float(delta.norm()), rel=1e-5)


def test_noise_has_the_norm_of_a_stored_delta_and_nothing_else_of_it(pairs) -> None:
    for kind, tolerance in (
        ("full float32", 1e-5),
        ("lora float32", 1e-5),
        ("full bfloat16", 0.02),
    ):
        pair = pairs[kind]
        base = pair.base.tensor(GATE).double()
        delta = pair.delta(GATE)
        found = intervened(pair, GATE, ablate("gate", "noise", 0)).double() - base
        assert float(found.norm()) == pytest.approx(float(delta.norm()), rel=tolerance)
        cosine = float((found * delta).sum() / found.norm() / delta.norm())
        assert abs(cosine) < 5 / delta.numel() ** 0.5
        # Gaussian: the fourth moment is three times the square of the second.
        kurtosis = float((found**4).mean() / (found**2).mean() ** 2)
        assert kurtosis == pytest.approx(3, abs=0.6)


deltas = arrays.arrays(
    np.float64,
    arrays.array_shapes(min_dims=1, max_dims=2, max_side=12),
    # As wide as weights are stored: the square of the smallest still fits in float64.
    elements=st.floats(-1e3, 1e3, allow_subnormal=False, width=32).map(float),
)


@given(values=deltas, seed=st.integers(0, 2**31), name=st.text(max_size=8))
def test_shuffling_keeps_every_entry_the_shape_and_the_norm(values, seed, name) -> None:
    found = TorchChanges(generator(seed, name)).shuffled(values)
    assert found.shape == values.shape
    assert found.dtype == values.dtype
    assert np.array_equal(np.sort(found, axis=None), np.sort(values, axis=None))
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(values), rel=1e-12)


@given(values=deltas, seed=st.integers(0, 2**31), name=st.text(max_size=8))
def test_noise_has_the_frobenius_norm_of_the_delta(values, seed, name) -> None:
    found = TorchChanges(generator(seed, name)).noise_like(values)
    assert found.shape == values.shape
    assert found.dtype == np.float64
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(values), rel=1e-12, abs=0)


@pytest.mark.parametrize("mode", ["shuffle", "noise"])
def test_a_random_ablation_does_not_depend_on_the_order_of_tensors(pair, mode) -> None:
    cell = ablate("all", mode, 3)
    order = list(pair.names)
    random.Random(5).shuffle(order)
    first = model(pair, cell)
    torch.manual_seed(99)
    torch.rand(7)
    for name in order:
        assert same(intervened(pair, name, cell), first[name]), name


@pytest.mark.parametrize("mode", ["shuffle", "noise"])
def test_another_seed_gives_another_ablation(pairs, mode) -> None:
    pair = pairs["full float32"]
    one, two = (intervened(pair, GATE, ablate("gate", mode, seed)) for seed in (0, 1))
    assert not torch.allclose(one, two, rtol=0, atol=0.01)


@pytest.mark.parametrize("cell", [ablate("gate", "shuffle"), load("gate", EVEN)])
def test_a_draw_seeds_the_random_numbers_as_a_seed_does(pairs, cell) -> None:
    pair = pairs["full float32"]
    drawn, seeded = (intervened(pair, GATE, replace(cell, **{how: 1})) for how in ("draw", "seed"))
    assert torch.equal(drawn, seeded)
    other = intervened(pair, GATE, replace(cell, draw=2))
    assert not torch.allclose(drawn, other, rtol=0, atol=1e-4)


def test_tensors_of_one_shape_get_noise_of_their_own(pairs) -> None:
    pair = pairs["full float32"]
    cell = ablate("all", "noise", 0)
    names = [
        f"model.layers.{layer}.mlp.{part}_proj.weight"
        for layer in (0, 1)
        for part in ("gate", "up")
    ]
    drawn = [(intervened(pair, name, cell) - pair.base.tensor(name)).flatten() for name in names]
    correlation = torch.corrcoef(torch.stack(drawn)) - torch.eye(4)
    assert float(correlation.abs().max()) < 5 / drawn[0].numel() ** 0.5


def test_an_unknown_way_to_ablate_is_refused(pairs) -> None:
    with refused("cell.unknown-ablation", found="scramble"):
        ablated_tensor(pairs["full float32"], GATE, "scramble", 0)


# Verify


@pytest.mark.parametrize("modules", SETS)
def test_verify_counts_what_lies_inside_and_outside(pairs, projection, modules) -> None:
    pair = pairs["full float32"]
    many = len(members(pair, projection, modules))
    rest = len(pair.names) - many
    expected = {"inside": many, "changed": many, "outside": rest, "untouched": rest}
    for cell in (load(modules), *(ablate(modules, mode, 0) for mode in MODES)):
        assert verify(model(pair, cell), pair, cell) == expected, cell


def test_verify_counts_tensors_that_the_adapter_does_not_touch_as_unchanged(pairs) -> None:
    pair = pairs["lora float32"]
    # Seven weights and three biases in each of two layers; five of the weights are adapted.
    counts = verify(model(pair, load("all")), pair, load("all"))
    assert (counts["inside"], counts["changed"]) == (20, 10)


def test_verify_has_nothing_to_say_of_whole_checkpoints(pairs) -> None:
    pair = pairs["lora float32"]
    for kind in ("base", "tuned"):
        assert set(verify({}, pair, Cell(kind, "base", "pair")).values()) == {0}


@pytest.fixture(scope="module")
def made(tmp_path_factory, checkpoint, twin) -> Pair:
    """A full pair in float32 with a zero and a NaN on both sides of a tensor outside most sets."""
    folder = tmp_path_factory.mktemp("made")
    base, tuned = folder / "base", folder / "tuned"
    shutil.copytree(checkpoint(), base)
    shutil.copytree(twin(checkpoint()), tuned)
    for side in (base, tuned):
        tensors = load_file(side / "model.safetensors")
        tensors[NORM][0] = 0.0
        tensors[NORM][1] = float("nan")
        save_file(tensors, side / "model.safetensors")
    return Pair(base, tuned)


CELLS = (
    load("gate"),
    load("all"),
    Cell("tune", "base", "pair", "q+k+v+o", seed=0),
    *(ablate("o+gate", mode, 0) for mode in MODES),
)


def built(pair: Pair, cell: Cell) -> dict[str, torch.Tensor]:
    """The cell's tensors; a `tune` cell's as a tuning that stayed inside its set leaves them."""
    if cell.kind == "tune":
        return model(pair, load(cell.modules))
    return model(pair, cell)


@settings(max_examples=60)
@given(data=st.data(), cell=st.sampled_from(CELLS))
def test_verify_finds_any_single_flipped_bit_outside_the_set(made, data, cell) -> None:
    tensors = built(made, cell)
    verify(tensors, made, cell)
    name = data.draw(st.sampled_from(made.names))
    entry = data.draw(st.integers(0, tensors[name].numel() - 1))
    bit = data.draw(st.integers(0, 31))
    bits = tensors[name].view(torch.int32).flatten()
    bits[entry] ^= -(2**31) if bit == 31 else 2**bit
    if projections_inside(made, name, cell):
        verify(tensors, made, cell)
    else:
        with refused("cell.changed-outside", cell=cell.id, tensor=name):
            verify(tensors, made, cell)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_verify_tells_zero_from_minus_zero(made, cell) -> None:
    tensors = built(made, cell)
    assert tensors[NORM][0] == 0
    tensors[NORM][0] = -0.0
    with refused("cell.changed-outside", tensor=NORM):
        verify(tensors, made, cell)


def test_verify_takes_a_nan_for_itself(made) -> None:
    tensors = model(made, load("gate"))
    assert tensors[NORM].isnan().any()
    verify(tensors, made, load("gate"))


def test_verify_refuses_a_tensor_of_another_dtype_or_shape_and_a_missing_one(pairs) -> None:
    pair = pairs["full bfloat16"]
    wrongs = {
        "cell.other-dtype-outside": [lambda tensor: tensor.float()],
        "cell.changed-outside": [lambda tensor: tensor[:-1], None],
    }
    for code, wrong in ((code, one) for code, ones in wrongs.items() for one in ones):
        tensors = model(pair, load("gate"))
        if wrong is None:
            del tensors[NORM]
        else:
            tensors[NORM] = wrong(tensors[NORM])
        with refused(code, tensor=NORM):
            verify(tensors, pair, load("gate"))


def test_verify_reads_a_tensor_that_is_not_contiguous(pairs) -> None:
    pair = pairs["full float32"]
    tensors = model(pair, load("gate"))
    name = "model.layers.0.self_attn.o_proj.weight"
    tensors[name] = tensors[name].T.contiguous().T
    verify(tensors, pair, load("gate"))


@pytest.mark.parametrize("modules", ["up+gate", "all"])
def test_folders_that_differ_in_the_set_alone_verify(checkpoint, twin, projection, modules) -> None:
    base = checkpoint("llama", dtype="bfloat16")
    tuned = twin(base, lambda name: projection(name) in ("gate", "up"))
    counts = verify_folders(base, tuned, modules)
    assert counts["changed"] == 4
    assert counts["inside"] == (14 if modules == "all" else 4)
    assert counts["outside"] == counts["untouched"]
    assert counts["inside"] + counts["outside"] == len(Pair(base, tuned).names)


def test_folders_that_differ_outside_the_set_are_refused(checkpoint, twin, lora) -> None:
    base = checkpoint("llama")
    with refused("cell.changed-outside") as caught:
        verify_folders(base, lora(base, ["o_proj", "gate_proj"]), "gate")
    assert str(caught.value.fields["tensor"]).endswith(".self_attn.o_proj.weight")
    tuned: Path = twin(base, lambda name: name == "lm_head.weight")
    with refused("cell.changed-outside", tensor="lm_head.weight"):
        verify_folders(base, tuned, "all")


def test_folders_are_compared_over_a_set_that_exists(checkpoint) -> None:
    with pytest.raises(InputError, match="unknown projection 'gat'"):
        verify_folders(checkpoint(), checkpoint(), "gat")


# Fused tensors: q, k and v in one, gate and up in one


@pytest.fixture(scope="module")
def fused(checkpoint, twin) -> Pair:
    base = checkpoint("phi3", tie_word_embeddings=False)
    return Pair(base, twin(base))


QKV = "model.layers.1.self_attn.qkv_proj.weight"
# HIDDEN 32, four heads of 8, two of them key-value heads: 32 rows of q, 16 of k, 16 of v.
ROWS = {"q": slice(0, 32), "k": slice(32, 48), "v": slice(48, 64)}


@pytest.mark.parametrize("projection", ["q", "k", "v"])
def test_a_load_takes_the_rows_of_its_projection_alone(fused, projection) -> None:
    base, tuned = fused.sides(QKV)
    found = intervened(fused, QKV, load(projection))
    for name, rows in ROWS.items():
        assert same(found[rows], (tuned if name == projection else base)[rows]), name
    assert not torch.equal(base, tuned)


@pytest.mark.parametrize("mode", ["revert", "zero", "shuffle", "noise"])
def test_an_ablation_destroys_the_rows_of_its_projections_alone(fused, mode) -> None:
    base, tuned = fused.sides(QKV)
    found = intervened(fused, QKV, ablate("q+v", mode, 0))
    assert same(found[ROWS["k"]], tuned[ROWS["k"]])
    for name in "qv":
        rows = ROWS[name]
        assert not torch.equal(found[rows], tuned[rows])
        delta = (tuned[rows].double() - base[rows].double()).norm()
        if mode == "revert":
            assert same(found[rows], base[rows])
        elif mode == "zero":
            assert not found[rows].any()
        else:
            change = (found[rows].double() - base[rows].double()).norm()
            assert float(change) == pytest.approx(float(delta), rel=1e-5)


@pytest.mark.parametrize("cell", [load("q+gate"), ablate("q+gate", "shuffle", 1)], ids=str)
def test_verify_looks_at_the_other_rows_of_a_fused_tensor(fused, cell) -> None:
    tensors = {name: intervened(fused, name, cell) for name in fused.names}
    counts = verify(tensors, fused, cell)
    assert counts["inside"] == 4
    assert counts["changed"] == 4
    tensors[QKV] = tensors[QKV].clone()
    tensors[QKV][40, 3] += 1
    with refused("cell.changed-outside", tensor=QKV):
        verify(tensors, fused, cell)


def test_a_fused_models_cell_is_built_and_holds_the_loaded_rows(checkpoint, twin) -> None:
    base = checkpoint("phi3", tie_word_embeddings=False)
    tuned = twin(base)
    built_model, counts = build(base, tuned, load("up"))
    before, after = Pair(base, tuned).sides("model.layers.0.mlp.gate_up_proj.weight")
    found = built_model.state_dict()["model.layers.0.mlp.gate_up_proj.weight"]
    half = len(before) // 2
    assert same(found[:half], before[:half])
    assert same(found[half:], after[half:])
    assert counts["changed"] == 2
