"""Experts in one tensor, against the same experts one by one and against transformers' models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from refusal import refused
from single import build
from transformers import AutoModelForCausalLM

from affectlocus.checkpoints.fused_experts import fuse_experts
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.stored import as_torch
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.cells import Cell
from affectlocus.deltas.delta_tables import summary
from affectlocus.deltas.deltas import deltas

EXPERTS = 2
STEM = "model.layers.{}.mlp.experts"
ATTENTION = {name: one for name, one in tiny.llama().items() if ".mlp." not in name}


def by_expert(seed: int = 4) -> tiny.Tensors:
    """The experts of each layer as Qwen3-MoE's files have them."""
    random = torch.Generator().manual_seed(seed)
    return {
        f"{STEM.format(layer)}.{expert}.{name}_proj.weight": torch.randn(
            *tiny.SHAPES[f"mlp.{name}_proj"], generator=random
        )
        for layer in range(tiny.LAYERS)
        for expert in range(EXPERTS)
        for name in ("gate", "up", "down")
    }


def fused(tensors: tiny.Tensors, kind: str = "qwen") -> tiny.Tensors:
    """The same experts in the layout of a family."""
    made = {}
    for layer in range(tiny.LAYERS):
        stem = STEM.format(layer)
        gate, up, down = (
            torch.stack([tensors[f"{stem}.{one}.{name}_proj.weight"] for one in range(EXPERTS)])
            for name in ("gate", "up", "down")
        )
        both = torch.cat([gate, up], dim=1)  # (E, 2·I, H)
        if kind == "gpt-oss":
            both = torch.stack([gate, up], dim=2).flatten(1, 2)
        if kind in ("llama4", "gpt-oss"):
            both, down = both.transpose(1, 2), down.transpose(1, 2)
        if kind == "llama4":
            stem = stem.replace("mlp", "feed_forward")
        if kind == "granite":
            stem = stem.replace("mlp.experts", "block_sparse_moe")
            made[f"{stem}.input_linear.weight"] = both
            made[f"{stem}.output_linear.weight"] = down
            continue
        if kind == "gemma4":
            stem = stem.replace("mlp.experts", "experts")
        made[f"{stem}.gate_up_proj"], made[f"{stem}.down_proj"] = both, down
        if kind == "gpt-oss":
            made[f"{stem}.gate_up_proj_bias"] = torch.arange(EXPERTS * 24.0).view(EXPERTS, 24)
            made[f"{stem}.down_proj_bias"] = torch.ones(EXPERTS, 8)
    return made


KINDS = {
    "qwen": {"model_type": "qwen3_5_moe_text"},
    "gpt-oss": {"model_type": "gpt_oss"},
    "llama4": {"model_type": "llama4_text"},
    "granite": {"model_type": "granitemoe"},
    "gemma4": {"model_type": "gemma4_text"},
}
BASE = by_expert()
TUNED = tiny.moved(tiny.moved(BASE, "up_proj", 0.3), "gate_proj", 0.1)


def folder(path: Path, tensors: tiny.Tensors, kind: str = "qwen") -> Path:
    return tiny.model(path, ATTENTION | tensors, **KINDS[kind])


def measured(base: Path, tuned: Path) -> dict:
    return summary(deltas(Pair(base, tuned), companions=True).rows)


def right(name: str) -> float:
    """Mean over layers of the norm over all experts of a projection."""
    norms = []
    for layer in range(tiny.LAYERS):
        each = [one for one in BASE if f"layers.{layer}." in one and name in one]
        norms.append(sum(float((TUNED[one] - BASE[one]).double().square().sum()) for one in each))
    return float(np.mean(np.sqrt(norms)))


@pytest.mark.parametrize("kind", KINDS)
def test_fused_experts_are_measured_as_single_ones(tmp_path, kind) -> None:
    base = folder(tmp_path / "base", fused(BASE, kind), kind)
    found = measured(base, folder(tmp_path / "tuned", fused(TUNED, kind), kind))
    for name in ("gate", "up"):
        assert found[name]["l2"] == pytest.approx(right(f"{name}_proj"), rel=1e-6)
    assert found["down"]["l2"] == 0
    assert all(found[name]["layers"] == tiny.LAYERS for name in found)


@pytest.mark.parametrize("sides", [("single", "fused"), ("fused", "single")])
def test_a_model_saved_by_experts_is_compared_with_a_fused_one(tmp_path, sides) -> None:
    forms = {"single": lambda one: one, "fused": fused}
    base = folder(tmp_path / "base", forms[sides[0]](BASE))
    tuned = folder(tmp_path / "tuned", forms[sides[1]](TUNED))
    plain = measured(folder(tmp_path / "a", BASE), folder(tmp_path / "b", TUNED))
    assert measured(base, tuned) == plain


