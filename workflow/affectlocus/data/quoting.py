"""Decides whether quotation marks in a tab-separated file belong to the texts or to the format."""

from __future__ import annotations

import csv
import io
import re

# A field in quotation marks, with quotation marks inside it doubled, as csv and pandas write it.
_FIELD = re.compile(r'(?:^|(?<=[\t\r\n]))"([^"]*+(?:""[^"]*+)*+)"(?=[\t\r\n]|\Z)')
_LINES = re.compile(r"\r\n?|\n")


def is_quoted(text: str) -> bool:
    """Whether the fields of a tab-separated text are quoted.

    pandas and csv quote each field that contains a quotation mark, a tab or a line break, and
    double the quotation marks inside it. A file is therefore not quoted if a quotation mark occurs
    outside quoted fields, or if no field needs quoting. In such a file quotation marks are text.
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
    """Number of fields in quotation marks with doubled ones inside, as a csv writer writes them."""
    return sum('""' in found[1] for found in _FIELD.finditer(text)) if '""' in text else 0


def _uneven(text: str, quoting: int) -> bool:
    """Whether rows have different numbers of fields."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=quoting)  # type: ignore[arg-type]
    return len({len(fields) for fields in lines if fields}) > 1
