"""A pair's deltas: what each row says, against numpy in float64."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from refusal import refused
from safetensors.torch import load_file, save_file

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.pairs import Pair
from affectlocus.deltas.delta_tables import (
    COLUMNS,
    DELTA_SCORES,
    TuningFacts,
    read_tuning_facts,
    summary,
    write_tables,
)
from affectlocus.deltas.deltas import adapter_alone, deltas

REAL = Path(__file__).parents[3] / "shared" / "real" / "adapters"
KEYS = ["layer", "projection", "parameter", "numel", "shape", "dtype", "adapted"]
MEASURES = [name for name in COLUMNS if name not in KEYS]


def table(*pair: Path, **options) -> pd.DataFrame:
    """The rows of a pair's deltas."""
    return pd.DataFrame(deltas(Pair(*pair), **options).rows)


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


def test_a_full_pair_has_a_row_for_each_weight_and_bias(checkpoint, twin) -> None:
    base = checkpoint(dtype="bfloat16")
    tuned = twin(base)
    frame = table(base, tuned)
    assert list(frame.columns) == list(COLUMNS)
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
            assert row[measured] == pytest.approx(value, rel=1e-6, abs=1e-15), (name, measured)


def test_biases_of_qwen2_have_rows_of_their_own(checkpoint, twin) -> None:
    base = checkpoint()
    tuned = twin(base, lambda name: name.endswith("v_proj.bias"))
    frame = table(base, tuned).set_index(["projection", "parameter"]).sort_index()
    biases = frame.xs("bias", level="parameter")
    assert sorted(biases.index) == sorted(["q", "k", "v"] * 2)
    assert (frame.loc[("v", "bias"), "l2"] > 0.1).all()
    assert (frame.loc[("v", "weight"), "l2"] == 0).all()
    assert (frame.loc[("q", "bias"), "l2"] == 0).all()


def test_what_an_adapter_cannot_touch_has_a_base_and_no_delta(checkpoint, lora) -> None:
    base = checkpoint()
    frame = table(base, lora(base, ["gate_proj", "q_proj"]))
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
    frame = table(base, folder)
    row = frame[(frame["projection"] == "down") & (frame["layer"] == 0)].iloc[0]
    prefix = "base_model.model.model.layers.0.mlp.down_proj.lora_"
    a, b = (stored[f"{prefix}{factor}.weight"].double().numpy() for factor in "AB")
    assert row["l2"] == pytest.approx(np.linalg.norm(8 / 2 * (b @ a)), rel=1e-9)
    assert row["l2"] < row["dtype_floor"]
    assert row["dtype"] == "bfloat16"


def test_progress_is_reported_after_every_tensor(checkpoint, twin) -> None:
    told: list[tuple[int, int]] = []
    base = checkpoint("mistral")
    table(base, twin(base), progress=lambda done, total: told.append((done, total)))
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
    name = "model.layers.1.mlp.up_proj.weight"
    with refused("checkpoint.not-finite", tensor=name, found=1) as error:
        table(folders["base"], folders["tuned"])
    assert "the first in row 3, column 4" in str(error.value)


def test_a_model_without_the_seven_projections_is_refused(tmp_path) -> None:
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        save_file({"h.0.attn.c_attn.weight": torch.ones(2, 2)}, tmp_path / side / "m.safetensors")
    with refused("model.no-gate", file=tmp_path / "base"):
        table(tmp_path / "base", tmp_path / "tuned")


def test_a_pair_stored_in_two_dtypes_is_compared_by_value(checkpoint, tmp_path) -> None:
    base = checkpoint(dtype="bfloat16")
    tuned = shutil.copytree(base, tmp_path / "tuned")
    tensors = load_file(tuned / "model.safetensors")
    save_file(
        {name: tensor.float() for name, tensor in tensors.items()}, tuned / "model.safetensors"
    )
    frame = table(base, tuned)
    assert (frame["l2"] == 0).all()
    assert set(frame["dtype"]) == {"float32"}


# The same pair in other layouts