@pytest.mark.parametrize("kind", ["qwen", "gpt-oss"])
@pytest.mark.parametrize("form", ["zip", "legacy", "transposed in memory"])
def test_fused_experts_in_a_pytorch_file(tmp_path, kind, form) -> None:
    base = folder(tmp_path / "base", fused(BASE, kind), kind)
    tensors = ATTENTION | fused(TUNED, kind)
    if form == "transposed in memory":
        tensors = {
            name: one.transpose(-1, -2).contiguous().transpose(-1, -2) if one.ndim == 3 else one
            for name, one in tensors.items()
        }
    file = tmp_path / "tuned.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=form != "legacy")
    expected = measured(base, folder(tmp_path / "tuned", fused(TUNED, kind), kind))
    assert measured(base, file) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_experts_are_joined_into_what_was_stored(tmp_path, kind) -> None:
    stored = ATTENTION | fused(BASE, kind)
    weights = Weights(folder(tmp_path / "base", fused(BASE, kind), kind))
    whole = fuse_experts({name: weights.stored(name) for name in weights.names()}, weights.fused)
    assert sorted(whole) == sorted(stored)
    for name, value in stored.items():
        assert torch.equal(as_torch(whole[name]), value), name


MODELS = [
    ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 64}),
    ("qwen3_moe", {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 48}),
    ("llama4_text", {"num_local_experts": 2, "intermediate_size_mlp": 48}),
    ("granitemoe", {"num_local_experts": 2, "num_experts_per_tok": 1}),
    ("mixtral", {"num_local_experts": 2, "num_experts_per_tok": 1}),
]


@pytest.mark.parametrize(("architecture", "config"), MODELS)
def test_gate_and_up_are_what_transformers_multiplies_by(
    random_model, tmp_path, architecture, config
) -> None:
    """The first expert's output from the matrices read, against the module's own."""
    model = random_model(architecture, **config)
    model.save_pretrained(tmp_path / "model")
    weights = Weights(tmp_path / "model")
    where = {one: name for one, (name, _) in weights.projections.items() if one.expert == "0"}
    found = {
        (one.projection, one.parameter): weights.tensor(name)
        for one, name in where.items()
        if one.layer == 0
    }
    blocks = ("mlp", "feed_forward", "block_sparse_moe")
    ends = tuple(f"layers.0.{block}.experts" for block in blocks)
    (experts,) = (one for name, one in model.named_modules() if name.endswith(ends))
    hidden = torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
    both, down = experts.gate_up_proj[0], experts.down_proj[0]
    if architecture in ("gpt_oss", "llama4_text"):
        out = hidden @ both
    else:
        out, down = hidden @ both.T, down.T
    if architecture == "gpt_oss":
        out = out + experts.gate_up_proj_bias[0]
        out = experts._apply_gate(out)
        gate = (hidden @ found["gate", "weight"].T + found["gate", "bias"]).clamp(max=7)
        up = (hidden @ found["up", "weight"].T + found["up", "bias"]).clamp(-7, 7)
        mine = (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
    else:
        first, second = out.chunk(2, dim=-1)
        out = torch.nn.functional.silu(first) * second
        gate, up = (hidden @ found[name, "weight"].T for name in ("gate", "up"))
        mine = torch.nn.functional.silu(gate) * up
    assert torch.allclose(mine @ found["down", "weight"].T, out @ down, atol=1e-5)


def test_fused_experts_that_do_not_fit_each_other_are_refused(tmp_path) -> None:
    tensors = fused(BASE)
    name = f"{STEM.format(0)}.down_proj"
    tensors[name] = tensors[name][:, :, :-1]
    base = folder(tmp_path / "base", tensors)
    shapes = ((2, 24, 8), (2, 8, 11))
    with refused("model.experts-do-not-fit", file=base, found=shapes):
        Weights(base)


def test_half_of_the_experts_is_no_model_without_a_gate(tmp_path) -> None:
    tensors = {name: one for name, one in fused(BASE).items() if "down_proj" not in name}
    base = folder(tmp_path / "base", tensors)
    with refused("model.unknown-layout", file=base):
        Pair(base, base)


def test_gpt_oss_in_four_bits_is_refused_as_quantised(tmp_path) -> None:
    stem = STEM.format(0)
    tensors = {
        f"{stem}.gate_up_proj_blocks": torch.ones(2, 24, 2, 2, dtype=torch.uint8),
        f"{stem}.gate_up_proj_bias": torch.ones(2, 24),
    }
    base = folder(tmp_path / "base", tensors, "gpt-oss")
    with refused("model.quantised", file=base):
        Weights(base)


def test_lora_on_attention_is_measured_on_fused_experts(tmp_path) -> None:
    base = folder(tmp_path / "base", fused(BASE))
    found = measured(base, tiny.adapter(tmp_path / "adapter", tiny.lora()))
    assert found["q"]["l2"] > 0
    assert not found["gate"]["adapted"]


@pytest.mark.parametrize(("architecture", "config"), MODELS)
def test_cells_of_fused_experts_are_the_live_models(
    checkpoint, twin, tmp_path, architecture, config
) -> None:
    """The tuned cell answers as the tuned model does; a load cell differs in its set alone."""
    base = checkpoint(architecture, **config)
    tuned = twin(base)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        right = AutoModelForCausalLM.from_pretrained(tuned)(tokens).logits
        model, _ = build(base, tuned, Cell("tuned", "base", "tuned"))
        assert torch.allclose(model.eval()(tokens).logits, right, atol=1e-5)
    model, counts = build(base, tuned, Cell("load", "base", "tuned", "gate"))
    assert counts["changed"] == counts["inside"] > 0
    model.save_pretrained(tmp_path / "out")
    found = measured(base, tmp_path / "out")
    assert found["gate"]["l2"] == pytest.approx(measured(base, tuned)["gate"]["l2"])
    assert all(found[name]["l2"] == 0 for name in found if name != "gate")
