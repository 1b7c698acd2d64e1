"""A table as lines of text that fit the terminal: a column is left out or a row stacked, never cut.

A file or a pipe has no width, so it gets every column on one line.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from affectlocus.core.errors import printable

_GAP = 2  # spaces between columns

KEYS = (
    *(
        "key",
        "num",
        "claim",
        "model",
        "pair",
        "modules",
        "mode",
        "kind",
        "cell",
        "baseline",
        "base",
    ),
    *("projection", "task", "strategy", "budget", "method", "layer", "place", "first", "second"),
)
"""Columns that say what a row is about, which are always shown."""

_FIRST = (
    *("l2", "relative", "rms", "mean", "value", "effect", "verdict", "gain", "parameters"),
    *("rank", "low", "high"),
)
"""The other columns that are shown first; then come the rest, in their order."""

_NUMBER = re.compile(r"[-+\u2212]?[\d.,]+(?:e[-+]?\d+)?%?|nan|-?inf|", re.IGNORECASE)


@dataclass(frozen=True)
class Grid:
    """A table: names of columns, rows of text, and rows below a rule.

    Attributes:
        title: printed above the table, wrapped if it is long.
        rest: how to see columns that do not fit.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    below: Sequence[Sequence[str]] = field(default_factory=list)
    title: str = ""
    rest: str = "a wider terminal shows them"


@dataclass(frozen=True)
class _Column:
    name: str
    place: int
    heading: list[str]
    width: int
    left: bool


def print_grid(grid: Grid, everything: bool = False) -> None:
    """Prints a table within the width of the terminal.

    Columns that do not fit are named below the table. Columns with one value in all rows are
    named above it, if the table is too wide with them.

    Args:
        everything: show every column; rows that do not fit become blocks of several lines.
    """
    console = Console(highlight=False)
    width = console.width if console.is_terminal else 0
    for line, dim in lines(grid, width, everything):
        console.print(
            Text(line, style="dim" if dim else ""), soft_wrap=True, overflow="ignore", crop=False
        )


def lines(grid: Grid, width: int, everything: bool = False) -> Iterator[tuple[str, bool]]:
    """The lines of a table, and whether each is dimmed.

    Args:
        width: characters of a line; 0: no limit.
        everything: as in `print_grid`.
    """
    columns = _columns(grid)
    if grid.title:
        yield from ((line, False) for line in textwrap.wrap(grid.title, width or 10_000))
    common: list[_Column] = []
    if width and _total(columns) > width:
        common = [one for one in columns if _constant(grid, one)]
        columns = [one for one in columns if one not in common]
    shown = columns if everything or not width else _fitting(columns, width)
    values = {one.name: grid.rows[0][one.place] for one in common}
    if named := ", ".join(f"{name}={value}" for name, value in values.items() if value):
        yield from ((line, False) for line in textwrap.wrap(f"in all rows: {named}", width))
    if width and _total(shown) > width:
        yield from ((line, False) for line in _stacked(grid, shown, width))
    else:
        yield from _table(grid, shown)
    if empty := [name for name, value in values.items() if not value]:
        yield from ((line, False) for line in textwrap.wrap(f"empty: {', '.join(empty)}", width))
    if left := [one.name for one in columns if one not in shown]:
        said = f"not shown: {', '.join(left)} ({grid.rest})"
        yield from ((line, False) for line in textwrap.wrap(said, width))


def _columns(grid: Grid) -> list[_Column]:
    found = []
    for place, name in enumerate(grid.columns):
        texts = [row[place] for row in [*grid.rows, *grid.below]]
        cells = max(map(cell_len, texts), default=0)
        heading = _folded(name, max(cells, 4))
        width = max([cells, *map(cell_len, heading)])
        # Numbers are aligned to the right.
        left = not all(_NUMBER.fullmatch(text) for text in texts)
        found.append(_Column(name, place, heading, width, left))
    return found


def _folded(name: str, width: int) -> list[str]:
    """A heading in lines that are about as wide as the column, broken at - _ . and spaces."""
    parts = [part for part in re.split(r"(?<=[-_. ])", name) if part]
    found: list[str] = []
    for part in parts:
        if found and cell_len(found[-1] + part.rstrip()) <= width:
            found[-1] += part
        else:
            found.append(part)
    return [part.rstrip() for part in found]


def _total(columns: Sequence[_Column]) -> int:
    return sum(one.width + _GAP for one in columns) - _GAP


def _constant(grid: Grid, column: _Column) -> bool:
    values = {row[column.place] for row in [*grid.rows, *grid.below]}
    return len(grid.rows) > 1 and len(values) == 1 and column.name not in _FIRST


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """The keys, and as many other columns as fit, the most important ones first."""
    kept = [one for one in columns if one.name in KEYS]
    ranked = [one for name in _FIRST for one in columns if one.name == name]
    for one in [*ranked, *columns]:
        if one not in kept and _total([*kept, one]) <= width:
            kept.append(one)
    return [one for one in columns if one in kept]


def _table(grid: Grid, columns: Sequence[_Column]) -> Iterator[tuple[str, bool]]:
    height = max((len(one.heading) for one in columns), default=0)
    for line in range(height):
        parts = []
        for one in columns:
            place = line - (height - len(one.heading))
            parts.append(_aligned(one.heading[place] if place >= 0 else "", one))
        yield _joined(parts), False
    rule = "─" * _total(columns)
    yield rule, False
    for row in grid.rows:
        yield _joined([_aligned(row[one.place], one) for one in columns]), False
    if grid.below:
        yield rule, True
    for row in grid.below:
        yield _joined([_aligned(row[one.place], one) for one in columns]), True


def _aligned(text: str, column: _Column) -> str:
    space = " " * (column.width - cell_len(text))
    return text + space if column.left else space + text


def _joined(parts: Sequence[str]) -> str:
    return (" " * _GAP).join(parts).rstrip()


def _stacked(grid: Grid, columns: Sequence[_Column], width: int) -> Iterator[str]:
    """A block for each row: the keys, then every other column with its name."""
    for row in [*grid.rows, *grid.below]:
        keys = [f"{one.name} {row[one.place]}" for one in columns if one.name in KEYS]
        rest = [f"{one.name} {row[one.place]}" for one in columns if one.name not in KEYS]
        for group, indent in ((keys, ""), (rest, "    ")):
            # No break inside an item that fits a line.
            text = "  ".join(item.replace(" ", "\N{NO-BREAK SPACE}") for item in group)
            for line in textwrap.wrap(
                text,
                width,
                initial_indent=indent,
                subsequent_indent=indent or "    ",
                break_on_hyphens=False,
            ):
                yield line.replace("\N{NO-BREAK SPACE}", " ")


def print_wrapped(console: Console, text: Any, indent: str, first: str = "") -> None:
    """Prints a text in lines of the terminal's width; in a file or a pipe, in one line."""
    width = console.width if console.is_terminal else 10_000
    line = "" if text is None or pd.isna(text) else printable(str(text))
    for part in textwrap.wrap(
        line, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    ):
        print(part)  # noqa: T201
