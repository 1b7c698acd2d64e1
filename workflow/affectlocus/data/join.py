"""Joins the table of a task with another file by an id: transcripts, labels, dialogue lines."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affectlocus.config.files import Gather, Join
from affectlocus.config.tasks import Columns
from affectlocus.core.errors import InputError, LayoutError
from affectlocus.core.files import matching
from affectlocus.core.regex_timeout import time_limit
from affectlocus.data.columns import PARTNER, check_columns, check_texts
from affectlocus.data.table_reader import PATIENCE, read_rows


def joined_rows(join: Join, files: dict[str, Path], wanted: Columns) -> tuple[Path, pd.DataFrame]:
    """The path of the joined file, and its rows with their id as the index.

    Args:
        files: split, `all` or `join` → file.
        wanted: the columns of the task.

    Raises:
        InputError: the file is not given, lacks a column, or has several rows of one id.
    """
    if "join" not in files:
        raise InputError(f"join: the file {join.file} is missing; give it with --join")
    path = files["join"]
    rows = read_rows(path, join.header, join.delimiter, join.pattern, join.encoding)
    check_texts(path, wanted, rows.attrs.get("nested", []))
    rows.attrs.clear()
    key = join.key or join.on
    check_columns(path, rows, [key, *(join.columns or [])])
    if join.part is not None:
        rows[key] = _parts(path, rows[key], key, join.part)
    if join.gather is not None:
        return path, _gathered(path, rows, key, join.gather)
    rows = rows[[key, *(join.columns or [name for name in rows.columns if name != key])]]
    if not join.columns and matching(path) != [path]:
        # Added by `read_rows` for a path with * or ?; the other table may have it as well.
        rows = rows.drop(columns="file")
    rows = rows.drop_duplicates()
    duplicates = rows[key][rows[key].duplicated()]
    if len(duplicates):
        raise LayoutError(
            f"{path}: duplicate {key} {duplicates.iloc[0]!r} with different values; keep one of "
            "its rows"
        )
    return path, rows.set_index(key)


def _parts(path: Path, values: pd.Series, column: str, pattern: str) -> pd.Series:
    """The part of each value that the only group of the pattern matches."""
    slow = InputError(
        "task.slow-pattern",
        f"{path}: join.part takes longer than {PATIENCE} s; simplify the pattern",
        file=path,
        key="join.part",
    )
    with time_limit(PATIENCE, slow):
        parts = values.str.extract(pattern, expand=False)
    if parts.isna().any():
        raise LayoutError(
            f"{path}: {column} {values[parts.isna()].iloc[0]!r} does not match join.part "
            f"({pattern}); correct join.part"
        )
    return parts


def _gathered(path: Path, rows: pd.DataFrame, key: str, gather: Gather) -> pd.DataFrame:
    """One row per id: its selected lines, joined in the order of the file; empty without any."""
    check_columns(path, rows, [gather.column, *gather.where, gather.speaker])
    selected = rows[gather.column].str.strip() != ""
    for column, values in gather.where.items():
        known = rows[column].isin(values)
        if not known.any():
            found = ", ".join(map(repr, sorted(rows[column].unique())[:10]))
            raise LayoutError(
                f"{path}: no row where {column} is {', '.join(map(repr, values))}; found {found}: "
                "correct join.gather.where"
            )
        selected &= known
    lines = rows[gather.column].str.strip()
    if gather.speaker is not None:
        lines = rows[gather.speaker] + ": " + lines
    texts = lines[selected].groupby(rows[key][selected], sort=False).agg("\n".join)
    return texts.reindex(rows[key].unique(), fill_value="").to_frame(gather.column)


def join_rows(
    path: Path, rows: pd.DataFrame, join: Join, joined: tuple[Path, pd.DataFrame]
) -> pd.DataFrame:
    """The rows with the columns of the joined file, and `PARTNER`; without a match, empty.

    Args:
        joined: the result of `joined_rows`.

    Raises:
        LayoutError: a column that both files have; no id in common.
    """
    other, found = joined
    check_columns(path, rows, [join.on])
    if both := [name for name in found.columns if name in rows.columns]:
        raise LayoutError(
            f"{other}: column {both[0]!r} is also in {path.name}; list the columns to take from "
            "it as join.columns"
        )
    matched = rows[join.on].isin(found.index)
    if not matched.any():
        ours, theirs = ([*ids[:1].map(repr), "missing"][0] for ids in (rows[join.on], found.index))
        raise LayoutError(
            f"{other}: none of its ids is in {path.name}: the first {join.on} in {path.name} is "
            f"{ours}, the first id in {other.name} is {theirs}; check join.on and join.key"
        )
    return rows.join(found, on=join.on).fillna("").assign(**{PARTNER: matched})
