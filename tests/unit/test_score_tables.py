"""A table for reading: intervals, signs, seeds, baselines, fluency."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from affectlocus.scoring.score_tables import ScoreTable, TableValue, score_table, with_intervals


def row(num: int, modules: str, task: str, value: float, **other: Any) -> dict[str, Any]:
    """A row of a table's intervals: by default a load cell of one seed that gains nothing."""
    gains = {"gain": value - 10.0, "gain_low": -1.0, "gain_high": 1.0, "confidence": 0.95}
    about = {
        "kind": "base" if modules == "base" else "load",
        "mode": math.nan,
        "seeds": 1,
        "draws": 1,
        "metric": "accuracy",
        "n": 50,
        "reference": "b/base",
        "cell": "b/base" if modules == "base" else f"p/load/{modules}",
    }
    interval = {"low": value - 2, "high": value + 2}
    return {"num": num, "modules": modules, "task": task, "value": value} | (
        gains | about | interval | other
    )


def made(*rows: dict[str, Any], **companions: pd.DataFrame) -> ScoreTable:
    return score_table(pd.DataFrame(rows), **companions)


def test_the_mean_comes_first_then_the_tasks_in_their_order_each_with_its_n() -> None:
    table = made(
        row(0, "base", "zest", 10.0),
        row(0, "base", "ardour", 30.0, n=70),
        row(0, "base", "mean", 20.0, n=120),
    )
    assert table.columns == [("mean", 120), ("zest", 50), ("ardour", 70)]
    assert [one.value for one in table.rows[0].numbers if one] == [20.0, 10.0, 30.0]


def test_a_number_has_a_sign_where_the_interval_of_its_gain_excludes_zero() -> None:
    table = made(
        row(0, "base", "mean", 10.0),
        row(1, "q", "mean", 11.0),
        row(2, "up", "mean", 15.0, gain_low=3.0, gain_high=7.0),
        row(3, "o", "mean", 5.0, gain_low=-7.0, gain_high=-3.0),
    )
    assert [one.numbers[0] for one in table.rows] == [
        TableValue(10.0, 8.0, 12.0),
        TableValue(11.0, 9.0, 13.0),
        TableValue(15.0, 13.0, 17.0, "+"),
        TableValue(5.0, 3.0, 7.0, "−"),
    ]
    assert [one.gain for one in table.rows[::2]] == [None, TableValue(5.0, 3.0, 7.0, "+")]
    assert (table.reference, table.pair) == ("b/base", "p")


def test_a_row_has_the_number_of_its_seeds() -> None:
    table = made(row(0, "base", "mean", 10.0), row(1, "q", "mean", 15.0, seeds=3))
    assert [one.seeds for one in table.rows] == [1, 3]
    assert table.rows[1].numbers == [TableValue(15.0, 13.0, 17.0)]
    assert table.rows[1].cell == "p/load/q"


def test_rows_with_another_reference_have_no_gain_and_no_sign() -> None:
    ablated = {"kind": "ablate", "reference": "p/tuned", "gain_low": -9.0, "gain_high": -5.0}
    table = made(
        row(0, "base", "mean", 10.0, gain_high=-1.0),
        *(
            row(num, name, "mean", 20.0, cell=f"p/ablate/{name}/zero", mode="zero", **ablated)
            for num, name in enumerate(("q", "up"), 1)
        ),
        row(3, "all", "mean", 30.0, kind="tuned", cell="p/tuned", gain_low=5.0),
    )
    assert table.reference == "p/tuned"
    assert [one.numbers[0].sign for one in table.rows if one.numbers[0]] == ["", "−", "−", ""]
    assert [one.gain is None for one in table.rows] == [True, False, False, True]


def test_lower_perplexity_is_better_and_each_text_is_a_column() -> None:
    scores = pd.DataFrame(
        [
            row(0, "base", "news", 5.0, metric="perplexity"),
            row(1, "q", "news", 9.0, metric="perplexity", gain_low=3.0, gain_high=5.0),
            row(2, "up", "news", 3.0, metric="perplexity", gain_low=-3.0, gain_high=-1.0),
            row(9, "of another table", "tales", 3.0, metric="perplexity"),
            row(1, "q", "mood", 70.0),
        ]
    )
    table = made(
        row(0, "base", "mean", 10.0),
        row(1, "q", "mean", 10.0),
        row(2, "up", "mean", 10.0),
        scores=scores,
    )
    assert table.texts == ["news"]
    assert [one.fluency[0].sign for one in table.rows if one.fluency[0]] == ["", "−", "+"]


def test_baselines_have_the_metric_of_the_table_and_readable_names() -> None:
    frame = pd.DataFrame(
        {
            "baseline": ["majority", "majority", "uniform"],
            "task": ["mean", "mean", "mean"],
            "metric": ["macro_f1", "accuracy", "accuracy"],
            "value": [1.0, 40.0, 25.0],
            "low": [0.0, 30.0, 20.0],
            "high": [2.0, 50.0, 30.0],
        }
    )
    table = made(row(0, "base", "mean", 10.0), baselines=frame)
    assert [(one.modules, one.numbers) for one in table.baselines] == [
        ("majority answer", [TableValue(40.0, 30.0, 50.0)]),
        ("uniform guess", [TableValue(25.0, 20.0, 30.0)]),
    ]


def test_a_table_of_metrics_gets_n_seeds_and_the_interval_of_every_number() -> None:
    frame = pd.DataFrame(
        {"task": ["news", "news"], "cell": ["b/base", "p/tuned"], "perplexity": [5.0, 7.0]}
    )
    companion = pd.DataFrame(
        [
            row(0, "base", "news", 5.0, metric="perplexity", n=20),
            row(1, "all", "news", 7.0, metric="perplexity", n=20, seeds=3, cell="p/tuned"),
        ]
    )
    table, spans = with_intervals(frame, companion)
    assert list(table.columns) == ["task", "cell", "n", "seeds", "draws", "perplexity"]
    assert table["seeds"].tolist() == [1, 3]
    assert spans == {(0, "perplexity"): (3.0, 7.0), (1, "perplexity"): (5.0, 9.0)}


def test_a_row_says_how_its_cell_answers_if_the_file_does() -> None:
    shape = {"auc": 52.5, "top_answer": 96.0, "one_answer": 3}
    table = made(
        row(0, "base", "zest", 10.0, auc=40.0, top_answer=92.0, one_answer=1),
        row(0, "base", "mean", 10.0, **shape),
        row(1, "q", "mean", 15.0, auc=math.nan, top_answer=50.0, one_answer=math.nan),
    )
    base, q = table.rows
    assert (base.auc, base.top_answer, base.one_answer) == (TableValue(52.5), TableValue(96.0), 3)
    assert (q.auc, q.top_answer, q.one_answer) == (None, TableValue(50.0), 0)
    assert made(row(0, "base", "mean", 10.0)).rows[0].top_answer is None
