"""The page with the scores of the released checkpoints agrees with the code."""

from __future__ import annotations

import csv
import re
from types import ModuleType

import pytest
from scripts import BENCHMARKS, loaded
from wheel_files import REAL

FOLDER = BENCHMARKS / "mer_unibench"


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return loaded(BENCHMARKS / "mer_unibench", "run")


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_the_page_and_results_csv_agree_with_the_code(run) -> None:
    rows = run.figures(REAL)
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert page.partition("<!-- measured -->\n")[2].partition("<!-- end -->")[0] == run.tables(rows)
    with (FOLDER / "results.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [run.COLUMNS, *run.cells(rows)]
    # The numbers in the sentences above the tables.
    of = {(row["answers"], row["wheel"]): row for row in rows}
    means = {name: row for (name, wheel), row in of.items() if wheel == "mean"}
    systems = {name: row for name, row in means.items() if row["expected"] is not None}
    fixed = {name: row for name, row in means.items() if row["expected"] is None}
    assert len(systems) == 7
    assert f"{100 * max(row['hit_rate'] for row in systems.values()):.2f}" == "55.65"
    assert f"{100 * systems['60']['hit_rate']:.2f}" == "52.09"
    pair = fixed['"happy, angry"']
    assert f"{100 * pair['hit_rate']:.2f}" == "61.10"
    assert fixed["all 7 labels"]["hit_rate"] == 1
    best = max(row["f1"] for row in systems.values())
    assert min(fixed[name]["f1"] for name in ('"neutral" (the majority)', "all 7 labels")) > best
    assert min(row["macro_f1"] for row in systems.values()) > max(
        row["macro_f1"] for row in fixed.values()
    )


def test_the_page_has_numbers_and_no_texts_of_the_data_set() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert not re.search(r"dia\d|utt\d", page)
    with (FOLDER / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["wheel"] for row in rows} == {*"12345", "mean"}
    for row in rows:
        figures = [value for key, value in row.items() if key not in ("answers", "wheel") and value]
        assert all(float(value) >= 0 for value in figures)
