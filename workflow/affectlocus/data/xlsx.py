"""The first sheet of an Excel workbook as text."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from affectlocus.core.errors import InputError

_CELLS = 5_000_000
_LARGEST = 100_000_000  # bytes of a workbook, unpacked


def _check_room(path: Path, stream: BinaryIO) -> None:
    """Refuses a small file that unpacks to a large one; the released workbooks have 100 kB."""
    with zipfile.ZipFile(stream) as archive:
        unpacked = sum(one.file_size for one in archive.infolist())
    if unpacked > _LARGEST:
        raise InputError(f"{path}: unpacks to {unpacked} bytes; expected {_LARGEST} at most")
    stream.seek(0)


def read_sheet(path: Path) -> list[dict[str, str]]:
    """The rows of a workbook's first sheet, each as column letter → text; empty cells are absent.

    Raises:
        InputError: no such file, or no workbook in it.
    """
    try:
        # By what is in it, whatever the file's suffix.
        with path.open("rb") as stream:
            _check_room(path, stream)
            book = load_workbook(stream, read_only=True, data_only=True)
            found, cells = [], 0
            for row in book.worksheets[0].iter_rows():
                cells += len(row)
                if cells > _CELLS:
                    raise InputError(f"{path}: more than {_CELLS} cells; expected a small table")
                found.append(
                    {
                        get_column_letter(cell.column): str(cell.value)
                        for cell in row
                        if cell.value not in (None, "")
                    }
                )
            return found
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an Excel workbook there") from None
    except InputError:
        raise
    except Exception as error:  # broken zip, broken XML, and whatever openpyxl takes for granted
        raise InputError(
            f"{path}: not a whole Excel workbook ({type(error).__name__}: {error}); get it again"
        ) from None
