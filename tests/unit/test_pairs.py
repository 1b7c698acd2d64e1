"""Checkpoints on disk, against peft's own merge and against safetensors read whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusal import refused
from safetensors.torch import load_file, save_file

from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder, manifest
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.projections import Location

MODEL, ADAPTER, CONFIG = "model.safetensors", "adapter_model.safetensors", "adapter_config.json"
GATE = "model.layers.1.mlp.gate_proj.weight"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


def changed(folder: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    """A copy of a checkpoint whose tensors `change` has edited."""
    shutil.copytree(folder, copy)
    file = next(copy.glob("*.safetensors"))
    tensors = load_file(file)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return copy


# Weights


def test_single_and_sharded_safetensors_give_the_same_tensors(checkpoint) -> None:
    single, sharded = Weights(checkpoint()), Weights(checkpoint(shard="20KB"))
    assert len(single.files) == 1
    assert len(sharded.files) > 2
    assert single.names() == sharded.names()
    for name in single.names():
        assert torch.equal(single.tensor(name), sharded.tensor(name)), name


def test_a_tensor_is_read_as_stored_and_names_are_sorted(checkpoint) -> None:
    folder = checkpoint(dtype="bfloat16")
    weights, whole = Weights(folder), load_file(folder / MODEL)
    assert weights.names() == sorted(whole)
    for name, tensor in whole.items():
        assert weights.tensor(name).dtype == torch.bfloat16
        assert torch.equal(weights.tensor(name), tensor)
    assert GATE in weights
    assert "model.layers.9.mlp.gate_proj.weight" not in weights


def test_a_safetensors_file_that_the_index_does_not_list_is_left_out(checkpoint, tmp_path) -> None:
    folder = shutil.copytree(checkpoint(shard="20KB"), tmp_path / "model")
    names = Weights(folder).names()
    save_file({"stray.weight": torch.ones(2)}, folder / "stray.safetensors")
    assert Weights(folder).names() == names


def test_qwen2_has_seven_projections_and_three_biases_in_each_layer(checkpoint) -> None:
    expected = {}
    for layer in (0, 1):
        for block, names in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down"))):
            for part in names:
                for parameter in ("weight", "bias") if part in "qkv" else ("weight",):
                    expected[Location(layer, part, parameter)] = (
                        f"model.layers.{layer}.{block}.{part}_proj.{parameter}",
                        None,
                    )
    assert Weights(checkpoint()).projections == expected


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_llama_and_mistral_have_seven_projections_and_no_bias(checkpoint, architecture) -> None:
    found = Weights(checkpoint(architecture)).projections
    assert len(found) == 14
    assert {location.parameter for location in found} == {"weight"}


def test_a_folder_without_safetensors_is_refused(tmp_path) -> None:
    (tmp_path / "training_args.bin").write_bytes(b"pickled")
    with refused("checkpoint.no-weights", file=tmp_path):
        Weights(tmp_path)


@pytest.mark.parametrize("kept", [4, 50, -1])
def test_a_truncated_file_is_refused_by_name(checkpoint, tmp_path, kept) -> None:
    whole = (checkpoint() / MODEL).read_bytes()
    (tmp_path / MODEL).write_bytes(whole[:kept])
    with refused("checkpoint.broken-safetensors", file=tmp_path / MODEL):
        Weights(tmp_path)


def test_a_missing_shard_is_refused_by_name(checkpoint, tmp_path) -> None:
    folder = shutil.copytree(checkpoint(shard="20KB"), tmp_path / "model")
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    with refused("checkpoint.no-shard", file=lost):
        Weights(folder)


def test_an_index_without_a_map_is_refused_by_name(checkpoint, tmp_path) -> None:
    folder = shutil.copytree(checkpoint(shard="20KB"), tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    with refused("checkpoint.no-weight-map", key="weight_map"):
        Weights(folder)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}'],
)
def test_an_index_of_another_form_is_refused_by_name(checkpoint, tmp_path, content) -> None:
    folder = shutil.copytree(checkpoint(shard="20KB"), tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    file = folder / "model.safetensors.index.json"
    with refused("checkpoint.no-weight-map", file=file, key="weight_map"):
        Weights(folder)


def test_a_shard_without_a_tensor_that_the_index_promises_is_refused(checkpoint, tmp_path) -> None:
    folder = shutil.copytree(checkpoint(shard="20KB"), tmp_path / "model")
    shard = sorted(folder.glob("*.safetensors"))[1]
    tensors = load_file(shard)
    lost = sorted(tensors)[0]
    save_file({name: one for name, one in tensors.items() if name != lost}, shard)
    with refused("checkpoint.tensor-not-in-shard", file=shard, tensor=lost):
        Weights(folder)


def test_a_single_shard_is_no_model(checkpoint) -> None:
    shard = sorted(checkpoint(shard="20KB").glob("*.safetensors"))[0]
    with refused("checkpoint.one-shard", file=shard):
        Weights(shard)


# Adapters on a base


@pytest.mark.parametrize(
    "config",
    [
        {"r": 3, "lora_alpha": 6},
        {"r": 2, "lora_alpha": 7},
        {"r": 4, "lora_alpha": 3, "use_rslora": True},
        {"r": 2, "lora_alpha": 5, "rank_pattern": {"q_proj": 3, "layers.1.mlp.gate_proj": 5}},
        {"r": 3, "lora_alpha": 5, "alpha_pattern": {"v_proj": 11}},
        {"r": 3, "lora_alpha": 5, "alpha_pattern": {"model.layers.0.self_attn.q_proj": 1}},
        {"r": 3, "lora_alpha": 5, "alpha_pattern": {"1.mlp.up_proj": 20, "up_proj": 2}},
        # No whole part of a module's name: matches nothing.
        {"r": 3, "lora_alpha": 5, "alpha_pattern": {"proj": 20, "lf_attn.q_proj": 2}},
        {
            "r": 2,
            "lora_alpha": 5,
            "use_rslora": True,
            "rank_pattern": {"down_proj": 4},
            "alpha_pattern": {"down_proj": 9, "k_proj": 1},
        },
        {"r": 3, "lora_alpha": 5, "alpha_pattern": {r"layers\.0\..*_proj": 11}},
        {"r": 3, "lora_alpha": 5, "alpha_pattern": {"^model.layers.0.mlp.up_proj": 11}},
    ],
    ids=str,
)
def test_an_adapters_delta_is_pefts_own_merge(checkpoint, lora, merged, config) -> None:
    base = checkpoint()
    folder = lora(base, ALL, **config)
    pair, reference = Pair(base, folder), merged(base, folder)
    adapted = [name for name in pair.names if pair.adapted(name)]
    assert len(adapted) == 14
    for name in adapted:
        before = pair.base.tensor(name).double()
        found = (before + pair.delta(name)).numpy()
        # peft rounds B·A, its scaling and the sum to float32.
        np.testing.assert_allclose(found, reference[name].numpy(), rtol=0, atol=5e-7)
        assert (reference[name].double() - before).norm() > 0.1, "the adapter does nothing"


def test_an_adapter_touches_only_its_target_modules(checkpoint, lora, merged) -> None:
    base = checkpoint("llama")
    folder = lora(base, ["o_proj", "gate_proj"], layers_to_transform=[1])
    pair, reference = Pair(base, folder), merged(base, folder)
    touched = {"model.layers.1.self_attn.o_proj.weight", GATE}
    assert {name for name in pair.names if pair.adapted(name)} == touched
    for name in pair.names:
        before, after = pair.sides(name)
        if name in touched:
            assert torch.allclose(after, reference[name], rtol=0, atol=5e-7)
            assert not torch.equal(after, before)
        else:
            assert torch.equal(before, reference[name])
            assert torch.equal(after, before)
            delta = pair.delta(name)
            assert delta.shape == before.shape
            assert not delta.any()


def test_an_adapters_delta_is_not_rounded_and_its_sum_is(checkpoint, lora) -> None:
    base = checkpoint(dtype="bfloat16")
    folder = lora(base, ["gate_proj"], r=3, lora_alpha=6)
    stored = load_file(folder / ADAPTER)
    prefix = "base_model.model.model.layers.1.mlp.gate_proj.lora_"
    a, b = (stored[f"{prefix}{factor}.weight"].double().numpy() for factor in "AB")
    expected = 6 / 3 * (b @ a)
    pair = Pair(base, folder)
    np.testing.assert_allclose(pair.delta(GATE).numpy(), expected, rtol=1e-12, atol=1e-15)
    before, after = pair.sides(GATE)
    assert before.dtype == after.dtype == torch.bfloat16
    unrounded = before.double().numpy() + expected
    # Half a unit in the last of bfloat16's eight binary digits, and a trace for double rounding.
    half = 2.0 ** (np.frexp(unrounded)[1] - 9)
    assert (np.abs(after.double().numpy() - unrounded) <= half * (1 + 1e-6)).all()


def test_an_adapter_with_tensors_that_its_base_has_not_is_refused(
    checkpoint, lora, tmp_path
) -> None:
    folder = changed(
        lora(checkpoint(), ["q_proj"]),
        tmp_path / "adapter",
        lambda tensors: tensors.update(
            {"base_model.model.model.layers.7.mlp.up_proj.weight": torch.ones(2, 2)}
        ),
    )
    with refused("pair.tensor-not-in-base", tensor="model.layers.7.mlp.up_proj.weight"):
        Pair(checkpoint(), folder)


# Pair


def test_a_full_pairs_delta_is_the_difference_in_float64(checkpoint, twin) -> None:
    base = checkpoint(dtype="bfloat16")
    pair = Pair(base, tuned := twin(base))
    before, after = load_file(base / MODEL), load_file(tuned / MODEL)
    assert pair.names == sorted(before)
    for name in pair.names:
        assert pair.adapted(name)
        delta = pair.delta(name)
        assert delta.dtype == torch.float64
        expected = after[name].float().numpy().astype(float) - before[name].float().numpy()
        assert np.array_equal(delta.numpy(), expected)


def test_a_sharded_tuned_model_pairs_with_a_single_file_base(checkpoint, twin) -> None:
    base = checkpoint()
    single, sharded = Pair(base, twin(base)), Pair(base, twin(base, max_shard_size="20KB"))
    for name in single.names:
        assert torch.equal(single.sides(name)[1], sharded.sides(name)[1])


@pytest.mark.parametrize(
    ("change", "code", "tensor"),
    [
        (lambda tensors: tensors.pop(GATE), "pair.tensor-missing", GATE),
        (
            lambda tensors: tensors.update({"model.layers.1.mlp.zz.weight": torch.ones(2)}),
            "pair.tensor-not-in-base",
            "model.layers.1.mlp.zz.weight",
        ),
    ],
    ids=["missing", "extra"],
)
def test_a_tuned_model_with_other_tensors_than_its_base_is_refused(
    checkpoint, tmp_path, change, code, tensor
) -> None:
    tuned = changed(checkpoint(), tmp_path / "tuned", change)
    with refused(code, file=tuned, tensor=tensor) as error:
        Pair(checkpoint(), tuned)
    assert "(1 tensor in all)" in str(error.value)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(checkpoint, tmp_path) -> None:
    # Transposed, so that the number of entries tells nothing.
    tuned = changed(
        checkpoint(), tmp_path / "tuned", lambda tensors: tensors.update({GATE: tensors[GATE].T})
    )
    shapes = {"found": (32, 48), "expected": (48, 32)}
    with refused("pair.shapes-differ", file=tuned, tensor=GATE, **shapes):
        Pair(checkpoint(), tuned)


def test_an_adapter_of_a_deeper_model_is_refused(checkpoint, lora) -> None:
    adapter = lora(checkpoint(num_hidden_layers=3), ["q_proj"])
    name = "model.layers.2.self_attn.q_proj.weight"
    with refused("pair.tensor-not-in-base", file=adapter, tensor=name):
        Pair(checkpoint(), adapter)


def test_an_adapter_of_a_wider_model_is_refused(checkpoint, lora) -> None:
    adapter = lora(checkpoint(intermediate_size=64), ["gate_proj"])
    with refused("pair.shapes-differ", file=adapter, found=(64, 32), expected=(48, 32)):
        Pair(checkpoint(), adapter)


# Manifests


def test_a_manifest_lists_size_and_digest_of_what_a_checkpoint_needs(checkpoint, tmp_path) -> None:
    folder = shutil.copytree(checkpoint(shard="20KB"), tmp_path / "model")
    for name in ("optimizer.pt", "README.md", ".hidden"):
        (folder / name).write_text("no part of the checkpoint", encoding="utf-8")
    (folder / "folder.json").mkdir()
    listed = manifest(folder)
    names = [entry["file"] for entry in listed]
    assert names == sorted(names)
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= set(names)
    assert {path.name for path in folder.glob("model-*.safetensors")} <= set(names)
    assert not {"optimizer.pt", "README.md", ".hidden", "folder.json"} & set(names)
    for entry in listed:
        content = (folder / entry["file"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.fixture
def listed(checkpoint, tmp_path) -> tuple[Path, Path]:
    """A manifest and the folder it stands for."""
    folder = shutil.copytree(checkpoint(), tmp_path / "model")
    file = tmp_path / "model.json"
    file.write_text(json.dumps({"folder": str(folder), "files": manifest(folder)}), "utf-8")
    return file, folder


def test_a_manifest_leads_to_its_whole_folder(listed) -> None:
    file, folder = listed
    assert checkpoint_folder(file) == folder


@pytest.mark.parametrize("name", [MODEL, "tokenizer.json"])
def test_a_missing_file_of_a_manifest_is_refused(listed, name) -> None:
    file, folder = listed
    (folder / name).unlink()
    with refused("manifest.file-missing", file=folder / name, found="missing") as error:
        checkpoint_folder(file)
    assert f"bring it back with the command that wrote {file}" in str(error.value)


def test_a_file_of_a_manifest_with_a_name_that_no_disk_can_hold_is_refused(listed) -> None:
    file, folder = listed
    record = json.loads(file.read_text("utf-8"))
    record["files"][0]["file"] = name = "a" * 300
    file.write_text(json.dumps(record), "utf-8")
    with refused("manifest.file-missing", file=folder / name, found="missing"):
        checkpoint_folder(file)


def test_a_weight_file_of_another_size_is_refused(listed) -> None:
    file, folder = listed
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes() + b" ")
    with refused("manifest.file-missing", file=folder / MODEL, found="changed"):
        checkpoint_folder(file)


def test_a_missing_manifest_is_refused(tmp_path) -> None:
    with refused("manifest.missing", file=tmp_path / "none.json"):
        checkpoint_folder(tmp_path / "none.json")


def test_what_is_no_manifest_is_refused_with_what_writes_one(listed, tmp_path) -> None:
    _, folder = listed
    with refused("manifest.folder", file=folder):
        checkpoint_folder(folder)
    for content in ("[]", '{"folder": "x"}'):
        (tmp_path / "odd.json").write_text(content)
        with refused("manifest.other-content", file=tmp_path / "odd.json") as error:
            checkpoint_folder(tmp_path / "odd.json")
        assert "written by affectlocus retrieve" in str(error.value)
