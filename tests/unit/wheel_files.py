"""Small emotion wheels in the format of the released files, and the folder of the real ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from openpyxl import Workbook

REAL = Path(__file__).parents[3] / "shared" / "real" / "mer_unibench"

WHEEL = [
    ("Happy", "Joyful", "Proud"),
    ("", "", " Bold "),
    ("Mad", "Angry", "Furious"),
    ("", "Hateful", "Bitter"),
    ("Scared", "Anxious", "Bitter"),
    ("Bad", "Bored", "Tired"),
]
FORMS = {
    "joyful": "joyful,joy,joys,happy",
    "happy": "happy,happier",
    "angry": "angry,anger",
    "fearful": "fearful,fear,fears",
    "fearless": "fearless,fear,fears",
    "kind": "kind,kinder",
    "afraid": "afraid",
    "no words": "",
}
SYNONYMS = [
    ("bold", "Fearless, brave"),
    ("anxious", "fearful, afraid"),
    ("tired", "no words"),
    ("gentle", "kind"),
]


def write_sheet(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Writes a workbook with these rows, starting at A1; an empty string is an empty cell."""
    book = Workbook()
    for number, row in enumerate(rows, start=1):
        for column, text in enumerate(row, start=1):
            if text:
                book.worksheets[0].cell(number, column).value = text
    book.save(path)


def write_wheels(folder: Path) -> Path:
    """Writes all seven files; the five wheels are equal, except that the fifth has no Mad."""
    folder.mkdir(exist_ok=True)
    header = ("level1", "level2", "level3")
    for wheel in range(1, 6):
        rows = WHEEL if wheel < 5 else [*WHEEL[:2], *WHEEL[4:]]
        write_sheet(folder / f"wheel{wheel}.xlsx", [header, *rows])
    runs = [f"{what}_run{run}" for run in (1, 2) for what in ("word", "synonym")]
    half = len(SYNONYMS) // 2
    pooled = [(*one, *two) for one, two in zip(SYNONYMS[:half], SYNONYMS[half:], strict=True)]
    write_sheet(folder / "synonym.xlsx", [runs, *pooled])
    with (folder / "format.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("name", "format"), *FORMS.items()])
    return folder
