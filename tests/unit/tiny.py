"""A tiny LLaMA as a dict of tensors, and folders of it: for tests that need no transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]

HIDDEN, WIDE, LAYERS, VOCABULARY = 8, 12, 2, 16
SHAPES = {
    **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
    **{f"mlp.{name}_proj": (WIDE, HIDDEN) for name in ("gate", "up")},
    "mlp.down_proj": (HIDDEN, WIDE),
}
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
}
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}


def llama(seed: int = 0, layers: int = LAYERS, dtype: torch.dtype = torch.float32) -> Tensors:
    """The tensors of a model of `layers` layers, drawn by the seed."""
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).to(dtype)

    made = {
        "model.embed_tokens.weight": drawn(VOCABULARY, HIDDEN),
        "model.norm.weight": torch.ones(HIDDEN, dtype=dtype),
        "lm_head.weight": drawn(VOCABULARY, HIDDEN),
    }
    for layer in range(layers):
        for module, shape in SHAPES.items():
            made[f"model.layers.{layer}.{module}.weight"] = drawn(*shape)
        for norm in ("input", "post_attention"):
            made[f"model.layers.{layer}.{norm}_layernorm.weight"] = torch.ones(HIDDEN, dtype=dtype)
    return made


def moved(tensors: Tensors, match: str = "gate_proj", by: float = 0.1) -> Tensors:
    """The same with noise on the tensors whose names hold `match`."""
    random = torch.Generator().manual_seed(9)
    return {
        name: value + by * torch.randn(value.shape, generator=random).to(value.dtype)
        if match in name
        else value.clone()
        for name, value in tensors.items()
    }


def renamed(tensors: Tensors, change: Callable[[str], str]) -> Tensors:
    """The same under other names."""
    return {change(name): value for name, value in tensors.items()}


def model(
    folder: Path, tensors: Tensors, config: dict[str, Any] | None = None, **more: Any
) -> Path:
    """A folder of a safetensors file and a config.json; `more` is added to the configuration."""
    folder.mkdir(parents=True)
    save_file(
        {name: one.contiguous().clone() for name, one in tensors.items()},
        folder / "model.safetensors",
    )
    settings = (CONFIG if config is None else config) | more
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def lora(modules: tuple[str, ...] = ("self_attn.q_proj", "self_attn.v_proj")) -> Tensors:
    """Factors of rank 2 as peft saves them."""
    random = torch.Generator().manual_seed(3)
    made = {}
    for layer in range(LAYERS):
        for module in modules:
            stem = f"base_model.model.model.layers.{layer}.{module}"
            rows, columns = SHAPES[module]
            made[f"{stem}.lora_A.weight"] = torch.randn(2, columns, generator=random)
            made[f"{stem}.lora_B.weight"] = torch.randn(rows, 2, generator=random)
    return made


def adapter(folder: Path, tensors: Tensors, **config: Any) -> Path:
    """A peft adapter's folder."""
    folder.mkdir(parents=True)
    save_file(
        {name: one.contiguous() for name, one in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps(PEFT | config), encoding="utf-8")
    return folder
