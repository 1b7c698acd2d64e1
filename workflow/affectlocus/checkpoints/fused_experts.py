"""The experts of a mixture that are stored in one tensor of three dimensions, read one by one.

transformers 5 keeps all experts of a layer as `gate_up_proj` and `down_proj`; some models are saved
so, others by experts. Each expert's gate, up and down become matrices (d_out, d_in) of their own,
by the names that models saved by experts have. Nothing is copied: a matrix is a view.

Shapes: E experts, H hidden, I intermediate. `gate_up_proj` is (E, 2·I, H) with `down_proj`
(E, H, I), or transposed (E, H, 2·I) with (E, I, H) (Llama 4, gpt-oss, Qwen3-VL-MoE as released).
Gate comes first, then up; gpt-oss alternates them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.architectures import in_other_tower
from affectlocus.checkpoints.tensor_files import Cut, Tensors
from affectlocus.core.errors import InputError

_FUSED = re.compile(
    r"(?P<stem>(?:.*\.)?layers\.\d+\.(?:.+\.)?experts)\.(?P<kind>gate_up_proj|down_proj)"
    r"(?P<bias>_bias|\.bias)?(?:\.weight)?"
)
# Granite MoE, by the names of its released files.
_GRANITE = re.compile(
    r"(?P<stem>(?:.*\.)?layers\.\d+\.block_sparse_moe)\.(?P<kind>input|output)_linear\.weight"
)
_ALTERNATING = ("gpt_oss",)
_HALVES = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


@dataclass(frozen=True)
class _Tensor:
    """A fused tensor: its stored name, and whether it holds gate and up, or biases."""

    name: str
    kind: str
    bias: bool


def cuts(
    shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any] | None, path: Path
) -> dict[str, dict[str, Cut]]:
    """Stored tensor → the matrices in it, by the name of each; for fused experts alone.

    Args:
        shapes: stored tensor → its shape.
        config: config.json, which tells whether gate and up alternate.
        path: for messages.

    Raises:
        InputError: fused tensors whose shapes do not fit each other.
    """
    layers: dict[str, list[_Tensor]] = {}
    for name, shape in shapes.items():
        match = _FUSED.fullmatch(name) or _GRANITE.fullmatch(name)
        if match is None or in_other_tower(match["stem"]):
            continue
        bias = bool(match.groupdict().get("bias"))
        if len(shape) != (2 if bias else 3):
            continue
        kind = {"input": "gate_up_proj", "output": "down_proj"}.get(match["kind"], match["kind"])
        stem = match["stem"] if match["stem"].endswith("experts") else f"{match['stem']}.experts"
        layers.setdefault(stem, []).append(_Tensor(name, kind, bias))
    found: dict[str, dict[str, Cut]] = {}
    for stem, tensors in layers.items():
        if {one.kind for one in tensors if not one.bias} != set(_HALVES):
            continue  # quantised, or only some of them: nothing tells how they are stored
        transposed = _transposed(tensors, shapes, path)
        alternating = _alternating(tensors, config)
        for tensor in tensors:
            found[tensor.name] = _of(tensor, stem, shapes[tensor.name], transposed, alternating)
    return found


def split_experts(tensors: Tensors, config: Mapping[str, Any] | None, path: Path) -> None:
    """Replaces the fused experts among a checkpoint's tensors by their matrices (`cuts`)."""
    shapes = {name: tensors.shape(name) for name in tensors.names()}
    tensors.cut(cuts(shapes, config, path))


def joined(
    tensors: Mapping[str, np.ndarray], held: Mapping[str, tuple[Sequence[int], Mapping[str, Cut]]]
) -> dict[str, np.ndarray]:
    """The same tensors with the experts together again, in the layout that they were stored in.

    Args:
        tensors: by the names of `cuts`; others stay as they are.
        held: stored tensor → its shape, and the matrices in it.
    """
    made = dict(tensors)
    for name, (shape, parts) in held.items():
        first = tensors[next(iter(parts))]
        whole = np.empty(tuple(shape), first.dtype)
        for part, cut in parts.items():
            cut.of(whole)[...] = made.pop(part)
        made[name] = whole
    return made


def _transposed(
    tensors: Sequence[_Tensor], shapes: Mapping[str, Sequence[int]], path: Path
) -> bool:
    """Whether a layer's fused matrices are (d_in, d_out)."""
    weights = {one.kind: one.name for one in tensors if not one.bias}
    up, down = (tuple(shapes[weights[kind]]) for kind in ("gate_up_proj", "down_proj"))
    if up[0] == down[0] and up[1] == 2 * down[2] and up[2] == down[1]:
        return False
    if up[0] == down[0] and up[2] == 2 * down[1] and up[1] == down[2]:
        return True
    raise InputError(
        f"{path}: {weights['gate_up_proj']} has shape {up} and {weights['down_proj']} {down}; "
        "expected (E, 2·I, H) and (E, H, I), or (E, H, 2·I) and (E, I, H)"
    )


def _alternating(tensors: Sequence[_Tensor], config: Mapping[str, Any] | None) -> bool:
    """Whether rows of gate and up alternate, as gpt-oss alone has them."""
    told = [(config or {}).get("model_type")]
    text = (config or {}).get("text_config")
    told += [text.get("model_type")] if isinstance(text, dict) else []
    if any(isinstance(one, str) for one in told):
        return any(str(one).startswith(_ALTERNATING) for one in told)
    # Without a configuration: gpt-oss's experts have biases, and no other model's that is read.
    return any(one.bias for one in tensors)


def _of(
    tensor: _Tensor, stem: str, shape: Sequence[int], transposed: bool, alternating: bool
) -> dict[str, Cut]:
    axis = 1 if tensor.bias or not transposed else 2
    halves = _HALVES[tensor.kind]
    rows = shape[axis] // len(halves)
    parameter = "bias" if tensor.bias else "weight"
    found = {}
    for expert in range(shape[0]):
        for number, half in enumerate(halves):
            start, step = (number, len(halves)) if alternating else (number * rows, 1)
            found[f"{stem}.{expert}.{half}.{parameter}"] = Cut(expert, axis, start, step, rows)
    return found
