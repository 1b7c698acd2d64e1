"""Tables and result files on the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from affectlocus.claims.verdict import UNTESTABLE
from affectlocus.core.errors import InputError, printable
from affectlocus.core.metrics import METRICS
from affectlocus.reporting.brief import brief_of_table, verdict_line
from affectlocus.reporting.terminal_grid import Grid, print_grid, print_wrapped
from affectlocus.scoring.score_tables import NAMES

ALL = "--all shows them"
CONSTANT = " *"
"""The mark of a cell that answers one label throughout."""


def print_table(path: Path, everything: bool = False) -> None:
    """Prints a table's csv with its metric and with numbers aligned to the right.

    If the files of intervals and baselines exist, the dimmed baselines follow. Numbers have two
    decimals; numbers below 0.1 have two significant figures. A cell that answers one label
    throughout is marked. Of a claims.csv the verdicts are printed.

    Args:
        everything: show every column, with all digits of the file.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(
            "result.no-file", f"{path}: no such file; expected a table of results", file=path
        ) from None
    except (OSError, ValueError):
        raise InputError(
            "result.not-csv", f"{path}: not a csv table; expected a table of results", file=path
        ) from None
    if {"claim_set", "level", "verdict"} <= set(frame.columns) and not everything:
        print_claims(pd.read_csv(path, keep_default_na=False, na_values=[""]))
        return
    _print_brief(path)
    metric, baselines = _companions(path, list(frame.columns))
    shown = frame if everything else frame.map(_rounded)
    constant = [] if "top_answer" not in frame else [_is_whole(x) for x in frame["top_answer"]]
    if any(constant) and "modules" in frame:
        shown = shown.assign(
            modules=[
                f"{name}{CONSTANT * one}"
                for name, one in zip(shown["modules"], constant, strict=True)
            ]
        )
    print_frame(shown, f"{path}{metric and f': {metric}'}", baselines, everything, rest=ALL)
    if any(constant):
        print("* answers one label throughout: every sample of a task gets the same")  # noqa: T201


def _print_brief(path: Path) -> None:
    """Prints what the results say of a table's pair, and the verdicts."""
    found = brief_of_table(path)
    if found is None:
        return
    console = Console(highlight=False)
    print(f"{printable(found.pair)} in brief")  # noqa: T201
    for sentence in [*found.warnings, *found.sentences, verdict_line(path.parent / "claims.csv")]:
        print_wrapped(console, sentence, "  ", "- ")
    print()  # noqa: T201


def _is_whole(share: str) -> bool:
    """Whether a share in percent, as text, is 100."""
    try:
        return float(share) >= 99.995
    except ValueError:
        return False


def _rounded(text: str) -> str:
    """A number in a csv with fewer decimals; other text as it is."""
    if not re.fullmatch(r"-?\d+\.\d{3,}", text):
        return text
    number = float(text)
    return f"{number:.2g}" if 0 < abs(number) < 0.1 else f"{number:.2f}"


def print_rows(path: Path, where: Sequence[str], most: int, everything: bool = False) -> None:
    """Prints the rows of a csv or parquet file of results that meet all conditions.

    Args:
        where: conditions COLUMN=VALUE, with the value as it is written in the file.
        most: the maximum number of rows to print.
        everything: print every row, column and digit.

    Raises:
        InputError: the file or a column is missing, a condition has another form, or no row
            fulfils it.
    """
    frame = _any_frame(path)
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals or column not in frame.columns:
            raise InputError(
                "option.no-such-column",
                f"--where {condition}: expected COLUMN=VALUE with one of the columns "
                f"{', '.join(map(str, frame.columns))}",
                option="--where",
                found=condition,
                expected=list(map(str, frame.columns)),
            )
        chosen = frame[frame[column].astype(str) == value]
        if chosen.empty:
            known = list(dict.fromkeys(frame[column].astype(str)))
            raise InputError(
                "option.no-such-row",
                f"--where {condition}: no row has this value; {column} has for example "
                f"{', '.join(known[:5]) or 'no value'}",
                option="--where",
                found=value,
                expected=known,
            )
        frame = chosen
    most = len(frame) if everything else most
    shown = frame.head(most).reset_index(drop=True)
    shown = shown.map(_exact) if everything else shown.apply(_short)
    print_frame(shown, str(path), everything=everything, rest=ALL)
    if len(frame) > most:
        print(f"{most} of {len(frame)} rows; --rows shows more, --all all")  # noqa: T201


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return "" if pd.isna(value) else repr(float(value))
    return value


def _short(column: pd.Series) -> pd.Series:
    """A column with two decimals, or with four significant figures if it has small numbers."""
    if not pd.api.types.is_float_dtype(column):
        return column.map(lambda value: _rounded(value) if isinstance(value, str) else value)
    sizes = column.abs()
    form = ".4g" if ((sizes > 0) & (sizes < 0.05)).any() else ".2f"
    return column.map(lambda value: "" if pd.isna(value) else f"{value:{form}}").astype(str)


def _any_frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(
            "result.no-file",
            f"{path}: no such file; expected a csv or parquet of results",
            file=path,
        ) from None
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise InputError(
            "result.not-a-table",
            f"{path}: neither a csv nor a parquet file of results ({line})",
            file=path,
        ) from None


