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
    There is one exception: if two quotation marks make up a field, and the file has no others, the
    field is empty.
    """
    if '"' not in text:
        return False
    if '"' in _FIELD.sub("", text):
        return False
    fields = [found[1] for found in _FIELD.finditer(text)]
    return (
        any('""' in field for field in fields)
        or not any(fields)
        or _has_quoted_names(text)
        or (_uneven(text, csv.QUOTE_NONE) and not _uneven(text, csv.QUOTE_MINIMAL))
    )


def unescaped_line(text: str) -> int | None:
    """The first line with an unescaped quotation mark, if the names in the header are all quoted.

    With such a header, the quotation marks of the file are its format and not part of its texts.
    None if the header has another form, or if no line has such a mark.
    """
    if not _has_quoted_names(text):
        return None
    # Quoted fields keep their line breaks, so that the lines can be counted.
    before, mark, _ = _FIELD.sub(lambda found: found[0].replace('"', " "), text).partition('"')
    return len(_LINES.findall(before)) + 1 if mark else None


def _has_quoted_names(text: str) -> bool:
    """Whether every field in the first line is in quotation marks."""
    first = _LINES.split(text, maxsplit=1)[0]
    return '"' in first and not _FIELD.sub("", first).strip("\t")


def quoted_fields(text: str) -> int:
    """Number of fields in quotation marks with doubled ones inside, as a csv writer writes them."""
    return sum('""' in found[1] for found in _FIELD.finditer(text)) if '""' in text else 0


def _uneven(text: str, quoting: int) -> bool:
    """Whether rows have different numbers of fields."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=quoting)  # type: ignore[arg-type]
    return len({len(fields) for fields in lines if fields}) > 1
