"""Perplexity and distinct-n from scores to a table and a figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import to_hex
from refusal import refused
from typer.testing import CliRunner

from affectlocus.cli import app
from affectlocus.reporting.figure_style import COLOURS, SEVERAL
from affectlocus.reporting.fluency_figure import figure
from affectlocus.scoring.fluency import intervals, table

CELLS = [
    ("b/base", "base", "", "", pd.NA, 8.0),
    ("p/load/gate", "load", "gate", "", pd.NA, 9.0),
    ("p/tune/gate/seed0", "tune", "gate", "", 0, 10.0),
    ("p/tune/gate/seed1", "tune", "gate", "", 1, 12.0),
]


def scores() -> pd.DataFrame:
    rows = [
        {"cell": name, "kind": kind, "modules": modules, "mode": mode, "seed": seed}
        | {"seeds": 1, "draws": 1}
        | {"task": task, "metric": metric, "value": value + shift, "n": 20}
        | {"low": value + shift - 1, "high": value + shift + 2}
        | {
            "gain": 0.0,
            "gain_low": -1.0,
            "gain_high": 1.0,
            "confidence": 0.95,
            "reference": "b/base",
        }
        for name, kind, modules, mode, seed, value in CELLS
        for task, metric, shift in (
            ("moods", "accuracy", 50),
            ("moods", "distinct_1", 40),
            ("text", "perplexity", 0),
            ("text", "distinct_1", 10),
            ("text", "distinct_2", 60),
            ("text", "words_per_text", 5),
        )
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def test_the_table_has_a_row_for_each_cell_that_read_the_text() -> None:
    twice = pd.concat([scores(), scores()[:6]])  # the base is in several tables
    found = table(twice)
    assert found["cell"].tolist() == [name for name, *_ in CELLS]
    assert set(found["task"]) == {"text"}
    row = found.set_index("cell").loc["p/load/gate"]
    assert row["perplexity":].tolist() == [9, 19, 69, 14]
    each = intervals(twice)
    assert len(each) == 4 * 4
    assert (each["n"] == 20).all()


def test_scores_without_a_text_are_refused() -> None:
    with refused("score.no-perplexity"):
        table(scores()[scores()["task"] == "moods"])


def test_the_figure_has_a_panel_for_each_metric_and_a_point_for_each_cell_of_any_seed() -> None:
    drawn = figure(scores(), "felt: loads")
    assert [axis.get_xlabel().split(" ")[0] for axis in drawn.axes] == [
        "perplexity",
        "distinct-1",
        "distinct-2",
    ]
    first = drawn.axes[0]
    assert [text.get_text() for text in first.get_yticklabels()] == [
        "base",
        "load gate",
        "tune gate",
    ]
    points = first.collections[-1]
    assert points.get_offsets().tolist() == [[8, 0], [9, 1], [11, 2]]
    # gate has its colour; the base has none of the projections'.
    colours = [to_hex(colour).upper() for colour in points.get_facecolors()]
    assert colours == [SEVERAL, COLOURS["gate"], COLOURS["gate"]]
    assert "over texts" in drawn.get_label()
    plt.close("all")


def test_the_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    given = tmp_path / "scores.parquet"
    scores().to_parquet(given)
    out = [tmp_path / name for name in ("fluency.csv", "intervals.csv", "fluency")]
    options = ["--out", out[0], "--intervals", out[1], "--figure", out[2]]
    done = CliRunner().invoke(app, ["fluency", str(given), *map(str, options)])
    assert done.exit_code == 0, done.exception
    assert pd.read_csv(out[0])["perplexity"].tolist() == [8, 9, 10, 12]
    assert len(pd.read_csv(out[1])) == 16
    assert (tmp_path / "fluency.png").stat().st_size > 1000
    assert (tmp_path / "fluency.svg").is_file()
    nothing = CliRunner().invoke(app, ["fluency", str(given)])
    assert str(nothing.exception).startswith("nothing to write; give --out")
