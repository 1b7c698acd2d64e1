"""Joins the table of a task with another file by an id: transcripts, labels, dialogue lines."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affectlocus.config.files import Gather, Join
from affectlocus.config.tasks import Columns
from affectlocus.core.errors import InputError, LayoutError
from affectlocus.core.files import matching
from affectlocus.core.regex_timeout import time_limit
from affectlocus.data.columns import PARTNER, check_columns, check_texts, naming
from affectlocus.data.table_reader import PATIENCE, read_table


def joined_rows(join: Join, files: dict[str, Path], wanted: Columns) -> tuple[Path, pd.DataFrame]:
    """The path of the joined file, and its rows with their id as the index.

    Args:
        files: split, `all` or `join` → file.
        wanted: the columns of the task.

    Raises:
        InputError: the file is not given, lacks a column, or has several rows of one id.
    """
    if "join" not in files:
        raise InputError(
            "join.no-file",
            f"join: the file {join.file} is missing; give it with --join",
            expected=join.file,
        )
    path = files["join"]
    table = read_table(path, join.header, join.delimiter, join.pattern, join.encoding)
    with naming(path):
        check_texts(wanted, table.nested)
        return path, _partners(table.rows, join, with_file_column=matching(path) != [path])


def _partners(rows: pd.DataFrame, join: Join, with_file_column: bool) -> pd.DataFrame:
    """The rows that are joined, with their id as the index.

    Args:
        with_file_column: whether `read_table` added the column `file`, for a path with * or ?.
    """
    key = join.key or join.on
    check_columns(rows, [key, *(join.columns or [])])
    if join.part is not None:
        rows[key] = _parts(rows[key], key, join.part)
    if join.gather is not None:
        return _gathered(rows, key, join.gather)
    rows = rows[[key, *(join.columns or [name for name in rows.columns if name != key])]]
    if not join.columns and with_file_column:
        # The other table may have it as well.
        rows = rows.drop(columns="file")
    rows = rows.drop_duplicates()
    duplicates = rows[key][rows[key].duplicated()]
    if len(duplicates):
        raise LayoutError(
            "join.duplicate-id",
            f"duplicate {key} {duplicates.iloc[0]!r} with different values; keep one of its rows",
            column=key,
            found=duplicates.iloc[0],
        )
    return rows.set_index(key)


def _parts(values: pd.Series, column: str, pattern: str) -> pd.Series:
    """The part of each value that the only group of the pattern matches."""
    slow = InputError(
        "task.slow-pattern",
        f"join.part takes longer than {PATIENCE} s; simplify the pattern",
        key="join.part",
    )
    with time_limit(PATIENCE, slow):
        parts = values.str.extract(pattern, expand=False)
    if parts.isna().any():
        value = values[parts.isna()].iloc[0]
        raise LayoutError(
            "join.part-without-match",
            f"{column} {value!r} does not match join.part ({pattern}); correct join.part",
            column=column,
            found=value,
            expected=pattern,
        )
    return parts


def _gathered(rows: pd.DataFrame, key: str, gather: Gather) -> pd.DataFrame:
    """One row per id: its selected lines, joined in the order of the file; empty without any."""
    check_columns(rows, [gather.column, *gather.where, gather.speaker])
    selected = rows[gather.column].str.strip() != ""
    for column, values in gather.where.items():
        known = rows[column].isin(values)
        if not known.any():
            found = sorted(rows[column].unique())[:10]
            raise LayoutError(
                "join.no-row-where",
                f"no row where {column} is {', '.join(map(repr, values))}; found "
                f"{', '.join(map(repr, found))}: correct join.gather.where",
                column=column,
                found=found,
                expected=values,
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
    other, partners = joined
    with naming(path):
        check_columns(rows, [join.on])
    if both := [name for name in partners.columns if name in rows.columns]:
        raise LayoutError(
            "join.column-in-both",
            f"{other}: column {both[0]!r} is also in {path.name}; list the columns to take from "
            "it as join.columns",
            file=other,
            column=both[0],
        )
    matched = rows[join.on].isin(partners.index)
    if not matched.any():
        ours, theirs = (next(iter(ids), None) for ids in (rows[join.on], partners.index))
        first, second = ("missing" if id_ is None else repr(id_) for id_ in (ours, theirs))
        raise LayoutError(
            "join.no-common-id",
            f"{other}: none of its ids is in {path.name}: the first {join.on} in {path.name} is "
            f"{first}, the first id in {other.name} is {second}; check join.on and join.key",
            file=other,
            column=join.on,
            found=theirs,
            expected=ours,
        )
    return rows.join(partners, on=join.on).fillna("").assign(**{PARTNER: matched})
