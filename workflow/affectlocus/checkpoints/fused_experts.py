"""Split the fused experts of a mixture, which are stored in one three-dimensional tensor.

transformers 5 holds all experts of a layer in `gate_up_proj` and `down_proj`. Some models are saved
in this form, others with one tensor per expert. Here gate, up and down of each expert become
matrices (d_out, d_in) with the names of the second form. A matrix is a view; nothing is copied.

Shapes: E experts, H hidden, I intermediate. `gate_up_proj` is (E, 2·I, H) with `down_proj`
(E, H, I), or transposed (E, H, 2·I) with (E, I, H) (Llama 4, gpt-oss, Qwen3-VL-MoE as released).
Gate comes before up; in gpt-oss their rows alternate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.architectures import in_other_tower
from affectlocus.checkpoints.tensor_entries import ExpertView
from affectlocus.checkpoints.tensor_files import Tensors
from affectlocus.core.errors import InputError
from affectlocus.core.model_config import text_config

_FUSED = re.compile(
    r"(?P<stem>(?:.*\.)?layers\.\d+\.(?:.+\.)?experts)\.(?P<kind>gate_up_proj|down_proj)"
    r"(?P<bias>_bias|\.bias)?(?:\.weight)?"
)
# Granite MoE, with the names of its released files.
_GRANITE = re.compile(
    r"(?P<stem>(?:.*\.)?layers\.\d+\.block_sparse_moe)\.(?P<kind>input|output)_linear\.weight"
)
_ALTERNATING = ("gpt_oss",)
_HALVES = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


@dataclass(frozen=True)
class _Tensor:
    """A fused tensor: its stored name, its projections, and whether it holds biases."""

    name: str
    kind: str
    bias: bool


def expert_views(
    shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any] | None, path: Path
) -> dict[str, dict[str, ExpertView]]:
    """Fused tensor → its matrices, by name.

    Args:
        shapes: stored tensor → its shape.
        config: config.json, whose model type decides whether gate and up alternate.
        path: for messages.

    Raises:
        InputError: the shapes of a layer's fused tensors do not fit each other.
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
    found: dict[str, dict[str, ExpertView]] = {}
    for stem, tensors in layers.items():
        if {one.kind for one in tensors if not one.bias} != set(_HALVES):
            continue  # quantised or incomplete, so their layout is unknown
        transposed = _transposed(tensors, shapes, path)
        alternating = _alternating(tensors, config)
        for tensor in tensors:
            found[tensor.name] = _views(tensor, stem, shapes[tensor.name], transposed, alternating)
    return found


def split_experts(tensors: Tensors, config: Mapping[str, Any] | None, path: Path) -> None:
    """Replaces the fused tensors of a checkpoint by their matrices (`expert_views`)."""
    shapes = {name: tensors.shape(name) for name in tensors.names()}
    tensors.replace_by_views(expert_views(shapes, config, path))


def fuse_experts(
    tensors: Mapping[str, np.ndarray],
    fused: Mapping[str, tuple[Sequence[int], Mapping[str, ExpertView]]],
) -> dict[str, np.ndarray]:
    """The tensors with their experts fused again, in the stored layout.

    Args:
        tensors: tensors by the names of `expert_views`; other tensors are returned unchanged.
        fused: fused tensor → its shape and its matrices.
    """
    made = dict(tensors)
    for name, (shape, parts) in fused.items():
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
        "model.experts-do-not-fit",
        f"{path}: {weights['gate_up_proj']} has shape {up} and {weights['down_proj']} {down}; "
        "expected (E, 2·I, H) and (E, H, I), or (E, H, 2·I) and (E, I, H)",
        file=path,
        tensor=weights["gate_up_proj"],
        found=(up, down),
    )


def alternates(config: Mapping[str, Any] | None) -> bool | None:
    """Whether rows of gate and up alternate, as in gpt-oss; None if config.json has no type."""
    types = [each.get("model_type") for each in (config or {}, text_config(config))]
    named = [one for one in types if isinstance(one, str)]
    return any(one.startswith(_ALTERNATING) for one in named) if named else None


def _alternating(tensors: Sequence[_Tensor], config: Mapping[str, Any] | None) -> bool:
    """Whether the rows of gate and up alternate in a layer's tensors."""
    known = alternates(config)
    # Without a type: of the models that are read, only gpt-oss has experts with biases.
    return any(one.bias for one in tensors) if known is None else known


def _views(
    tensor: _Tensor, stem: str, shape: Sequence[int], transposed: bool, alternating: bool
) -> dict[str, ExpertView]:
    axis = 1 if tensor.bias or not transposed else 2
    halves = _HALVES[tensor.kind]
    rows = shape[axis] // len(halves)
    parameter = "bias" if tensor.bias else "weight"
    found = {}
    for expert in range(shape[0]):
        for number, half in enumerate(halves):
            start, step = (number, len(halves)) if alternating else (number * rows, 1)
            found[f"{stem}.{expert}.{half}.{parameter}"] = ExpertView(
                expert, axis, start, step, rows
            )
    return found
