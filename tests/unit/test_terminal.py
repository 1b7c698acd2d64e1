"""A table on the terminal, with what its scores are worth below it."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusal import refused

from affectlocus.reporting.terminal import print_rows, print_table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table and its companions, in weighted F1 and accuracy."""
    (tmp_path / "t.csv").write_text(
        "num,modules,moods,talk,mean\n0,base,9.58,7.00,8.29\n1,all,53.02,60.00,56.51\n"
    )
    (tmp_path / "t_intervals.csv").write_text("num,metric\n0,weighted_f1\n")
    rows = [
        f"{name},{task},{metric},{value + (50 if metric == 'accuracy' else 0)}\n"
        for name, value in (("majority", 12.345), ("uniform", 16.0))
        for task in ("moods", "talk", "mean")
        for metric in ("accuracy", "weighted_f1")
    ]
    (tmp_path / "t_baselines.csv").write_text(
        "baseline,task,metric,value\n" + "".join(rows) + "majority,phq,mae,4.5\n"
    )
    return tmp_path / "t.csv"


def lines(text: str) -> list[list[str]]:
    return [line.replace("┃", "│").split("│")[1:-1] for line in text.splitlines() if "│" in line]


def test_the_baselines_stand_below_the_table_in_its_metric_by_their_names(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(table)
    printed = capsys.readouterr().out
    assert "t.csv: weighted F1 (%)" in " ".join(printed.partition("┏")[0].split())
    shown = [[cell.strip() for cell in line] for line in lines(printed)]
    assert shown == [
        ["0", "base", "9.58", "7.00", "8.29"],
        ["1", "all", "53.02", "60.00", "56.51"],
        ["", "majority answer", "12.35", "12.35", "12.35"],
        ["", "uniform guess", "16.00", "16.00", "16.00"],
    ]


@pytest.mark.parametrize("gone", ["t_intervals.csv", "t_baselines.csv"])
def test_a_table_without_its_companions_is_shown_alone(
    table: Path, capsys: pytest.CaptureFixture[str], gone: str
) -> None:
    (table.parent / gone).unlink()
    print_table(table)
    assert len(lines(capsys.readouterr().out)) == 2


def test_an_ablation_s_table_keeps_its_column_of_modes(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        table.read_text().replace("num,modules,", "num,modules,mode,").replace(",base,", ",base,,")
    )
    table.write_text(text.replace(",all,", ",all,,"))
    print_table(table)
    shown = [[cell.strip() for cell in line] for line in lines(capsys.readouterr().out)]
    assert shown[2] == ["", "majority answer", "", "12.35", "12.35", "12.35"]


def test_a_table_that_does_not_exist_is_refused_as_missing(tmp_path: Path) -> None:
    for name in ("scores.parquet", "table1.csv"):
        with refused("result.no-file", file=tmp_path / name):
            print_rows(tmp_path / name, [], 40)


def test_a_condition_that_no_row_fulfils_is_refused_with_values_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("cell,value\np/load/gate/seed6,1\np/load/gate/seed7,2\n")
    known = ["p/load/gate/seed6", "p/load/gate/seed7"]
    with refused("option.no-such-row", found="p/load/gate/seed0", expected=known):
        print_rows(path, ["cell=p/load/gate/seed0"], 20)


def test_numbers_of_a_companion_are_rounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t_intervals.csv"
    path.write_text(
        "num,cell,metric,value,n,low,p\n"
        "0,a/base,weighted_f1,19.822126,200,-8.990100,0.000123\n"
        "1,a/load,weighted_f1,0.000000,200,0.5,0.250000\n"
    )
    print_table(path)
    shown = [[cell.strip() for cell in line] for line in lines(capsys.readouterr().out)]
    assert shown == [
        ["0", "a/base", "weighted_f1", "19.82", "200", "-8.99", "0.00012"],
        ["1", "a/load", "weighted_f1", "0.00", "200", "0.5", "0.25"],
    ]
