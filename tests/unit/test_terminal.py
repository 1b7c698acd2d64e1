"""A table on the terminal, with what its scores are worth below it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from refusal import refused

from affectlocus.claims.verdict import COLUMNS
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
    """The cells of each row below the first rule of a printed table."""
    _, _, rows = text.partition("─\n")
    return [
        re.split(r"\s{2,}", line.strip()) for line in rows.splitlines() if line and "─" not in line
    ]


def test_the_baselines_stand_below_the_table_in_its_metric_by_their_names(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(table)
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].endswith("t.csv: weighted F1 (%)")
    assert lines(printed) == [
        ["0", "base", "9.58", "7.00", "8.29"],
        ["1", "all", "53.02", "60.00", "56.51"],
        ["majority answer", "12.35", "12.35", "12.35"],
        ["uniform guess", "16.00", "16.00", "16.00"],
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
    printed = capsys.readouterr().out
    assert "modules          mode" in printed
    assert lines(printed)[2] == ["majority answer", "12.35", "12.35", "12.35"]


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
    assert lines(capsys.readouterr().out) == [
        ["0", "a/base", "weighted_f1", "19.82", "200", "-8.99", "0.00012"],
        ["1", "a/load", "weighted_f1", "0.00", "200", "0.5", "0.25"],
    ]


def test_a_cell_that_answers_one_label_throughout_is_marked(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "num,modules,mean,top_answer\n0,base,8.29,100.00\n1,all,56.51,61.94\n"
    table.write_text(text)
    print_table(table)
    printed = capsys.readouterr().out
    assert lines(printed)[:2] == [["0", "base *", "8.29", "100.00"], ["1", "all", "56.51", "61.94"]]
    assert "* answers one label throughout" in printed
    table.write_text(text.replace("100.00", "99.00"))
    print_table(table)
    assert "*" not in capsys.readouterr().out


def test_everything_is_shown_with_all_digits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scores.parquet"
    pd.DataFrame({"cell": ["a", "b"], "value": [0.123456789, 37.9213]}).to_parquet(path)
    print_rows(path, [], 1)
    assert lines(capsys.readouterr().out)[:1] == [["a", "0.12"]]
    print_rows(path, [], 1, everything=True)
    assert lines(capsys.readouterr().out) == [["a", "0.123456789"], ["b", "37.9213"]]


def test_claims_are_printed_as_verdicts_and_untestable_ones_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = dict.fromkeys(COLUMNS) | {"claim_set": "mine", "level": "claim", "by": "l2"}
    none = row | {"verdict": "untestable", "stated": True, "why": "no control"}
    rows = [
        row | {"claim": "C1", "verdict": "supported", "stated": True, "effect": 0.5, "why": "yes"},
        none | {"claim": "C2"},
        none | {"claim": "C3"},
    ]
    path = tmp_path / "claims.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    print_table(path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:4] == [
        "claims: mine",
        "C1   supported, by l2: 0.5",
        "     yes",
        "untestable: C2, C3: no control",
    ]
