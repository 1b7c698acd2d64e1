"""Which tensors of a whole tuned model are which of its base, and what one side alone has.

The two may differ in a prefix of their names (`language_model.`, `module.`), in layers that predict
further tokens, in other towers of a multimodal model, and in their heads. None of these is among
the seven projections: the rest is measured, and a note says what is not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.adapters import aligned, counted, layered, prefixes
from affectlocus.checkpoints.architectures import in_other_tower, place, predicts_further
from affectlocus.core.errors import InputError

BUFFER = ".rotary_emb.inv_freq"
"""The end of the rotary frequencies' names, which old checkpoints store and no tuning changes."""

HEAD = "lm_head.weight"
_HEADS = re.compile(
    r"(?:.*\.)?(?:lm_head|embed_out|output|score|classifier|classification_head|qa_outputs|"
    r"summary|v_head|value_head|reward_head|regression_head)\..+"
)
# Without these there is no language model, whatever its head.
_BODY = ("embed_tokens.weight", "norm.weight", "tok_embeddings.weight")

_KINDS = {
    "further": "layers that predict further tokens",
    "towers": "another part of a multimodal model",
    "head": "a head",
    "other": "parts outside the language model",
}


@dataclass
class Matching:
    """How a tuned model's tensors are called in its base.

    Attributes:
        names: the tuned model's name → the base's, for the tensors that both have.
        only_base, only_tuned: the names that the other side has not, sorted.
        notes: sentences about them.
    """

    names: dict[str, str]
    only_base: list[str] = field(default_factory=list)
    only_tuned: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Model:
    """What is known of a side: its path, its tensors' names, and its configuration."""

    path: Path
    names: Collection[str]
    config: dict[str, Any] | None
    further: Collection[str]  # the tensors of layers that predict further tokens


def matching(base: Model, tuned: Model) -> Matching:
    """Matches the tensors of two whole models by name.

    Raises:
        InputError: a tensor of the language model that one side alone has, or nothing in common.
    """
    known = set(base.names)
    where = named(tuned.names, known, tuned.path)
    both = prefixes(tuned.names, known)
    extra = set(tuned.names) - set(where)
    missing = known - set(where.values())
    located = any(place(name) is not None for name in known)
    for names, further, prefix, problem in (
        (extra, tuned.further, both[0] if both else "", f"is not in its base {base.path}"),
        (missing, base.further, both[1] if both else "", "is missing; the base has it"),
    ):
        lost = {name for name in names if name not in further and needed(name, prefix)}
        if not where or (located and both is None):
            lost = names
        if lost:
            raise InputError(
                f"{tuned.path}: {min(lost)!r} {problem} ({len(lost)} tensors so); check that this "
                "is the base that it was tuned from"
            )
    tied = _tied(base.config), _tied(tuned.config)
    untied = False in tied or True not in tied
    notes = _notes(tuned.path, extra, tuned.further, untied)
    notes += _notes(base.path, missing, base.further, untied)
    if shared := sorted(set(base.further) - missing):
        notes.append(
            f"both have {_KINDS['further']} ({counted(shared, 'tensor')}, as {shared[0]!r}): not "
            "measured"
        )
    return Matching(where, sorted(missing), sorted(extra), notes)


def named(names: Iterable[str], base: Collection[str], path: Path) -> dict[str, str]:
    """`adapters.aligned`, with the file in its errors."""
    try:
        return aligned(names, base)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def needed(name: str, prefix: str) -> bool:
    """Whether a language model whose layers have this prefix is incomplete without a tensor."""
    if name.endswith(BUFFER) or in_other_tower(name):
        return False
    before, tail = layered(name)
    if tail is not None:
        return before == prefix
    return name in {f"{prefix}{end}" for end in _BODY}


def is_head(name: str) -> bool:
    """Whether a tensor outside the layers belongs to a model's head."""
    return layered(name)[1] is None and _HEADS.fullmatch(name) is not None


def further_layers(names: Iterable[str], config: dict[str, Any] | None) -> set[str]:
    """The tensors in layers that predict further tokens, as DeepSeek and GLM number them.

    They follow the language model's own layers, and hold a projection of two inputs (`eh_proj`).
    """
    told = _told_layers(config)
    layers: dict[str, list[str]] = {}
    marked = set()
    for name in names:
        prefix, tail = layered(name)
        if tail is None or in_other_tower(prefix):
            continue
        _, number, module = tail.split(".", 2)
        key = f"{prefix}layers.{number}."
        layers.setdefault(key, []).append(name)
        if predicts_further(module) or (told is not None and int(number) >= told):
            marked.add(key)
    return {name for key in marked for name in layers[key]}


def _told_layers(config: dict[str, Any] | None) -> int | None:
    """The number of the language model's own layers, where more are said to follow them."""
    for settings in (config or {}, (config or {}).get("text_config")):
        if not isinstance(settings, dict):
            continue
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
    """Sentences about the tensors that one side alone has.

    Args:
        untied: whether a head is more than a second copy of the embeddings.
    """
    kinds: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name in sorted(names):
        if name.endswith(BUFFER) or (name.endswith(HEAD) and not untied):
            continue
        if name in further or any(predicts_further(word) for word in name.split(".")):
            kinds["further"].append(name)
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


def _tied(config: dict[str, Any] | None) -> bool | None:
    """Whether a configuration says that embeddings and head are one tensor; None: not said."""
    config = config or {}
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    told = config.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    return None if told is None else bool(told)
