"""Files of trained tensors as AffectGPT and Emotion-LLaMA save them: LoRA factors and a bridge.

The released code loads such a file without a check, so a renamed tensor is silently not loaded.
Here every expected tensor has to be there exactly once, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.adapter_settings import find_nested
from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.bridge_files import (
    BRIDGE,
    INITIAL,
    StoredBridge,
    has_bridge,
    read_bridge,
)
from affectlocus.checkpoints.bridge_layouts import (
    HIDDEN,
    LAYOUTS,
    BridgeLayout,
    description,
    sizes,
    visual_media,
)
from affectlocus.checkpoints.tensor_files import Tensors
from affectlocus.core.errors import InputError, shortened
from affectlocus.core.projections import PROJECTIONS, ModuleSet, parse_modules

_MODEL = "llama_model.base_model.model.model.layers."
_LAYER = re.compile(re.escape(_MODEL) + r"(\d{1,4})\.")
_BLOCKS = dict.fromkeys("qkvo", "self_attn") | dict.fromkeys(("gate", "up", "down"), "mlp")
# Buffers that models compute themselves; old versions of transformers save them.
_BUFFERS = re.compile(r"(?:.+\.)?(?:rotary_emb\.inv_freq|position_ids)")
_LISTED = 8  # tensors of one kind that a message names
_COMPARED = 100  # tensors; with more, the file is of another system, and nothing was renamed


def bridge_kind(names: Collection[str]) -> str | None:
    """The kind of bridge that most of the tensors belong to; None if none does."""
    counts = {kind: len(set(names) & set(one.tensors)) for kind, one in LAYOUTS.items()}
    best = max(counts, key=lambda kind: counts[kind])
    return best if counts[best] else None


def released_bridge(
    file: Path,
    kind: str | None = None,
    modules: str | None = None,
    layers: int | None = None,
    visual: str | None = None,
) -> StoredBridge:
    """The bridge in a file of trained tensors, after a check of all its keys.

    Args:
        kind: the kind of bridge that is expected; by default, the one of the file's tensors.
        modules: the module set with LoRA factors; by default, the one of the released system.
        layers: the number of the base's layers; by default, those that occur in the file.
        visual: the medium that AffectGPT sees, `face` or `frame`; by default, what the training's
            configuration in the file says, or else `face`.

    Raises:
        InputError: the file does not have the system's tensors, or two of them contradict each
            other.
    """
    tensors = Tensors([file])
    names = tensors.names()
    found = bridge_kind(names)
    if found is None or (kind is not None and kind != found):
        holds = "no bridge" if found is None else f"the bridge of {LAYOUTS[found].system}"
        wanted = " or ".join(LAYOUTS[one].system for one in LAYOUTS if kind in (None, one))
        raise InputError(
            "bridge.other-kind",
            f"{file}: holds {holds}; expected the tensors of {wanted or kind}",
            file=file,
            found=found,
            expected=kind or list(LAYOUTS),
        )
    layout = LAYOUTS[found]
    adapted = parse_modules(modules) if modules else ModuleSet.of(layout.adapted)
    _check_names(file, layout, adapted, names, layers)
    widths = sizes(layout, file, tensors)
    _check_hidden(file, tensors, adapted, widths[HIDDEN])
    seen = visual_media(find_nested(tensors.extra, "face_or_frame"))
    about_it = description(found, widths, (visual,) if visual else seen)
    return StoredBridge(file, about_it, tensors, layout.tensors)


def stored_bridge(
    checkpoint: Path, kind: str | None = None, stem: str = BRIDGE, modules: str | None = None
) -> StoredBridge:
    """The bridge of a checkpoint: of a folder, or of a file of trained tensors.

    Args:
        kind: the expected kind.
        stem: for a folder, which of its bridges.
        modules: for a file, as in `released_bridge`.

    Raises:
        InputError: no bridge, or one of another kind.
    """
    if checkpoint.is_file():
        return released_bridge(checkpoint, kind, modules)
    found = read_bridge(checkpoint, stem)
    if kind is not None and found.description.kind != kind:
        raise InputError(
            "bridge.other-kind",
            f"{found.path}: holds a bridge of kind {found.description.kind}; expected {kind}",
            file=found.path,
            found=found.description.kind,
            expected=kind,
        )
    return found


def check_bridges(
    tuned: Path,
    kind: str,
    initial: Path | None,
    layers: int,
    tokens: Mapping[str, int] | None = None,
) -> None:
    """Refuses a tuned checkpoint without its bridge, or with one that does not fit.

    Args:
        kind: the kind of bridge of the pair.
        initial: the checkpoint before the tuning, if it is another one.
        layers: the number of the base's layers.
        tokens: the pair's placeholders and their numbers of soft tokens.

    Raises:
        InputError: as `stored_bridge`; or the initial bridge has other sizes, or the tuned one
            other soft tokens.
    """
    if tuned.is_file():
        after = released_bridge(tuned, kind, layers=layers)
    else:
        after = stored_bridge(tuned, kind)
    found = dict(after.description.tokens)
    if tokens is not None and found != dict(tokens):
        raise InputError(
            "bridge.other-soft-tokens",
            f"{after.path}: its bridge has the soft tokens {_counts(found)}, and the pair's "
            f"{_counts(tokens)}; correct tokens of the bridge, or, if AffectGPT saw other pictures "
            "than the file says, convert the file with --visual",
            file=after.path,
            found=found,
            expected=dict(tokens),
        )
    if initial is not None:
        # A folder may hold the bridge before a tuning, or be the state before it.
        stem = INITIAL if has_bridge(initial, INITIAL) else BRIDGE
        check_same_sizes(stored_bridge(initial, kind, stem), after)


def bridges_of(
    source: Path,
    kind: str = "auto",
    modules: str | None = None,
    initial: Path | None = None,
    visual: str | None = None,
) -> dict[str, StoredBridge]:
    """The bridges to convert together with an adapter: `bridge`, and `bridge_initial` if given.

    Args:
        source: the adapter; only a file of trained tensors can hold a bridge.
        kind: a kind of bridge; `auto`: the one whose tensors the file has; `none`: no bridge.
        modules, visual: as in `released_bridge`.
        initial: the checkpoint before training.

    Raises:
        InputError: a bridge is asked for and there is none; or as `released_bridge`.
    """
    found = None
    if kind != "none" and source.is_file():
        found = bridge_kind(Tensors([source]).names()) if kind == "auto" else kind
    if found is None:
        asked = [kind] if kind not in ("auto", "none") else []
        given = {"modules": modules, "initial": initial, "visual": visual}
        asked += [name for name, one in given.items() if one]
        if asked:
            raise InputError(
                "bridge.none-to-convert",
                f"{source}: no bridge to convert, so {' and '.join(asked)} would have no effect; "
                "leave it out",
                file=source,
                found=asked,
            )
        return {}
    tuned = released_bridge(source, found, modules, visual=visual)
    if initial is None:
        return {BRIDGE: tuned}
    start = released_bridge(initial, found, modules, visual=visual)
    check_same_sizes(start, tuned)
    check_untrained(Adapter(initial))
    return {BRIDGE: tuned, INITIAL: start}


def about(bridge: StoredBridge) -> dict[str, Any]:
    """A bridge for the user: its kind, the numbers of its tensors and parameters, and `unused`.

    `unused` are the file's tensors that are neither LoRA factors nor of the bridge, with the
    reasons.
    """
    shapes = [bridge.tensors.shape(name) for name in bridge.names]
    return {
        "kind": bridge.description.kind,
        "tensors": len(shapes),
        "parameters": sum(prod(shape) for shape in shapes),
        "unused": unused_tensors(bridge),
    }


def unused_tensors(bridge: StoredBridge) -> dict[str, str]:
    """Tensor of a released file that is neither a LoRA factor nor of the bridge → the reason."""
    layout = LAYOUTS[bridge.description.kind]
    found = {}
    for name in bridge.tensors.names():
        if _BUFFERS.fullmatch(name):
            found[name] = "a buffer, which models compute"
        elif (why := layout.reason_unused(name)) is not None:
            found[name] = why
    return found


def check_untrained(adapter: Adapter) -> None:
    """Refuses an adapter that changes its base: the initial state of a LoRA has B = 0.

    Raises:
        InputError: a factor B is not zero.
    """
    for factors in adapter.factors.values():
        if np.any(adapter.tensors.stored(factors.b)):
            raise InputError(
                "bridge.not-initial",
                f"{adapter.path}: {factors.b} is not zero, so this checkpoint was trained; "
                "expected the one before training, such as checkpoint_000000_loss_*.pth",
                file=adapter.path,
                tensor=factors.b,
            )


def check_same_sizes(start: StoredBridge, tuned: StoredBridge) -> None:
    """Refuses an initial bridge of other sizes than the tuned one.

    Raises:
        InputError: a tensor has another shape.
    """
    for name in tuned.names:
        found, expected = start.tensors.shape(name), tuned.tensors.shape(name)
        if found != expected:
            raise InputError(
                "bridge.initial-differs",
                f"{start.path}: {name} has shape {found}, and {tuned.path} {expected}; expected "
                "two checkpoints of one training",
                file=start.path,
                tensor=name,
                found=found,
                expected=expected,
            )


def _check_names(
    file: Path,
    layout: BridgeLayout,
    adapted: ModuleSet,
    names: Sequence[str],
    layers: int | None,
) -> None:
    """Refuses a file whose tensors are not those of its system, each once."""
    expected = {*layout.tensors, *_lora_names(adapted, names, layers)}
    missing = sorted(expected - set(names))
    extra = [
        name
        for name in names
        if name not in expected
        and not _BUFFERS.fullmatch(name)
        and layout.reason_unused(name) is None
    ]
    if not missing and not extra:
        return
    renamed = _renamed(missing, extra)
    parts = [
        _listed("missing", [name for name in missing if name not in renamed]),
        _listed("probably renamed", [f"{old} (to {new})" for old, new in renamed.items()]),
        _listed("not expected", [name for name in extra if name not in renamed.values()]),
    ]
    raise InputError(
        "bridge.other-tensors",
        f"{file}: does not hold the {len(expected)} tensors of {layout.system}, each once: "
        f"{'; '.join(filter(None, parts))}. Fetch the file again; if LoRA was on other modules "
        f"than {adapted}, name them (affectlocus convert --modules); if the recipe was another "
        "one, convert the adapter alone (affectlocus convert --bridge none)",
        file=file,
        modules=str(adapted),
        missing=[name for name in missing if name not in renamed],
        renamed=renamed,
        unexpected=[name for name in extra if name not in renamed.values()],
    )


def _lora_names(adapted: ModuleSet, names: Sequence[str], layers: int | None) -> list[str]:
    """The names of all LoRA factors: of each adapted projection in the layers up to the last."""
    if layers is None:
        there = {int(found[1]) for name in names if (found := _LAYER.match(name))}
        # A number in a name may be wrong.
        layers = 1 + max((layer for layer in there if layer < len(names)), default=0)
    leaf = "default.weight" if any(".default." in name for name in names) else "weight"
    return [
        f"{_MODEL}{layer}.{_BLOCKS[one]}.{one}_proj.lora_{factor}.{leaf}"
        for layer in range(layers)
        for one in PROJECTIONS
        if adapted.contains(layer, one)
        for factor in "AB"
    ]


def _renamed(missing: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """Missing tensor → the unexpected one that resembles it most; each is used once."""
    left, found = [name for name in extra if len(name) < 200], {}
    few = max(len(missing), len(extra)) <= _COMPARED
    for name in missing if few else ():
        close = get_close_matches(name, left, n=1, cutoff=0.8)
        if close:
            found[name] = close[0]
            left.remove(close[0])
    return found


def _counts(tokens: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in tokens.items())


def _listed(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    shown = ", ".join(shortened(name, 240) for name in names[:_LISTED])
    return f"{what}: {shown}{more}"


def _check_hidden(file: Path, tensors: Tensors, adapted: ModuleSet, hidden: int) -> None:
    """Refuses a bridge into embeddings of another width than that of the language model."""
    one = adapted.projections[0]
    writes = one in ("o", "down")  # they write into the hidden state; the others read it
    part = f".{one}_proj.lora_{'B' if writes else 'A'}."
    factor = next(name for name in tensors.names() if part in name)
    width = tensors.shape(factor)[0 if writes else -1]
    if width != hidden:
        raise InputError(
            "bridge.other-width",
            f"{file}: {factor} has shape {tensors.shape(factor)}, of a language model of width "
            f"{width}, and the bridge makes vectors of width {hidden}; they belong to two models: "
            "fetch the file again",
            file=file,
            tensor=factor,
            found=hidden,
            expected=width,
        )
