"""The score against what was trained: the right points, and names that can be read."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.transforms import Bbox
from refusal import refused

from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.trade_off import points, trade_off


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def intervals(kind: str, modules: list[str]) -> pd.DataFrame:
    """The companion of a table: base 30, and cells from 40 upwards."""
    cells = [("base", "base", 30.0)]
    cells += [(kind, name, 40.0 + 2 * number) for number, name in enumerate(modules)]
    rows = [
        {"kind": kind, "modules": name, "mode": "", "task": task}
        | {"metric": "weighted_f1"}
        | {"value": value, "low": value - 2, "high": value + 3, "confidence": 0.95}
        | {"n": 12, "seeds": 3 if kind == "tune" else 1, "draws": 1}
        for kind, name, value in cells
        for task in ("moods", "mean")
    ]
    return pd.DataFrame(rows)


def ledger(modules: list[str]) -> pd.DataFrame:
    """Two budgets: a hundred parameters for each letter of a set, and a thousand."""
    counted = pd.DataFrame({"modules": modules, "budget": "equal rank"})
    counted["parameters"] = 100 * counted["modules"].str.len()
    return pd.concat([counted, counted.assign(budget="equal parameters", parameters=1000)])


SETS = [*PROJECTIONS, "q+k+v+o", "o+gate", "q+k+v+o+gate", "q+k+v+o+up", "q+k+v+o+down", "all"]


def test_points_are_tune_cells_with_what_they_trained() -> None:
    found = points(intervals("tune", SETS), ledger(SETS)).set_index("modules")
    assert found.index[0] == "base"
    assert found.loc["base", "parameters"] == 0
    assert found.loc["o+gate", "parameters"] == 600
    assert found.loc["q", "value"] == 40
    assert len(found) == len(SETS) + 1


def test_a_set_that_the_ledger_does_not_count_is_refused() -> None:
    with refused("ledger.no-row", modules="gate"):
        points(intervals("tune", ["q", "gate"]), ledger(["q"]))


def test_a_trade_off_says_what_its_whiskers_are_and_of_how_many_answers_and_seeds() -> None:
    figure = trade_off(points(intervals("tune", SETS), ledger(SETS)), "weighted_f1", "a pair")
    assert figure.get_label() == (
        "whiskers and band: 95 % interval over samples and replicates; n = 12 answers, 3 "
        "replicates; cells on one grey strip have the same number of parameters"
    )
    # Sets of one, two, four, six, seven and nine letters; several have one and two.
    strips = [patch for patch in figure.axes[0].patches if patch.get_facecolor()[0] > 0.9]
    sizes = pd.Series(SETS).str.len().value_counts()
    assert len(strips) == (sizes > 1).sum() > 1


def test_constant_answers_are_lines() -> None:
    constant = {"baseline": "majority", "metric": "weighted_f1", "task": "mean", "value": 21.5}
    others = [constant | {"metric": "accuracy"}, constant | {"task": "moods"}]
    figure = trade_off(
        points(intervals("tune", SETS), ledger(SETS)),
        "weighted_f1",
        "a pair",
        pd.DataFrame([*others, constant]),
    )
    lines = {line.get_label(): line.get_ydata()[0] for line in figure.axes[0].lines}
    assert lines["majority answer"] == 21.5
    assert "majority answer" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_no_name_of_a_trade_off_covers_another_or_leaves_the_figure() -> None:
    figure = trade_off(points(intervals("tune", SETS), ledger(SETS)), "weighted_f1", "a pair")
    (axis,) = figure.axes
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts]
    segments = [bar.get_segments()[0] for bar in axis.collections if hasattr(bar, "get_segments")]
    whiskers = [Bbox(axis.transData.transform(ends)).padded(1) for ends in segments]
    assert len(whiskers) == len(SETS)
    assert sorted(text.get_text() for text in axis.texts) == sorted(
        {"gate": "gate (GET)", "all": "all seven"}.get(name, name) for name in SETS
    )
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        assert not any(box.overlaps(whisker) for whisker in whiskers)
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
    assert axis.get_xscale() == "log"


def test_cells_at_equal_parameters_have_a_panel_of_their_own() -> None:
    rows = intervals("tune", SETS)
    fair = rows[rows["kind"] == "tune"].assign(mode="fair", seeds=2)
    # The table at equal parameters has fewer replicates, and so has its base.
    base = rows[rows["kind"] == "base"].assign(seeds=2, value=35.0)
    of_both = pd.concat([rows, base, fair])
    figure = trade_off(points(of_both, ledger(SETS)), "weighted_f1", "a pair")
    left, right = figure.axes
    drawn = [axis.get_lines()[-1].get_ydata()[0] for axis in (left, right)]
    assert drawn == [30, 35]
    assert [text.get_text() for text in right.get_xticklabels()] == SETS
    assert right.get_title() == "equal parameters (1k to 1k), 2 replicates"
    assert len(left.texts) == len(SETS)


def test_a_trade_off_without_tune_cells_is_refused() -> None:
    with refused("figure.no-tune-cell", figure="a pair"):
        trade_off(points(intervals("load", SETS), ledger(SETS)), "weighted_f1", "a pair")
