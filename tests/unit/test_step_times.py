"""Measured step times: what is measured is counted right, and beside all seven."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from affectlocus.training.ledger import adapter_bytes, lora_parameters, optimizer_bytes
from affectlocus.training.lora_targets import layout_of_config
from affectlocus.training.step_times import stand_in, step_times

WIDE = {"hidden_size": 1024, "num_hidden_layers": 9, "num_attention_heads": 16}
WIDE |= {"num_key_value_heads": 8, "intermediate_size": 3072, "vocab_size": 5000}


@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral", "gemma2", "phi3", "qwen3"])
def test_a_stand_in_is_small_and_keeps_the_proportions(kind: str) -> None:
    small = stand_in(AutoConfig.for_model(kind, **WIDE, head_dim=64))
    assert small.model_type == kind
    assert (small.hidden_size, small.intermediate_size) == (256, 768)
    assert (small.num_hidden_layers, small.num_attention_heads) == (4, 4)
    assert (small.num_key_value_heads, small.vocab_size) == (2, 1024)
    assert layout_of_config("small", small).has("all")


def test_a_small_model_is_its_own_stand_in() -> None:
    settings = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96}
    config = AutoConfig.for_model(
        "llama", **settings, num_attention_heads=4, num_key_value_heads=2, vocab_size=300
    )
    small = stand_in(config)
    same = [*settings, "num_attention_heads", "num_key_value_heads", "vocab_size"]
    assert [getattr(small, key) for key in same] == [getattr(config, key) for key in same]


def test_every_set_is_timed_against_all_seven_and_its_bytes_are_as_counted() -> None:
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    config = AutoConfig.for_model(
        "qwen2", **settings, num_attention_heads=4, num_key_value_heads=2, vocab_size=300
    )
    frame = step_times(config, ["gate", "all"], 3, rounds=3, steps=1, shape=(2, 8))
    assert frame["modules"].tolist() == ["all", "gate"]
    assert frame["step_ratio"][0] == 1
    assert (frame["step_ms"] > 0).all()
    gate = frame.iloc[1]
    assert gate["ratio_low"] <= gate["step_ratio"] <= gate["ratio_high"]
    found = layout_of_config("small", config)
    for row in frame.itertuples():
        targets = found.of(row.modules)
        parameters = lora_parameters(found, row.modules, 3)
        assert row.optimizer_bytes == optimizer_bytes(parameters, 2 * len(targets))
        assert row.adapter_bytes == adapter_bytes(targets, 3)
