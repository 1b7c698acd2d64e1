"""A table on disk, as its owner keeps it, into rows of text: csv, tsv, jsonl, parquet, or lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from affectlocus.errors import InputError
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


class LayoutError(InputError):
    """A file that is there, and not as the task says."""


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
        f"{json.dumps(mark)} beside a task's files"
    )


def _read(
    path: Path, header: list[str] | None, delimiter: str | None, pattern: str | None, encoding: str
) -> pd.DataFrame:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind in _PICKLED:
        raise LayoutError(_pickled(path, kind))
    if pattern is None and kind not in (*_DELIMITED, ".jsonl", ".json", ".parquet"):
        hint = next((said for kinds, said in _TURNED.items() if kind in kinds.split()), "")
        raise LayoutError(
            f"{path}: unknown kind of file {kind!r}; expected csv, tsv, jsonl or parquet{hint}"
        )
    try:
        if pattern is None and kind == ".parquet":
            return _parquet_rows(path)
        text = _decoded(path, encoding)
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


def _pickled(path: Path, kind: str) -> str:
    load = "pandas.read_pickle('{0}')"
    if kind in (".npz", ".npy"):
        load = "numpy.load('{0}', allow_pickle=True)"
    return (
        f"{path}: a pickled file can run any program when it is opened, so none is; if you trust "
        f"where it is from, load it once ({load.format(path.name)} in Python), write its table "
        "with pandas.DataFrame(...).to_csv('labels.csv'), and name that file"
    )


def _decoded(path: Path, encoding: str) -> str:
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        content = gzip.decompress(content)
    plain = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    _check_text(path, content, encoding)
    try:
        return content.decode("utf-8-sig" if plain else encoding)
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        line = content[: error.start].count(b"\n") + 1
        raise LayoutError(
            f"{path}: not {'UTF-8' if plain else encoding}: {found}, line {line}; "
            f"save it as UTF-8, or name its encoding beside a task's files, perhaps encoding: "
            f"{_likely(content)}"
        ) from None


# How files begin that are no text, whatever they are named.
_BINARY = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "parquet; name it so",
    b"\x1f\x8b": "compressed; name it .gz",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF",
    b"\x93NUMPY": "an array of NumPy",
    b"SQLite": "a data base",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself (git lfs pull)",
}


def _check_text(path: Path, content: bytes, encoding: str) -> None:
    for start, kind in _BINARY.items():
        if content.startswith(start):
            raise LayoutError(
                f"{path}: no table in text: it begins as {kind}; expected csv, tsv or jsonl of its "
                "rows"
            )
    if content[:1] == b"\x80" and content[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise LayoutError(_pickled(path, ".pkl"))
    wide = encoding.startswith(("utf-16", "utf-32"))
    if not wide and content[:2] not in _MARKS and b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise LayoutError(
            f"{path}: no text: a NUL byte in line {line}; save it as UTF-8, or, if it is UTF-16 "
            "without its mark, name that beside a task's files (encoding: utf-16-le)"
        )


_MARKS = (b"\xff\xfe", b"\xfe\xff")


def _likely(content: bytes) -> str:
    """An encoding that fits: by its mark, by Chinese characters, or the usual Western one."""
    if content[:2] in _MARKS:
        return "utf-16"
    try:
        text = content.decode("gb18030")
    except UnicodeDecodeError:
        return "cp1252"
    # Western letters between plain ones also pair up as Chinese; whole Chinese words do not.
    return "gb18030" if re.search(r"[\u4e00-\u9fff]{2}", text) else "cp1252"


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
