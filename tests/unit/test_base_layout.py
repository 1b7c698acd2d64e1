"""What an adapter alone tells of its base: refused for the true reason, or said to be unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_files import mlx_folder, numbers, on_layers, peft_folder
from refusal import refused
from transformers import AutoConfig, AutoModelForCausalLM

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.base_layout import model_type, unknown_projections
from affectlocus.deltas.delta_tables import summary
from affectlocus.deltas.deltas import adapter_alone

ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")
REST = ["gate", "up", "down"]


def of(folder: Path, *modules: str, config: dict[str, Any] | None = None, **settings: Any) -> Path:
    """An adapter of any modules below model.layers.0, with its base's config.json if given."""
    tensors = {}
    for module in modules or ATTENTION:
        stem = f"base_model.model.model.layers.0.{module}"
        tensors |= {
            f"{stem}.lora_A.weight": numbers(2, 8),
            f"{stem}.lora_B.weight": numbers(8, 2, seed=1),
        }
    peft_folder(folder, tensors, **settings)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "intermediate_size": 32,
    "ffn_dim": 32,
    "word_embed_proj_dim": 16,
    "max_position_embeddings": 32,
}


# What each attends with, and the rest of its modules, as transformers has them.
@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        ("opt", ["q_proj", "v_proj"]),
        ("phi", ["q_proj", "v_proj"]),
        ("starcoder2", ["q_proj", "v_proj"]),
        ("gpt_neox", ["query_key_value"]),
        ("bloom", ["query_key_value"]),
        ("falcon", ["query_key_value"]),
        ("gpt2", ["c_attn"]),
        ("gptj", ["q_proj", "v_proj"]),
    ],
)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to")
def test_a_base_without_a_gate_is_refused_by_name_and_by_modules(tmp_path, kind, attention) -> None:
    from peft import LoraConfig, get_peft_model

    sizes = SIZES | ({"n_embd": 16, "n_head": 2, "rotary_dim": 4} if kind == "gptj" else {})
    settings = AutoConfig.for_model(kind, **sizes)
    torch.manual_seed(0)
    for number, targets in enumerate((attention, "all-linear")):
        model = get_peft_model(
            AutoModelForCausalLM.from_config(settings),
            LoraConfig(target_modules=targets, r=2, task_type="CAUSAL_LM"),
        )
        model.save_pretrained(tmp_path / f"{number}")
    # All its modules are adapted: their names tell.
    with refused("adapter.other-layout", file=tmp_path / "1") as error:
        adapter_alone(Adapter(tmp_path / "1"))
    assert error.value.fields["found"] in ("no gate", "other")
    assert error.value.fields["module"]
    # Its attention alone: its config.json tells, where there is one.
    settings.save_pretrained(tmp_path / "0")
    source = f"model_type {kind!r} in config.json"
    with refused("adapter.other-layout", found="no gate", source=source):
        adapter_alone(Adapter(tmp_path / "0"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("facebook/opt-350m", "no gate"),
        ("microsoft/phi-2", "no gate"),
        ("bigcode/starcoder2-3b", "no gate"),
        ("EleutherAI/pythia-160m", "no gate"),
        ("/models/bloom-560m/", "no gate"),
        ("deepseek-ai/DeepSeek-V2-Lite", "latent"),
        ("google/flan-t5-base", "other"),
        ("Qwen/Qwen-7B", "other"),
    ],
)
def test_the_bases_name_in_the_adapters_settings_tells(tmp_path, name, kind) -> None:
    folder = of(tmp_path / "a", "self_attn.q_proj", base_model_name_or_path=name)
    source = f"{name!r} in adapter_config.json"
    with refused("adapter.other-layout", file=folder, found=kind, source=source):
        adapter_alone(Adapter(folder))


