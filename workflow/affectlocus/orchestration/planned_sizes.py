"""The size of a model that is not on disk: by its recipe, a stated number, or its name."""

from __future__ import annotations

import re

from affectlocus.checkpoints.model_size import BYTES, Size, size_from_config
from affectlocus.config.corpus import Pretraining

_PRETRAINED_VOCABULARY = 768
_NAMED = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?) ?([BbMm])(?![A-Za-z0-9])")
# A transformer of unknown shape: hidden size is 128 times the number of layers, the feed-forward
# block three matrices of 8/3 of it, so that a layer has 12 hidden² weights.
_LAYERS_TO_WIDTH = 128


def pretraining_size(recipe: Pretraining) -> Size:
    """The size of a tiny base that the workflow pretrains: float32, tied embeddings."""
    found = size_from_config(
        {
            "model_type": recipe.architecture,
            "hidden_size": recipe.hidden_size,
            "intermediate_size": recipe.intermediate_size,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": recipe.heads,
            "num_key_value_heads": recipe.kv_heads,
            "vocab_size": _PRETRAINED_VOCABULARY,
            "tie_word_embeddings": True,
        },
        "its recipe",
    )
    assert found is not None
    return found


def estimated_size(parameters: float, dtype: str, origin: str) -> Size:
    """A model with the given number of parameters and a usual shape."""
    hidden = max(1, round((parameters * _LAYERS_TO_WIDTH / 12) ** (1 / 3)))
    layers = max(1, round(hidden / _LAYERS_TO_WIDTH))
    wide = round(hidden * 8 / 3)
    width_in_bytes = BYTES[dtype]
    return Size(
        round(parameters), width_in_bytes, hidden, layers, wide, hidden, hidden, 32_000, origin
    )


def size_from_name(name: str) -> Size | None:
    """The size in a name such as Qwen2.5-7B-Instruct, as bfloat16; None if the name has none."""
    found = _NAMED.findall(name)
    if not found:
        return None
    number, unit = found[-1]
    scale = 1e9 if unit in "Bb" else 1e6
    return estimated_size(float(number) * scale, "bfloat16", f"the name {name}")
