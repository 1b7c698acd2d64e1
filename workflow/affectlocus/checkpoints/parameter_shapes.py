"""Names and shapes of a model's parameters, from its files and without transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affectlocus.checkpoints.weights import Weights
from affectlocus.core.checkpoint_files import whole_weights

_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
# model_type → the attention matrices that may have a bias.
_WITH_BIAS = {"llama": "qkvo", "mistral": "", "qwen2": "qkv", "qwen3": "qkvo"}


def parameter_shapes(folder: Path, config: dict[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Parameter → shape, as transformers builds the model; a tied head counts with the embeddings.

    Args:
        folder: the model's folder. If it has weights, their headers are read.
        config: the model's config.json.

    Returns:
        None if only transformers knows the shapes: for a mixture, for a model of text and images,
        and without weights if the configuration leaves sizes to the defaults of transformers.
    """
    if "text_config" in config or "vision_config" in config:
        return None
    return _stored_shapes(folder, config) or _configured_shapes(config)


def _stored_shapes(folder: Path, config: dict[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """The parameters of the dense model whose weights are in a folder; None without weights."""
    if not whole_weights(folder):
        return None
    weights = Weights(folder)
    shapes = {
        tensor: weights.shape(tensor)
        for tensor in weights.names()
        if not tensor.endswith(".rotary_emb.inv_freq")
    }
    if any(".experts." in tensor or ".router." in tensor for tensor in shapes):
        return None  # files and transformers may differ in the parameters of a router
    if config.get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)
    return shapes


def _configured_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """The parameters that a configuration describes; None if it leaves sizes to defaults."""
    kind = config["model_type"]
    sizes = [config.get(key) for key in _SIZES]
    if kind not in _WITH_BIAS or any(type(one) is not int or one < 1 for one in sizes):
        return None
    hidden, wide, layers, heads, groups, words = (int(one) for one in sizes if one is not None)
    head = config.get("head_dim") or (None if kind == "qwen3" else hidden // heads)
    if type(head) is not int:
        return None
    biased = _WITH_BIAS[kind]
    if kind in ("llama", "qwen3") and not config.get("attention_bias"):
        biased = ""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (words, hidden)}
    query, key = heads * head, groups * head
    for layer in range(layers):
        stem = f"model.layers.{layer}."
        matrices = {
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (key, hidden),
            "self_attn.v_proj": (key, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_proj": (wide, hidden),
            "mlp.up_proj": (wide, hidden),
            "mlp.down_proj": (hidden, wide),
        }
        for module, shape in matrices.items():
            shapes[f"{stem}{module}.weight"] = shape
            attention = module.startswith("self_attn") and module[10] in biased
            if attention or (kind == "llama" and module[:3] == "mlp" and config.get("mlp_bias")):
                shapes[f"{stem}{module}.bias"] = shape[:1]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{stem}{norm}.weight"] = (hidden,)
        if kind == "qwen3":
            for norm in ("q_norm", "k_norm"):
                shapes[f"{stem}self_attn.{norm}.weight"] = (head,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (words, hidden)
    return shapes
