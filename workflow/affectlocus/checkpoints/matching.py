"""Match the tensors of a whole tuned model with those of its base.

The two may differ in a prefix of their names (`language_model.`, `module.`), in layers for
multi-token prediction, in other parts of a multimodal model, and in their heads. The last three are
outside the seven projections: they are not measured, and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.architectures import in_other_tower, is_mtp_module, place
from affectlocus.checkpoints.name_alignment import align_names, layer_prefixes, split_layer
from affectlocus.checkpoints.native_models import other_spellings
from affectlocus.checkpoints.tied_heads import is_tied
from affectlocus.core.errors import InputError
from affectlocus.core.model_config import text_config
from affectlocus.core.phrases import counted

BUFFER = ".rotary_emb.inv_freq"
"""Suffix of the rotary frequencies, which old checkpoints store and training never changes."""

HEAD = "lm_head.weight"
_HEADS = re.compile(
    r"(?:.*\.)?(?:lm_head|embed_out|output|score|classifier|classification_head|qa_outputs|"
    r"summary|v_head|value_head|reward_head|regression_head)\..+"
)
# Tensors outside the layers that every language model needs, whatever its head.
_BODY = ("embed_tokens.weight", "norm.weight", "tok_embeddings.weight")

_KINDS = {
    "mtp": "layers for multi-token prediction",
    "towers": "another part of a multimodal model",
    "head": "a head",
    "other": "parts outside the language model",
}


@dataclass
class Matching:
    """The names of a tuned model's tensors in its base.

    Attributes:
        names: the tuned model's name → the base's name, for the tensors that both have.
        only_base, only_tuned: the names of tensors that the other model lacks, sorted.
        notes: sentences about these tensors.
    """

    names: dict[str, str]
    only_base: list[str] = field(default_factory=list)
    only_tuned: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class ModelNames:
    """A model's path, tensor names and configuration."""

    path: Path
    names: Collection[str]
    config: dict[str, Any] | None
    mtp_tensors: Collection[str]  # in layers for multi-token prediction


def matching(base: ModelNames, tuned: ModelNames) -> Matching:
    """Matches the tensors of two whole models by name.

    Raises:
        InputError: only one of the models has a tensor of the language model; or they share none.
    """
    known = set(base.names)
    where = align_with_path(tuned.names, known, tuned.path)
    rest = set(tuned.names) - set(where)
    where |= other_spellings(rest, known - {*where.values()}, base.config)
    both = layer_prefixes(tuned.names, known)
    extra = set(tuned.names) - set(where)
    missing = known - set(where.values())
    located = any(place(name) is not None for name in known)
    unrelated = not where or (located and both is None)
    own_prefix, base_prefix = both or ("", "")

    def lost(names: set[str], model: ModelNames, prefix: str) -> set[str]:
        """Those of the names that have no match and need one."""
        further = model.mtp_tensors
        if unrelated:
            return names
        return {name for name in names if name not in further and is_required(name, prefix)}

    if found := lost(extra, tuned, own_prefix):
        raise not_in_base(tuned.path, found, base.path)
    if found := lost(missing, base, base_prefix):
        raise InputError(
            "pair.tensor-missing",
            f"{tuned.path}: {min(found)!r} is missing; the base has it ({counted(found, 'tensor')} "
            "in all); check that this is the base that it was tuned from",
            file=tuned.path,
            tensor=min(found),
            base=base.path,
        )
    tied = is_tied(base.config), is_tied(tuned.config)
    untied = False in tied or True not in tied
    notes = _notes(tuned.path, extra, tuned.mtp_tensors, untied)
    notes += _notes(base.path, missing, base.mtp_tensors, untied)
    if shared := sorted(set(base.mtp_tensors) - missing):
        notes.append(
            f"both have {_KINDS['mtp']} ({counted(shared, 'tensor')}, as {shared[0]!r}): not "
            "measured"
        )
    return Matching(where, sorted(missing), sorted(extra), notes)


def align_with_path(names: Iterable[str], base: Collection[str], path: Path) -> dict[str, str]:
    """`name_alignment.align_names`, with the path in its errors."""
    try:
        return align_names(names, base)
    except InputError as error:
        raise error.within(path, file=path) from None


def not_in_base(path: Path, names: Collection[str], base: Path) -> InputError:
    """The refusal of tensors that the base of a model or adapter does not have."""
    return InputError(
        "pair.tensor-not-in-base",
        f"{path}: {min(names)!r} is not in its base {base} ({counted(names, 'tensor')} in all); "
        "check that this is the base that it was tuned from",
        file=path,
        tensor=min(names),
        base=base,
    )


def is_required(name: str, prefix: str) -> bool:
    """Whether a language model with this prefix of layers is incomplete without a tensor."""
    if name.endswith(BUFFER) or in_other_tower(name):
        return False
    before, tail = split_layer(name)
    if tail is not None:
        return before == prefix
    return name in {f"{prefix}{end}" for end in _BODY}


def is_head(name: str) -> bool:
    """Whether a tensor outside the layers belongs to a model's head."""
    return split_layer(name)[1] is None and _HEADS.fullmatch(name) is not None


def mtp_layers(names: Iterable[str], config: dict[str, Any] | None) -> set[str]:
    """The tensors in numbered layers for multi-token prediction, as in DeepSeek and GLM.

    These layers follow the language model's own layers and hold a projection of two inputs
    (`eh_proj`).
    """
    own_layers = _own_layers(config)
    layers: dict[str, list[str]] = {}
    marked = set()
    for name in names:
        prefix, tail = split_layer(name)
        if tail is None or in_other_tower(prefix):
            continue
        _, number, module = tail.split(".", 2)
        key = f"{prefix}layers.{number}."
        layers.setdefault(key, []).append(name)
        if is_mtp_module(module) or (own_layers is not None and int(number) >= own_layers):
            marked.add(key)
    return {name for key in marked for name in layers[key]}


def _own_layers(config: dict[str, Any] | None) -> int | None:
    """The number of the language model's own layers, if the configuration says that more follow."""
    for settings in (config or {}, text_config(config)):
        count = settings.get("num_hidden_layers")
        more = (
            value
            for key, value in settings.items()
            if re.search(r"nextn|(?:^|_)mtp", key) and re.search(r"num|layers", key)
        )
        if isinstance(count, int) and any(isinstance(one, int) and one > 0 for one in more):
            return count
    return None


def _notes(path: Path, names: Iterable[str], further: Collection[str], untied: bool) -> list[str]:
    """Sentences about the tensors that only one model has.

    Args:
        untied: whether a head is a tensor of its own, and not a second copy of the embeddings.
    """
    kinds: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name in sorted(names):
        if name.endswith(BUFFER) or (name.endswith(HEAD) and not untied):
            continue
        if name in further or any(is_mtp_module(word) for word in name.split(".")):
            kinds["mtp"].append(name)
        elif in_other_tower(name):
            kinds["towers"].append(name)
        else:
            kinds["head" if is_head(name) else "other"].append(name)
    return [
        f"{path} alone has {_KINDS[kind]} ({counted(found, 'tensor')}, as {found[0]!r}): not "
        "measured"
        for kind, found in kinds.items()
        if found
    ]
