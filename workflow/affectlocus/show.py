"""Tables and result files on the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from affectlocus.errors import InputError


def print_table(path: Path) -> None:
    """Prints a table's csv, numbers to the right, wide enough for its columns."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        raise InputError(f"{path}: no csv table there; snakemake builds them in results") from None
    grid = Table(title=str(path), title_justify="left")
    for column in frame.columns:
        text = column in ("modules", "mode")
        grid.add_column(column, justify="left" if text else "right", no_wrap=True)
    for row in frame.itertuples(index=False):
        grid.add_row(*row)
    width = sum(max(map(len, [column, *frame[column]])) + 3 for column in frame.columns)
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, width + 1))
    console.print(grid)


def print_results(folder: Path) -> None:
    """Prints the path of every result for people to read: tables, scores, deltas, figures."""
    patterns = ("*.csv", "*.json", "*.parquet", "deltas/*.parquet", "figures/*")
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise InputError(f"{folder}: no results there; build them with snakemake first")
    for path in found:
        print(path)  # noqa: T201
