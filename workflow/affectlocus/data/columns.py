"""Checks that a table has the columns that a task names; names the file in what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from affectlocus.config.tasks import Columns
from affectlocus.core.errors import InputError, LayoutError
from affectlocus.data.delimited_rows import delimiter_hint

PARTNER = "\0partner"
"""Column of a joined table: whether the joined file has the row's id. No file has this name."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Context manager: puts the file's path before the message of each `InputError`."""
    try:
        yield
    except InputError as error:
        raise error.within(path, file=path) from None


def check_columns(frame: pd.DataFrame, wanted: Iterable[str | None]) -> None:
    """Refuses a table that lacks a column; None among the names is ignored.

    Raises:
        LayoutError: the first missing column, and the columns of the table.
    """
    for column in wanted:
        if column is not None and column not in frame.columns:
            names = [str(name) for name in frame.columns if name != PARTNER]
            listed = ", ".join(names) or "none, as it has no rows"
            spaced = next((name for name in names if name.strip() == column), None)
            hint = delimiter_hint(listed) if len(frame.columns) == 1 else ""
            lower = {name.lower(): name for name in names}
            near = get_close_matches(column.lower(), lower, 1)
            if near and not hint:
                hint = f"; did you mean {lower[near[0]]!r}?"
            if spaced is not None:
                hint = (
                    f"; the name {spaced!r} has a space around it: remove the space from the "
                    f"file, or write {spaced!r} with quotes in params.yaml"
                )
            raise LayoutError(
                "table.no-column",
                f"no column {column!r}; its columns are {listed}{hint}",
                column=column,
                found=names,
            )


def check_texts(columns: Columns, nested: Sequence[str]) -> None:
    """Refuses lists and objects in the columns of texts and targets.

    Args:
        nested: the columns that hold lists or objects.

    Raises:
        LayoutError: the column.
    """
    for column in (columns.text, columns.target):
        if column in nested:
            raise LayoutError(
                "table.column-not-text",
                f"column {column!r} holds lists or objects; expected text",
                column=column,
            )