def agree(found: pd.DataFrame, plain: pd.DataFrame, ignored: tuple[str, ...] = ()) -> None:
    """Every row and number of two tables, to 1e-6."""
    keys = ["layer", "projection", "parameter", "adapted", "numel"]
    assert found[keys].to_dict("records") == plain[keys].to_dict("records")
    for name in [one for one in MEASURES if one not in ignored]:
        np.testing.assert_allclose(
            found[name].astype(float),
            plain[name].astype(float),
            rtol=1e-6,
            atol=1e-12,
            err_msg=name,
        )


@pytest.mark.parametrize(
    "layout", ["sharded", "bin", "pth below model", "phi3", "internlm2", "wrapped", "unwrapped"]
)
def test_a_full_pair_in_another_layout_has_the_deltas_of_its_plain_twin(
    checkpoint, twin, tmp_path, layout
) -> None:
    base = checkpoint("llama")
    tuned = twin(base)
    plain = table(base, tuned)
    assert len(plain) == 14
    assert (plain["l2"] > 0.1).all()
    before, after = tmp_path / "before", tmp_path / "after"
    if layout == "sharded":
        found = table(checkpoint("llama", shard="20KB"), twin(base, max_shard_size="20KB"))
    elif layout == "bin":
        for side, folder in ((base, before), (tuned, after)):
            layouts.pickled(side, folder / "pytorch_model.bin")
        found = table(before, after)
    elif layout == "pth below model":
        found = table(base, layouts.pickled(tuned, tmp_path / "tuned.pth", key="model"))
    elif layout == "unwrapped":
        # The language model out of a multimodal model, against its plain base.
        pair = Pair(base, layouts.wrapped(tuned, after), prefix="language_model.")
        found = pd.DataFrame(deltas(pair).rows)
    else:
        make = getattr(layouts, layout)
        found = table(make(base, before), make(tuned, after))
    agree(found, plain)


def test_an_adapter_on_a_fused_model_is_split_as_its_rows_are(
    checkpoint, lora, merged, tmp_path
) -> None:
    base = checkpoint("phi3", tie_word_embeddings=False)
    adapter = lora(base, ["qkv_proj", "gate_up_proj", "down_proj"])
    found = table(base, adapter)
    tensors, config = layouts.read(base)
    layouts.write(
        {name: value.float() for name, value in merged(base, adapter).items() if name in tensors},
        tmp_path / "merged",
        config,
    )
    plain = table(base, tmp_path / "merged")
    assert found["projection"].tolist()[:7] == ["q", "k", "v", "o", "gate", "up", "down"]
    assert found["adapted"].tolist() == [row != "o" for row in found["projection"]]
    touched = found["adapted"]
    # peft's merge is in float32.
    for name in ("l2", "relative", "rms", "spectral_norm"):
        np.testing.assert_allclose(found[touched][name], plain[touched][name], rtol=1e-4)


