"""A table on disk, as its owner keeps it, into rows of text: csv, tsv, jsonl, parquet, or lines."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from affectlocus.decode import decoded, pickled
from affectlocus.errors import LayoutError
from affectlocus.files import matching

_DELIMITED = {".csv": ",", ".tsv": "\t"}
# What stands for a table in other forms: how it becomes one.
_TURNED = {
    ".xlsx .xls .ods": "; save the sheet as csv",
    ".csd .h5 .hdf5 .mat": "; write texts, labels and ids out of it as csv, a row each",
    ".zip .7z .rar .tar .tgz .bz2 .xz .zst": "; unpack it",
    ".txt": "; or give pattern, a regular expression for a line, or name it .csv or .tsv",
}
COUNTED = ("other_lines", "short_rows")
"""What `read_rows` counts in `attrs`."""

_PICKLED = (".pkl", ".pickle", ".p", ".joblib", ".npz", ".npy")


Quoting: TypeAlias = Literal[0, 3]
"""csv's constants: quotation marks where they are needed, or none."""


def read_rows(
    path: Path,
    header: list[str] | None = None,
    delimiter: str | None = None,
    pattern: str | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    """The rows of a file, every value as text: strings as they are, null as nothing, else JSON.

    Args:
        path: a csv, tsv or jsonl file (or .gz of one) or a parquet file; a text file if there is a
            pattern. With * or ?, every file that fits, in order, their stems in a column `file`.
        header: column names of a csv or tsv that has none.
        delimiter: what separates its columns, where it is neither comma nor tab.
        pattern: a regular expression with named groups; each line that it finds is a row.
        encoding: how characters are stored; parquet knows by itself.

    Returns:
        Columns of text; `attrs["other_lines"]` counts lines that the pattern did not find,
        `attrs["short_rows"]` rows of a csv or tsv that lack their last fields, which are empty.

    Raises:
        InputError: an unknown or pickled kind of file, no text, a broken one, one that is not in
            `encoding`.
    """
    paths = matching(path)
    if paths == [path]:
        return _read(path, header, delimiter, pattern, encoding)
    if not paths:
        raise LayoutError(f"{path}: no such file; correct the path")
    frames = [_read(each, header, delimiter, pattern, encoding) for each in paths]
    counts = {key: sum(frame.attrs.get(key, 0) for frame in frames) for key in COUNTED}
    for each, frame in zip(paths, frames, strict=True):
        if "file" not in frame.columns:
            frame["file"] = each.name.partition(".")[0]
        frame.attrs.clear()
    if pattern is not None and not sum(map(len, frames)):
        raise LayoutError(f"{path}: no line in {len(paths)} files is as the pattern says")
    rows = pd.concat(frames, ignore_index=True).fillna("")
    rows.attrs |= counts
    return rows


def separator(line: str) -> str | None:
    """What else than the delimiter seems to stand between the columns of a file's first line."""
    found = {mark: line.count(mark) for mark in (";", "\t", "|", ",")}
    most = max(found, key=found.__getitem__)
    return most if found[most] else None


def separated(line: str) -> str:
    """The end of a sentence about a file that has too few columns, or too many."""
    mark = separator(line)
    if mark is None:
        return "; is delimiter right?"
    return (
        f"; {mark!r} seems to stand between its columns: save it with commas, or set delimiter: "
        f"{json.dumps(mark)} beside its path in params.yaml"
    )


def _read(
    path: Path, header: list[str] | None, delimiter: str | None, pattern: str | None, encoding: str
) -> pd.DataFrame:
    if path.is_dir():
        raise LayoutError(f"{path}: is a folder; expected a file: csv, tsv, jsonl or parquet")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind in _PICKLED:
        raise LayoutError(pickled(path, kind))
    if pattern is None and kind not in (*_DELIMITED, ".jsonl", ".json", ".parquet"):
        hint = next((said for kinds, said in _TURNED.items() if kind in kinds.split()), "")
        raise LayoutError(
            f"{path}: unknown kind of file {kind!r}; expected csv, tsv, jsonl or parquet{hint}"
        )
    try:
        if pattern is None and kind == ".parquet":
            return _parquet_rows(path)
        text = decoded(path, encoding)
        if pattern is not None:
            return _lines(path, text, pattern)
        if kind in (".jsonl", ".json"):
            return _json_rows(text)
        with warnings.catch_warnings():
            # A row with more fields than the header would lose or shift them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            sep = delimiter or _DELIMITED[kind]
            # In running text between tabs a quotation mark is a quotation mark.
            plain = delimiter is None if kind == ".tsv" else delimiter == "\t"
            quoting: Quoting = 3 if plain else 0
            rows = pd.read_csv(
                io.StringIO(text, newline=""),
                sep=sep,
                names=header,
                index_col=False,
                dtype=str,
                keep_default_na=False,
                quoting=quoting,
            )
            rows = rows.fillna("")
            rows.attrs["short_rows"] = _short_rows(text, sep, quoting, rows.shape[1])
            return rows
    except FileNotFoundError:
        raise LayoutError(f"{path}: no such file; correct the path") from None
    except (ValueError, OSError, EOFError, zlib.error, pd.errors.ParserWarning) as error:
        line = " ".join(str(error).split())
        if isinstance(error, pd.errors.ParserWarning | pd.errors.ParserError):
            line = _uneven(text, sep, quoting, header)
        elif isinstance(error, pd.errors.EmptyDataError):
            line = "it is empty; expected a header, and rows below it"
        elif isinstance(error, EOFError | zlib.error) or kind == ".parquet":
            line += "; it may have been cut, so fetch or write it again"
        raise LayoutError(f"{path}: cannot be read as {kind[1:] or 'text'}: {line}") from None


def _uneven(text: str, delimiter: str, quoting: Quoting, header: list[str] | None) -> str:
    """Why pandas could not lay the rows of a file out, in words."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    first = text.partition("\n")[0]
    hint = f"; put quotation marks around a field with {delimiter!r} in it, if delimiter is right"
    if delimiter not in first:
        hint = separated(first)
    columns = 0 if header is None else len(header)
    opened = 0
    for fields in lines:
        columns = columns or len(fields)
        if len(fields) > columns:
            where = f"line {lines.line_num} has {len(fields)} fields, its header {columns}"
            return f"its rows have more fields than its header ({where}){hint}"
        # A row that swallowed lines is one whose quotation mark is never closed.
        opened = opened if any("\n" in field for field in fields) else lines.line_num
    return f"a quotation mark behind line {opened} is opened and never closed"


def _short_rows(text: str, delimiter: str, quoting: Quoting, columns: int) -> int:
    """Rows that lack their last fields, which pandas does not tell from empty ones."""
    # csv's own limit, 128 KiB, is less than an interview may have.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    return sum(0 < len(fields) < columns for fields in lines)


def _json_rows(text: str) -> pd.DataFrame:
    """A JSON object a line."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        rows.append({key: _text(value) for key, value in row.items()})
    return pd.DataFrame(rows, dtype=object).fillna("")


def _parquet_rows(path: Path) -> pd.DataFrame:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    columns = {
        name: [_text(value) for value in table.column(name).to_pylist()]
        for name in table.column_names
    }
    return pd.DataFrame(columns, dtype=object)


def _lines(path: Path, text: str, pattern: str) -> pd.DataFrame:
    """A row for each line that the pattern finds, a column for each of its named groups."""
    compiled = re.compile(pattern)
    lines = [line for line in text.splitlines() if line.strip()]
    found = [match.groupdict("") for line in lines if (match := compiled.search(line))]
    if lines and not found:
        raise LayoutError(f"{path}: no line is as the pattern says; its first is {lines[0]!r}")
    rows = pd.DataFrame(found, columns=list(compiled.groupindex), dtype=object)
    rows.attrs["other_lines"] = len(lines) - len(found)
    return rows


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
