"""Curves: their points and bands, and names at their ends that do not cover each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from refusal import refused

from affectlocus.reporting.dose_curves import dose_curves
from affectlocus.reporting.trajectory_curves import trajectory_curves


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def row(kind: str, modules: str, mode: str, value: float) -> list[dict]:
    """A table's row: two tasks and their mean."""
    return [
        {"kind": kind, "modules": modules, "mode": mode, "task": task, "metric": "weighted_f1"}
        | {"value": value, "low": value - 2, "high": value + 3, "n": n, "seeds": 3, "draws": 1}
        | {"gain": value - 25, "gain_low": value - 27, "gain_high": value - 22}
        | {"confidence": 0.95}
        for task, n in (("moods", 10), ("signs", 20), ("mean", 30))
    ]


def doses(modules: list[str]) -> pd.DataFrame:
    """Base 25, tuned 60; a load of the n-th set scores 25 + n · dose."""
    rows = row("base", "base", "", 25.0) + row("tuned", "all", "", 60.0)
    for number, name in enumerate(modules):
        for times, mode in ((1.5, "x1.5"), (0.5, "x0.5"), (1.0, "")):
            rows += row("load", name, mode, 25 + number * times)
    return pd.DataFrame(rows)


def names(axis: Axes) -> list[Annotation]:
    return [text for text in axis.texts if isinstance(text, Annotation)]


def assert_apart(figure: Figure) -> None:
    """No name in a panel covers another."""
    renderer = figure.canvas.get_renderer()
    for axis in figure.axes:
        boxes = sorted(
            (super(Annotation, each).get_window_extent(renderer) for each in names(axis)),
            key=lambda box: box.y0,
        )
        for below, above in pairwise(boxes):
            assert above.y0 >= below.y0 + 0.9 * below.height


def test_a_line_goes_from_the_base_through_every_dose_with_its_interval() -> None:
    figure = dose_curves(doses(["q", "gate", "up"]), "a pair")
    attention, ffn = figure.axes
    assert [axis.get_title() for axis in (attention, ffn)] == ["attention", "feed-forward"]
    lines = {line.get_label(): line for line in ffn.lines}
    np.testing.assert_allclose(lines["up"].get_xdata(), [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(lines["up"].get_ydata(), [0, 1, 2, 3])
    bands = [each.get_paths()[0].vertices[:, 1] for each in ffn.collections]
    assert (bands[1].min(), bands[1].max()) == pytest.approx((-2, 6))
    assert "2 tasks, n = 30 answers, 3 replicates; the tuned model: 60.0" in figure.get_label()


def test_module_sets_of_several_have_a_panel_of_their_own() -> None:
    figure = dose_curves(doses(["o+gate", "all"]), "")
    (panel,) = figure.axes
    assert panel.get_title() == "several modules"
    assert [each.get_text() for each in names(panel)] == ["o+gate", "all"]


def test_the_majority_answer_is_a_line_where_it_is_known() -> None:
    most = {"baseline": ["majority"], "metric": ["weighted_f1"], "task": ["mean"], "value": [23.1]}
    figure = dose_curves(doses(["q", "up"]), "", pd.DataFrame(most))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["base, 25.0", "majority answer, 23.1"]
    assert "bands: paired 95 % interval over samples and replicates" in figure.get_label()
    assert all(
        any(line.get_ydata()[0] == pytest.approx(-1.9) for line in axis.lines)
        for axis in figure.axes
    )


def test_lines_that_end_together_have_names_apart() -> None:
    frame = doses(["q", "k", "v", "o", "gate", "up", "down"])
    frame.loc[frame["kind"] == "load", ["gain", "gain_low", "gain_high"]] = 1.0
    figure = dose_curves(frame, "")
    assert sum(len(names(axis)) for axis in figure.axes) == 7
    assert_apart(figure)


def test_a_table_without_doses_is_refused() -> None:
    frame = doses(["q"])
    with refused("figure.no-dose", figure="title"):
        dose_curves(frame[frame["mode"] == ""], "title")


def states(seeds: int = 2) -> pd.DataFrame:
    """L2 is step · (1 + seed) in layer 0 and three times that in layer 1; down is frozen."""
    return pd.DataFrame(
        [
            {"tuned": f"a.seed{seed}", "step": step, "layer": layer, "projection": name}
            | {"l2": 0.0 if name == "down" else size, "rms": size, "relative": size}
            | {"share_ratio": 1 + layer, "cosine": step / 20}
            for seed in range(seeds)
            for step in (10, 20)
            for layer in (0, 1)
            for name in ("gate", "up", "down")
            for size in [float(step * (1 + seed) * (1 + 2 * layer))]
        ]
    )


def test_a_trajectory_is_the_mean_over_layers_and_seeds_in_the_range_of_the_seeds() -> None:
    figure = trajectory_curves(states(), "a pair")
    l2, share, cosine = figure.axes
    gate = {line.get_label(): line for line in l2.lines}["gate"]
    np.testing.assert_allclose(gate.get_xdata(), [0, 10, 20])
    np.testing.assert_allclose(gate.get_ydata(), [0, 30, 60])
    band = l2.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(80)
    np.testing.assert_allclose(share.lines[0].get_ydata(), [1.5, 1.5])
    np.testing.assert_allclose(cosine.lines[0].get_ydata(), [0.5, 1])
    caption = figure.get_label()
    assert caption.startswith("means over 2 layers and 2 replicates; bands: their range")
    # What was never touched has no line, and is named.
    assert "not adapted: q, k, v, o, down" in caption
    assert_apart(figure)


def test_one_seed_has_no_band_and_says_so() -> None:
    figure = trajectory_curves(states(1), "")
    assert not any(axis.collections for axis in figure.axes)
    assert "1 replicate, so no bands" in figure.get_label()


def test_no_states_are_refused() -> None:
    with refused("figure.no-snapshot", figure="title", key="trajectory"):
        trajectory_curves(states().iloc[:0], "title")
