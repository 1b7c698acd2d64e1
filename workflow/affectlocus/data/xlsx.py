"""The first sheet of an Excel workbook as text."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from affectlocus.core.errors import InputError

_CELLS = 5_000_000
_LARGEST = 100_000_000  # bytes of a workbook, decompressed


def _check_size(path: Path, stream: BinaryIO) -> None:
    """Refuses a workbook that decompresses to too many bytes; the released ones have 100 kB."""
    with zipfile.ZipFile(stream) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _LARGEST:
        raise InputError(
            "workbook.too-large",
            f"{path}: {size} bytes when decompressed; expected at most {_LARGEST}",
            file=path,
            found=size,
            expected=_LARGEST,
        )
    stream.seek(0)


def read_sheet(path: Path) -> list[dict[str, str]]:
    """The rows of a workbook's first sheet, each as column letter → text; empty cells are omitted.

    Raises:
        InputError: the file does not exist, is not a workbook, or is too large.
    """
    try:
        # A stream, because openpyxl refuses some suffixes of a path.
        with path.open("rb") as stream:
            _check_size(path, stream)
            book = load_workbook(stream, read_only=True, data_only=True)
            rows, cells = [], 0
            for row in book.worksheets[0].iter_rows():
                cells += len(row)
                if cells > _CELLS:
                    raise InputError(
                        "workbook.too-many-cells",
                        f"{path}: more than {_CELLS} cells; expected fewer",
                        file=path,
                        expected=_CELLS,
                    )
                rows.append(
                    {
                        get_column_letter(cell.column): str(cell.value)
                        for cell in row
                        if cell.value not in (None, "")
                    }
                )
            return rows
    except FileNotFoundError:
        raise InputError(
            "workbook.no-file", f"{path}: no such file; expected an Excel workbook", file=path
        ) from None
    except InputError:
        raise
    except Exception as error:  # openpyxl raises many types for a broken zip or broken XML
        raise InputError(
            "workbook.unreadable",
            f"{path}: cannot be read as an Excel workbook ({type(error).__name__}: {error}); "
            "download it again",
            file=path,
        ) from None
