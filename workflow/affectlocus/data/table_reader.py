"""Reads a csv, tsv, json, jsonl or parquet file, or lines that match a pattern, as rows of text."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
import zlib
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd
import pyarrow

from affectlocus.core.errors import InputError, LayoutError
from affectlocus.core.files import matching
from affectlocus.core.regex_timeout import time_limit
from affectlocus.data.json_rows import json_rows, text_of, without_surrogates
from affectlocus.data.parquet_rows import parquet_rows
from affectlocus.data.quoting import is_quoted, quoted_fields, unescaped_line
from affectlocus.data.table_limits import (
    check_cells,
    check_field_lengths,
    check_fields,
    check_names,
)
from affectlocus.data.text_encoding import decoded, pickle_refusal

_DELIMITED = {".csv": ",", ".tsv": "\t"}
# Suffixes of other tables → how to convert them.
_CONVERSIONS = {
    ".xlsx .xls .ods": "; save the sheet as csv",
    ".csd .h5 .hdf5 .mat": "; export texts, labels and ids as csv, one row per sample",
    ".zip .7z .rar .tar .tgz .bz2 .xz .zst": "; unpack it",
    ".txt": "; or set pattern, a regular expression for a line, or rename it to .csv or .tsv",
}
COUNTED = ("other_lines", "short_rows", "quoted_fields")
"""The counts in `attrs` of the frame that `read_rows` returns."""
PATIENCE = 60
"""Seconds that a regular expression of params.yaml may take on a file."""

_PICKLED = (".pkl", ".pickle", ".p", ".joblib", ".npz", ".npy")

Quoting: TypeAlias = Literal[0, 3]
"""csv.QUOTE_MINIMAL or csv.QUOTE_NONE."""


def read_rows(
    path: Path,
    header: list[str] | None = None,
    delimiter: str | None = None,
    pattern: str | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
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

    Returns:
        Columns of text. `attrs["other_lines"]` counts lines that do not match the pattern,
        `attrs["short_rows"]` rows of a csv or tsv file without values in the last columns,
        `attrs["quoted_fields"]` fields of a tsv file whose quotation marks were kept although a csv
        writer may have added them. `attrs["nested"]` lists columns that hold lists or objects.

    Raises:
        InputError: a missing, unknown, pickled, broken or binary file, or one that is not in
            `encoding`.
    """
    paths = matching(path)
    if paths == [path]:
        return _read(path, header, delimiter, pattern, encoding)
    if not paths:
        raise LayoutError(f"{path}: no such file; correct the path")
    frames = [_read(part, header, delimiter, pattern, encoding) for part in paths]
    counts = {key: sum(frame.attrs.get(key, 0) for frame in frames) for key in COUNTED}
    nested = {name: None for frame in frames for name in frame.attrs.get("nested", [])}
    for part, frame in zip(paths, frames, strict=True):
        if "file" not in frame.columns:
            frame["file"] = part.name.partition(".")[0]
        frame.attrs.clear()
    if pattern is not None and not sum(map(len, frames)):
        raise LayoutError(
            f"{path}: no line in {len(paths)} files matches the pattern; correct the pattern"
        )
    rows = pd.concat(frames, ignore_index=True).fillna("")
    rows.attrs |= counts | {"nested": list(nested)}
    return rows


def _likely_delimiter(line: str) -> str | None:
    """The most frequent separator in the first line of a file, if it has one."""
    counts = {mark: line.count(mark) for mark in (";", "\t", "|", ",")}
    most = max(counts, key=counts.__getitem__)
    return most if counts[most] else None


def delimiter_hint(line: str) -> str:
    """The end of a message about a file with a wrong number of columns.

    Args:
        line: its first line, or its only column name.
    """
    mark = _likely_delimiter(line)
    if mark is None:
        return "; check delimiter"
    return (
        f"; {mark!r} seems to separate its columns: save it with commas or, if it is a file of a "
        f"task, set delimiter: {json.dumps(mark)} in params.yaml"
    )


def _read(
    path: Path, header: list[str] | None, delimiter: str | None, pattern: str | None, encoding: str
) -> pd.DataFrame:
    if path.is_dir():
        raise LayoutError(f"{path}: is a folder; expected a csv, tsv, jsonl or parquet file")
    if path.exists() and not path.is_file():
        raise LayoutError(
            f"{path}: is not a regular file; expected a csv, tsv, jsonl or parquet file"
        )
    rows = _rows(path, header, delimiter, pattern, encoding)
    check_fields(path, rows)
    return rows


