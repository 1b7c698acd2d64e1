"""The ledger: AffectGPT's numbers, and what peft and AdamW make of tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from refusal import refused
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS, ModuleSet, parse_modules
from affectlocus.lm.affectgpt_bridge import AffectGptBridge
from affectlocus.training.ledger import (
    UNTRAINED,
    adapter_bytes,
    affectgpt,
    fair_rank,
    ledger,
    lora_parameters,
    optimizer_bytes,
    others_of,
    shares,
)
from affectlocus.training.lora_targets import Layout, layout, layout_of_config

SETS = ("all", "q", "k", "v", "o", "gate", "up", "down", "o+gate")
QWEN_7B = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}


@cache
def qwen_7b() -> Layout:
    return layout_of_config("Qwen2.5-7B", AutoConfig.for_model("qwen2", **QWEN_7B))


def test_qwen_7b_at_rank_16_trains_what_affectgpt_trains() -> None:
    found = {modules: lora_parameters(qwen_7b(), modules, 16) for modules in SETS}
    assert found["all"] == 40_370_176
    assert found["q"] == found["o"] == 3_211_264
    assert found["k"] == found["v"] == 1_835_008
    assert found["gate"] == found["up"] == found["down"] == 10_092_544
    assert qwen_7b().parameters == 7_615_616_512


def test_affectgpts_other_parts_are_sixteen_million() -> None:
    parts = affectgpt(3584)
    assert parts["projectors"]["image_llama_proj"] == 2_756_096
    assert parts["projectors"]["audio_llama_proj"] == 3_673_600
    assert parts["fusion"] == {
        "multi_audio_embs": 1_049_600,
        "multi_video_embs": 787_456,
        "attention_mlp": 2_098_176,
        "fc_att": 2_050,
    }
    assert parts["pooling"] == {"video_attention_mlp": 769, "audio_attention_mlp": 1_025}
    assert sum(count for group in parts.values() for count in group.values()) == 16_798_468


def test_affectgpt_trains_what_its_modules_hold_at_its_sizes() -> None:
    """On the meta device, from peft and from the module of the bridge: no count is written down."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **QWEN_7B))
        names = [f"{name}_proj" for name in PROJECTIONS]
        get_peft_model(model, LoraConfig(r=16, target_modules=names, task_type="CAUSAL_LM"))
        bridge = AffectGptBridge(3584, {"face": 768, "audio": 1024}, {"multi": 1})
    lora = sum(one.numel() for name, one in model.named_parameters() if "lora_" in name)
    trained = sum(one.numel() for one in bridge.parameters())
    assert (lora, trained) == (40_370_176, 14_042_372)
    parts = [part for group in affectgpt(3584).values() for part in group.items()]
    assert trained == sum(count for name, count in parts if name not in UNTRAINED)
    gate = sum(one.numel() for name, one in model.named_parameters() if "gate_proj.lora_" in name)
    assert f"{100 * gate / (lora + trained):.2f}" == "18.55"


def test_the_share_of_get_in_every_convention() -> None:
    frame = ledger(qwen_7b(), ["all", "gate"], 16, others=affectgpt(3584))
    row = frame[(frame["modules"] == "gate") & (frame["budget"] == "equal rank")].iloc[0]
    assert (row["strategy"], row["parameters"], row["rank"]) == ("GET", 10_092_544, 16)
    found = {name: f"{row[name]:.2f}" for name in frame.columns if name.startswith("share")}
    assert found == {
        "share": "25.00",
        "share_of_trained": "18.55",
        "share_of_saved": "17.65",
        "share_plus_others": "47.04",
        "share_plus_projectors": "40.15",
        "share_plus_fusion": "24.54",
        "share_plus_pooling": "17.66",
        "share_of_model": "0.13",
    }


