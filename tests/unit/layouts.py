"""The same weights in other layouts: fused, wrapped, pickled, as trained tensors only, as MLX's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

SEEN, HEARD, FUSED = 6, 10, 10
"""Widths of tiny media, and of AffectGPT's fusion."""


def affectgpt_parts(hidden: int) -> dict[str, tuple[int, int]]:
    """AffectGPT's other saved parts: linear map → its input and output."""
    return {
        "image_llama_proj": (SEEN, hidden),
        "affectgpt_proj": (SEEN, hidden),
        "audio_llama_proj": (HEARD, hidden),
        "multi_llama_proj": (FUSED, hidden),
        "multi_audio_embs": (HEARD, FUSED),
        "multi_video_embs": (SEEN, FUSED),
        "attention_mlp": (2 * FUSED, FUSED),
        "fc_att": (FUSED, 2),
        "video_attention_mlp": (SEEN, 1),
        "audio_attention_mlp": (HEARD, 1),
    }


def emotion_llama_parts(hidden: int) -> dict[str, tuple[int, int]]:
    """Emotion-LLaMA's other saved parts: linear map → its input and output."""
    return {
        "llama_proj": (4 * SEEN, hidden),
        "feats_llama_proj1": (HEARD, hidden),
        "feats_llama_proj2": (HEARD, hidden),
        "feats_llama_proj3": (HEARD, hidden),
        "cls_tk_llama_proj": (SEEN, hidden),
    }


OTHERS = tuple(affectgpt_parts(1))
"""AffectGPT's other saved parts, by name."""


def read(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """All tensors of a safetensors folder, and its configuration."""
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    name = "config.json" if (folder / "config.json").is_file() else "adapter_config.json"
    return tensors, json.loads((folder / name).read_text(encoding="utf-8"))


def write(tensors: Tensors, folder: Path, config: dict[str, Any]) -> Path:
    """A model's folder: safetensors and config.json."""
    folder.mkdir(parents=True)
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _layers(tensors: Tensors) -> Iterable[int]:
    return sorted({int(name.split(".")[2]) for name in tensors if name.startswith("model.layers.")})


def phi3(folder: Path, out: Path) -> Path:
    """q, k and v above each other, and gate above up."""
    tensors, config = read(folder)
    for layer in _layers(tensors):
        for block, fused, names in (
            ("self_attn", "qkv_proj", ("q_proj", "k_proj", "v_proj")),
            ("mlp", "gate_up_proj", ("gate_proj", "up_proj")),
        ):
            stem = f"model.layers.{layer}.{block}."
            tensors[f"{stem}{fused}.weight"] = torch.cat(
                [tensors.pop(f"{stem}{name}.weight") for name in names]
            )
    return write(
        tensors, out, config | {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}
    )


def internlm2(folder: Path, out: Path) -> Path:
    """Per key-value head its query heads, its key and its value; w1, w3, w2 for the FFN."""
    tensors, config = read(folder)
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    width = tensors["model.layers.0.self_attn.q_proj.weight"].shape[0] // heads
    for layer in _layers(tensors):
        stem = f"model.layers.{layer}."
        q, k, v = (tensors.pop(f"{stem}self_attn.{name}_proj.weight") for name in "qkv")
        hidden = q.shape[1]
        groups = [
            q.view(shared, heads // shared, width, hidden),
            k.view(shared, 1, width, hidden),
            v.view(shared, 1, width, hidden),
        ]
        tensors[f"{stem}attention.wqkv.weight"] = torch.cat(groups, dim=1).reshape(-1, hidden)
        for old, new in (
            ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("mlp.down_proj", "feed_forward.w2"),
        ):
            tensors[f"{stem}{new}.weight"] = tensors.pop(f"{stem}{old}.weight")
    return write(tensors, out, config | {"model_type": "internlm2"})


def wrapped(folder: Path, out: Path, prefix: str = "language_model.") -> Path:
    """Inside a multimodal model, beside an encoder whose layers have the same names."""
    tensors, config = read(folder)
    inner = {f"{prefix}{name}": value for name, value in tensors.items()}
    generator = torch.Generator().manual_seed(len(str(out)))
    for part in ("self_attn.q_proj", "mlp.gate_proj"):
        inner[f"vision_tower.encoder.layers.0.{part}.weight"] = torch.randn(
            (4, 4), generator=generator
        )
    return write(inner, out, {"model_type": "wrapper", "text_config": config})


def pickled(folder: Path, out: Path, key: str | None = None) -> Path:
    """A .bin or .pth file of the same tensors, below `key` where one is given."""
    tensors, _ = read(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({key: tensors, "epoch": 3} if key else tensors, out)
    return out


def trained_only(
    adapter: Path,
    out: Path,
    config: dict[str, Any] | None = None,
    parts: Callable[[int], dict[str, tuple[int, int]]] = affectgpt_parts,
    change: Callable[[Tensors], Any] = lambda _: None,
    seed: int = 0,
) -> Path:
    """A peft adapter as AffectGPT and MiniGPT-4 save one, with all its other saved parts.

    `change` is called with the tensors before they are saved.
    """
    tensors, _ = read(adapter)
    model = {
        f"llama_model.{name.replace('.weight', '.default.weight')}": value
        for name, value in tensors.items()
    }
    hidden = next(
        value.shape[0] if "lora_B" in name else value.shape[1]
        for name, value in tensors.items()
        if ("lora_B" in name) == ("down_proj" in name or "o_proj" in name)
    )
    random = torch.Generator().manual_seed(seed)
    for part, (inputs, outputs) in parts(hidden).items():
        model[f"{part}.weight"] = torch.randn(outputs, inputs, generator=random) / inputs**0.5
        model[f"{part}.bias"] = torch.randn(outputs, generator=random)
    change(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "model": model,
            "optimizer": {
                "state": {0: {"exp_avg": torch.zeros(4)}},
                "param_groups": [{"lr": 1e-5}],
            },
            "config": config or {},
            "scaler": {"scale": 65536.0},
            "epoch": 30,
        },
        out,
    )
    return out


def mlx(adapter: Path, out: Path) -> Path:
    """A peft adapter in MLX's layout: factors from the right, one scale."""
    tensors, config = read(adapter)
    found = {}
    for name, value in tensors.items():
        plain = name.removeprefix("base_model.model.").removesuffix(".weight")
        found[plain.replace(".lora_A", ".lora_a").replace(".lora_B", ".lora_b")] = value.T
    out.mkdir(parents=True)
    save_file(
        {name: value.contiguous() for name, value in found.items()}, out / "adapters.safetensors"
    )
    scale = config["lora_alpha"] / config["r"]
    recipe = {"rank": config["r"], "scale": scale, "dropout": 0.0}
    (out / "adapter_config.json").write_text(
        json.dumps({"fine_tune_type": "lora", "lora_parameters": recipe, "model": None}),
        encoding="utf-8",
    )
    return out


def mixtral(folder: Path, out: Path, experts: int = 3) -> Path:
    """Several experts in place of each FFN: the first is the plain one, the rest its multiples."""
    tensors, config = read(folder)
    for layer in _layers(tensors):
        stem = f"model.layers.{layer}."
        for old, new in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
            value = tensors.pop(f"{stem}mlp.{old}_proj.weight")
            for expert in range(experts):
                name = f"{stem}block_sparse_moe.experts.{expert}.{new}.weight"
                tensors[name] = value * (expert + 1)
    return write(tensors, out, config | {"model_type": "mixtral"})
