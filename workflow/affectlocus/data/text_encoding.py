"""Decodes text files. Binary files and other encodings are refused with a likely explanation."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from affectlocus.core.errors import LayoutError


def pickle_refusal(path: Path, kind: str) -> str:
    """The message that refuses a pickled file and explains how to convert it."""
    load = "pandas.read_pickle('{0}')"
    if kind in (".npz", ".npy"):
        load = "numpy.load('{0}', allow_pickle=True)"
    return (
        f"{path}: pickled files are not read, because opening one can run any program; if you "
        f"trust its source, load it once ({load.format(path.name)} in Python), write its table "
        "with pandas.DataFrame(...).to_csv('labels.csv'), and give that file"
    )


def decoded(path: Path, encoding: str) -> str:
    """The text of a file, decompressed if its suffix is .gz; a UTF-8 byte order mark is removed.

    Raises:
        InputError: a binary file (by its first bytes or a NUL byte); bytes that are not in
            `encoding`; more than `LARGEST` bytes.
    """
    content = _content(path)
    plain = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    _check_text(path, content, encoding)
    try:
        return content.decode("utf-8-sig" if plain else encoding)
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        line = content[: error.start].count(b"\n") + 1
        raise LayoutError(
            f"{path}: not {'UTF-8' if plain else encoding}: {found}, line {line}; "
            "save it as UTF-8, or set its encoding in params.yaml, for example "
            f"encoding: {_likely(content)}"
        ) from None


LARGEST = 1 << 29
"""Largest size of a text file in bytes, decompressed: reading it takes several times its size."""


def _content(path: Path) -> bytes:
    packed = path.suffix.lower() == ".gz"
    content = b""
    # The size of a plain file is known before it is read; a .gz file is read up to the limit.
    if packed or path.stat().st_size <= LARGEST:
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    if len(content) > LARGEST or not (packed or content or not path.stat().st_size):
        raise LayoutError(
            f"{path}: more than {LARGEST >> 20} MiB of text{', decompressed' if packed else ''}; "
            f"expected at most {LARGEST >> 20} MiB: keep only the rows that are used, or save it "
            "as parquet"
        )
    return content


_EXPECTED = "expected csv, tsv or jsonl"
# First bytes of files that are not tables in text → their kind, and what to do.
_OTHER_KINDS = {
    b"PK\x03\x04": f"an Excel workbook or a zip archive; {_EXPECTED}",
    b"\xd0\xcf\x11\xe0": f"an old Excel workbook; {_EXPECTED}",
    b"PAR1": "a parquet file; rename it to .parquet",
    b"\x1f\x8b": "a gzip file; rename it to .gz",
    b"\x89PNG": f"a picture; {_EXPECTED}",
    b"%PDF": f"a PDF; {_EXPECTED}",
    b"\x93NUMPY": f"a NumPy array; {_EXPECTED}",
    b"SQLite format 3": f"an SQLite database; {_EXPECTED}",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself (git lfs pull)",
}


def _check_text(path: Path, content: bytes, encoding: str) -> None:
    for start, kind in _OTHER_KINDS.items():
        if content.startswith(start):
            raise LayoutError(f"{path}: is {kind}")
    if content[:1] == b"\x80" and content[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise LayoutError(pickle_refusal(path, ".pkl"))
    wide = encoding.startswith(("utf-16", "utf-32"))
    if not wide and content[:2] not in _MARKS and b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise LayoutError(
            f"{path}: not a text file: a NUL byte in line {line}; save it as UTF-8, or, if it is "
            "UTF-16 without a byte order mark, set encoding: utf-16-le in params.yaml"
        )


_MARKS = (b"\xff\xfe", b"\xfe\xff")


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
