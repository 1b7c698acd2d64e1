"""Refuse a model that lacks some of the seven projections, and name what is not measured.

A module with an unknown name must not count as "not adapted", so a model is refused unless every
projection is known in some of its layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from affectlocus.checkpoints.base_layout import WHY, declared_layout, language_model_type
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.errors import InputError
from affectlocus.core.model_config import language_model_config
from affectlocus.core.phrases import in_words

# The first matrix of a feed-forward block that has two.
_UNGATED = re.compile(r"(?:.*\.)?(?:fc1|fc_in|c_fc|dense_h_to_4h|linear1|lin1|wi|up_proj)")
_LATENT = re.compile(r"(?:.*\.)?(?:kv_b_proj|kv_a_proj_with_mqa|kv_a_proj)")
_EXPECTED = "expected a model with q, k, v, o, gate, up and down"

# What a layer has in place of attention, by the name of a module in it.
_IN_PLACE = {
    "linear_attn": "linear attention",
    "mamba": "a Mamba block",
    "conv": "a short convolution",
    "cross_attn": "cross attention",
    "rg_lru": "a linear recurrent unit",
}


def check_projections(base: Weights) -> list[str]:
    """Refuses a model without a known module for a projection.

    Returns:
        Sentences: which projections are not measured in some layers, and a q that holds a gate.

    Raises:
        InputError: a projection is known in no layer.
    """
    kind = declared_layout(base.config)
    if kind == "latent" and base.projections:
        # Its other layers may have attention of another kind, whose matrices have the same names.
        raise _of_type(base, kind)
    if not base.projections or not base.unread:
        return _gated_queries(base)
    layers = {location.layer for location in base.projections}
    nowhere = [name for name, missing in base.unread.items() if set(missing) == layers]
    if nowhere:
        raise _without_projections(base, nowhere)
    return [*_partly_unread(base, len(layers)), *_gated_queries(base)]


def no_projections(base: Weights) -> InputError:
    """The refusal of a model none of whose tensors is known."""
    names = base.names()
    kind = declared_layout(base.config)
    if kind not in (None, "seven"):
        return _of_type(base, kind)
    if any("c_attn" in name for name in names):
        return InputError(
            "model.no-gate",
            f"{base.path}: GPT-2's layers (c_attn, c_fc) have no gated feed-forward block, so "
            "there is no gate to compare; expected a model with gate, up and down projections",
            file=base.path,
            found=["gate"],
        )
    return InputError(
        "model.no-projections",
        f"{base.path}: none of its tensors is a q, k, v, o, gate, up or down projection of a layer "
        f"(the first is {names[0]}); expected the names of Qwen, LLaMA, Mistral, Gemma, Phi-3 or "
        "InternLM2",
        file=base.path,
        found=names[0],
    )


def _of_type(base: Weights, kind: Any) -> InputError:
    model_type = language_model_type(base.config)
    message = f"{base.path}: model_type {model_type!r} {WHY[kind]}; {_EXPECTED}"
    if kind == "no gate":
        return InputError("model.no-gate", message, file=base.path, found=model_type)
    if kind == "latent":
        return InputError("model.latent-attention", message, file=base.path, found=model_type)
    return InputError("model.other-layout", message, file=base.path, found=model_type)


def _partly_unread(base: Weights, count: int) -> Iterable[str]:
    shared = language_model_config(base.config).get("num_kv_shared_layers")
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, missing in base.unread.items():
        alike.setdefault(tuple(missing), []).append(name)
    for layers, names in alike.items():
        modules = base.modules(layers[0])
        found = [
            label
            for part, label in _IN_PLACE.items()
            if any(part in name.split(".") for name in modules)
        ]
        if not found and set(layers) <= base.linear_layers:
            found = ["linear attention"]
        if not found and names == ["k", "v"] and shared:
            found = ["the keys and values of an earlier layer"]
        reason = found[0] if found else f"other modules ({', '.join(modules)})"
        verb = "is" if len(names) == 1 else "are"
        yield (
            f"{base.path}: {in_words(names)} {verb} not measured in {len(layers)} of {count} "
            f"layers, as in layer {layers[0]}: there the model has {reason}"
        )


def _gated_queries(base: Weights) -> list[str]:
    """A note if q has twice the rows that the attention's output has columns."""
    found = {
        (place.layer, place.projection): name
        for place, (name, rows) in base.projections.items()
        if place.parameter == "weight" and rows is None
    }
    for (layer, projection), name in found.items():
        output = found.get((layer, "o"))
        if projection == "q" and output is not None:
            if base.shape(name)[0] == 2 * base.shape(output)[1]:
                return [
                    f"{base.path}: {name} holds the query and a gate of the attention's output; "
                    "both are measured as q"
                ]
            return []
    return []


def _without_projections(base: Weights, lacking: list[str]) -> InputError:
    """The refusal of a model without some projections, with a reason from its other modules."""
    kind = declared_layout(base.config)
    if kind not in (None, "seven"):
        return _of_type(base, kind)
    modules = base.modules(min(min(layers) for layers in base.unread.values()))
    problem = (
        f"{base.path}: no {', '.join(lacking)} among the modules of its layers "
        f"({', '.join(modules)})"
    )
    if {"k", "v"} & set(lacking) and (latent := list(filter(_LATENT.fullmatch, modules))):
        joined = " and ".join(sorted({name.rpartition(".")[2] for name in latent}))
        return InputError(
            "model.latent-attention",
            f"{problem}: its attention is latent, and k and v are in {joined}, which is not "
            f"measured; {_EXPECTED}",
            file=base.path,
            found=lacking,
        )
    experts = any("experts" in name for name in modules)
    if "gate" in lacking and not experts and any(map(_UNGATED.fullmatch, modules)):
        return InputError(
            "model.no-gate",
            f"{problem}: its feed-forward block has no gate; {_EXPECTED}",
            file=base.path,
            found=lacking,
        )
    return InputError(
        "model.unknown-layout",
        f"{problem}: its layout is not known; a few lines in "
        "workflow/affectlocus/checkpoints/architectures.py add another layout",
        file=base.path,
        found=lacking,
    )
