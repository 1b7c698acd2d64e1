"""The size of a model by arithmetic, against transformers' own count on the meta device."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from affectlocus.checkpoints.model_size import Size, size_from_config
from affectlocus.training.lora_targets import layout_of_config

QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}


def told(config: dict[str, object]) -> Size:
    size = size_from_config(config)
    assert size is not None
    return size


def test_qwen_7b_has_the_parameters_and_bytes_that_its_card_says() -> None:
    size = told(QWEN_7B)
    assert size.parameters == 7_615_616_512
    assert size.bytes == 2 * size.parameters


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral"])
def test_the_count_is_that_of_the_model_built_on_the_meta_device(kind: str, tied: bool) -> None:
    config = {**SMALL, "tie_word_embeddings": tied}
    built = layout_of_config(kind, AutoConfig.for_model(kind, **config))
    assert told({"model_type": kind, **config}).parameters == built.parameters


@pytest.mark.parametrize("kind", ["qwen3", "gemma", "mixtral", "phi3"])
def test_of_other_architectures_it_is_near(kind: str) -> None:
    config = {**SMALL, "head_dim": 16, "num_local_experts": 4, "pad_token_id": 0}
    known = AutoConfig.for_model(kind, **config)
    built = layout_of_config(kind, known).parameters
    record = {**config, "model_type": kind, "tie_word_embeddings": known.tie_word_embeddings}
    if kind != "mixtral":
        del record["num_local_experts"]
    assert told(record).parameters == pytest.approx(built, rel=0.01)


def test_what_lora_adds_is_what_the_paper_counts() -> None:
    size = told(QWEN_7B)
    assert size.lora_parameters("all", 16) == 40_370_176
    assert size.lora_parameters("gate", 16) == 10_092_544
    assert size.share("all") == pytest.approx(0.857, abs=0.001)


def test_a_language_model_inside_another_is_the_one_that_counts() -> None:
    nested = {"model_type": "llava", "vision_config": {"hidden_size": 9}, "text_config": QWEN_7B}
    assert told(nested).parameters == told(QWEN_7B).parameters


@pytest.mark.parametrize("config", [{}, {"hidden_size": "wide"}, {**QWEN_7B, "vocab_size": 0}])
def test_a_configuration_that_says_nothing_gives_none(config: dict[str, object]) -> None:
    assert size_from_config(config) is None