def test_affectgpts_checkpoint_has_the_deltas_of_its_peft_twin(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("qwen2", dtype="bfloat16")
    plain = lora(base, ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"], r=3, lora_alpha=6)
    file = layouts.trained_only(plain, tmp_path / "checkpoint.pth", {"lora_alpha": 6})
    agree(table(base, file), table(base, plain))


def test_emotion_llamas_chain_has_the_deltas_of_merged_models(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    tensors, config = layouts.read(base)
    files, folders = [], []
    for seed in (1, 2):
        adapter = lora(base, ["q_proj", "v_proj"], r=4, lora_alpha=2, seed=seed)
        files.append(
            layouts.trained_only(adapter, tmp_path / f"{seed}.pth", {"model": {"lora_alpha": 2}})
        )
        pair = Pair(base, adapter)
        whole = {name: tensors[name].double() + pair.delta(name) for name in tensors}
        folders.append(layouts.write(whole, tmp_path / f"merged{seed}", config))
    found = pd.DataFrame(deltas(Pair([base, files[0]], files[1])).rows)
    plain = table(*folders)
    touched = plain["projection"].isin(["q", "v"])
    assert found["adapted"].tolist() == touched.tolist()
    for name in MEASURES:
        if name not in ("share_ratio", "dtype_floor"):
            np.testing.assert_allclose(
                found[touched][name], plain[touched][name], rtol=1e-6, err_msg=name
            )
    # Its gate could not be touched: not a change of zero, no change to speak of.
    assert found[~touched]["l2"].isna().all()


def test_experts_are_summed_and_kept_apart(checkpoint, twin, tmp_path) -> None:
    base = checkpoint("llama")
    tuned = twin(base)
    plain = table(base, tuned).set_index(["layer", "projection"])
    pair = Pair(
        layouts.mixtral(base, tmp_path / "base"), layouts.mixtral(tuned, tmp_path / "tuned")
    )
    measured = deltas(pair)
    found = pd.DataFrame(measured.rows).set_index(["layer", "projection"])
    experts = pd.DataFrame(measured.experts)
    assert len(experts) == 2 * 3 * 3
    for projection in ("gate", "up", "down"):
        one, three = plain.loc[(1, projection)], found.loc[(1, projection)]
        # The experts are the plain FFN times 1, 2 and 3.
        assert three["l2"] == pytest.approx(one["l2"] * math.sqrt(1 + 4 + 9), rel=1e-6)
        assert three["numel"] == 3 * one["numel"]
        assert three["cosine"] == pytest.approx(one["cosine"], rel=1e-6)
        assert math.isnan(three["spectral_norm"])
        own = experts[(experts["layer"] == 1) & (experts["projection"] == projection)]
        assert own["expert"].tolist() == ["0", "1", "2"]
        np.testing.assert_allclose(own["l2"], one["l2"] * np.array([1, 2, 3]), rtol=1e-6)
        np.testing.assert_allclose(own["stable_rank"], one["stable_rank"], rtol=1e-6)
    assert found.loc[(1, "q")]["l2"] == plain.loc[(1, "q")]["l2"]


def renamed(folder: Path, out: Path, names: dict[str, str], layers: str = "01") -> Path:
    """A model with some modules under other names."""
    tensors, config = layouts.read(folder)

    def change(name: str) -> str:
        for old, new in names.items():
            if f".{old}." in name and name.split(".")[2] in layers:
                return name.replace(f".{old}.", f".{new}.")
        return name

    return layouts.write({change(name): one for name, one in tensors.items()}, out, config)


@pytest.mark.parametrize(
    ("names", "lacking", "code"),
    [
        ({"gate_proj": "fc1", "up_proj": "fc2"}, ["gate", "up"], "model.no-gate"),
        ({"q_proj": "q_a", "k_proj": "kv_a"}, ["q", "k"], "model.unknown-layout"),
    ],
)
def test_a_layout_that_is_half_known_is_refused_and_never_called_not_adapted(
    checkpoint, twin, tmp_path, names, lacking, code
) -> None:
    base = checkpoint("llama")
    pair = [renamed(one, tmp_path / str(n), names) for n, one in enumerate((base, twin(base)))]
    with refused(code, found=lacking) as error:
        table(*pair)
    assert next(iter(names.values())) in str(error.value)


def test_layers_of_another_kind_are_noted(checkpoint, twin, tmp_path) -> None:
    base = checkpoint("llama")
    names = {f"self_attn.{one}_proj": f"linear_attn.in_{one}" for one in "qkvo"}
    pair = Pair(
        *(renamed(x, tmp_path / str(n), names, "0") for n, x in enumerate((base, twin(base))))
    )
    found = deltas(pair)
    assert sum(row["projection"] == "q" for row in found.rows) == 1
    (note,) = found.notes
    assert "q, k, v and o are not measured in 1 of 2 layers, as in layer 0" in note
    assert note.endswith("linear attention")


def expert_adapter(out: Path, expert: int) -> Path:
    """A peft adapter on the gate of one expert of a small Mixtral's layers."""
    random = torch.Generator().manual_seed(expert)
    tensors = {}
    for layer in (0, 1):
        stem = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.lora_"
        tensors[f"{stem}A.weight"] = torch.randn(2, 32, generator=random)
        tensors[f"{stem}B.weight"] = torch.randn(48, 2, generator=random)
    out.mkdir()
    save_file(tensors, out / "adapter_model.safetensors")
    (out / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["w1"]}'
    )
    return out


def test_of_a_mixture_with_one_expert_adapted_that_one_is_measured(checkpoint, tmp_path) -> None:
    base = layouts.mixtral(checkpoint("llama"), tmp_path / "base")
    adapter = expert_adapter(tmp_path / "adapter", 1)
    measured = deltas(Pair(base, adapter))
    gate = next(row for row in measured.rows if row["projection"] == "gate")
    experts = {
        row["expert"]: row
        for row in measured.experts
        if (row["layer"], row["projection"]) == (0, "gate")
    }
    assert gate["adapted"]
    assert gate["numel"] == 48 * 32
    assert [experts[one]["adapted"] for one in "012"] == [False, True, False]
    for name in ("l2", "relative", "rms", "cosine"):
        assert gate[name] == pytest.approx(experts["1"][name], rel=1e-12)
    assert math.isnan(experts["0"]["l2"])
    assert gate["share_ratio"] == pytest.approx(
        gate["l2"] ** 2
        / sum(r["l2"] ** 2 for r in measured.rows if r["adapted"])
        * sum(r["numel"] for r in measured.rows if r["adapted"])
        / gate["numel"]
    )


def test_experts_of_different_width_are_summed(checkpoint, twin, tmp_path) -> None:
    plain = checkpoint("llama")
    sides = []
    for side, folder in (("base", plain), ("tuned", twin(plain))):
        tensors, config = layouts.read(layouts.mixtral(folder, tmp_path / f"whole-{side}", 2))
        for name in [one for one in tensors if ".experts.1." in one]:
            narrow = tensors[name][:, :20] if ".w2." in name else tensors[name][:20]
            tensors[name] = narrow
        sides.append(layouts.write(tensors, tmp_path / side, config))
    measured = deltas(Pair(*sides))
    row = next(r for r in measured.rows if (r["layer"], r["projection"]) == (0, "down"))
    own = [r for r in measured.experts if (r["layer"], r["projection"]) == (0, "down")]
    assert row["numel"] == 32 * (48 + 20)
    assert row["l2"] == pytest.approx(math.hypot(*(r["l2"] for r in own)), rel=1e-9)
    neurons = [r for r in measured.neurons if (r["layer"], r["projection"]) == (0, "down")]
    assert [sum(r["expert"] == one for r in neurons) for one in "01"] == [48, 20]


# What the columns mean


def test_the_share_ratio_is_the_share_of_change_over_the_share_of_weights(checkpoint, twin) -> None:
    base = checkpoint("qwen2")
    frame = table(base, twin(base))
    weights = frame[frame["parameter"] == "weight"]
    expected = (weights["l2"] ** 2 / (weights["l2"] ** 2).sum()) / (
        weights["numel"] / weights["numel"].sum()
    )
    np.testing.assert_allclose(weights["share_ratio"], expected, rtol=1e-12)
    assert frame[frame["parameter"] == "bias"]["share_ratio"].isna().all()
    # Weighted by their sizes, the ratios are 1 on average.
    assert np.average(weights["share_ratio"], weights=weights["numel"]) == pytest.approx(1)


def test_spectra_are_numpys_of_the_delta(checkpoint, twin, lora) -> None:
    base = checkpoint("llama")
    for tuned in (twin(base), lora(base, ["down_proj"], r=3)):
        pair = Pair(base, tuned)
        row = next(
            row for row in deltas(pair).rows if (row["layer"], row["projection"]) == (1, "down")
        )
        values = np.linalg.svd(pair.delta("model.layers.1.mlp.down_proj.weight"), compute_uv=False)
        share = values / values.sum()
        share = share[share > 1e-12]
        assert row["spectral_norm"] == pytest.approx(values[0], rel=1e-6)
        assert row["stable_rank"] == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-6)
        assert row["effective_rank"] == pytest.approx(
            math.exp(-(share * np.log(share)).sum()), rel=1e-4
        )


def test_histograms_and_neurons_are_numpys(checkpoint, twin) -> None:
    base = checkpoint("llama")
    pair = Pair(base, twin(base))
    measured = deltas(pair)
    name = "model.layers.1.mlp.{}_proj.weight"
    for projection, axis in (("gate", 1), ("up", 1), ("down", 0)):
        a = pair.base.tensor(name.format(projection)).double().numpy()
        d = pair.delta(name.format(projection)).numpy()
        counts = [
            row["count"]
            for row in measured.histogram
            if (row["layer"], row["projection"]) == (1, projection)
        ]
        edges = [row["from"] for row in measured.histogram[: len(counts) - 1]] + [1.0]
        expected, _ = np.histogram(np.clip(d / a, -1, 1), bins=edges)
        assert sum(counts) == a.size
        # An entry that stands on an edge may fall to either side of it.
        assert np.abs(np.array(counts[:-1]) - expected).sum() <= 4
        norms = [
            row["l2"]
            for row in measured.neurons
            if (row["layer"], row["projection"]) == (1, projection)
        ]
        np.testing.assert_allclose(norms, np.linalg.norm(d, axis=axis), rtol=1e-6)


def test_without_companions_and_spectra_the_rows_are_the_same_but_for_the_spectra(
    checkpoint, twin
) -> None:
    base = checkpoint("llama")
    pair = Pair(base, twin(base))
    measured = deltas(pair, spectra=False, companions=False)
    spectra = ("spectral_norm", "stable_rank", "effective_rank")
    agree(pd.DataFrame(measured.rows), table(base, pair.tuned), ignored=spectra)
    assert not measured.histogram
    assert not measured.neurons
    assert all(math.isnan(row[name]) for row in measured.rows for name in spectra)


# An adapter alone, summaries, files


def test_an_adapter_alone_has_the_absolute_sizes_that_it_has_on_its_base(checkpoint, lora) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["q_proj", "gate_proj"])
    alone = pd.DataFrame(adapter_alone(Adapter(adapter)).rows)
    whole = table(base, adapter)
    whole = whole[whole["adapted"]].reset_index(drop=True)
    known = ("l2", "rms", "mean", "std", "spectral_norm", "stable_rank", "effective_rank")
    for name in (*known, "share_ratio", "numel"):
        np.testing.assert_allclose(alone[name], whole[name], rtol=1e-6, err_msg=name)
    assert alone[["relative", "base_l2", "cosine"]].isna().all(axis=None)


