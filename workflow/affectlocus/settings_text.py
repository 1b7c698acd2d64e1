"""YAML or JSON of settings into plain values: bounded, and nothing in it is ever built or run.

A text of a few hundred bytes can stand for billions of values (anchors of lists of anchors), and
YAML has tags that ask for objects: what a text stands for is counted before it is built, and only
maps, lists, text, numbers, booleans, dates and nothing are.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import yaml

from affectlocus.errors import InputError

LONGEST = 1 << 20
"""Characters of a text of settings; those of a large experiment have some ten thousand."""
_MOST = 100_000  # values that it stands for
_DEEPEST = 50


class _OnceLoader(yaml.SafeLoader):
    """YAML, safely; a key that stands twice is refused, where the last would win unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a map; expected text", key.start_mark
                )
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parsed(text: str, source: str, kind: str = "YAML") -> Any:
    """The values of a YAML or JSON text.

    Args:
        source: how messages name it.
        kind: what they say was expected.

    Raises:
        InputError: no YAML, a tag that asks for more than plain values, a key twice, a text that is
            too long, nested too deep, or stands for too many values.
    """
    if len(text) > LONGEST:
        raise InputError(
            f"{source}: longer than {LONGEST >> 20} MiB, which no settings are; is it another file?"
        )
    try:
        if text.lstrip().startswith("{"):
            # JSON first: YAML reads its escapes of characters beyond 16 bits by halves.
            with suppress(json.JSONDecodeError):
                return json.loads(text, object_pairs_hook=_once)
        loader = _OnceLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node, source)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise InputError(f"{source}: nested deeper than settings are; flatten it") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not {kind}: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        # A date that no calendar has, a number of too many digits, !!int of a word.
        line = " ".join(str(error).split())
        raise InputError(
            f"{source}: not {kind}: a value is not what it looks like ({line})"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return found


def _check_size(root: yaml.Node, source: str) -> None:
    """Counts what anchors stand for, each place where one is used for itself."""
    known: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in known:
            return known[id(node)]
        if id(node) in open_:
            raise InputError(f"{source}: an anchor stands in itself; write the values out")
        if depth > _DEEPEST:
            raise InputError(f"{source}: nested deeper than {_DEEPEST} levels; flatten it")
        open_.add(id(node))
        total = 1
        if isinstance(node, yaml.SequenceNode):
            total += sum(size(child, depth + 1) for child in node.value)
        elif isinstance(node, yaml.MappingNode):
            total += sum(size(child, depth + 1) for pair in node.value for child in pair)
        open_.remove(id(node))
        known[id(node)] = total
        if total > _MOST:
            raise InputError(
                f"{source}: it stands for more than {_MOST} values, by its anchors perhaps; write "
                "out what is meant"
            )
        return total

    size(root, 0)
