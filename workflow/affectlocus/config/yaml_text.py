"""The reader of settings: YAML 1.2 or JSON, with limits on size and depth.

A text of a few hundred bytes can describe billions of values (anchors of lists of anchors), so the
values are counted before they are built. Only maps, lists, text, numbers, booleans and null are
built; tags cannot create other objects.

YAML 1.1, which PyYAML and Snakemake read, turns `on`, `yes` and `no` into booleans, `12:30:45` and
`0777` into other numbers, and `2024-01-02` into a date. This reader keeps them as text.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import partial
from typing import Any

import yaml

from affectlocus.core.errors import InputError

LONGEST = 1 << 20
"""Maximum number of characters; the settings of a large experiment have about ten thousand."""
_MOST = 100_000  # maximum number of values, with anchors expanded
_DEEPEST = 50  # maximum number of nested levels


def _number(text: str) -> int | float | str:
    """The number that a text writes; the text itself if the number is written in another way."""
    for kind in (int, float):
        with suppress(ValueError):
            number: int | float = kind(text)
            if json.dumps(number) == text:
                return number
    return text


class _Loader(yaml.SafeLoader):
    """A safe loader for YAML 1.2 (core schema) with two rules that keep words as text.

    Keys are always text. A plain scalar becomes a number or a boolean only if Python's JSON writer
    writes it the same way. `007`, `1.50`, `1e3`, `0x1F` and `True` stay text, which the models of
    the parameters convert where they expect a number or a boolean.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)  # first the merged keys (<<)
        node.value = [(yaml.ScalarNode(_STR, key.value), value) for key, value in node.value]
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        text = str(self.construct_scalar(node))
        if self.resolve(yaml.ScalarNode, text, (True, False)) == node.tag:
            return _number(text)
        return int(text) if node.tag == _INT else float(text)  # an explicit tag, such as !!int

    def construct_boolean(self, node: yaml.ScalarNode) -> bool | str:
        text = str(self.construct_scalar(node))
        return {"true": True, "false": False}.get(text, text)


_Loader.yaml_implicit_resolvers = {}
_TAG = "tag:yaml.org,2002:"
_STR, _INT, _FLOAT, _MERGE = f"{_TAG}str", f"{_TAG}int", f"{_TAG}float", f"{_TAG}merge"
for _kind, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_INT, _Loader.construct_number)
_Loader.add_constructor(_FLOAT, _Loader.construct_number)
_Loader.add_constructor(f"{_TAG}bool", _Loader.construct_boolean)


def parsed(text: str, source: str, kind: str = "YAML") -> Any:
    """The values of a YAML or JSON text.

    Args:
        source: the name of the file in messages.
        kind: the expected format in messages.

    Raises:
        InputError: the text is not YAML, has an unsupported tag or a duplicate key, is too long or
            nested too deep, or describes too many values.
    """
    if len(text) > LONGEST:
        raise InputError(
            "params.too-long",
            f"{source}: longer than {LONGEST >> 20} MiB, the limit for settings; is it another "
            "file?",
            file=source,
            found=len(text),
            expected=LONGEST,
        )
    try:
        if text.lstrip().startswith("{"):
            # JSON first, because YAML reads JSON's surrogate pairs as two characters.
            with suppress(json.JSONDecodeError):
                return json.loads(
                    text,
                    object_pairs_hook=partial(_without_duplicates, source),
                    parse_float=_number,
                    parse_int=_number,
                    parse_constant=str,
                )
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, source)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise InputError(
            "params.nested-too-deep",
            f"{source}: nested deeper than {_DEEPEST} levels; use fewer levels",
            file=source,
            expected=_DEEPEST,
        ) from None
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, source, kind) from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        # For example an impossible date, a number with too many digits, or !!int of a word.
        line = " ".join(str(error).split())
        raise InputError(
            "params.invalid-scalar", f"{source}: not {kind}: invalid value ({line})", file=source
        ) from None


