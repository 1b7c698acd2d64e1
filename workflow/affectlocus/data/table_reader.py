"""A table on disk, as its owner keeps it, into rows of text: csv, tsv, jsonl, parquet, or lines."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd
import pyarrow

from affectlocus.core.errors import LayoutError
from affectlocus.core.files import matching
from affectlocus.core.regex_timeout import time_limit
from affectlocus.data.json_rows import json_rows, text_of, whole
from affectlocus.data.quoting import is_quoted, quoted_fields
from affectlocus.data.text_encoding import LARGEST, decoded, pickled

_DELIMITED = {".csv": ",", ".tsv": "\t"}
# What stands for a table in other forms: how it becomes one.
_TURNED = {
    ".xlsx .xls .ods": "; save the sheet as csv",
    ".csd .h5 .hdf5 .mat": "; write texts, labels and ids out of it as csv, a row each",
    ".zip .7z .rar .tar .tgz .bz2 .xz .zst": "; unpack it",
    ".txt": "; or give pattern, a regular expression for a line, or name it .csv or .tsv",
}
COUNTED = ("other_lines", "short_rows", "quoted_fields")
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
    """The rows of a file, every value as text.

    Strings stay as they are, null and NaN become empty, other values of a JSON file are JSON.

    Args:
        path: a csv, tsv, json or jsonl file (or .gz of one) or a parquet file; a text file if there
            is a pattern. With * or ?, every file that fits, in order, their stems in column `file`.
        header: column names of a csv or tsv that has none.
        delimiter: what separates its columns, where it is neither comma nor tab.
        pattern: a regular expression with named groups; each line that it finds is a row.
        encoding: how characters are stored; parquet knows by itself.

    Returns:
        Columns of text; `attrs["other_lines"]` counts lines that the pattern did not find,
        `attrs["short_rows"]` rows of a csv or tsv that lack their last fields, which are empty,
        `attrs["quoted_fields"]` fields of a tsv that keep marks which its format may have added.
        `attrs["nested"]` lists columns that hold lists or objects.

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
    nested = {name: None for frame in frames for name in frame.attrs.get("nested", [])}
    for each, frame in zip(paths, frames, strict=True):
        if "file" not in frame.columns:
            frame["file"] = each.name.partition(".")[0]
        frame.attrs.clear()
    if pattern is not None and not sum(map(len, frames)):
        raise LayoutError(f"{path}: no line in {len(paths)} files is as the pattern says")
    rows = pd.concat(frames, ignore_index=True).fillna("")
    rows.attrs |= counts | {"nested": list(nested)}
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
    if path.exists() and not path.is_file():
        raise LayoutError(f"{path}: no plain file; expected csv, tsv, jsonl or parquet")
    rows = _rows(path, header, delimiter, pattern, encoding)
    _check_texts(path, rows)
    return rows


def _rows(
    path: Path, header: list[str] | None, delimiter: str | None, pattern: str | None, encoding: str
) -> pd.DataFrame:
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
        # csv's own limit, 128 KiB, is less than an interview may have.
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        with warnings.catch_warnings():
            # A row with more fields than the header would lose or shift them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            sep = delimiter or _DELIMITED[kind]
            # In running text between tabs a quotation mark may be a quotation mark.
            plain = sep == "\t" and not is_quoted(text)
            quoting: Quoting = 3 if plain else 0
            first = text.partition("\n")[0]
            columns = first.count(sep) + 1 if header is None else len(header)
            _check_cells(text.count("\n") + 1, columns, len(text))
            _check_runs(path, text, (sep, "\n", "\r"))
            if header is None:
                _check_names(_first_row(text, sep, quoting))
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
        raise LayoutError(f"{path}: cannot be read as {kind[1:]}: nested too deep") from None
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
            line = _uneven(text, sep, quoting, header)
        elif isinstance(error, pd.errors.EmptyDataError):
            line = "it is empty; expected a header, and rows below it"
        elif isinstance(error, EOFError | zlib.error) or (
            kind == ".parquet" and isinstance(error, pyarrow.ArrowException)
        ):
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
        if len(fields) > columns and not any(fields[columns:]):
            return (
                f"line {lines.line_num} ends with {delimiter!r}, so it has {len(fields)} fields, "
                f"its header {columns}; remove {delimiter!r} at the ends of lines, or end the "
                "header with it too"
            )
        if len(fields) > columns:
            where = f"line {lines.line_num} has {len(fields)} fields, its header {columns}"
            return f"its rows have more fields than its header ({where}){hint}"
        # A row that swallowed lines is one whose quotation mark is never closed.
        opened = opened if any("\n" in field for field in fields) else lines.line_num
    return f"a quotation mark after line {opened} is opened and never closed"


