"""The first sheet of an Excel workbook as text."""

from __future__ import annotations

import zipfile
from pathlib import Path

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter
from openpyxl.utils.exceptions import InvalidFileException

from affectlocus.errors import InputError


def read_sheet(path: Path) -> list[dict[str, str]]:
    """The rows of a workbook's first sheet, each as column letter → text; empty cells are absent.

    Raises:
        InputError: no such file, or no workbook in it.
    """
    try:
        # By what is in it, whatever the file's suffix.
        with path.open("rb") as stream:
            book = load_workbook(stream, read_only=True, data_only=True)
            return [
                {
                    get_column_letter(cell.column): str(cell.value)
                    for cell in row
                    if cell.value not in (None, "")
                }
                for row in book.worksheets[0].iter_rows()
            ]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an Excel workbook there") from None
    except (
        InvalidFileException,
        zipfile.BadZipFile,
        SyntaxError,  # broken XML
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        OSError,
    ) as error:
        raise InputError(
            f"{path}: not a whole Excel workbook ({type(error).__name__}: {error}); get it again"
        ) from None
