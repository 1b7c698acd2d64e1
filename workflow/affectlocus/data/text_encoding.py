"""Decodes text files. Binary files and other encodings are refused with a likely explanation.

The messages do not name the file; the caller adds it (`InputError.within`).
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from affectlocus.core.errors import LayoutError
from affectlocus.data.table_limits import LARGEST


def refuse_pickle(path: Path, kind: str) -> None:
    """Refuses a pickled file and explains how to convert it.

    Args:
        kind: its suffix.

    Raises:
        LayoutError: always.
    """
    load = f"pandas.read_pickle('{path.name}')"
    if kind in (".npz", ".npy"):
        load = f"numpy.load('{path.name}', allow_pickle=True)"
    raise LayoutError(
        "table.pickled",
        "pickled files are not read, because opening one can run any program; if you trust its "
        f"source, load it once ({load} in Python), write its table with "
        "pandas.DataFrame(...).to_csv('labels.csv'), and give that file",
        file=path,
    )


def decoded(path: Path, encoding: str) -> str:
    """The text of a file, decompressed if its suffix is .gz; a UTF-8 byte order mark is removed.

    Raises:
        LayoutError: a binary file (by its first bytes or a NUL byte); bytes that are not in
            `encoding`; more than `LARGEST` bytes.
    """
    content = _content(path)
    plain = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    _check_text(path, content, encoding)
    try:
        return content.decode("utf-8-sig" if plain else encoding)
    except UnicodeDecodeError as error:
        line, byte = _line(content, error.start), content[error.start]
        likely = _likely(content)
        raise LayoutError(
            "table.other-encoding",
            f"not {'UTF-8' if plain else encoding}: byte 0x{byte:02x} at offset {error.start}, "
            f"line {line}; save it as UTF-8, or set its encoding in params.yaml, for example "
            f"encoding: {likely}",
            line=line,
            offset=error.start,
            found=byte,
            expected=encoding,
            likely=likely,
        ) from None


def _content(path: Path) -> bytes:
    packed = path.suffix.lower() == ".gz"
    content = b""
    # The size of a plain file is known before it is read; a .gz file is read up to the limit.
    if packed or path.stat().st_size <= LARGEST:
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    if len(content) > LARGEST or not (packed or content or not path.stat().st_size):
        raise LayoutError(
            "table.too-large",
            f"more than {LARGEST >> 20} MiB of text{', decompressed' if packed else ''}; expected "
            f"at most {LARGEST >> 20} MiB: keep only the rows that are used, or save it as parquet",
            expected=LARGEST,
        )
    return content


_EXPECTED = "expected csv, tsv or jsonl"
# First bytes of files that are not tables in text → their kind, and what to do.
_OTHER_KINDS = {
    b"PK\x03\x04": ("an Excel workbook or a zip archive", _EXPECTED),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", _EXPECTED),
    b"PAR1": ("a parquet file", "rename it to .parquet"),
    b"\x1f\x8b": ("a gzip file", "rename it to .gz"),
    b"\x89PNG": ("a picture", _EXPECTED),
    b"%PDF": ("a PDF", _EXPECTED),
    b"\x93NUMPY": ("a NumPy array", _EXPECTED),
    b"SQLite format 3": ("an SQLite database", _EXPECTED),
    b"version https://git-lfs": (
        "a Git LFS pointer",
        "fetch the file itself (git lfs pull)",
    ),
}


def _check_text(path: Path, content: bytes, encoding: str) -> None:
    for start, (kind, advice) in _OTHER_KINDS.items():
        if content.startswith(start):
            raise LayoutError("table.other-format", f"is {kind}; {advice}", found=kind)
    if content[:1] == b"\x80" and content[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        refuse_pickle(path, ".pkl")
    wide = encoding.startswith(("utf-16", "utf-32"))
    if not wide and content[:2] not in _MARKS and b"\0" in content:
        line = _line(content, content.index(b"\0"))
        raise LayoutError(
            "table.not-text",
            f"not a text file: a NUL byte in line {line}; save it as UTF-8, or, if it is UTF-16 "
            "without a byte order mark, set encoding: utf-16-le in params.yaml",
            line=line,
        )


_MARKS = (b"\xff\xfe", b"\xfe\xff")


def _line(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1


def _likely(content: bytes) -> str:
    """A likely encoding: by the byte order mark, by Chinese characters, else cp1252."""
    if content[:2] in _MARKS:
        return "utf-16"
    try:
        text = content.decode("gb18030")
    except UnicodeDecodeError:
        return "cp1252"
    # Single Western letters also decode as one Chinese character; two in a row are a Chinese word.
    return "gb18030" if re.search(r"[\u4e00-\u9fff]{2}", text) else "cp1252"
