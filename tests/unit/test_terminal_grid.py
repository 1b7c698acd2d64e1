"""A table fits the terminal without a cut number, and says what it leaves out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlocus.reporting.terminal_grid import Grid, lines

TASKS = ("mini-MER23", "mini-MER24", "mini-MELD", "mini-IEMOCAP", "mini-MOSI", "mini-MOSEI")
TABLE = Grid(
    columns=["num", "modules", *TASKS, "mean", "auc", "top_answer", "one_answer"],
    rows=[
        ["0", "base", *["30.76"] * 6, "37.92", "67.23", "61.94", "2"],
        ["13", "q+k+v+o+gate+down", *["64.40"] * 6, "65.81", "86.01", "43.00", "0"],
    ],
    below=[["", "majority answer", *["6.67"] * 6, "23.12", "", "", ""]],
    title="results/table1.csv: weighted F1 (%)",
)


def text(grid: Grid, width: int, everything: bool = False) -> list[str]:
    return [line for line, _ in lines(grid, width, everything)]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_keys_and_the_mean_are_always_whole_and_no_line_is_too_long(width: int) -> None:
    shown = text(TABLE, width)
    assert max(map(len, shown)) <= width
    for whole in ("13", "q+k+v+o+gate+down", "65.81", "37.92", "majority answer", "23.12"):
        assert any(whole in line for line in shown), whole
    assert not any("\u2026" in line for line in shown)


def test_a_column_that_does_not_fit_is_named_below() -> None:
    shown = " ".join(text(TABLE, 80))
    assert "not shown: " in shown
    left = shown.partition("not shown: ")[2].partition(" (")[0].split(", ")
    heads = shown.partition("\u2500")[0]
    assert left
    assert all(name not in heads for name in left)
    assert "mean" in heads


def test_everything_is_shown_in_blocks_where_a_line_is_too_short() -> None:
    shown = text(TABLE, 60, everything=True)
    assert max(map(len, shown)) <= 60
    whole = " ".join(shown)
    for name in TABLE.columns:
        assert name in whole
    for value in TABLE.rows[1]:
        assert value in whole
    assert "not shown" not in whole


def test_a_pipe_gets_every_column_in_one_line() -> None:
    shown = text(TABLE, 0)
    assert len(shown[-1].split()) >= 9
    assert not any("not shown" in line for line in shown)


def test_a_column_with_one_value_is_said_once_where_the_table_is_too_wide() -> None:
    rows = [[f"qwen2-affective/load/{name}", "weighted_f1", "0.95", "1.0"] for name in "qkvo"]
    grid = Grid(["cell", "metric", "confidence", "value"], rows)
    assert "in all rows: metric=weighted_f1, confidence=0.95" in text(grid, 50)
    assert not any("in all rows" in line for line in text(grid, 100))


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=24)


@given(
    st.lists(words, min_size=1, max_size=8, unique=True).flatmap(
        lambda names: st.tuples(
            st.just(names),
            st.lists(st.lists(words, min_size=len(names), max_size=len(names)), max_size=4),
        )
    ),
    st.integers(30, 120),
    st.booleans(),
)
def test_no_line_is_wider_than_the_terminal(table, width: int, everything: bool) -> None:
    names, rows = table
    assert all(len(line) <= width for line in text(Grid(names, rows), width, everything))
