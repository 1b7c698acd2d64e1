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
    """Name and score → its panel; L2 comes first, then RMS."""
    named = [axis for axis in figure.axes if axis.get_xlabel() == "projection"]
    scores = ["l2"] * (len(named) // 2) + ["rms"] * (len(named) // 2)
    return {f"{axis.get_title()}: {score}": axis for axis, score in zip(named, scores, strict=True)}


def shown(axis: Axes) -> np.ndarray:
    return axis.collections[0].get_array().reshape(2, 7)


def test_each_pair_has_a_map_of_l2_and_below_it_one_of_rms_averaged_over_seeds() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(scale=2)}}, "title")
    found = maps(figure)
    assert list(found) == [f"{name}: {score}" for score in ("l2", "rms") for name in ("one", "two")]
    expected = np.add.outer(np.arange(2), np.arange(1, 8))
    np.testing.assert_allclose(shown(found["one: rms"]), expected)
    np.testing.assert_allclose(shown(found["two: rms"]), 2 * expected)
    np.testing.assert_allclose(shown(found["one: l2"])[0, :4], 8 * expected[0, :4])


def limits(figure: Figure, score: str) -> set[float]:
    found = maps(figure).items()
    return {axis.collections[0].norm.vmax for name, axis in found if score in name}


def test_all_panels_of_a_score_have_one_scale() -> None:
    grid = {"LoRA": {"a": deltas(), "b": deltas(scale=2)}, "full": {"a": deltas(scale=3)}}
    figure = delta_maps(grid, "")
    assert len(limits(figure, "l2")) == len(limits(figure, "rms")) == 1
    assert limits(figure, "rms") == {3 * 8}
    assert figure.get_label().endswith("one colour scale for each score")
    # One colour bar for each row of panels, with the score and its unit.
    bars = [axis.get_ylabel() for axis in figure.axes if axis.get_label() == "<colorbar>"]
    assert bars == ["L2 norm (eq. 1)"] * 2 + ["RMS per weight"] * 2


def test_matrices_of_other_sizes_are_named() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(size=100)}}, "")
    assert len(limits(figure, "l2")) == 1
    assert "the matrices of the models differ in size" in figure.get_label()


def test_numbers_in_the_cells_have_the_same_decimals() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(scale=0.01)}}, "")
    texts = {text.get_text() for axis in maps(figure).values() for text in axis.texts}
    # L2 up to 110 has none, RMS up to 8 has two.
    assert {len(text.partition(".")[2]) for text in texts} == {0, 2}
    rms = [text.get_text() for text in maps(figure)["two: rms"].texts]
    assert rms[:2] == ["0.01", "0.02"]


def test_the_caption_says_how_many_seeds_and_how_far_they_lie_apart() -> None:
    three = delta_maps({"": {"one": deltas(seeds=3), "two": deltas(seeds=1)}}, "")
    assert "1–3 replicates, whose range relative to a cell's mean is 20%" in three.get_label()
    alone = delta_maps({"": {"one": deltas(seeds=1), "two": deltas(seeds=1)}}, "")
    assert alone.get_label().startswith("one replicate; ")


def test_a_pair_that_is_not_there_leaves_its_place_empty() -> None:
    grid = {"LoRA": {"a": deltas(), "b": deltas()}, "full": {"b": deltas()}}
    figure = delta_maps(grid, "")
    assert list(maps(figure))[:3] == [f"{name}: l2" for name in ("a, LoRA", "b, LoRA", "b, full")]
    empty = [axis for axis in figure.axes if not axis.axison]
    assert len(empty) == 2
    assert not any(axis.texts or axis.get_title() for axis in empty)


def test_what_was_not_adapted_is_hatched() -> None:
    figure = delta_maps({"": {"one": deltas(), "two": deltas(adapted=("gate", "up"))}}, "")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not adapted"]
    columns = {p.get_x() for p in maps(figure)["two: rms"].patches if p.get_hatch()}
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
