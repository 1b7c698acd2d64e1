"""The heat map of gains by layer band: its order, numbers and gaps."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure
from refusal import refused

from affectlocus.reporting.band_map import band_map


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def cell(modules: str, gain: float, kind: str = "load", task: str = "mean") -> dict[str, object]:
    value = {"value": 40 + gain, "low": 30.0, "high": 60.0}
    value |= {"gain": gain, "gain_low": gain - 2, "gain_high": gain + 3}
    counts = {"n": 30, "seeds": 3, "draws": 1, "confidence": 0.95, "metric": "weighted_f1"}
    return {"kind": kind, "modules": modules, "mode": "", "task": task} | value | counts


TABLE = pd.DataFrame(
    [
        cell("gate@10-19", 5.0),
        cell("gate@2-9", -1.0),
        cell("q@2-9", -4.0),
        cell("gate", 8.0),
        cell("all@2-9", 9.0),
        cell("gate@2-9", 7.0, kind="tune"),
        cell("gate@2-9", 6.0, task="moods"),
    ]
)


def written(figure: Figure) -> dict[tuple[float, float], tuple[str, str]]:
    """The place of a number → its text and weight."""
    return {
        text.get_position(): (text.get_text(), str(text.get_fontweight()))
        for text in figure.axes[0].texts
    }


def test_each_load_of_a_projection_in_a_band_is_at_its_place_with_its_interval() -> None:
    figure = band_map(TABLE, "a pair")
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    # By layer, not by text.
    assert rows == ["2-9", "10-19"]
    assert written(figure) == {
        (0.5, 0.5): ("-4.0\n[-6.0, -1.0]", "bold"),
        (4.5, 0.5): ("-1.0\n[-3.0, 2.0]", "normal"),
        (4.5, 1.5): ("+5.0\n[3.0, 8.0]", "bold"),
    }
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("projection", "layers")
    assert "95 % interval over samples and replicates" in figure.get_label()
    assert "n = 30 answers, 3 replicates" in figure.get_label()


def test_what_is_not_in_the_matrix_is_hatched() -> None:
    figure = band_map(TABLE, "")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no such cell"]


def test_a_table_without_bands_is_refused() -> None:
    with refused("figure.no-band", figure="a pair"):
        band_map(TABLE[TABLE["modules"] == "gate"], "a pair")
