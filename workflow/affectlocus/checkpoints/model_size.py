"""Compute the size of a model from its config.json, without building it or reading weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from affectlocus.core.model_config import text_config
from affectlocus.core.projections import parse_modules

BYTES = {
    "float64": 8.0,
    "float32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "float8_e4m3fn": 1.0,
    "float8_e5m2": 1.0,
    "int8": 1.0,
    "uint8": 1.0,
}
"""Bytes of one parameter, by the dtype in a configuration."""

_LARGEST = 2**40  # of any dimension


@dataclass(frozen=True)
class Size:
    """A language model's dimensions.

    Attributes:
        parameters: of the language model; tied embeddings count once.
        bytes_per_parameter: bytes of one parameter as stored.
        origin: where the size comes from, for messages.
    """

    parameters: int
    bytes_per_parameter: float
    hidden: int
    layers: int
    intermediate: int
    query: int  # width of all query heads
    key: int  # width of all key, and of all value heads
    vocabulary: int
    origin: str

    @property
    def bytes(self) -> int:
        """Bytes of the stored weights."""
        return round(self.parameters * self.bytes_per_parameter)

    def stored_in(self, size: int, origin: str) -> Size:
        """The same model with files of `size` bytes in total."""
        return replace(self, bytes_per_parameter=size / self.parameters, origin=origin)

    def share(self, modules: str) -> float:
        """The share of the weights of a module set in all parameters."""
        shapes = self._shapes()
        count = sum(
            number * out * into
            for name, number in parse_modules(modules).counts(self.layers).items()
            for out, into in [shapes[name]]
        )
        return min(1.0, count / self.parameters)

    def lora_parameters(self, modules: str, rank: int) -> int:
        """The parameters that LoRA adds to a module set: rank · (d_out + d_in) for each matrix."""
        shapes = self._shapes()
        counts = parse_modules(modules).counts(self.layers)
        return rank * sum(number * sum(shapes[name]) for name, number in counts.items())

    def _shapes(self) -> dict[str, tuple[int, int]]:
        wide = self.intermediate
        return {
            "q": (self.query, self.hidden),
            "k": (self.key, self.hidden),
            "v": (self.key, self.hidden),
            "o": (self.hidden, self.query),
            "gate": (wide, self.hidden),
            "up": (wide, self.hidden),
            "down": (self.hidden, wide),
        }


def size_from_config(config: Mapping[str, Any], origin: str = "config.json") -> Size | None:
    """The size of the model that a config.json describes; None if it lacks a dimension.

    Exact for Qwen2, Qwen2.5, LLaMA and Mistral. For other models, norms of heads and routers are
    omitted, which are some thousandths of all parameters.
    """
    whole = {**config, **text_config(config)}
    try:
        hidden, layers = int(whole["hidden_size"]), int(whole["num_hidden_layers"])
        vocabulary, heads = int(whole["vocab_size"]), int(whole["num_attention_heads"])
        wide = int(whole.get("moe_intermediate_size") or whole["intermediate_size"])
        groups = int(whole.get("num_key_value_heads") or heads)
        width = int(whole.get("head_dim") or hidden // max(heads, 1))
        experts = int(
            whole.get("num_local_experts") or whole.get("num_experts") or 1  # Mixtral, Qwen
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    sizes = (hidden, layers, vocabulary, heads, wide, groups, width, experts)
    if min(sizes) < 1 or max(sizes) > _LARGEST:
        return None
    query, key = heads * width, groups * width
    attention = hidden * (2 * query + 2 * key)
    if whole.get("model_type") in ("qwen2", "qwen2_moe") or whole.get("attention_bias"):
        attention += query + 2 * key
    layer = attention + experts * 3 * hidden * wide + 2 * hidden
    embeddings = vocabulary * hidden * (1 if whole.get("tie_word_embeddings") else 2)
    total = layers * layer + embeddings + hidden
    kind = str(whole.get("dtype") or whole.get("torch_dtype") or "float32")
    width_in_bytes = BYTES.get(kind.removeprefix("torch."), 4.0)
    if experts > 1:
        wide *= experts
    return Size(total, width_in_bytes, hidden, layers, wide, query, key, vocabulary, origin)
