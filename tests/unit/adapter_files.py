"""Small bases and adapters written by hand, which no library would save so, or not as fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import layouts
import torch
from safetensors.torch import save_file

SHAPES = {
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (16, 32),
    "self_attn.v_proj": (16, 32),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (48, 32),
    "mlp.up_proj": (48, 32),
    "mlp.down_proj": (32, 48),
}
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def base(folder: Path, prefix: str = "model.", tied: bool = False, **more: Any) -> Path:
    """A base of two layers with the seven projections each, embeddings and a norm."""
    tensors = {
        f"{prefix}layers.{layer}.{module}.weight": numbers(*shape, seed=layer)
        for layer in (0, 1)
        for module, shape in SHAPES.items()
    }
    tensors[f"{prefix}embed_tokens.weight"] = numbers(20, 32)
    tensors[f"{prefix}norm.weight"] = numbers(32)
    if not tied:
        tensors["lm_head.weight"] = numbers(20, 32, seed=1)
    return layouts.write(tensors, folder, {"tie_word_embeddings": tied, **more})


def factors(stem: str, shape: tuple[int, int], r: int = 2, seed: int = 0) -> layouts.Tensors:
    """lora_A and lora_B of one module."""
    return {
        f"{stem}.lora_A.weight": numbers(r, shape[1], seed=seed),
        f"{stem}.lora_B.weight": numbers(shape[0], r, seed=seed + 1),
    }


def on_layers(prefix: str, *modules: str, layers=(0, 1), **options: int) -> layouts.Tensors:
    """Factors of modules of the seven projections, in peft's wrapper."""
    found = {}
    for layer in layers:
        for module in modules:
            stem = f"base_model.model.{prefix}layers.{layer}.{module}"
            found |= factors(stem, SHAPES[module], **options)
    return found


def peft_folder(folder: Path, tensors: layouts.Tensors, **config: Any) -> Path:
    """A peft directory of these tensors."""
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")
    return folder


def mlx_folder(folder: Path, tensors: layouts.Tensors, config: dict[str, Any]) -> Path:
    """A directory of MLX's: adapters.safetensors and the settings as given."""
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        folder / "adapters.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
