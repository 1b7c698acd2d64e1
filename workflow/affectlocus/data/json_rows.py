"""The rows of a JSON file, and any value of a JSON or parquet file as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

_RECORDS = (
    "write it with a JSON object for each row, in pandas "
    "to_json('rows.jsonl', orient='records', lines=True)"
)


def json_rows(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a text: one on each line, or in a JSON list, which may be under a key `data`.

    Raises:
        ValueError: the line and what it holds instead; a duplicate key.
    """
    first = _FIRST.search(text)
    if first is None:
        return
    if first[0] == "[":
        yield from _items(_document(text, "a JSON list"))
    elif (only := _only(text, first.start())) is not None:
        yield from _unwrapped(only)
    else:
        yield from _lines(text)


_FIRST = re.compile(r"\S")


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"two keys of an object are named {twice!r}; rename one")
    return found


class _TwiceError(ValueError):
    """A duplicate key, told apart from text that is not JSON."""


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"line {number}, column {error.colno}: {error.msg}; expected a JSON object on each "
                "line, or one JSON list of objects"
            ) from None
        except _TwiceError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is {_kind(row)}; expected a JSON object")
        yield row


def _document(text: str, what: str) -> Any:
    """The one value of the whole text."""
    try:
        return _loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise ValueError(
                f"line {error.lineno}, column {error.colno}: more follows {what}; {_RECORDS}"
            ) from None
        raise ValueError(
            f"{what} that is broken in line {error.lineno}, column {error.colno}: {error.msg}; "
            "correct it, or fetch it again if it was cut off"
        ) from None


def _only(text: str, start: int) -> dict[str, Any] | None:
    """The object that is the whole text, on one line or on several; None where there are more."""
    end = text.find("\n", start)
    line = text[start:] if end < 0 else text[start:end]
    more = end >= 0 and _FIRST.search(text, end) is not None
    try:
        value = _loads(line)
        if more:
            return None
    except json.JSONDecodeError:
        if not more:
            return None  # its one line is broken
        try:
            value = _loads(text)
        except json.JSONDecodeError:
            return None
    except _TwiceError:
        return None
    return value if isinstance(value, dict) else None


def _unwrapped(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of an object that is a whole file: it is one row, or holds a list of rows."""
    data = value.get("data") if len(value) > 1 else next(iter(value.values()), None)
    if isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        yield from _items(data)
    elif value and all(isinstance(inner, dict) for inner in value.values()):
        raise ValueError(f"it is one JSON object of columns, or of rows by their index; {_RECORDS}")
    elif value and all(isinstance(inner, list) for inner in value.values()):
        raise ValueError(f"it is one JSON object of lists; {_RECORDS}")
    else:
        yield value


def _items(values: list[Any]) -> Iterator[dict[str, Any]]:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise ValueError(f"item {number} of its list is {_kind(value)}; {_RECORDS}")
        yield value


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a JSON list"
    return "text" if isinstance(value, str) else json.dumps(value)


def whole(text: str) -> str:
    """The text without halves of characters, which JSON can write and no file can hold."""
    if text.isascii() or not _HALF.search(text):
        return text
    return _HALF.sub("\N{REPLACEMENT CHARACTER}", text)


_HALF = re.compile("[\ud800-\udfff]")


def text_of(value: Any) -> str:
    """A value as text: strings as they are, null and NaN as nothing, lists and objects as JSON.

    Dates, decimal numbers and other values that JSON lacks are as Python writes them.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool | int | float | list | dict | tuple):
        return whole(json.dumps(value, ensure_ascii=False, default=str))
    return str(value)
