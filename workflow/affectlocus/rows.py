"""A table on disk, as its owner keeps it, into rows of text: csv, tsv, jsonl, parquet, or lines."""

from __future__ import annotations

import gzip
import io
import json
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.errors import InputError
from affectlocus.files import matching

_DELIMITED = {".csv": ",", ".tsv": "\t"}
_PICKLED = (".pkl", ".pickle", ".p", ".joblib", ".npz", ".npy")


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
        Columns of text; `attrs["other_lines"]` counts lines that the pattern did not find.

    Raises:
        InputError: an unknown or pickled kind of file, a broken one, one that is not in `encoding`.
    """
    paths = matching(path)
    if paths == [path]:
        return _read(path, header, delimiter, pattern, encoding)
    if not paths:
        raise LayoutError(f"{path}: no such file; correct the path")
    frames = [_read(each, header, delimiter, pattern, encoding) for each in paths]
    other = sum(frame.attrs.get("other_lines", 0) for frame in frames)
    for each, frame in zip(paths, frames, strict=True):
        if "file" not in frame.columns:
            frame["file"] = each.name.partition(".")[0]
        frame.attrs.clear()
    if pattern is not None and not sum(map(len, frames)):
        raise LayoutError(f"{path}: no line in {len(paths)} files is as the pattern says")
    rows = pd.concat(frames, ignore_index=True).fillna("")
    rows.attrs["other_lines"] = other
    return rows


def _read(
    path: Path, header: list[str] | None, delimiter: str | None, pattern: str | None, encoding: str
) -> pd.DataFrame:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind in _PICKLED:
        raise LayoutError(_pickled(path, kind))
    if pattern is None and kind not in (*_DELIMITED, ".jsonl", ".json", ".parquet"):
        raise LayoutError(
            f"{path}: unknown kind of file {kind!r}; expected csv, tsv, jsonl or parquet"
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
            return pd.read_csv(
                io.StringIO(text, newline=""),
                sep=delimiter or _DELIMITED[kind],
                names=header,
                index_col=False,
                dtype=str,
                keep_default_na=False,
                # In a tsv of running text a quotation mark is a quotation mark.
                quoting=3 if kind == ".tsv" and delimiter is None else 0,
            ).fillna("")  # a short row lacks its last fields
    except FileNotFoundError:
        raise LayoutError(f"{path}: no such file; correct the path") from None
    except (ValueError, OSError, EOFError, zlib.error, pd.errors.ParserWarning) as error:
        line = " ".join(str(error).split())
        if isinstance(error, pd.errors.ParserWarning | pd.errors.ParserError):
            line = "its rows have more fields than its header; is delimiter right?"
        raise LayoutError(f"{path}: cannot be read as {kind[1:] or 'text'}: {line}") from None


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
    try:
        return content.decode("utf-8-sig" if plain else encoding)
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        line = content[: error.start].count(b"\n") + 1
        raise LayoutError(
            f"{path}: not {'UTF-8' if plain else encoding}: {found}, line {line}; "
            f"name its encoding, perhaps encoding: {_likely(content)}, or save it as UTF-8"
        ) from None


def _likely(content: bytes) -> str:
    """An encoding that fits: by its mark, by Chinese characters, or the usual Western one."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
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
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
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
