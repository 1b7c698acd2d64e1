"""Command `convert`: an adapter in another layout as a PEFT directory that peft loads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from affectlocus.checkpoints.adapters import CONFIG, PEFT, Adapter
from affectlocus.core.errors import InputError
from affectlocus.core.files import write_json
from affectlocus.core.output_files import check_output, check_outside_inputs, replacing


def convert(adapter: Adapter, out: Path, base_name: str | None = None) -> dict[str, Any]:
    """Writes an adapter's low-rank factors as peft saves them.

    Args:
        out: the folder; replaced whole, if it is empty or was written so before.
        base_name: what `base_model_name_or_path` is to say; by default what the adapter says.

    Returns:
        `modules` converted, their `rank` and `alpha`, and `other`: the trained tensors that are no
        LoRA factors, which a PEFT directory has no place for.

    Raises:
        InputError: no low-rank factors in it; an output that would take somebody's files away.
    """
    check_outside_inputs(out, adapter.path)
    check_output(out, "convert", inputs=[adapter.path])
    if not adapter.factors:
        raise InputError(
            f"{adapter.path}: no LoRA factors in it; expected lora_A and lora_B tensors"
        )
    tensors, ranks, alphas = {}, {}, {}
    for module, factors in adapter.factors.items():
        a, b = (adapter.tensors.stored(name) for name in (factors.a, factors.b))
        if factors.layout.startswith("mlx"):
            a, b = a.T, b.T
        if factors.latent is not None:  # LoRA-XS: peft has B·R for B
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
        "rank_pattern": {module: one for module, one in ranks.items() if one != rank},
        "alpha_pattern": {module: one for module, one in alphas.items() if one != alpha},
        "target_modules": sorted(adapter.factors),
        "use_dora": any(one.magnitude is not None for one in adapter.factors.values()),
        "lora_bias": any(one.bias is not None for one in adapter.factors.values()),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    with replacing(out, "convert") as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / f"{PEFT}.safetensors", metadata={"format": "pt"})
        write_json(temporary / CONFIG, config)
    return {"modules": len(adapter.factors), "rank": rank, "alpha": alpha, "other": adapter.whole}
