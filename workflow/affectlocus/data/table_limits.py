"""Limits of a table: refuses tables that memory cannot hold or that no prompt uses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from affectlocus.core.errors import LayoutError
from affectlocus.data.text_encoding import LARGEST

_COLUMNS, _CELLS = 10_000, 50_000_000
_FIELD = 1 << 24  # characters


def check_names(names: list[str]) -> None:
    """Refuses duplicate column names, which pandas would rename; empty names may be repeated.

    Raises:
        ValueError: a duplicate name.
    """
    for name, count in Counter(names).items():
        if count > 1 and name:
            raise ValueError(f"two columns are named {name!r}; rename one")


def check_size(size: int) -> None:
    """Refuses a table of more than `LARGEST` bytes.

    Raises:
        ValueError: the table is larger.
    """
    if size > LARGEST:
        raise ValueError(
            f"more than {LARGEST >> 20} MiB of values; expected at most {LARGEST >> 20} MiB: keep "
            "only the rows and columns that are used"
        )


def check_cells(rows: int, columns: int, characters: int = 0) -> None:
    """Refuses a small file that describes more fields than memory can hold.

    Args:
        characters: length of the text; each field in it takes at least one character.

    Raises:
        ValueError: too many columns or fields.
    """
    if columns > _COLUMNS:
        raise ValueError(f"{columns} columns; expected at most {_COLUMNS}")
    if rows * columns > max(_CELLS, characters):
        raise ValueError(
            f"{rows} rows of {columns} columns; expected at most {_CELLS:.0e} fields: keep only "
            "those that are used"
        )


def check_fields(path: Path, rows: pd.DataFrame) -> None:
    """Refuses fields that are too long for a prompt, and column names with a NUL character.

    The package uses such names for columns of its own.

    Raises:
        LayoutError: the column and, for a field, its length.
    """
    if odd := next((name for name in rows.columns if "\0" in str(name)), None):
        raise LayoutError(f"{path}: column {odd!r} has a NUL character in its name; rename it")
    for name in rows.columns:
        longest = int(rows[name].str.len().max() or 0) if len(rows) else 0
        if longest > _FIELD:
            raise LayoutError(
                f"{path}: a field of column {name!r} has {longest} characters; expected at most "
                f"{_FIELD}: look for a quotation mark that is not closed"
            )


def check_field_lengths(path: Path, text: str, ends: tuple[str, ...]) -> None:
    """Refuses a very long field before the text is parsed: parsing takes many times its memory.

    Args:
        ends: the characters that end a field.

    Raises:
        LayoutError: the line and the length of the field.
    """
    longest = 4 * _FIELD
    at = 0
    while at + longest < len(text):
        last = max(text.rfind(end, at, at + longest) for end in ends)
        if last < 0:
            found = (text.find(end, at) for end in ends)
            size = min((end for end in found if end >= 0), default=len(text)) - at
            raise LayoutError(
                f"{path}: a field in line {text.count(chr(10), 0, at) + 1} has {size} characters; "
                f"expected at most {_FIELD}"
            )
        at = last + 1
