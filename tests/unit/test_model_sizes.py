"""The size of a model before it is on disk."""

from __future__ import annotations

import pytest

from affectlocus.config.corpus import Pretraining
from affectlocus.orchestration.model_sizes import (
    estimated_size,
    pretraining_size,
    size_from_name,
)


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
