"""Grafts: the files hold the cell that the evaluation builds, and transformers reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from refusal import refused
from safetensors.torch import load_file, save_file
from single import build
from transformers import AutoModelForCausalLM

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.stored import same_bits
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.evaluation import graft as module
from affectlocus.evaluation.graft import graft
from affectlocus.evaluation.interventions import verify_folders

LOAD = Cell("load", "b", "t", "gate")
MIXTURES = [
    ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 64}),
    ("qwen3_moe", {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 48}),
    ("mixtral", {"num_local_experts": 2, "num_experts_per_tok": 1}),
]


def moved(base: Path, out: Path) -> Path:
    """A tuned model in which every tensor differs."""
    shutil.copytree(base, out)
    tensors = load_file(out / "model.safetensors")
    random = torch.Generator().manual_seed(5)
    for name, tensor in tensors.items():
        noise = torch.randn(tensor.shape, generator=random, dtype=torch.float64)
        tensors[name] = (tensor.double() + 0.1 * noise).to(tensor.dtype)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True
    )
    assert not any(loading.values()), loading
    return model.state_dict()


@pytest.mark.parametrize("shard", [None, 10_000])
@pytest.mark.parametrize(
    "cell", [LOAD, Cell("ablate", "b", "t", "q+gate", "shuffle", 3), Cell("tuned", "b", "t")]
)
def test_a_graft_is_the_model_that_is_evaluated(
    checkpoint, tmp_path, monkeypatch, cell, shard
) -> None:
    base = checkpoint("llama", "bfloat16")
    tuned = moved(base, tmp_path / "tuned")
    if shard:
        monkeypatch.setattr(module, "_SHARD", shard)
    counts = graft(base, tuned, cell, tmp_path / "out")
    model, expected = build(base, tuned, cell)
    assert {name: counts[name] for name in expected} == expected
    found = loaded(tmp_path / "out")
    for name, tensor in model.state_dict().items():
        assert same_bits(found[name], tensor), name
    files = list((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 3 if shard else len(files) == 1


@pytest.mark.parametrize(("architecture", "config"), MIXTURES)
def test_a_grafted_mixture_loads(random_model, tmp_path, architecture, config) -> None:
    base = tmp_path / "base"
    random_model(architecture, **config).save_pretrained(base)
    tuned = moved(base, tmp_path / "tuned")
    graft(base, tuned, LOAD, tmp_path / "out")
    assert (
        load_file(tmp_path / "out/model.safetensors").keys()
        == load_file(base / "model.safetensors").keys()
    )
    model, _ = build(base, tuned, LOAD)
    found = loaded(tmp_path / "out")
    for name, tensor in model.state_dict().items():
        assert same_bits(found[name], tensor), name


def test_other_settings_of_the_base_stay(checkpoint, tmp_path) -> None:
    base = shutil.copytree(checkpoint("llama"), tmp_path / "base")
    config = json.loads((base / "config.json").read_text()) | {"unknown_to_transformers": [1]}
    (base / "config.json").write_text(json.dumps(config))
    graft(base, moved(base, tmp_path / "tuned"), LOAD, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text()) == config


def in_dtype(folder: Path, out: Path, dtype: torch.dtype, only: str = "") -> Path:
    """A copy with its tensors in another dtype; `only`: those with this in their name."""
    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    tensors = {name: one.to(dtype) if only in name else one for name, one in tensors.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


CELLS = [
    LOAD,
    Cell("load", "b", "t", "gate", "x0.5"),
    Cell("tuned", "b", "t"),
    Cell("ablate", "b", "t", "q+gate", "zero"),
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("mine", "theirs", "only"),
    [
        ("float32", torch.bfloat16, ""),
        ("float32", torch.bfloat16, "embed_tokens"),
        ("float32", torch.float16, ""),
        ("bfloat16", torch.float32, ""),
        ("bfloat16", torch.float16, ""),
    ],
)
def test_a_tuned_model_in_another_dtype_is_converted_to_that_of_its_base(
    checkpoint, tmp_path, cell, mine, theirs, only
) -> None:
    base = checkpoint("llama", mine)
    given = in_dtype(moved(base, tmp_path / "moved"), tmp_path / "given", theirs, only)
    converted = in_dtype(given, tmp_path / "converted", getattr(torch, mine))
    pair = ModelPair(base, given)
    pair.check()
    notes = [one for one in pair.notes_on_cells() if "rounded" in one]
    assert len(notes) == (mine == "bfloat16")
    model, counts = build(base, given, cell)
    graft(base, given, cell, tmp_path / "out")
    written = loaded(tmp_path / "out")
    if cell.mode != "x0.5":  # a dose multiplies the delta before it is rounded
        right, expected = build(base, converted, cell)
        assert counts == expected
    else:
        right = model
    for name, tensor in right.state_dict().items():
        assert tensor.dtype == getattr(torch, mine)
        assert same_bits(model.state_dict()[name], tensor), name
        assert same_bits(written[name], tensor), name


@pytest.mark.parametrize("cell", CELLS[:3])
def test_a_dtype_with_larger_numbers_than_the_bases_is_refused_from_the_headers(
    checkpoint, tmp_path, cell
) -> None:
    base = checkpoint("llama", "float16")
    tuned = in_dtype(moved(base, tmp_path / "moved"), tmp_path / "tuned", torch.bfloat16)
    said = r"is stored as bfloat16, in the base .* as float16, .*; save both in float32"
    with pytest.raises(InputError, match=said):
        ModelPair(base, tuned).check()
    for make in (
        lambda: graft(base, tuned, cell, tmp_path / "out"),
        lambda: build(base, tuned, cell),
    ):
        with pytest.raises(InputError, match=said):
            make()
    wide = in_dtype(base, tmp_path / "wide", torch.float32)
    ModelPair(wide, in_dtype(tuned, tmp_path / "wide tuned", torch.float32)).check()


def test_verify_compares_values_only_where_their_conversion_is_exact(checkpoint, tmp_path) -> None:
    narrow = checkpoint("llama", "bfloat16")
    wide = in_dtype(narrow, tmp_path / "wide", torch.float32)
    assert verify_folders(wide, narrow, "gate")["changed"] == 0
    with refused("cell.other-dtype-outside", found="float32", expected="bfloat16"):
        verify_folders(narrow, wide, "gate")


def test_a_base_without_a_configuration_is_refused(checkpoint, lora, tmp_path) -> None:
    base = shutil.copytree(checkpoint("llama"), tmp_path / "base")
    (base / "config.json").unlink()
    adapter = lora(checkpoint("llama"), ["q_proj"])
    with refused("base.no-config"):
        graft(base, adapter, LOAD, tmp_path / "out")
    assert not (tmp_path / "out").exists()
