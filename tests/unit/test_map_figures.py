"""Several pairs' deltas side by side: what each panel shows, and which share a scale."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from refusal import refused

from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.map_figures import delta_maps


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def deltas(
    size: int = 64, scale: float = 1.0, seeds: int = 2, adapted: tuple[str, ...] = PROJECTIONS
) -> pd.DataFrame:
    """Two layers, and a bias that no map shows; seeds lie 10 % around their mean."""
    rows = []
    for seed in range(seeds):
        for layer in range(2):
            for number, name in enumerate(PROJECTIONS):
                rms = scale * (layer + number + 1) * (1 + 0.1 * (seed - (seeds - 1) / 2))
                rms = rms if name in adapted else np.nan
                row = {"tuned": f"a.seed{seed}", "layer": layer, "projection": name}
                numel = size * (3 if number > 3 else 1)
                row |= {"numel": numel, "rms": rms, "l2": rms * numel**0.5}
                rows.append(row | {"parameter": "weight"})
        rows.append(rows[-1] | {"parameter": "bias", "rms": 99.0, "l2": 99.0})
    return pd.DataFrame(rows)


def maps(figure: Figure) -> dict[str, Axes]:
    """First line of the title → a panel of L2, and the same with RMS."""
    named = [axis for axis in figure.axes if axis.get_title() and axis.collections]
    return {axis.get_title().replace("\n", ": "): axis for axis in named}


def shown(axis: Axes) -> np.ndarray:
    return axis.collections[0].get_array().reshape(2, 7)


def test_each_pair_has_a_map_of_l2_and_below_it_one_of_rms_averaged_over_seeds() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(scale=2)}}, "title")
    found = maps(figure)
    assert list(found) == [
        f"{name}: {score}"
        for score in ("L2 norm (eq. 1)", "RMS per weight")
        for name in ("one", "two")
    ]
    expected = np.add.outer(np.arange(2), np.arange(1, 8))
    np.testing.assert_allclose(shown(found["one: RMS per weight"]), expected)
    np.testing.assert_allclose(shown(found["two: RMS per weight"]), 2 * expected)
    np.testing.assert_allclose(shown(found["one: L2 norm (eq. 1)"])[0, :4], 8 * expected[0, :4])


def limits(figure: Figure, score: str) -> set[float]:
    found = maps(figure).items()
    return {axis.collections[0].norm.vmax for name, axis in found if score in name}


def test_l2_has_one_scale_where_the_matrices_are_of_one_size() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(scale=2)}}, "")
    assert len(limits(figure, "L2")) == len(limits(figure, "RMS")) == 1
    assert figure.get_supxlabel().endswith("one colour scale for each row")


def test_l2_of_other_sizes_has_a_scale_for_each_panel_and_says_so() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(size=100)}}, "")
    assert len(limits(figure, "L2")) == 2
    assert len(limits(figure, "RMS")) == 1
    assert "a colour scale for each panel" in figure.get_supxlabel()


def test_the_caption_says_how_many_seeds_and_how_far_they_lie_apart() -> None:
    three = delta_maps({"": {"one": deltas(seeds=3), "two": deltas(seeds=1)}}, "")
    assert (
        "1–3 replicates; their range relative to a cell's mean: median 20%" in three.get_supxlabel()
    )
    alone = delta_maps({"": {"one": deltas(seeds=1), "two": deltas(seeds=1)}}, "")
    assert alone.get_supxlabel().startswith("one replicate\n")


def test_a_pair_that_is_not_there_leaves_its_place_empty() -> None:
    grid = {"LoRA": {"a": deltas(), "b": deltas()}, "full": {"b": deltas()}}
    figure = delta_maps(grid, "")
    assert list(maps(figure))[:3] == [
        f"{name}: L2 norm (eq. 1)" for name in ("a, LoRA", "b, LoRA", "b, full")
    ]
    empty = [axis for axis in figure.axes if [t.get_text() for t in axis.texts] == ["no such pair"]]
    assert len(empty) == 2


def test_what_was_not_adapted_is_hatched() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(adapted=("gate", "up"))}}, "")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not adapted"]
    columns = {p.get_x() for p in maps(figure)["two: RMS per weight"].patches if p.get_hatch()}
    assert columns == {0, 1, 2, 3, 6}


def test_lines_show_gate_and_up_by_layer_with_the_seeds_range() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(scale=2)}}, "", lines=True)
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "layer"]
    assert len(panels) == 2
    assert len({axis.get_ylim() for axis in panels}) == 1
    lines = {line.get_label(): line.get_ydata() for line in panels[0].lines}
    np.testing.assert_allclose(lines["gate"], [5, 6])
    np.testing.assert_allclose(lines["up"], [6, 7])
    band = panels[0].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.95 * 5, 1.05 * 6))


def test_one_pair_alone_is_refused() -> None:
    with refused("figure.one-pair", figure="title"):
        delta_maps({"": {"one": deltas()}}, "title")
