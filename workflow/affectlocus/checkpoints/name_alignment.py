"""Match an adapter's tensor names with its base's, which may have another prefix.

Wrappers put a prefix in front of a language model's names, such as `language_model.` or
`llama_model.model.`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

from affectlocus.checkpoints.architectures import in_other_tower, place
from affectlocus.core.errors import InputError


def align_names(names: Iterable[str], base: Collection[str]) -> dict[str, str]:
    """An adapter's tensor names → the base's names, where only the prefix of a wrapper differs.

    A name that the base has as well is matched with itself. Any other name inside layers is matched
    by the part after the prefix of the language model (`layer_prefixes`). A name outside layers is
    matched by its last two words (`embed_tokens.weight`); on both sides it must be at the level of
    the layers, or on both sides above it. Names of other parts of the model, and names without a
    match, are omitted.

    Raises:
        InputError: two names match the same tensor, or two prefixes may be the language model's.
    """
    names, known = list(names), set(base)
    found = {name: name for name in names if name in known}
    both = layer_prefixes(names, known)
    if both is None:
        return found
    own_prefix, base_prefix = both
    outside: dict[tuple[str, bool], set[str]] = {}
    for name in known:
        if (key := _outside(name, base_prefix)) is not None:
            outside.setdefault(key, set()).add(name)
    for name in names:
        if name in known or in_other_tower(name):
            continue
        prefix, tail = split_layer(name)
        if tail is not None:
            if prefix == own_prefix and f"{base_prefix}{tail}" in known:
                found[name] = f"{base_prefix}{tail}"
        elif (key := _outside(name, own_prefix)) is not None and len(outside.get(key, ())) == 1:
            (found[name],) = outside[key]
    owners: dict[str, str] = {}
    for name, target in found.items():
        if target in owners:
            raise InputError(
                "pair.two-tensors-for-one",
                f"{owners[target]!r} and {name!r} would both change {target} of the base; expected "
                "one: leave the other part of the model out, or give the model that has both",
                tensor=target,
                found=(owners[target], name),
            )
        owners[target] = name
    return found


def layer_prefixes(names: Iterable[str], base: Collection[str]) -> tuple[str, str] | None:
    """The prefixes of `layers.N.` in the language model: the adapter's, and its base's.

    The base's prefix is the one that most of its projections have. If the adapter has this prefix,
    it is the adapter's as well. Otherwise the candidates are the prefixes under which the adapter
    has tensors of the base. They are ranked: first a prefix that differs from the base's only by
    the names that versions of transformers give to the language model, then one that extends or
    shortens the base's (`llama_model.model.`), then the one with the most tensors of the base.

    Returns:
        None if no prefix fits.

    Raises:
        InputError: two prefixes fit equally well.
    """
    located = Counter(split_layer(name)[0] for name in base if place(name) is not None)
    if not located:
        return None
    base_prefix = max(located, key=lambda prefix: (located[prefix], -len(prefix)))
    fitting: dict[str, list[str]] = {}
    for name in names:
        prefix, tail = split_layer(name)
        if tail is not None and not in_other_tower(prefix) and f"{base_prefix}{tail}" in base:
            fitting.setdefault(prefix, []).append(name)
    if base_prefix in fitting:
        return base_prefix, base_prefix
    if not fitting:
        return None

    def fit(prefix: str) -> tuple[bool, bool, int]:
        own, other = f".{prefix}", f".{base_prefix}"
        extends = own.endswith(other) or other.endswith(own)
        return _stable_words(prefix) == _stable_words(base_prefix), extends, len(fitting[prefix])

    first, *rest = sorted(fitting, key=fit, reverse=True)
    if rest and fit(rest[0]) == fit(first):
        raise InputError(
            "pair.two-language-models",
            f"{fitting[first][0]!r} and {fitting[rest[0]][0]!r} may both belong to the language "
            f"model's {base_prefix}layers in the base, and the names do not decide which; give "
            "the base that has both parts",
            found=(fitting[first][0], fitting[rest[0]][0]),
        )
    return first, base_prefix


def _stable_words(prefix: str) -> list[str]:
    """The words of a prefix that no version of transformers renames.

    `language_model.model.` became `model.language_model.`, and so did `model.` of Qwen-VL.
    """
    return [word for word in prefix.split(".") if word not in ("model", "language_model")]


_LAYERS = re.compile(r"(?P<prefix>(?:.*\.)?)(?P<tail>layers\.\d+\..+)")


def split_layer(name: str) -> tuple[str, str | None]:
    """A name's prefix before `layers.N.`, and the rest; (name, None) for a name outside layers."""
    match = _LAYERS.fullmatch(name)
    return (match["prefix"], match["tail"]) if match else (name, None)


def _outside(name: str, prefix: str) -> tuple[str, bool] | None:
    """The last two words of a name outside layers, and whether it is at the level of the layers.

    None for a name that is neither at the level of the layers with this prefix nor above it.
    """
    if split_layer(name)[1] is not None:
        return None
    words = name.split(".")
    before = "".join(f"{word}." for word in words[:-2])
    if not prefix.startswith(before):
        return None
    return ".".join(words[-2:]), before == prefix
