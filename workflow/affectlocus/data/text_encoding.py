"""A file's bytes into text; what is none, or in another encoding, is told by what it looks like."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from affectlocus.core.errors import LayoutError


def pickled(path: Path, kind: str) -> str:
    """Why a pickled file is not opened, and how it becomes a table."""
    load = "pandas.read_pickle('{0}')"
    if kind in (".npz", ".npy"):
        load = "numpy.load('{0}', allow_pickle=True)"
    return (
        f"{path}: a pickled file can run any program when it is opened, so none is; if you trust "
        f"where it is from, load it once ({load.format(path.name)} in Python), write its table "
        "with pandas.DataFrame(...).to_csv('labels.csv'), and name that file"
    )


def decoded(path: Path, encoding: str) -> str:
    """A file's text, unpacked if it is .gz; of UTF-8 without its mark.

    Raises:
        InputError: no text, by how it begins or a NUL byte; bytes that are not in `encoding`.
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
            "save it as UTF-8, or name its encoding beside its path in params.yaml, perhaps "
            f"encoding: {_likely(content)}"
        ) from None


LARGEST = 1 << 29
"""Bytes of a file of text, unpacked: what is read is held several times over."""


def _content(path: Path) -> bytes:
    packed = path.suffix.lower() == ".gz"
    content = b""
    # A file's size is known before it is read; what is packed is read as far as it may be long.
    if packed or path.stat().st_size <= LARGEST:
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    if len(content) > LARGEST or not (packed or content or not path.stat().st_size):
        raise LayoutError(
            f"{path}: more than {LARGEST >> 20} MiB of text{', unpacked' if packed else ''}, which "
            "is not read at once; keep the rows that are asked, or save it as parquet"
        )
    return content


# How files begin that are no text, whatever they are named.
_BINARY = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "parquet; name it so",
    b"\x1f\x8b": "compressed; name it .gz",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF",
    b"\x93NUMPY": "an array of NumPy",
    b"SQLite format 3": "a data base",
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
        raise LayoutError(pickled(path, ".pkl"))
    wide = encoding.startswith(("utf-16", "utf-32"))
    if not wide and content[:2] not in _MARKS and b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise LayoutError(
            f"{path}: no text: a NUL byte in line {line}; save it as UTF-8, or, if it is UTF-16 "
            "without its mark, name that beside its path in params.yaml (encoding: utf-16-le)"
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
