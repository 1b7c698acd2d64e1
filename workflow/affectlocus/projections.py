"""The seven projections of a transformer layer, and sets of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from affectlocus.errors import InputError

ATTENTION = ("q", "k", "v", "o")
FFN = ("gate", "up", "down")
PROJECTIONS = ATTENTION + FFN
"""The seven names, in the order in which every table and figure shows them."""

ALL = "all"

# The language model's own layers, whatever wrapper stands in front of them. The same names on
# Qwen2, LLaMA and Mistral; a fused or renamed layout needs a map of its own.
_TENSOR = re.compile(
    r"(?:^|\.)layers\.(?P<layer>\d+)\.(?:self_attn\.(?P<attention>[qkvo])|mlp\.(?P<ffn>gate|up|down))"
    r"_proj\.(?P<parameter>weight|bias)$"
)

# A multimodal model's encoders have layers of the same names; they are not the language model.
_OTHER_TOWERS = frozenset(
    ("vision_tower", "vision_model", "visual", "image_encoder", "audio_tower", "audio_model")
)


@dataclass(frozen=True, order=True)
class Location:
    """Where a tensor stands: layer (from 0), projection, and `weight` or `bias`."""

    layer: int
    projection: str
    parameter: str


def locate(tensor_name: str) -> Location | None:
    """The location of a tensor by its name in a checkpoint; None outside the seven projections."""
    match = _TENSOR.search(tensor_name)
    if match is None or not _OTHER_TOWERS.isdisjoint(tensor_name[: match.start()].split(".")):
        return None
    return Location(
        layer=int(match["layer"]),
        projection=match["attention"] or match["ffn"],
        parameter=match["parameter"],
    )


def parse_modules(text: str) -> tuple[str, ...]:
    """The projections of a module set such as `q+k+v+o+gate` or `all`, in canonical order.

    Raises:
        InputError: an unknown projection, one named twice, or an empty set.
    """
    if text == ALL:
        return PROJECTIONS
    names = text.split("+")
    for name in names:
        if name not in PROJECTIONS:
            raise InputError(
                f"unknown projection {name!r} in module set {text!r}; "
                f"expected {', '.join(PROJECTIONS)} joined by '+', or 'all'"
            )
    if len(set(names)) != len(names):
        raise InputError(f"module set {text!r} names a projection twice; name each once")
    return tuple(name for name in PROJECTIONS if name in names)


def format_modules(projections: tuple[str, ...] | list[str]) -> str:
    """The canonical text of a set of projections: `all` for the seven."""
    ordered = [name for name in PROJECTIONS if name in projections]
    return ALL if len(ordered) == len(PROJECTIONS) else "+".join(ordered)
