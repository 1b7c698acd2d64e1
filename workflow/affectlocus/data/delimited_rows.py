"""Reads the rows of a csv or tsv file.

The messages do not name the file; the caller adds it (`InputError.within`).
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator
from typing import Literal, TypeAlias

import pandas as pd

from affectlocus.core.errors import LayoutError
from affectlocus.data.quoting import is_quoted, quoted_fields, unescaped_line
from affectlocus.data.table_limits import check_cells, check_field_lengths, check_names

Quoting: TypeAlias = Literal[0, 3]
"""csv.QUOTE_MINIMAL or csv.QUOTE_NONE."""


def delimited_rows(
    text: str, delimiter: str, header: list[str] | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows of a csv or tsv text.

    Args:
        header: the names of the columns, if the first line does not have them.

    Returns:
        Columns of text; and the counts `short_rows` (rows without values in the last columns) and
        `quoted_fields` (fields of a tsv file whose quotation marks were kept although a csv writer
        may have added them).

    Raises:
        LayoutError: no header, a row with more fields than the header, a quotation mark that is not
            closed, a duplicate column name, or more fields than memory can hold.
    """
    # The default limit of csv, 128 KiB, is smaller than an interview may be.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    # In a tsv file quotation marks may be part of the texts.
    plain = delimiter == "\t" and not is_quoted(text)
    if plain and header is None and (line := unescaped_line(text)):
        raise LayoutError(
            "table.stray-quotation-mark",
            f"line {line} is not written as csv, but the header is: a quotation mark in a field is "
            "not doubled, or the field is not closed; double it or close the field, or write all "
            "fields without quotation marks around them",
            line=line,
        )
    quoting: Quoting = 3 if plain else 0
    columns = len(header or text.partition("\n")[0].split(delimiter))
    check_cells(text.count("\n") + 1, columns, len(text))
    check_field_lengths(text, (delimiter, "\n", "\r"))
    if header is None:
        check_names(next((fields for _, fields in _lines(text, delimiter, quoting)), []))
    try:
        with warnings.catch_warnings():
            # pandas would drop or shift the fields of a row that has more of them than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = pd.read_csv(
                io.StringIO(text, newline=""),
                sep=delimiter,
                names=header,
                index_col=False,
                dtype=str,
                keep_default_na=False,
                quoting=quoting,
            )
    except pd.errors.EmptyDataError:
        raise LayoutError("table.empty", "the file is empty; expected a header and rows") from None
    except (pd.errors.ParserWarning, pd.errors.ParserError):
        raise _parse_error(text, delimiter, quoting, header) from None
    # pandas reads the missing fields of a short row as empty.
    short = sum(len(fields) < rows.shape[1] for _, fields in _lines(text, delimiter, quoting))
    counts = {"short_rows": short, "quoted_fields": quoted_fields(text) if plain else 0}
    return rows.fillna(""), counts


def _lines(text: str, delimiter: str, quoting: Quoting) -> Iterator[tuple[int, list[str]]]:
    """The number of the last line and the fields of each row that has fields."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    return ((lines.line_num, fields) for fields in lines if fields)


def delimiter_hint(line: str) -> str:
    """The end of a message about a file with a wrong number of columns.

    Args:
        line: its first line, or its only column name.
    """
    mark = max(";\t|,", key=line.count)
    if mark not in line:
        return "; check delimiter"
    return (
        f"; {mark!r} seems to separate its columns: save it with commas or, if it is a file of a "
        f"task, set delimiter: {json.dumps(mark)} in params.yaml"
    )


def _parse_error(
    text: str, delimiter: str, quoting: Quoting, header: list[str] | None
) -> LayoutError:
    """The reason why pandas could not parse the rows of a file."""
    first = text.partition("\n")[0]
    hint = f"; put quotation marks around fields that contain {delimiter!r}, or correct delimiter"
    if delimiter not in first:
        hint = delimiter_hint(first)
    columns = 0 if header is None else len(header)
    opened = 0
    for line, fields in _lines(text, delimiter, quoting):
        columns = columns or len(fields)
        numbers = f"{len(fields)} fields, but the header has {columns}"
        if len(fields) > columns and not any(fields[columns:]):
            return LayoutError(
                "table.delimiter-at-line-end",
                f"line {line} ends with {delimiter!r}, so it has {numbers}; remove {delimiter!r} "
                "from the ends of lines, or add it to the end of the header",
                line=line,
                found=len(fields),
                expected=columns,
            )
        if len(fields) > columns:
            return LayoutError(
                "table.row-too-long",
                f"line {line} has {numbers}{hint}",
                line=line,
                found=len(fields),
                expected=columns,
            )
        # A row with line breaks in it may start with the quotation mark that is never closed.
        opened = opened if any("\n" in field for field in fields) else line
    return LayoutError(
        "table.open-quotation-mark",
        f"a quotation mark after line {opened} is not closed; close it, or double it",
        line=opened,
    )
