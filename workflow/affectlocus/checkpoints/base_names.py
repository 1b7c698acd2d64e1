"""Compare the base that an adapter names with the given base, by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.adapters import Adapter
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_data_file

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CACHED = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>.+)")

# Words with which unsloth, mlx-community and others name quantised copies of a model.
_QUANTISER = (
    r"(?:gptq|awq|gguf|ggml|bnb|exl[23]|dwq|hqq|aqlm|quip|marlin\d*|quanti[sz]ed|nf4|nvfp4|mxfp[48]"
    r"|fp[48]|int[2348]|w\d+a\d+|[2-8][-_]?bits?|(?:ud-)?i?q[2-8](?:_[a-z0-9]+)+|\d(?:\.\d+)?bpw)"
)
_NAMES_QUANTISER = re.compile(rf"(?:^|[-_.]){_QUANTISER}(?=$|[-_.])")
_NAMES_MLX = re.compile(r"(?:^|[-_.])mlx(?=$|[-_.])")
# Such a word as the suffix, with a group size, a date or a kind of scale after it.
_QUANTISED = re.compile(
    rf"[-_.](?:unsloth[-_])?{_QUANTISER}(?:[-_.](?:block|dynamic|g?\d{{2,3}}|\d+g|\d{{6}}))*$"
)
# unsloth's copies with another setting of the positions and the same weights.
_LONGER = re.compile(r"(qwen3-.*)-128k$")
# Suffixes of copies with the same weights in another layout or float precision.
_SAME_WEIGHTS = re.compile(r"[-_.](?:hf|bf16|fp16|unsloth|mlx)$")
_UNSLOTH: dict[str, str] = read_data_file(Path(__file__).with_name("known_names.yaml"))["unsloth"]


def check_base_name(adapter: Adapter, path: Path, config: dict[str, Any] | None) -> list[str]:
    """Refuses a base that is known to be a different model; returns a note if it may be one.

    A base is known by its folder in the cache of the hub, or by the hub id in its config.json. A
    path does not identify a model, since a user's folder may have any name. Many adapters name no
    base.

    Args:
        path: the base's folder or file.
        config: its config.json.

    Raises:
        InputError: both names are hub ids of different models.
    """
    if adapter.base_name is None:
        return []
    named = hub_id(adapter.base_name)
    cached = hub_id(str(path.absolute()))
    own = path.absolute()
    saved = str((config or {}).get("_name_or_path") or "")
    folder = own.stem if own.is_file() else own.name
    given = [cached] if cached else [folder, saved]
    sought = named or adapter.base_name
    if _letters(sought) in {_letters(name) for name in given} - {""}:
        return []
    copied = _NAMES_QUANTISER.search(_last(sought)) is not None
    if _origin(sought) in {_origin(name) for name in given if name}:
        if not copied:
            return []
        return [f"the adapter was trained on {sought}, a quantised copy of the base given, {path}"]
    known = cached or hub_id(saved)
    if named and known:
        mlx = _NAMES_MLX.search(_last(sought)) is not None  # often quantised
        source = "" if cached else f" (as {path / 'config.json'} says)"
        which = (
            "give the unquantised model that it is a copy of" if copied or mlx else "give that one"
        )
        raise InputError(
            "adapter.other-base",
            f"{adapter.path / CONFIG}: its base is {named!r}, not {known}{source}; {which}, or "
            "accept any base (--any-base)",
            file=adapter.path / CONFIG,
            key="base_model_name_or_path",
            found=known,
            expected=named,
        )
    return [
        f"the adapter names {adapter.base_name} as its base; the base given is {path}: the "
        "shapes fit, but the values were not compared"
    ]


def hub_id(name: str) -> str | None:
    """A hub id: the name itself, or from a path into the hub's cache; None for other names."""
    for part in name.replace("\\", "/").split("/"):
        if cached := _CACHED.fullmatch(part):
            return f"{cached['owner']}/{cached['name']}"
    return name if _HUB_ID.fullmatch(name) else None


def _last(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


def _letters(name: str) -> str:
    """The last part of a path or hub id, without case and separators."""
    return re.sub(r"[\W_]", "", _last(name))


def _origin(name: str) -> str:
    """The letters of the original's name, for the names that unsloth and others give to copies."""
    last = _last(name).removeprefix("meta-")
    while (shorter := _SAME_WEIGHTS.sub("", _QUANTISED.sub("", last))) != last:
        last = shorter
    owner = (hub_id(name) or "").lower().startswith("unsloth/")
    letters = re.sub(r"[\W_]", "", _LONGER.sub(r"\1", last) if owner else last)
    return _UNSLOTH.get(letters, letters) if owner else letters
