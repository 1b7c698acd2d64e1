"""Whether quotation marks in tab-separated text belong to the texts, or to the file's format."""

from __future__ import annotations

import csv
import io
import re

# A whole field in quotation marks, those inside doubled, as csv and pandas write it.
_FIELD = re.compile(r'(?:^|(?<=[\t\r\n]))"([^"]*+(?:""[^"]*+)*+)"(?=[\t\r\n]|\Z)')
_LINES = re.compile(r"\r\n?|\n")


def is_quoted(text: str) -> bool:
    """Whether a tab-separated text is written with quotation marks around fields.

    pandas and csv quote each field that has a quotation mark, a tab or a line break in it, and
    double the marks inside. So one mark anywhere else says that the file is not written this way,
    as does a file where nothing needed them: there a mark is a part of its text.
    """
    if '"' not in text:
        return False
    if '"' in _FIELD.sub("", text):
        return False
    first = _LINES.split(text, maxsplit=1)[0]
    return (
        any('""' in found[1] for found in _FIELD.finditer(text))
        or not _FIELD.sub("", first).strip("\t")
        or (_uneven(text, csv.QUOTE_NONE) and not _uneven(text, csv.QUOTE_MINIMAL))
    )


def quoted_fields(text: str) -> int:
    """Fields in quotation marks with doubled ones inside: what a writer of csv leaves behind."""
    return sum('""' in found[1] for found in _FIELD.finditer(text)) if '""' in text else 0


def _uneven(text: str, quoting: int) -> bool:
    """Whether rows have different numbers of fields."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=quoting)  # type: ignore[arg-type]
    return len({len(fields) for fields in lines if fields}) > 1
