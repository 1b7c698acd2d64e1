"""The first sheet of an Excel workbook as text, with the standard library alone."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from affectlocus.errors import InputError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_sheet(path: Path) -> list[dict[str, str]]:
    """The rows of a workbook's first sheet, each as column letter → text; empty cells are absent.

    Raises:
        InputError: no such file, or no workbook in it.
    """
    try:
        with zipfile.ZipFile(path) as book:
            sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
            strings = []
            if "xl/sharedStrings.xml" in book.namelist():
                shared = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
                strings = [_text(item) for item in shared.iter(f"{_MAIN}si")]
        return [
            {
                re.sub(r"\d", "", cell.attrib["r"]): value
                for cell in row.iter(f"{_MAIN}c")
                if (value := _value(cell, strings))
            }
            for row in sheet.iter(f"{_MAIN}row")
        ]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an Excel workbook there") from None
    except (
        zipfile.BadZipFile,
        ElementTree.ParseError,
        KeyError,
        IndexError,
        ValueError,
        OSError,
    ) as error:
        raise InputError(
            f"{path}: not a whole Excel workbook ({type(error).__name__}: {error}); get it again"
        ) from None


def _text(element: ElementTree.Element) -> str:
    # A text in several styles is in several pieces.
    return "".join(piece.text or "" for piece in element.iter(f"{_MAIN}t"))


def _value(cell: ElementTree.Element, strings: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(f"{_MAIN}v") or ""
    return strings[int(value)] if cell.get("t") == "s" and value else value