def print_frame(
    frame: pd.DataFrame,
    title: str,
    below: pd.DataFrame | None = None,
    everything: bool = False,
    **more: str,
) -> None:
    """Prints a table within the width of the terminal, numbers to the right.

    Args:
        below: rows of the same columns that follow, dimmed.
        everything: as in `print_grid`.
        more: attributes of `Grid`.
    """

    def texts(rows: pd.DataFrame | None) -> list[list[str]]:
        if rows is None:
            return []
        return [[_cell(value) for value in row] for row in rows.itertuples(index=False)]

    names = [printable(str(column)) for column in frame.columns]
    print_grid(Grid(names, texts(frame), texts(below), printable(title), **more), everything)


def _companions(path: Path, columns: list[str]) -> tuple[str, pd.DataFrame]:
    """The label of a table's metric, and the baselines in this metric and the table's columns.

    Both are empty without the files of intervals and baselines.
    """
    files = [path.with_name(f"{path.stem}_{kind}.csv") for kind in ("intervals", "baselines")]
    try:
        shown, rows = (pd.read_csv(one, keep_default_na=False, na_values=[""]) for one in files)
        metric = shown["metric"].iloc[0]
        wide = rows[rows["metric"] == metric].pivot_table(
            index="baseline", columns="task", values="value", sort=False
        )
    except (OSError, ValueError, KeyError, IndexError):
        return "", pd.DataFrame(columns=columns)
    wide = wide.reindex(columns=columns).map(lambda value: f"{value:.2f}").replace("nan", "")
    label = METRICS[metric].label if metric in METRICS else str(metric)
    return label, wide.assign(modules=[NAMES.get(str(name), str(name)) for name in wide.index])


def _cell(value: Any) -> str:
    """A value as text; missing values are empty."""
    if isinstance(value, str):
        return printable(value)
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_claims(verdicts: pd.DataFrame) -> None:
    """Prints the experiment's row of every claim; the csv also has the rows behind it."""
    for name, rows in verdicts[verdicts["level"] == "claim"].groupby("claim_set", sort=False):
        _print_claim_set(str(name), rows)
    print("by in brackets: a measure that the claim does not name")  # noqa: T201
    for line in _priors(verdicts):
        print(line)  # noqa: T201


def _print_claim_set(name: str, rows: pd.DataFrame) -> None:
    """Prints a claim in two or three lines: its verdict, its numbers, and the reason."""
    console = Console(highlight=False)
    print(f"claims: {name}")  # noqa: T201
    tested = rows[~rows["verdict"].str.startswith(UNTESTABLE)]
    for row in tested.to_dict("records"):
        by = row["by"] if row["stated"] else f"({row['by']})"
        head = f"{row['claim']:<4} {row['verdict']}, by {by}"
        numbers = ""
        if not pd.isna(row["effect"]):
            numbers = f"{row['effect']:.3g}"
            if not pd.isna(row["low"]):
                numbers += f" ({row['low']:.3g} to {row['high']:.3g})"
            numbers += "" if pd.isna(row["unit"]) else f" {row['unit']}"
        if not pd.isna(row["p_bh"]):
            numbers += f", p (BH) {row['p_bh']:.2g}"
        print_wrapped(console, f"{head}: {numbers}" if numbers else head, "     ")
        print_wrapped(console, row["why"], "     ", "     ")
    folded: dict[str, list[str]] = {}
    for row in rows[rows["verdict"].str.startswith(UNTESTABLE)].to_dict("records"):
        folded.setdefault(str(row["why"]), []).append(str(row["claim"]))
    if folded:
        parts = [f"{', '.join(dict.fromkeys(names))}: {why}" for why, names in folded.items()]
        print_wrapped(console, f"untestable: {'; '.join(parts)}", "     ")


def print_listed_claims(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints claims with text and source, and the cells that an experiment lacks for them."""
    console = Console(highlight=False)
    for name in dict.fromkeys(row["set"] for row in rows):
        print(f"claims: {printable(name)}")  # noqa: T201
        for row in rows:
            if row["set"] == name:
                head = f"{row['claim']:<4} {row['text']}"
                print_wrapped(console, head, "     ")
                about = f"{row['source']}; sha256 {row['claim_sha256'][:12]}"
                print_wrapped(console, about, "     ", "     ")
                if row["missing_cells"]:
                    missing = f"cells not in the matrix: {'; '.join(row['missing_cells'])}"
                    print_wrapped(console, missing, "     ", "     ")


def _priors(verdicts: pd.DataFrame) -> list[str]:
    """How the variances of each unit of measurement were moderated, and the check of it."""
    lines = []
    replicated = verdicts[verdicts["prior_sd"].notna()]
    for unit, rows in replicated.groupby("unit", sort=False):
        plain = rows.loc[rows["variance"].str.endswith("plain"), "contrast"].nunique()
        df = rows["prior_df"].max()
        lines.append(
            f"variances in {unit}: the prior expects a standard deviation of "
            f"{rows['prior_sd'].iloc[0]:.3g}, with {df:.1f} degrees of freedom"
            + (f"; {plain} contrasts differ from it and keep their own" if plain else "")
        )
    return lines


def print_results(folder: Path) -> None:
    """Prints the paths of tables, scores, deltas and figures."""
    patterns = ("*.csv", "*.json", "*.parquet", "deltas/*.parquet", "figures/*")
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise InputError("result.none", f"{folder}: no results; run snakemake first", file=folder)
    for path in found:
        print(path)  # noqa: T201
