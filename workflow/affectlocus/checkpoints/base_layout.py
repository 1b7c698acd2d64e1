"""Decide from an adapter alone whether its base has the seven projections.

The sources are, in this order: a copy of the base's config.json, the base's name in the adapter's
settings, and the names of the adapted modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.architectures import in_other_tower, place
from affectlocus.checkpoints.name_alignment import split_layer
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_data_file, read_json
from affectlocus.core.model_config import text_config
from affectlocus.core.projections import PROJECTIONS

Layout = Literal["seven", "no gate", "latent", "no attention", "two stacks", "other"]

WHY: dict[Layout, str] = {
    "no gate": "has no gate in its feed-forward block",
    "latent": "has latent attention: k and v are in kv_b_proj, which is not measured",
    "no attention": "has no attention, so there are no q, k, v and o",
    "two stacks": "has two stacks of layers with the same numbers",
    "other": "has other modules than q, k, v, o, gate, up and down",
}
_KNOWN = read_data_file(Path(__file__).with_name("known_names.yaml"))
_TYPES: dict[str, Layout] = {
    name: kind for kind, names in _KNOWN["model_types"].items() for name in names
}
_BLOCK = re.compile(r"(?:^|.*\.)(?:layers|h|block|blocks)\.\d+\.(?P<module>.+)")
_OTHER_MODULES = re.compile(r"router|(?:^|\.)gate$|shared_expert_gate|norm|linear_attn|mamba|conv")


def unknown_projections(adapter: Adapter) -> list[str]:
    """The projections that have no factors and that the base may not have.

    Raises:
        InputError: the base is known to lack some of the seven projections, or to store them
            elsewhere.
    """
    held = _adapted_projections(adapter)
    kind, source = _declared_kind(adapter)
    # The adapter's modules count for more than the base's name.
    if (kind == "no gate" and "gate" in held) or (kind == "latent" and held & {"k", "v"}):
        kind = None
    if kind is not None and kind != "seven":
        raise InputError(
            "adapter.other-layout",
            f"{adapter.path}: its base ({source}) {WHY[kind]}; expected an adapter of a model "
            "with q, k, v, o, gate, up and down",
            file=adapter.path,
            found=kind,
            source=source,
        )
    unknown = _unknown_modules(adapter)
    for pattern, found in _KNOWN["module_names"]:
        for module in unknown:
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                raise InputError(
                    "adapter.other-layout",
                    f"{adapter.path}: it adapts {module}, so its base {WHY[found]}; expected an "
                    "adapter of a model with q, k, v, o, gate, up and down",
                    file=adapter.path,
                    found=found,
                    module=module,
                )
    doubtful: set[str] = set()
    # A block with an unknown module may store its projections there.
    odd = {
        block: any(word in module for module in unknown for word in words)
        for block, words in (("attention", ("attn", "attention")), ("mlp", ("mlp", "feed")))
    }
    standard = {"attention": bool(held & {"k", "v"}), "mlp": "gate" in held}
    if odd["attention"] or not (kind or standard["attention"]):
        doubtful |= set("qkv")
    if odd["attention"] or not (kind or all(standard.values())):
        doubtful |= {"o"}
    if odd["mlp"] or not (kind or standard["mlp"]):
        doubtful |= {"gate", "up", "down"}
    return [name for name in PROJECTIONS if name in doubtful - held]


def _adapted_projections(adapter: Adapter) -> set[str]:
    """The projections for which the adapter has factors."""
    return {
        name
        for module in adapter.factors
        if (found := place(f"{module}.weight")) is not None
        for name in found.module.projections
    }


def model_type(adapter: Adapter) -> str | None:
    """The base's model_type, from a config.json in the folder of the adapter or of its base."""
    return language_model_type(_base_config(adapter))


def language_model_type(config: Any) -> str | None:
    """The model_type in a config.json; for a multimodal model, that of its language model."""
    if not isinstance(config, dict):
        return None
    inner = text_config(config).get("model_type")
    found = inner if isinstance(inner, str) else config.get("model_type")
    return found if isinstance(found, str) else None


def declared_layout(config: Mapping[str, Any] | None) -> Layout | None:
    """The layout of the model type in a config.json; None if the type is not known."""
    return _TYPES.get(language_model_type(config) or "")


def _base_config(adapter: Adapter) -> dict[str, Any]:
    folders = [adapter.path] if adapter.path.is_dir() else []
    if adapter.base_name:
        folders.append(Path(adapter.base_name))
    for folder in folders:
        try:
            config = read_json(folder / "config.json")
        except (InputError, OSError, ValueError):
            continue
        if isinstance(config, dict):
            return config
    return {}


def _declared_kind(adapter: Adapter) -> tuple[Layout | None, str]:
    """The base's kind from a config.json or from its name, and the source for messages."""
    found = model_type(adapter)
    if found is not None and found in _TYPES:
        return _TYPES[found], f"model_type {found!r} in config.json"
    name = (adapter.base_name or "").replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    for pattern, kind in _KNOWN["base_names"]:
        if name and re.search(pattern, name):
            return kind, f"{adapter.base_name!r} in {CONFIG}"
    return None, ""


def _unknown_modules(adapter: Adapter) -> list[str]:
    """The adapted modules inside layers that hold none of the seven projections."""
    located = {
        split_layer(module)[0]
        for module in adapter.factors
        if place(f"{module}.weight") is not None
    }
    return sorted(
        {
            name
            for name in _layer_modules(adapter.factors, located)
            if not _OTHER_MODULES.search(name)
        }
    )


def _layer_modules(modules: Iterable[str], located: set[str]) -> Iterable[str]:
    for module in modules:
        if in_other_tower(module) or place(f"{module}.weight") is not None:
            continue
        if located and split_layer(module)[0] not in located:
            continue
        if (match := _BLOCK.fullmatch(module)) is not None:
            yield match["module"]
