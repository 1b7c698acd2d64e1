"""Reads a csv, tsv, json, jsonl or parquet file, or lines that match a pattern, as rows of text."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow

from affectlocus.core.errors import InputError, LayoutError
from affectlocus.core.files import matching
from affectlocus.core.regex_timeout import time_limit
from affectlocus.data.delimited_rows import delimited_rows
from affectlocus.data.json_rows import json_rows, text_of, without_surrogates
from affectlocus.data.parquet_rows import parquet_rows
from affectlocus.data.table_limits import check_cells, check_fields
from affectlocus.data.text_encoding import decoded, refuse_pickle

_DELIMITED = {".csv": ",", ".tsv": "\t"}
_PICKLED = (".pkl", ".pickle", ".p", ".joblib", ".npz", ".npy")
# Suffixes of other tables → how to convert them.
_CONVERSIONS = {
    ".xlsx .xls .ods": "; save the sheet as csv",
    ".csd .h5 .hdf5 .mat": "; export texts, labels and ids as csv, one row per sample",
    ".zip .7z .rar .tar .tgz .bz2 .xz .zst": "; unpack it",
    ".txt": "; or set pattern, a regular expression for a line, or rename it to .csv or .tsv",
}
# What the readers of text and parquet raise for a broken file, in addition to `LayoutError`.
_UNREADABLE = (
    ValueError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    MemoryError,
    OSError,
    EOFError,
    zlib.error,
    pyarrow.ArrowException,
)
COUNTED = ("other_lines", "short_rows", "quoted_fields")
"""The keys of `Table.counts`."""
PATIENCE = 60
"""Seconds that a regular expression of params.yaml may take on a file."""


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        rows: columns of text.
        nested: the columns that hold lists or objects.
        counts: `other_lines` → lines that do not match the pattern; `short_rows` → rows of a csv or
            tsv file without values in the last columns; `quoted_fields` → fields of a tsv file
            whose quotation marks were kept although a csv writer may have added them.
    """

    rows: pd.DataFrame
    nested: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def read_table(
    path: Path,
    header: list[str] | None = None,
    delimiter: str | None = None,
    pattern: str | None = None,
    encoding: str = "utf-8",
) -> Table:
    """The rows of a file, every value as text.

    Strings are unchanged. Null and numbers that are not finite are empty. Other values of a JSON
    file are JSON.

    Args:
        path: a csv, tsv, json or jsonl file (or .gz of one) or a parquet file; with `pattern`, a
            text file. With * or ?, every matching file, in order; column `file` holds their stems.
        header: column names of a csv or tsv file without a header.
        delimiter: separator of the columns, if it is neither the comma of csv nor the tab of tsv.
        pattern: a regular expression with named groups; each line that it matches is a row.
        encoding: encoding of a text file.

    Raises:
        InputError: a missing, unknown, pickled, broken or binary file, or one that is not in
            `encoding`.
    """
    paths = matching(path)
    if not paths:
        raise _missing(path)
    tables = [_read(part, header, delimiter, pattern, encoding) for part in paths]
    if paths == [path]:
        return tables[0]
    for part, table in zip(paths, tables, strict=True):
        if "file" not in table.rows.columns:
            table.rows["file"] = part.name.partition(".")[0]
    rows = pd.concat([table.rows for table in tables], ignore_index=True).fillna("")
    if pattern is not None and rows.empty:
        raise LayoutError(
            "table.no-line-matches",
            f"{path}: no line in {len(paths)} files matches the pattern; correct the pattern",
            file=path,
        )
    return Table(
        rows,
        list(dict.fromkeys(name for table in tables for name in table.nested)),
        {key: sum(table.counts.get(key, 0) for table in tables) for key in COUNTED},
    )


def _missing(path: Path) -> LayoutError:
    return LayoutError("table.no-file", f"{path}: no such file; correct the path", file=path)


def _read(
    path: Path, header: list[str] | None, delimiter: str | None, pattern: str | None, encoding: str
) -> Table:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    try:
        _check_kind(path, kind, pattern)
        table = _table(path, kind, header, delimiter, pattern, encoding)
        check_fields(table.rows)
        return table
    except InputError as error:
        raise error.within(path, file=path) from None
    except FileNotFoundError:
        raise _missing(path) from None
    except RecursionError:
        raise LayoutError(
            "table.nested-too-deep",
            f"{path}: cannot be read as {kind[1:]}: lists or objects are nested too deep",
            file=path,
        ) from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        broken_parquet = kind == ".parquet" and isinstance(error, pyarrow.ArrowException)
        if broken_parquet or isinstance(error, EOFError | zlib.error):
            reason += "; it may be truncated: download or write it again"
        raise LayoutError(
            "table.unreadable",
            f"{path}: cannot be read as {kind[1:] or 'text'}: {reason}",
            file=path,
        ) from None


def _check_kind(path: Path, kind: str, pattern: str | None) -> None:
    """Refuses folders, devices, and files with a suffix that is not read.

    Args:
        kind: the suffix in lower case, without .gz.
    """
    expected = "expected a csv, tsv, jsonl or parquet file"
    if path.is_dir():
        raise LayoutError("table.is-a-folder", f"is a folder; {expected}")
    if path.exists() and not path.is_file():
        raise LayoutError("table.not-a-regular-file", f"is not a regular file; {expected}")
    if kind in _PICKLED:
        refuse_pickle(path, kind)
    if pattern is None and kind not in (*_DELIMITED, ".jsonl", ".json", ".parquet"):
        hint = next((advice for kinds, advice in _CONVERSIONS.items() if kind in kinds.split()), "")
        raise LayoutError(
            "table.unknown-suffix",
            f"unknown suffix {kind!r}; expected csv, tsv, jsonl or parquet{hint}",
            found=kind,
        )


def _table(
    path: Path,
    kind: str,
    header: list[str] | None,
    delimiter: str | None,
    pattern: str | None,
    encoding: str,
) -> Table:
    if pattern is None and kind == ".parquet":
        return Table(*parquet_rows(path))
    text = decoded(path, encoding)
    if pattern is not None:
        return _matching_lines(text, pattern)
    if kind in (".jsonl", ".json"):
        return _json_table(text)
    rows, counts = delimited_rows(text, delimiter or _DELIMITED[kind], header)
    return Table(rows, counts=counts)


def _json_table(text: str) -> Table:
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    nested: dict[str, None] = {}
    for row in json_rows(text):
        columns.update(dict.fromkeys(row))
        check_cells(len(rows) + 1, len(columns), len(text))
        rows.append({without_surrogates(key): text_of(value) for key, value in row.items()})
        nested.update({key: None for key, value in row.items() if isinstance(value, list | dict)})
    return Table(pd.DataFrame(rows, dtype=object).fillna(""), list(nested))


def _matching_lines(text: str, pattern: str) -> Table:
    """A row for each line that the pattern matches, a column for each of its named groups."""
    compiled = re.compile(pattern)
    lines = [line for line in text.splitlines() if line.strip()]
    slow = InputError(
        "task.slow-pattern",
        f"the pattern takes longer than {PATIENCE} s on this file; simplify the pattern",
        key="pattern",
    )
    with time_limit(PATIENCE, slow):
        matches = [match.groupdict("") for line in lines if (match := compiled.search(line))]
    if lines and not matches:
        raise LayoutError(
            "table.no-line-matches",
            f"no line matches the pattern; the first line is {lines[0]!r}: correct pattern",
            found=lines[0],
        )
    rows = pd.DataFrame(matches, columns=list(compiled.groupindex), dtype=object)
    return Table(rows, counts={"other_lines": len(lines) - len(matches)})