@pytest.mark.parametrize(
    "name",
    [
        *("meta-llama/Llama-2-7b-hf", "Qwen/Qwen2.5-7B", "unsloth/mistral-7b-v0.3-bnb-4bit"),
        *("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "tiiuae/Falcon3-7B-Base", "Qwen/Qwen1.5-7B"),
        *("microsoft/Phi-3.5-mini-instruct", "google/gemma-2-9b-it", "HuggingFaceTB/SmolLM2-135M"),
    ],
)
def test_a_base_with_all_seven_leaves_nothing_unknown(tmp_path, name) -> None:
    assert unknown_projections(Adapter(of(tmp_path / "a", base_model_name_or_path=name))) == []


UNKNOWN = {
    "attention alone": (ATTENTION, ["o", *REST]),
    "all of the attention": ((*ATTENTION, "self_attn.o_proj"), REST),
    "the feed-forward block alone": (("mlp.gate_proj",), ["q", "k", "v", "o"]),
    "both blocks": ((*ATTENTION, "mlp.gate_proj"), []),
    "up and down": (("mlp.up_proj", "mlp.down_proj"), ["q", "k", "v", "o", "gate"]),
    "a strange module": ((*ATTENTION, "mlp.gate_proj", "mlp.side_proj"), ["up", "down"]),
    "a router": ((*ATTENTION, "mlp.gate_proj", "mlp.router"), []),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_nothing_tells_is_unknown_and_not_called_not_adapted(tmp_path, kind) -> None:
    modules, expected = UNKNOWN[kind]
    measured = adapter_alone(Adapter(of(tmp_path / "a", *modules)))
    assert measured.unknown == expected
    found = summary(measured.rows, measured.unknown)
    assert [name for name, row in found.items() if row["adapted"] is None] == expected
    known = of(tmp_path / "known", *modules, config={"model_type": "llama"})
    assert unknown_projections(Adapter(known)) == (expected if "strange" in kind else [])
    local = of(tmp_path / "local", *modules, base_model_name_or_path=str(known))
    assert unknown_projections(Adapter(local)) == (expected if "strange" in kind else [])


@pytest.mark.parametrize("module", ["kv_b_proj", "kv_a_proj_with_mqa", "q_a_proj"])
def test_latent_attention_is_refused_by_its_modules(tmp_path, module) -> None:
    folder = of(tmp_path / "a", "self_attn.o_proj", f"self_attn.{module}", "mlp.gate_proj")
    named = f"self_attn.{module}"
    with refused("adapter.other-layout", file=folder, found="latent", module=named):
        adapter_alone(Adapter(folder))


def test_a_gate_in_the_adapter_outweighs_its_bases_name(tmp_path) -> None:
    folder = of(tmp_path / "a", *ATTENTION, "mlp.gate_proj", base_model_name_or_path="me/opt-like")
    assert unknown_projections(Adapter(folder)) == []


def test_latent_attention_is_refused_by_its_model_type(tmp_path) -> None:
    folder = of(tmp_path / "a", "mlp.gate_proj", config={"model_type": "deepseek_v3"})
    source = "model_type 'deepseek_v3' in config.json"
    with refused("adapter.other-layout", found="latent", source=source):
        adapter_alone(Adapter(folder))


def test_modules_of_an_encoder_tell_nothing_of_the_language_model(tmp_path) -> None:
    tensors = on_layers("model.", *ATTENTION, "mlp.gate_proj")
    for stem in ("vision_tower.encoder.layers.0.mlp.fc1", "part.encoder.layers.0.mlp.fc2"):
        tensors[f"base_model.model.{stem}.lora_A.weight"] = numbers(2, 8)
        tensors[f"base_model.model.{stem}.lora_B.weight"] = numbers(8, 2)
    assert unknown_projections(Adapter(peft_folder(tmp_path / "a", tensors))) == []


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"model_type": "qwen2"}, "qwen2"),
        ({"model_type": "llava", "text_config": {"model_type": "llama"}}, "llama"),
        ({}, None),
        ([1], None),
        ({"model_type": 3}, None),
    ],
)
def test_the_model_type_is_the_language_models(tmp_path, config, found) -> None:
    folder = of(tmp_path / "qwen2-opt", config=config)
    assert model_type(Adapter(folder)) == found


def test_no_folders_name_tells_of_the_base(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "opt"}', encoding="utf-8")
    adapter = Adapter(of(tmp_path / "llama-opt-350m", base_model_name_or_path=""))
    assert model_type(adapter) is None
    assert unknown_projections(adapter) == ["o", *REST]


def test_mlxs_adapter_alone_is_judged_by_its_model(tmp_path) -> None:
    tensors = {
        "model.layers.0.self_attn.q_proj.lora_a": numbers(8, 2),
        "model.layers.0.self_attn.q_proj.lora_b": numbers(2, 8),
    }
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 2.0}}
    for number, (name, expected) in enumerate(
        (("mlx-community/Qwen2.5-0.5B-4bit", []), (None, ["k", "v", "o", *REST]))
    ):
        folder = mlx_folder(tmp_path / f"{number}", tensors, config | {"model": name})
        assert unknown_projections(Adapter(folder)) == expected
