"""The size of a model by arithmetic, against transformers' own count on the meta device."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from affectlocus.checkpoints.model_size import (
    Size,
    estimated_size,
    pretraining_size,
    size_from_config,
    size_from_name,
)
from affectlocus.config.corpus import Pretraining
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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("HuggingFaceTB/SmolLM2-135M", 135e6),
        ("lzw1008/Emollama-chat-13b", 13e9),
        ("Qwen/Qwen2.5-1.5B", 1.5e9),
        ("owner/gpt2", None),
        ("owner/model-v2beta", None),
    ],
)
def test_a_name_tells_a_size_or_none(name: str, parameters: float | None) -> None:
    size = size_from_name(name)
    assert (size and size.parameters) == parameters


def test_an_estimated_shape_holds_the_parameters_that_were_stated() -> None:
    size = estimated_size(7e9, "bfloat16", "said")
    inside = size.share("all") * size.parameters
    assert inside == pytest.approx(7e9, rel=0.05)


def test_a_pretrained_base_is_as_its_recipe_says() -> None:
    size = pretraining_size(Pretraining(architecture="qwen2"))
    assert (size.bytes_per_parameter, size.origin) == (4.0, "its recipe")
    # embeddings, three layers (q, k and v with biases, o, the feed-forward block, norms), a norm
    layer = (64 * 64 + 64) + 2 * (32 * 64 + 32) + 64 * 64 + 3 * 64 * 176 + 2 * 64
    assert size.parameters == 768 * 64 + 3 * layer + 64


@pytest.mark.parametrize("config", [{}, {"hidden_size": "wide"}, {**QWEN_7B, "vocab_size": 0}])
def test_a_configuration_that_says_nothing_gives_none(config: dict[str, object]) -> None:
    assert size_from_config(config) is None