def _short_rows(text: str, delimiter: str, quoting: Quoting, columns: int) -> int:
    """Rows that lack their last fields, which pandas does not tell from empty ones."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    return sum(0 < len(fields) < columns for fields in lines)


def _json_rows(text: str) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    nested: dict[str, None] = {}
    for row in json_rows(text):
        columns.update(dict.fromkeys(row))
        _check_cells(len(rows) + 1, len(columns), len(text))
        rows.append({whole(key): text_of(value) for key, value in row.items()})
        nested.update({key: None for key, value in row.items() if isinstance(value, list | dict)})
    frame = pd.DataFrame(rows, dtype=object).fillna("")
    frame.attrs["nested"] = list(nested)
    return frame


def _parquet_rows(path: Path) -> pd.DataFrame:
    import pyarrow.parquet
    import pyarrow.types

    file = pyarrow.parquet.ParquetFile(path)
    texts = [field.name for field in file.schema_arrow if _variable(field.type)]
    # Each value once, with numbers for its places: they are counted before a text is made of each.
    file = pyarrow.parquet.ParquetFile(path, read_dictionary=texts)
    about, names = file.metadata, file.schema_arrow.names
    _check_cells(about.num_rows, len(names))
    _check_names(names)
    sizes = (about.row_group(group).total_byte_size for group in range(about.num_row_groups))
    _check_size(sum(max(size, 0) for size in sizes))
    columns: dict[str, list[str]] = {name: [] for name in names}
    size = 0
    # By some rows at a time: a value that stands a million times is stored once.
    for batch in file.iter_batches(batch_size=_BATCH):
        size += sum(_unpacked(values) for values in batch.columns)
        _check_size(size)
    for batch in file.iter_batches(batch_size=_BATCH):
        for name, values in zip(names, batch.columns, strict=True):
            columns[name] += [text_of(value) for value in values.to_pylist()]
    rows = pd.DataFrame(columns, dtype=object)
    rows.attrs["nested"] = [
        field.name for field in file.schema_arrow if pyarrow.types.is_nested(field.type)
    ]
    return rows


def _variable(kind: pyarrow.DataType) -> bool:
    """Whether a type's values are as long as they like."""
    import pyarrow.types

    texts = (pyarrow.types.is_string, pyarrow.types.is_large_string)
    return any(test(kind) for test in (*texts, pyarrow.types.is_binary))


def _unpacked(values: pyarrow.Array) -> int:
    """Bytes of a column's values, each counted as often as it stands there."""
    import pyarrow.compute
    import pyarrow.types

    if not pyarrow.types.is_dictionary(values.type) or not _variable(values.type.value_type):
        return int(values.nbytes)
    lengths = pyarrow.compute.binary_length(values.dictionary)
    return int(pyarrow.compute.sum(lengths.take(values.indices)).as_py() or 0)


def _check_names(names: list[str]) -> None:
    """Refuses duplicate columns, of which the second would be lost; several may have no name."""
    for name, count in Counter(names).items():
        if count > 1 and name:
            raise ValueError(f"two columns are named {name!r}; rename one")


def _first_row(text: str, delimiter: str, quoting: Quoting) -> list[str]:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    return next((fields for fields in lines if fields), [])


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise ValueError(
            f"it holds more than {LARGEST >> 20} MiB, which is not read at once; keep the rows and "
            "columns that are asked"
        )


def _check_cells(rows: int, columns: int, written: int = 0) -> None:
    """Refuses what a few bytes can describe and no memory holds.

    Args:
        written: characters of the text; a field that is there takes one at least.
    """
    if columns > _COLUMNS:
        raise ValueError(f"it has {columns} columns; expected {_COLUMNS} at most")
    if rows * columns > max(_CELLS, written):
        raise ValueError(
            f"{rows} rows of {columns} columns; expected {_CELLS:.0e} fields at most: keep those "
            "that are asked"
        )


def _check_texts(path: Path, rows: pd.DataFrame) -> None:
    """Refuses a field longer than any text that is asked, and names that tables of ours have."""
    if odd := next((name for name in rows.columns if "\0" in str(name)), None):
        raise LayoutError(f"{path}: the column {odd!r} has a NUL in its name; rename it")
    for name in rows.columns:
        longest = int(rows[name].str.len().max() or 0) if len(rows) else 0
        if longest > _FIELD:
            raise LayoutError(
                f"{path}: a field of column {name!r} has {longest} characters; expected "
                f"{_FIELD} at most, which no prompt holds: is a quotation mark never closed?"
            )


def _check_runs(path: Path, text: str, ends: tuple[str, ...]) -> None:
    """Refuses a field so long that laying it out would take many times its memory."""
    longest = 4 * _FIELD
    at = 0
    while at + longest < len(text):
        last = max(text.rfind(end, at, at + longest) for end in ends)
        if last < 0:
            found = (text.find(end, at) for end in ends)
            size = min((end for end in found if end >= 0), default=len(text)) - at
            raise LayoutError(
                f"{path}: a field in line {text.count(chr(10), 0, at) + 1} has {size} characters; "
                f"expected {_FIELD} at most, which no prompt holds"
            )
        at = last + 1


_COLUMNS, _CELLS = 10_000, 50_000_000
_FIELD = 1 << 24  # characters
_BATCH = 512  # rows of a parquet file
PATIENCE = 60
"""Seconds that a pattern of params.yaml may take on a file."""


def _lines(path: Path, text: str, pattern: str) -> pd.DataFrame:
    """A row for each line that the pattern finds, a column for each of its named groups."""
    compiled = re.compile(pattern)
    lines = [line for line in text.splitlines() if line.strip()]
    with time_limit(
        PATIENCE, f"{path}: the pattern takes longer than {PATIENCE} s on it; simplify it"
    ):
        found = [match.groupdict("") for line in lines if (match := compiled.search(line))]
    if lines and not found:
        raise LayoutError(f"{path}: no line is as the pattern says; its first is {lines[0]!r}")
    rows = pd.DataFrame(found, columns=list(compiled.groupindex), dtype=object)
    rows.attrs["other_lines"] = len(lines) - len(found)
    return rows