def _rows(
    path: Path, header: list[str] | None, delimiter: str | None, pattern: str | None, encoding: str
) -> pd.DataFrame:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind in _PICKLED:
        raise LayoutError(pickle_refusal(path, kind))
    if pattern is None and kind not in (*_DELIMITED, ".jsonl", ".json", ".parquet"):
        hint = next((advice for kinds, advice in _CONVERSIONS.items() if kind in kinds.split()), "")
        raise LayoutError(
            f"{path}: unknown suffix {kind!r}; expected csv, tsv, jsonl or parquet{hint}"
        )
    try:
        if pattern is None and kind == ".parquet":
            return parquet_rows(path)
        text = decoded(path, encoding)
        if pattern is not None:
            return _lines(path, text, pattern)
        if kind in (".jsonl", ".json"):
            return _json_rows(text)
        # The default limit of csv, 128 KiB, is smaller than an interview may be.
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        with warnings.catch_warnings():
            # pandas would drop or shift the fields of a row that has more of them than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            sep = delimiter or _DELIMITED[kind]
            # In a tsv file quotation marks may be part of the texts.
            plain = sep == "\t" and not is_quoted(text)
            if plain and header is None and (line_number := unescaped_line(text)):
                raise ValueError(
                    f"line {line_number} is not written as csv, but the header is: a quotation "
                    "mark in a field is not doubled, or the field is not closed; double it or "
                    "close the field, or write all fields without quotation marks around them"
                )
            quoting: Quoting = 3 if plain else 0
            first = text.partition("\n")[0]
            columns = first.count(sep) + 1 if header is None else len(header)
            check_cells(text.count("\n") + 1, columns, len(text))
            check_field_lengths(path, text, (sep, "\n", "\r"))
            if header is None:
                check_names(_first_row(text, sep, quoting))
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
            rows.attrs["quoted_fields"] = quoted_fields(text) if plain else 0
            rows.attrs["short_rows"] = _short_rows(text, sep, quoting, rows.shape[1])
            return rows
    except FileNotFoundError:
        raise LayoutError(f"{path}: no such file; correct the path") from None
    except RecursionError:
        raise LayoutError(
            f"{path}: cannot be read as {kind[1:]}: lists or objects are nested too deep"
        ) from None
    except LayoutError:
        raise
    except (
        ValueError,
        LookupError,
        ArithmeticError,
        NotImplementedError,
        MemoryError,
        OSError,
        EOFError,
        zlib.error,
        pd.errors.ParserWarning,
        pyarrow.ArrowException,
    ) as error:
        line = " ".join(str(error).split())
        if isinstance(error, pd.errors.ParserWarning | pd.errors.ParserError):
            line = _parse_problem(text, sep, quoting, header)
        elif isinstance(error, pd.errors.EmptyDataError):
            line = "the file is empty; expected a header and rows"
        elif isinstance(error, EOFError | zlib.error) or (
            kind == ".parquet" and isinstance(error, pyarrow.ArrowException)
        ):
            line += "; it may be truncated: download or write it again"
        raise LayoutError(f"{path}: cannot be read as {kind[1:] or 'text'}: {line}") from None


def _parse_problem(text: str, delimiter: str, quoting: Quoting, header: list[str] | None) -> str:
    """The reason why pandas could not parse the rows of a file, for a message."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    first = text.partition("\n")[0]
    hint = f"; put quotation marks around fields that contain {delimiter!r}, or correct delimiter"
    if delimiter not in first:
        hint = delimiter_hint(first)
    columns = 0 if header is None else len(header)
    opened = 0
    for fields in lines:
        columns = columns or len(fields)
        if len(fields) > columns and not any(fields[columns:]):
            return (
                f"line {lines.line_num} ends with {delimiter!r}, so it has {len(fields)} fields, "
                f"but the header has {columns}; remove {delimiter!r} from the ends of lines, or "
                "add it to the end of the header"
            )
        if len(fields) > columns:
            return (
                f"line {lines.line_num} has {len(fields)} fields, but the header has "
                f"{columns}{hint}"
            )
        # A row with line breaks in it may start with the quotation mark that is never closed.
        opened = opened if any("\n" in field for field in fields) else lines.line_num
    return f"a quotation mark after line {opened} is not closed; close it, or double it"


def _short_rows(text: str, delimiter: str, quoting: Quoting, columns: int) -> int:
    """Number of rows with fewer fields than columns; pandas reads the missing fields as empty."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    return sum(0 < len(fields) < columns for fields in lines)


def _json_rows(text: str) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    nested: dict[str, None] = {}
    for row in json_rows(text):
        columns.update(dict.fromkeys(row))
        check_cells(len(rows) + 1, len(columns), len(text))
        rows.append({without_surrogates(key): text_of(value) for key, value in row.items()})
        nested.update({key: None for key, value in row.items() if isinstance(value, list | dict)})
    frame = pd.DataFrame(rows, dtype=object).fillna("")
    frame.attrs["nested"] = list(nested)
    return frame


def _first_row(text: str, delimiter: str, quoting: Quoting) -> list[str]:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    return next((fields for fields in lines if fields), [])


def _lines(path: Path, text: str, pattern: str) -> pd.DataFrame:
    """A row for each line that the pattern matches, a column for each of its named groups."""
    compiled = re.compile(pattern)
    lines = [line for line in text.splitlines() if line.strip()]
    slow = InputError(
        "task.slow-pattern",
        f"{path}: the pattern takes longer than {PATIENCE} s on this file; simplify the pattern",
        file=path,
        key="pattern",
    )
    with time_limit(PATIENCE, slow):
        found = [match.groupdict("") for line in lines if (match := compiled.search(line))]
    if lines and not found:
        raise LayoutError(
            f"{path}: no line matches the pattern; the first line is {lines[0]!r}: correct pattern"
        )
    rows = pd.DataFrame(found, columns=list(compiled.groupindex), dtype=object)
    rows.attrs["other_lines"] = len(lines) - len(found)
    return rows