@pytest.mark.parametrize(
    ("kind", "shape", "percent"),
    [
        ("qwen2", (1536, 28, 12, 2, 8960), 25.47),
        ("qwen2", (5120, 48, 40, 8, 13824), 21.14),
        ("qwen2", (5120, 64, 40, 8, 27648), 25.00),
        ("llama", (4096, 32, 32, 32, 11008), 19.34),
        ("mistral", (4096, 32, 32, 8, 14336), 22.50),
    ],
)
def test_gates_share_of_lora_differs_between_models(kind, shape, percent) -> None:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    settings = dict(zip((*names, "intermediate_size"), shape, strict=True))
    config = AutoConfig.for_model(kind, **settings, head_dim=128)
    found = layout_of_config(kind, config)
    gate, whole = (lora_parameters(found, modules, 16) for modules in ("gate", "all"))
    assert shares(gate, whole)["share"] == pytest.approx(percent, abs=0.005)


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral", "gemma2", "phi3"])
@pytest.mark.parametrize("modules", ["all", "q+k+v", "gate+up", "down"])
def test_counts_and_bytes_are_those_of_peft_and_adamw(
    random_model: Callable, tmp_path: Path, architecture: str, modules: str
) -> None:
    model = random_model(architecture).to(torch.bfloat16)
    found = layout_of_config(architecture, model.config)
    targets = found.of(modules)
    names = [target.name for target in targets]
    tuned = get_peft_model(model, LoraConfig(r=3, target_modules=names, task_type="CAUSAL_LM"))
    trained = [p for p in tuned.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == lora_parameters(found, modules, 3)
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = sum(one.nbytes for each in optimizer.state.values() for one in each.values())
    parameters = lora_parameters(found, modules, 3)
    assert state == optimizer_bytes(parameters, len(trained)) == parameters * 8 + 4 * len(trained)
    tuned.save_pretrained(tmp_path)
    saved = (tmp_path / "adapter_model.safetensors").stat().st_size
    assert saved == adapter_bytes(targets, 3)


def test_full_tuning_counts_weights_and_biases(random_model: Callable) -> None:
    model = random_model("qwen2")
    frame = ledger(layout_of_config("tiny", model.config), ["all", "q"], 8, "sft")
    for row in frame.itertuples():
        wanted = parse_modules(row.modules)
        chosen = [
            p
            for name, p in model.named_parameters()
            if any(f".{one}_proj." in name for one in wanted.projections)
        ]
        assert row.parameters == sum(p.numel() for p in chosen)
        assert row.optimizer_bytes == 8 * row.parameters + 4 * len(chosen)
    assert frame["adapter_bytes"].isna().all()
    assert (frame["strategy"] == "").all()


@given(
    modules=st.sets(st.sampled_from(PROJECTIONS), min_size=1).map(
        lambda names: str(ModuleSet.of(names))
    ),
    rank=st.integers(1, 64),
)
def test_a_fair_rank_is_the_nearest_of_all_ranks(modules: str, rank: int) -> None:
    whole = lora_parameters(qwen_7b(), "all", rank)
    each = lora_parameters(qwen_7b(), modules, 1)
    found = fair_rank(qwen_7b(), modules, rank)
    nearest = min(abs(r * each - whole) for r in range(1, whole // each + 3))
    assert abs(found * each - whole) == nearest


def test_fair_ranks_of_qwen_7b() -> None:
    found = {modules: fair_rank(qwen_7b(), modules, 16) for modules in SETS}
    assert found["all"] == 16
    assert found["gate"] == found["up"] == found["down"] == 64
    assert found["k"] == found["v"] == 352
    assert found["q"] == 201


def test_a_rank_beyond_what_a_matrix_can_have_is_flagged() -> None:
    frame = ledger(qwen_7b(), ["k", "gate"], 32).set_index(["modules", "budget"])
    assert frame.loc[("k", "equal parameters"), "rank"] == 704
    assert frame["beyond_full_rank"].to_dict() == {
        ("k", "equal rank"): False,
        ("k", "equal parameters"): True,
        ("gate", "equal rank"): False,
        ("gate", "equal parameters"): False,
    }


def test_a_model_that_has_not_all_seven_has_no_share_and_no_fair_rank() -> None:
    found = layout("part", [("model.layers.0.self_attn.q_proj.weight", (4, 4))])
    frame = ledger(found, ["q"], 2)
    assert frame["budget"].tolist() == ["equal rank"]
    assert frame["parameters"].tolist() == [16]
    assert "share" not in frame.columns


def test_parts_are_read_flat_or_in_groups() -> None:
    assert others_of({"a": 3, "b": 4}, "f") == {"others": {"a": 3, "b": 4}}
    assert others_of({"g": {"a": 3}}, "f") == {"g": {"a": 3}}


@pytest.mark.parametrize(
    ("content", "key", "found"),
    [
        ({"a": "many"}, "a", "many"),
        ({"a": True}, "a", True),
        ({"g": {"a": -1}}, "a", -1),
        ({"g": {"a": 1}, "b": 2}, "g", {"a": 1}),
    ],
)
def test_parts_that_are_no_counts_are_refused(content, key, found) -> None:
    with refused("ledger.not-a-count", file="f.yaml", key=key, found=found):
        others_of(content, "f.yaml")


@pytest.mark.parametrize("content", [["a"], {}])
def test_parts_that_are_no_mapping_are_refused(content) -> None:
    with refused("ledger.not-a-mapping", file="f.yaml", found=content):
        others_of(content, "f.yaml")


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["ledger", *map(str, arguments)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Qwen2.5-7B's config.json, and a file of two other trained parts."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"} | QWEN_7B))
    (tmp_path / "parts.yaml").write_text("eyes: {clip: 1000}\nears: {hubert: 500}\n")
    return tmp_path / "config.json"


def test_the_command_counts_from_a_configuration_alone(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "ledger.csv"
    sets = ("--modules", "all", "--modules", "gate")
    done = run(config, *sets, "--others", "affectgpt", "--out", out)
    assert done.exit_code == 0, done.output
    frame = pd.read_csv(out, keep_default_na=False)
    row = frame[(frame["modules"] == "gate") & (frame["budget"] == "equal rank")].iloc[0]
    assert (row["strategy"], row["parameters"], row["share"]) == ("GET", 10_092_544, 25.0)
    assert row["share_plus_fusion"] == pytest.approx(24.5411)
    assert row["optimizer_bytes"] == 8 * 10_092_544 + 4 * 56


def test_the_command_prints_a_table_and_takes_parts_by_name_and_file(config: Path) -> None:
    parts = ("--others", "extra=250", "--others", config.with_name("parts.yaml"))
    done = run(config, "--modules", "gate", *parts)
    assert done.exit_code == 0, done.output
    # A heading is broken at its underscores where the table would be too wide.
    for word in ("10,092,544", "eyes", "ears", "others", "GET"):
        assert word in done.output


@pytest.mark.parametrize(
    ("options", "code", "fields"),
    [
        (("--others", "extra=many"), "option.not-a-count", {"found": "extra=many"}),
        (("--others", "nowhere.yaml"), "option.unreadable-file", {"file": "nowhere.yaml"}),
        (("--measure", "--others", "affectgpt"), "option.no-effect", {"option": "--others"}),
        (("--measure", "--method", "sft"), "option.no-effect", {"option": "--method"}),
    ],
)
def test_options_that_cannot_be_followed_are_refused(config: Path, options, code, fields) -> None:
    done = run(config, "--modules", "gate", *options)
    assert isinstance(done.exception, InputError)
    with refused(code, **fields):
        raise done.exception
