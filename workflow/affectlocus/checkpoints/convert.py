"""Command `convert`: write an adapter of another layout as a PEFT directory that peft loads.

The bridge of a file of trained tensors is written next to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.adapters import PEFT, Adapter
from affectlocus.checkpoints.bridge_files import StoredBridge, write_bridge
from affectlocus.checkpoints.released_files import about
from affectlocus.core.errors import InputError
from affectlocus.core.files import write_json
from affectlocus.core.output_files import check_output, check_outside_inputs, replacing


def convert(
    adapter: Adapter,
    out: Path,
    base_name: str | None = None,
    bridges: Mapping[str, StoredBridge] | None = None,
) -> dict[str, Any]:
    """Writes an adapter's low-rank factors in the layout of peft.

    Args:
        out: the folder. An empty folder, or one that this command wrote, is replaced.
        base_name: the value of `base_model_name_or_path`; by default the adapter's.
        bridges: `bridge` or `bridge_initial` → the bridge to write under this name.

    Returns:
        The number of converted `modules`, their `rank` and `alpha`, and `other`: the trained
        tensors that are neither LoRA factors nor of a bridge, which are not converted. Of each
        bridge, by its name, what `released_files.about` says.

    Raises:
        InputError: the adapter has no low-rank factors; or the output would replace other files.
    """
    bridges = bridges or {}
    inputs = {adapter.path, *(one.path for one in bridges.values())}
    check_outside_inputs(out, *inputs)
    check_output(out, "convert", inputs=inputs)
    if not adapter.factors:
        raise InputError(
            "adapter.no-factors",
            f"{adapter.path}: no LoRA factors in it; expected lora_A and lora_B tensors",
            file=adapter.path,
        )
    tensors, ranks, alphas = {}, {}, {}
    for module, factors in adapter.factors.items():
        a, b = (adapter.tensors.stored(name) for name in (factors.a, factors.b))
        if factors.layout.startswith("mlx"):
            a, b = a.T, b.T
        if factors.latent is not None:  # LoRA-XS: B·R is peft's B
            latent = adapter.tensors.array(factors.latent)
            b = (b.astype(np.float64) @ latent).astype(np.float32)
        kind = "lora_embedding_{}" if "embedding" in factors.layout else "lora_{}.weight"
        stem = f"base_model.model.{module}."
        tensors[stem + kind.format("A")] = np.ascontiguousarray(a)
        tensors[stem + kind.format("B")] = np.ascontiguousarray(b)
        if factors.magnitude is not None:
            magnitude = adapter.tensors.stored(factors.magnitude)
            tensors[stem + "lora_magnitude_vector"] = magnitude.reshape(-1)
        if factors.bias is not None:
            tensors[stem + "lora_B.bias"] = adapter.tensors.stored(factors.bias)
        ranks[module] = adapter.rank(module)
        alphas[module] = adapter.scaling(module) * ranks[module]
    rank, alpha = (Counter(found.values()).most_common(1)[0][0] for found in (ranks, alphas))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name or adapter.base_name,
        "r": rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "rank_pattern": {module: r for module, r in ranks.items() if r != rank},
        "alpha_pattern": {module: a for module, a in alphas.items() if a != alpha},
        "target_modules": sorted(adapter.factors),
        "use_dora": any(factors.magnitude is not None for factors in adapter.factors.values()),
        "lora_bias": any(factors.bias is not None for factors in adapter.factors.values()),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    with replacing(out, "convert") as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / f"{PEFT}.safetensors", metadata={"format": "pt"})
        write_json(temporary / CONFIG, config)
        for stem, bridge in bridges.items():
            write_bridge(temporary, bridge.description, bridge.read(), stem)
    converted = {name for bridge in bridges.values() for name in bridge.names}
    other = [name for name in adapter.whole if name not in converted]
    found = {"modules": len(adapter.factors), "rank": rank, "alpha": alpha, "other": other}
    return found | {stem: about(bridge) for stem, bridge in bridges.items()}