# The beginning of PyYAML's message → what to do.
_ADVICE = {
    "mapping values are not allowed": "indent a key as the keys beside it, end the line above with "
    "a colon if it is a section, or put a text with ': ' in quotes",
    "could not find expected ':'": "add a colon to the key in the line above",
    "found character '\\t'": "indent with spaces instead of tabs",
    "found character": "put a text that begins with this character in quotes",
    "found undefined alias": "put a text that begins with * in quotes, or define the anchor",
    "found unexpected end of stream": "close the quotation mark",
    "found unknown escape": "in double quotes write two backslashes for one",
    "could not determine a constructor": "remove the tag",
    "expected <block end>": "check the indentation, and the quotation marks before it",
    "expected ',' or": "add the comma or the closing bracket that is missing before it",
    "expected the node content": "add the value or the closing bracket that is missing",
    "special characters": "remove the control character",
}


def _not_yaml(error: yaml.YAMLError, text: str, source: str, kind: str) -> InputError:
    """The line that PyYAML cannot read, and what to do."""
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    reason = " ".join(str(reason).split())
    advice = next((said for start, said in _ADVICE.items() if reason.startswith(start)), reason)
    mark = getattr(error, "problem_mark", None)
    position = mark.index if mark else getattr(error, "position", len(text))
    line = text.count("\n", 0, position) + 1
    found = "".join(text.splitlines()[line - 1 : line]).strip()
    return InputError(
        "params.not-yaml",
        f"{source}: line {line}: not {kind}: "
        f"{f'found {found[:60]!r}' if found else 'the text ends too early'}; {advice}",
        file=source,
        line=line,
        found=found,
    )


def _without_duplicates(source: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            "params.duplicate-key",
            f"{source}: duplicate key {twice!r}; remove or rename one of them",
            file=source,
            key=twice,
        )
    return found


def _check(root: yaml.Node, source: str) -> None:
    """Refuses duplicate keys, scalars that YAML 1.1 cannot read, and too many values.

    The values of an anchor are counted wherever the anchor is used.
    """
    known: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in known:
            return known[id(node)]
        if id(node) in open_:
            raise InputError(
                "params.endless-anchor",
                f"{source}: an anchor contains itself; write the values out",
                file=source,
            )
        if depth > _DEEPEST:
            raise InputError(
                "params.nested-too-deep",
                f"{source}: nested deeper than {_DEEPEST} levels; use fewer levels",
                file=source,
                expected=_DEEPEST,
            )
        open_.add(id(node))
        total = 1
        if isinstance(node, yaml.SequenceNode):
            total += sum(size(child, depth + 1) for child in node.value)
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node, source)
            total += sum(size(child, depth + 1) for pair in node.value for child in pair)
        elif isinstance(node, yaml.ScalarNode):
            _check_yaml_1_1(node, source)
        open_.remove(id(node))
        known[id(node)] = total
        if total > _MOST:
            raise InputError(
                "params.too-many-values",
                f"{source}: more than {_MOST} values after its anchors are expanded; use fewer "
                "anchors",
                file=source,
                found=total,
                expected=_MOST,
            )
        return total

    size(root, 0)


def _check_keys(node: yaml.MappingNode, source: str) -> None:
    seen = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(
                "params.key-not-text",
                f"{source}: line {line}: a key is a list or a map; expected text",
                file=source,
                line=line,
            )
        if key.value in seen and key.tag != _MERGE:
            raise InputError(
                "params.duplicate-key",
                f"{source}: line {line}: duplicate key {key.value!r}; remove or rename one of them",
                file=source,
                line=line,
                key=key.value,
            )
        seen.add(key.value)


_YAML_1_1 = yaml.resolver.Resolver()


def _check_yaml_1_1(node: yaml.ScalarNode, source: str) -> None:
    """Refuses a plain scalar that YAML 1.1 cannot read, because Snakemake and DVC use YAML 1.1."""
    if node.style is not None or len(node.value) > 100:
        return  # quoted, or too long for a date or a number
    tag = _YAML_1_1.resolve(yaml.ScalarNode, node.value, (True, False))
    if tag in (_STR, _MERGE):
        return
    try:
        yaml.SafeLoader("").construct_object(yaml.ScalarNode(tag, node.value))
    except (ValueError, yaml.YAMLError):
        raise InputError(
            "params.unquoted-scalar",
            f"{source}: line {node.start_mark.line + 1}: put {node.value!r} in quotes; Snakemake "
            "reads it as an invalid date or number",
            file=source,
            line=node.start_mark.line + 1,
            found=node.value,
        ) from None
