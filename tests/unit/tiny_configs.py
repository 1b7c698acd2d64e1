"""A tiny configuration of any text model of transformers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

LAYERS = 4
_HEADS = 4
_VOCABULARY = 160

# Sizes are lowered to these; a model whose own size is smaller keeps it.
_LOWERED = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("attention_hidden_size", "conv_dim", "lru_width"), 64),
    **dict.fromkeys(("intermediate_size", "intermediate_size_mlp", "ffn_hidden_size"), 96),
    **dict.fromkeys(("ffn_dim", "d_ff"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("shared_intermediate_size", "moe_shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("expert_hidden_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), _HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_global_key_value_heads"), 2),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("head_dim", "global_head_dim", "kv_channels", "query_pre_attn_scalar"), 16),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), _VOCABULARY),
    **dict.fromkeys(("n_group", "topk_group", "n_groups", "mamba_n_groups"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "num_mem_blocks"), 1),
    **dict.fromkeys(("zero_expert_num", "num_kv_shared_layers"), 1),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "v_head_dim"), 16),
    **dict.fromkeys(("hidden_size_per_layer_input", "kv_lora_rank", "index_head_dim"), 16),
    **dict.fromkeys(("mamba_d_state", "mamba_head_dim", "ssm_state_size"), 16),
    **dict.fromkeys(("sliding_window", "attention_window_size"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "adapter_rank"), 8),
    **dict.fromkeys(("num_experts_per_tok", "linear_num_key_heads", "index_n_heads"), 2),
    **dict.fromkeys(("linear_num_value_heads", "index_topk"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 4),
    "mamba_d_head": 32,
    "mamba_d_ssm": 128,
    "q_lora_rank": 24,
    "max_position_embeddings": 128,
}

# What the tiny model of a type needs besides, so that it can be made and has each kind of layer.
_OWN: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_d_head": 32},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16, "moe_topk": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "ministral": {"head_dim": 16},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "plbart": {"decoder_attention_heads": 4, "encoder_attention_heads": 4},
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds_dim": [32, 32],
        "axial_pos_shape": [8, 16],
    },
    "whisper": {"decoder_attention_heads": 4, "encoder_attention_heads": 4},
    "xlnet": {"d_head": 16},
}

# Types that transformers cannot make from a configuration of this size, and why.
NOT_MADE = {
    "cohere_compass_text": "its default configuration has no rotary settings",
    "dbrx": "its configuration lacks a setting that its attention reads",
    "dots3_note": "its layers differ in a setting that its class reads for all",
    "dots3_note_text": "its layers differ in a setting that its class reads for all",
    "gemma4_assistant": "a draft model for another model",
    "gemma4_unified_assistant": "a draft model for another model",
    "gemma3n": "needs the package timm; gemma3n_text is its language model",
    "qwen4_exp": "its default configuration has no attention budget",
    "qwen4_exp_text": "its default configuration has no attention budget",
    "zamba": "its layers share weights by numbers that a small model does not have",
}


def model_types() -> list[str]:
    """The types that transformers has a class of a language model for, except `NOT_MADE`."""
    return sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(NOT_MADE))


def tiny_model(model_type: str) -> Any:
    """A language model of the type with random weights and four layers, one of each kind."""
    (name,) = {MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]} - {None}
    model_class = getattr(transformers, name[0] if isinstance(name, tuple) else name)
    config = CONFIG_MAPPING[model_type]()
    if model_class.config_class and not isinstance(config, model_class.config_class):
        config = config.get_text_config(decoder=True)
    own = _OWN.get(model_type, {})
    # Before, because other sizes depend on them; and after, so that they are kept.
    for settings in (own, None, own):
        if settings is None:
            _shrink(config)
        else:
            for key, value in settings.items():
                setattr(config, key, value)
    return model_class(config)


def _shrink(config: PretrainedConfig) -> None:
    for key in [*vars(config), *_LOWERED]:
        # A setting that differs by layer cannot be read as one value.
        with suppress(Exception):
            value = getattr(config, key)
            if isinstance(value, PretrainedConfig):
                _shrink(value)
            elif key in _LOWERED and type(value) is int:
                setattr(config, key, 16 if key == "head_dim" else min(value, _LOWERED[key]))
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) > LAYERS and not key.endswith("multipliers"):
            setattr(config, key, _each_kind(value) if "type" in key else value[:LAYERS])
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(config, key, None) is not None:
            setattr(config, key, 1)


def _each_kind(kinds: list[Any]) -> list[Any]:
    """The first layer of each kind, and then the others."""
    return [*dict.fromkeys(kinds), *kinds][:LAYERS]
