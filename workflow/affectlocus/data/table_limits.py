"""Limits of a table: refuses tables that memory cannot hold or that no prompt uses.

The messages do not name the file; the caller adds it (`InputError.within`).
"""

from __future__ import annotations

from collections import Counter

import pandas as pd

from affectlocus.core.errors import LayoutError

LARGEST = 1 << 29
"""Largest size of a table in bytes, decompressed: reading it takes several times its size."""

_COLUMNS, _CELLS = 10_000, 50_000_000
_FIELD = 1 << 24  # characters


def check_names(names: list[str]) -> None:
    """Refuses duplicate column names, which pandas would rename; empty names may be repeated.

    Raises:
        LayoutError: a duplicate name.
    """
    for name, count in Counter(names).items():
        if count > 1 and name:
            raise LayoutError(
                "table.duplicate-column", f"two columns are named {name!r}; rename one", column=name
            )


def check_size(size: int) -> None:
    """Refuses a table of more than `LARGEST` bytes.

    Raises:
        LayoutError: the table is larger.
    """
    if size > LARGEST:
        raise LayoutError(
            "table.too-large",
            f"more than {LARGEST >> 20} MiB of values, decompressed; expected at most "
            f"{LARGEST >> 20} MiB: keep only the rows and columns that are used",
            expected=LARGEST,
        )


def check_cells(rows: int, columns: int, characters: int = 0) -> None:
    """Refuses a small file that describes more fields than memory can hold.

    Args:
        characters: length of the text; each field in it takes at least one character.

    Raises:
        LayoutError: too many columns or fields.
    """
    if columns > _COLUMNS:
        raise LayoutError(
            "table.too-many-columns",
            f"{columns} columns; expected at most {_COLUMNS}",
            found=columns,
            expected=_COLUMNS,
        )
    if rows * columns > max(_CELLS, characters):
        raise LayoutError(
            "table.too-many-fields",
            f"{rows} rows of {columns} columns; expected at most {_CELLS:.0e} fields: keep only "
            "the rows and columns that are used",
            found=rows * columns,
            expected=_CELLS,
        )


def check_fields(rows: pd.DataFrame) -> None:
    """Refuses fields that are too long for a prompt, and column names with a NUL character.

    The package uses such names for columns of its own.

    Raises:
        LayoutError: the column and, for a field, its length.
    """
    for name in rows.columns:
        if "\0" in str(name):
            raise LayoutError(
                "table.nul-in-column-name",
                f"column {name!r} has a NUL character in its name; rename it",
                column=name,
            )
        longest = int(rows[name].str.len().max() or 0) if len(rows) else 0
        if longest > _FIELD:
            raise LayoutError(
                "table.field-too-long",
                f"a field of column {name!r} has {longest} characters; expected at most {_FIELD}: "
                "look for a quotation mark that is not closed",
                column=name,
                found=longest,
                expected=_FIELD,
            )


def check_field_lengths(text: str, ends: tuple[str, ...]) -> None:
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
            next_ends = (text.find(end, at) for end in ends)
            size = min((end for end in next_ends if end >= 0), default=len(text)) - at
            line = text.count("\n", 0, at) + 1
            raise LayoutError(
                "table.field-too-long",
                f"a field in line {line} has {size} characters; expected at most {_FIELD}",
                line=line,
                found=size,
                expected=_FIELD,
            )
        at = last + 1