def test_an_adapter_alone_says_what_else_it_touches(tmp_path) -> None:
    adapter = expert_adapter(tmp_path / "adapter", 0)
    tensors = load_file(adapter / "adapter_model.safetensors")
    extra = {name.replace("experts.0.w1", "router"): one.clone() for name, one in tensors.items()}
    save_file(tensors | extra, adapter / "adapter_model.safetensors")
    (note,) = adapter_alone(Adapter(adapter)).notes
    assert "also adapts block_sparse_moe.router: outside the seven" in note


def test_a_projection_saved_whole_needs_its_base(checkpoint, lora) -> None:
    adapter = Adapter(lora(checkpoint("llama"), ["q_proj"], modules_to_save=["down_proj"]))
    with refused("adapter.needs-base", file=adapter.path) as error:
        adapter_alone(adapter)
    assert error.value.fields["tensor"].endswith("mlp.down_proj.weight")


def test_dora_alone_is_refused(checkpoint, lora) -> None:
    adapter = Adapter(lora(checkpoint("llama"), ["gate_proj"], use_dora=True))
    with refused("adapter.needs-base", file=adapter.path) as error:
        adapter_alone(adapter)
    assert error.value.fields["module"].endswith("mlp.gate_proj")


def alone(folder: Path, *prefixes: str, **config) -> Adapter:
    """LoRA on q of one layer below each prefix, the layers counted up."""
    folder.mkdir()
    tensors = {}
    for layer, prefix in enumerate(prefixes):
        stem = f"base_model.model.{prefix}layers.{layer}.self_attn.q_proj"
        tensors[f"{stem}.lora_A.weight"] = torch.ones(2, 8)
        tensors[f"{stem}.lora_B.weight"] = torch.ones(6, 2)
    save_file(tensors, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    return Adapter(folder)


@pytest.mark.parametrize("tower", ["vpm.encoder.", "audio_encoder.", "model.vision_tower.model."])
def test_an_adapter_alone_is_measured_without_its_encoders(tmp_path, tower) -> None:
    measured = adapter_alone(alone(tmp_path / "a", "llm.model.", tower, "llm.model."))
    assert [row["layer"] for row in measured.rows] == [0, 2]
    (note,) = measured.notes
    assert f"1 module outside the language model, as '{tower}layers.1.self_attn.q_proj'" in note


def test_an_adapter_alone_of_two_parts_is_refused(tmp_path) -> None:
    adapter = alone(tmp_path / "a", "llm.model.", "llm.model.", "encoder.")
    both = ("encoder.layers.2.self_attn.q_proj", "llm.model.layers.0.self_attn.q_proj")
    with refused("adapter.needs-base", found=both):
        adapter_alone(adapter)


def test_an_adapter_alone_says_which_of_its_targets_it_does_not_hold(tmp_path) -> None:
    targets = {"target_modules": ["q_proj", "v_proj"]}
    measured = adapter_alone(alone(tmp_path / "a", "model.", **targets))
    (note,) = measured.notes
    assert "target_modules names v_proj, and there are no factors of that name" in note
    assert len(measured.rows) == 1


def test_a_summary_has_means_over_layers_and_null_where_nothing_was_adapted(
    checkpoint, lora
) -> None:
    base = checkpoint("llama")
    rows = deltas(Pair(base, lora(base, ["gate_proj"], layers_to_transform=[1]))).rows
    found = summary(rows)
    assert list(found) == ["q", "k", "v", "o", "gate", "up", "down"]
    gate = next(row for row in rows if row["adapted"])
    assert found["gate"]["adapted"]
    assert found["gate"]["layers"] == 1
    for name in DELTA_SCORES:
        assert found["gate"][name] == gate[name]
        assert found["up"][name] is None
    assert found["up"]["adapted"] is False


def test_tables_are_written_together_with_null_for_missing_values(
    checkpoint, lora, tmp_path
) -> None:
    base = checkpoint("llama")
    measured = deltas(Pair(base, lora(base, ["gate_proj"])))
    written = write_tables(measured, tmp_path / "pair.parquet")
    assert [path.name for path in written] == [
        "pair.parquet",
        "pair.experts.parquet",
        "pair.histogram.parquet",
        "pair.neurons.parquet",
    ]
    table = pq.read_table(written[0])
    assert table.column_names == list(COLUMNS)
    assert table["l2"].null_count == 12
    assert table["base_l2"].null_count == 0
    assert pq.read_table(written[3]).num_rows == 2 * 48


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_real_adapters_have_the_sizes_that_are_known_of_them() -> None:
    found = summary(adapter_alone(Adapter(REAL / "law-qwen2.5-3b")).rows)
    assert {name for name, row in found.items() if row["adapted"]} == {"q", "v"}
    assert found["q"]["l2"] == pytest.approx(0.458, abs=5e-4)
    assert found["v"]["l2"] == pytest.approx(0.171, abs=5e-4)
    assert found["q"]["rms"] == pytest.approx(2.24e-4, abs=5e-7)
    assert found["v"]["rms"] == pytest.approx(2.36e-4, abs=5e-7)
    rows = adapter_alone(Adapter(REAL / "mlx-qwen2.5-0.5b")).rows
    assert sorted({row["layer"] for row in rows}) == [20, 21, 22, 23]


def test_a_file_says_how_its_pair_was_tuned_also_one_of_version_1_0(
    checkpoint, lora, tmp_path
) -> None:
    base = checkpoint("llama")
    out, old, bare = (tmp_path / f"{name}.parquet" for name in ("new", "old", "bare"))
    write_tables(deltas(Pair(base, lora(base, ["q_proj"])), companions=False), out)
    assert read_tuning_facts(out) == TuningFacts("llama", "lora")
    frame = pd.read_parquet(out)
    assert not frame.attrs
    frame.to_parquet(bare)
    assert read_tuning_facts(bare) == TuningFacts()
    frame.attrs = {"tuning": {"model_type": "qwen2", "method": "lora", "ranks": [8]}}
    frame.to_parquet(old)
    assert read_tuning_facts(old) == TuningFacts("qwen2", "lora")
