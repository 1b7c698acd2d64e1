"""Reads the rows of a JSON file, and converts values of JSON and parquet files to text.

The messages do not name the file; the caller adds it (`InputError.within`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from affectlocus.core.errors import LayoutError

_RECORDS = (
    "write it with a JSON object for each row, in pandas "
    "to_json('rows.jsonl', orient='records', lines=True)"
)


def json_rows(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON text: one per line, or a JSON list, which may be under the key `data`.

    Raises:
        LayoutError: broken JSON, values that are not objects, or duplicate keys; with the line.
    """
    first = _FIRST.search(text)
    if first is None:
        return
    if first[0] == "[":
        yield from _items(_list(text))
    elif (value := _single_object(text, first.start())) is not None:
        yield from _rows_in(value)
    else:
        yield from _lines(text)


_FIRST = re.compile(r"\S")


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique_keys)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise LayoutError(
            "table.duplicate-key",
            f"two keys of an object are named {duplicate!r}; rename one",
            key=duplicate,
        )
    return unique


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _loads(line)
        except json.JSONDecodeError as error:
            raise LayoutError(
                "table.broken-json",
                f"line {number}, column {error.colno}: {error.msg}; expected a JSON object on each "
                "line, or one JSON list of objects",
                line=number,
                character=error.colno,
            ) from None
        except LayoutError as error:
            raise error.within(f"line {number}", line=number) from None
        if not isinstance(row, dict):
            raise LayoutError(
                "table.not-an-object",
                f"line {number} is {_kind(row)}; expected a JSON object",
                line=number,
                found=row,
            )
        yield row


def _list(text: str) -> list[Any]:
    """The list that makes up a whole text."""
    try:
        values: list[Any] = _loads(text)
    except json.JSONDecodeError as error:
        line, column = error.lineno, error.colno
        if error.msg == "Extra data":
            raise LayoutError(
                "table.text-after-json",
                f"line {line}, column {column}: text after the end of a JSON list; {_RECORDS}",
                line=line,
                character=column,
            ) from None
        raise LayoutError(
            "table.broken-json",
            f"line {line}, column {column}: {error.msg}; correct the JSON list, or download the "
            "file again if it is truncated",
            line=line,
            character=column,
        ) from None
    return values


def _single_object(text: str, start: int) -> dict[str, Any] | None:
    """The object that makes up the whole text, on one or several lines; None if there are more."""
    end = text.find("\n", start)
    line = text[start:] if end < 0 else text[start:end]
    more = end >= 0 and _FIRST.search(text, end) is not None
    try:
        value = _loads(line)
        if more:
            return None
    except json.JSONDecodeError:
        if not more:
            return None  # the only line is broken; `_lines` reports where
        try:
            value = _loads(text)
        except json.JSONDecodeError:
            return None
    except LayoutError:
        return None  # a duplicate key; `_lines` reports it
    return value if isinstance(value, dict) else None


def _rows_in(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of an object that makes up a whole file: a list of rows in it, or the object."""
    data = value.get("data") if len(value) > 1 else next(iter(value.values()), None)
    if isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        yield from _items(data)
    elif value and all(isinstance(inner, dict) for inner in value.values()):
        raise LayoutError(
            "table.json-of-columns",
            f"one JSON object of columns, or of rows by their index; {_RECORDS}",
        )
    elif value and all(isinstance(inner, list) for inner in value.values()):
        raise LayoutError("table.json-of-lists", f"one JSON object of lists; {_RECORDS}")
    else:
        yield value


def _items(values: list[Any]) -> Iterator[dict[str, Any]]:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise LayoutError(
                "table.not-an-object",
                f"item {number} of the list is {_kind(value)}; {_RECORDS}",
                item=number,
                found=value,
            )
        yield value


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a JSON list"
    return "text" if isinstance(value, str) else json.dumps(value)


def without_surrogates(text: str) -> str:
    """The text with lone surrogates replaced: JSON can hold them, but UTF-8 cannot encode them."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def text_of(value: Any) -> str:
    """A value as text: strings unchanged, lists and objects as JSON.

    Null and numbers that are not finite are empty.
    Dates, decimal numbers and other types that JSON does not have are converted by `str`.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool | int | float | list | dict | tuple):
        return without_surrogates(json.dumps(value, ensure_ascii=False, default=str))
    return str(value)
