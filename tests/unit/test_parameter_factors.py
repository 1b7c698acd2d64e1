"""LoRA on the fused experts of a mixture, against peft's own merge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from refusal import refused
from safetensors.torch import load_file, save_file
from tiny_configs import tiny_model

from affectlocus.api import diff
from affectlocus.checkpoints.architectures import Rows
from affectlocus.checkpoints.pairs import Pair

BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def adapted(model_type: str, folder: Path, targets: list[str], **settings: object) -> Path:
    """A tiny mixture of experts, and an adapter of its fused experts, both saved."""
    torch.manual_seed(0)
    model = tiny_model(model_type)
    model.save_pretrained(folder / "base")
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=["q_proj"], target_parameters=targets, **settings
    )
    tuned = get_peft_model(model, config)
    for name, value in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    tuned.save_pretrained(folder / "adapter")
    return folder / "adapter"


def merged(model_type: str, folder: Path) -> Path:
    """peft's own merge of the adapter into the base."""
    torch.manual_seed(0)
    model = tiny_model(model_type)
    PeftModel.from_pretrained(model, folder / "adapter").merge_and_unload().save_pretrained(
        folder / "merged"
    )
    return folder / "merged"


def part(matrix: torch.Tensor, rows: Rows | None) -> torch.Tensor:
    """Some rows of a matrix (None: all)."""
    return matrix if rows is None else torch.cat([matrix[start:stop] for start, stop in rows])


@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt_oss", "llama4_text", "mixtral", "dots1"])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_delta_of_each_expert_is_pefts_own(
    model_type: str, rslora: bool, tmp_path: Path
) -> None:
    targets = [one.rpartition(".")[2] for one in BOTH]
    adapter = adapted(model_type, tmp_path, targets, use_rslora=rslora)
    ours = Pair(tmp_path / "base", adapter)
    theirs = Pair(tmp_path / "base", merged(model_type, tmp_path))
    experts = [
        one
        for one in ours.projections
        if one.parameter == "weight" and one.expert not in (None, "shared")
    ]
    assert {one.projection for one in experts} == {"gate", "up", "down"}
    for one in experts:
        name, rows = ours.projections[one]
        change, expected = (part(each.delta(name), rows) for each in (ours, theirs))
        assert change.abs().max() > 1e-4
        torch.testing.assert_close(change, expected, atol=2e-7, rtol=0)


@pytest.mark.parametrize("parameter", BOTH)
def test_of_one_adapted_parameter_the_other_is_not_adapted(parameter: str, tmp_path: Path) -> None:
    adapter = adapted("qwen3_moe", tmp_path, [parameter])
    found = diff(tmp_path / "base", adapter, any_base=True).frame
    changed = set(found[found["adapted"]]["projection"])
    expected = {"down"} if "down" in parameter else {"gate", "up"}
    assert changed == {"q", *expected}


def test_the_rows_of_gate_and_up_are_not_known_without_the_base(tmp_path: Path) -> None:
    adapter = adapted("gpt_oss", tmp_path, BOTH)
    with refused("adapter.experts-need-base", file=adapter):
        diff(adapter)


def test_factors_that_do_not_fit_the_rank_are_refused(tmp_path: Path) -> None:
    adapter = adapted("qwen3_moe", tmp_path, BOTH)
    file = adapter / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"r": 5}))
    with refused("adapter.parameter-rank", file=adapter):
        diff(tmp_path / "base", adapter)


def test_factors_of_parameters_that_the_settings_do_not_name_are_refused(tmp_path: Path) -> None:
    adapter = adapted("qwen3_moe", tmp_path, BOTH)
    file = adapter / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"target_parameters": BOTH[:1]}))
    with refused("adapter.parameters-unknown", file=adapter):
        diff(tmp_path / "base", adapter)


def test_the_layout_of_earlier_versions_of_peft_is_read(tmp_path: Path) -> None:
    """Before it knew the order of a parameter's axes, peft had A and B of the transposed change."""
    adapter = adapted("qwen3_moe", tmp_path, BOTH)
    before = Pair(tmp_path / "base", adapter)
    expected = {name: before.delta(name) for name, _ in before.projections.values()}
    file, experts, rank = adapter / "adapter_model.safetensors", 4, 3
    tensors = load_file(file)
    for name in [name for name in tensors if ".experts." in name and "lora_A" in name]:
        other = name.replace("lora_A", "lora_B")
        a, b = tensors[name], tensors[other]
        each_a = a.reshape(experts, rank, -1)
        each_b = b.reshape(b.shape[0], rank, experts)
        # The change of an expert is (B·A) transposed, so each has the other's part.
        tensors[name] = each_b.permute(2, 1, 0).reshape(experts * rank, -1).contiguous()
        tensors[other] = each_a.permute(2, 1, 0).reshape(a.shape[1], -1).contiguous()
    save_file(tensors, file)
    found = Pair(tmp_path / "base", adapter)
    for name, delta in expected.items():
        torch.testing.assert_close(found.delta(name), delta, atol=0, rtol=0)


def test_an_adapter_without_the_factors_of_a_target_is_refused(tmp_path: Path) -> None:
    adapter = adapted("qwen3_moe", tmp_path, BOTH)
    file = adapter / "adapter_model.safetensors"
    save_file({name: one for name, one in load_file(file).items() if ".experts." not in name}, file)
    with refused("adapter.target-without-factors", key="target_parameters"):
        diff(tmp_path / "base", adapter)
