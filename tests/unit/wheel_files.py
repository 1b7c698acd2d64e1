"""Small emotion wheels in the released files' layout, and where the real ones lie."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

REAL = Path(__file__).parents[3] / "shared" / "real" / "mer_unibench"

SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'

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


def write_sheet(path: Path, rows: Sequence[Sequence[str]], inline: bool = False) -> None:
    """A workbook with these rows from A1 on; an empty text is an empty cell."""
    strings: list[str] = []
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = []
        for column, text in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", row, strict=False):
            place = f'r="{column}{number}"'
            piece = f'<t xml:space="preserve">{escape(text)}</t>'
            if not text:
                cells.append(f"<c {place}/>")
            elif inline:
                cells.append(f'<c {place} t="inlineStr"><is>{piece}</is></c>')
            else:
                cells.append(f'<c {place} t="s"><v>{len(strings)}</v></c>')
                strings.append(f"<si>{piece}</si>")
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    with zipfile.ZipFile(path, "w") as book:
        sheet = f"<worksheet {SPACE}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        book.writestr("xl/worksheets/sheet1.xml", sheet)
        if not inline:
            book.writestr("xl/sharedStrings.xml", f"<sst {SPACE}>{''.join(strings)}</sst>")


def write_wheels(folder: Path) -> Path:
    """The folder with all seven files; the five wheels are alike, but the fifth has no Mad."""
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
