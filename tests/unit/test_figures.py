"""Figures: what they show, and that the same numbers give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from refusal import refused

from affectlocus.reporting.ablation_drops import ablation
from affectlocus.reporting.drawings import _short_path, description, picture, read_drawing
from affectlocus.reporting.figure_style import COLOURS, SEVERAL, captioned, interval, save
from affectlocus.reporting.heat_map import heat_map
from affectlocus.reporting.relative_changes import relative_changes
from affectlocus.reporting.score_bars import singles

PROJECTIONS = ["q", "k", "v", "o", "gate", "up", "down"]


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def deltas(layers: int = 2, adapted: tuple[str, ...] = tuple(PROJECTIONS)) -> pd.DataFrame:
    """Weights of every projection, and a bias of q that no heat map shows."""
    rows: list[dict[str, Any]] = []
    for layer in range(layers):
        for number, projection in enumerate(PROJECTIONS):
            value = layer + number / 10 + 0.1 if projection in adapted else np.nan
            rows.append(
                {"layer": layer, "projection": projection, "parameter": "weight"}
                | {"adapted": projection in adapted}
                | {"l2": value, "relative": value / 10, "rms": value / 100}
            )
    bias = {"layer": 0, "projection": "q", "parameter": "bias", "adapted": False}
    return pd.DataFrame([*rows, bias | dict.fromkeys(("l2", "relative", "rms"), 99.0)])


def intervals(kind: str, modules: list[str], modes: tuple[str, ...] = ("",)) -> pd.DataFrame:
    """The companion of a table: base 30, whole model 70, and cells from 40 upwards."""
    cells = [("base", "base", "", 30.0), ("tuned", "all", "", 70.0)]
    cells += [
        (kind, name, mode, 40.0 + 2 * number + place)
        for number, name in enumerate(modules)
        for place, mode in enumerate(modes)
    ]
    rows = [
        {"kind": kind, "modules": name, "mode": mode, "task": task, "metric": "weighted_f1"}
        | {"value": value, "low": value - 2, "high": value + 3}
        | {"gain": value - 70, "gain_low": value - 73, "gain_high": value - 68, "confidence": 0.95}
        | {"n": 12, "seeds": 1, "draws": 1}
        for kind, name, mode, value in cells
        for task in ("moods", "mean")
    ]
    return pd.DataFrame(rows)


def texts(figure: Figure) -> list[str]:
    """Every text of a figure's legends."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def bars(figure: Figure, side: str) -> dict[str, list[float]]:
    """Label of each set of bars → their heights or widths."""
    (axis,) = figure.axes
    sets = [
        each
        for each in axis.containers
        # The bands of base and all seven have no name.
        if isinstance(each, BarContainer) and not str(each.get_label()).startswith("_")
    ]
    return {each.get_label(): [getattr(bar, f"get_{side}")() for bar in each] for each in sets}


def test_a_heat_map_shows_every_weight_by_layer_and_projection_in_three_scores() -> None:
    figure = heat_map(deltas(11).sample(frac=1, random_state=0), "a pair")
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "projection"]
    assert len(panels) == 3
    for panel, scale in zip(panels, (1, 10, 100), strict=True):
        assert [text.get_text() for text in panel.get_xticklabels()] == PROJECTIONS
        shown = panel.collections[0].get_array().reshape(11, 7)
        expected = [[layer + n / 10 + 0.1 for n in range(7)] for layer in range(11)]
        np.testing.assert_allclose(shown * scale, expected)
    assert figure.get_suptitle() == "a pair"
    assert texts(figure) == []


def test_a_projection_that_was_not_adapted_is_hatched_and_has_a_legend() -> None:
    figure = heat_map(deltas(adapted=("gate", "up")), "a pair")
    assert texts(figure) == ["not adapted"]
    panel = figure.axes[0]
    hatched = {
        (patch.get_x(), patch.get_y() + row)
        for patch in panel.patches
        if patch.get_hatch()
        for row in range(int(patch.get_height()))
    }
    assert hatched == {(column, row) for column in (0, 1, 2, 3, 6) for row in (0, 1)}


def test_a_layer_in_the_middle_that_was_not_adapted_is_hatched_by_itself() -> None:
    frame = deltas(5)
    frame.loc[(frame["layer"].isin([1, 3, 4])) & (frame["projection"] == "up"), "l2"] = np.nan
    panel = heat_map(frame, "").axes[0]
    found = [(p.get_x(), p.get_y(), p.get_height()) for p in panel.patches if p.get_hatch()]
    assert found == [(5, 1, 1), (5, 3, 2)]


def test_a_score_that_no_weight_has_gets_no_panel() -> None:
    frame = deltas(2, ("q",)).assign(relative=np.nan)
    figure = heat_map(frame[frame["projection"] == "q"], "")
    titles = [axis.get_title() for axis in figure.axes if axis.get_xlabel() == "projection"]
    assert len(titles) == 2
    assert not any("relative" in title for title in titles)
    assert texts(figure) == ["not adapted"]


def histogram(shares: dict[str, tuple[float, ...]], tuned: str = "a") -> pd.DataFrame:
    """The counts of four bins from -1 to 1 in each projection, in two layers."""
    rows = [
        {"layer": layer, "projection": name, "from": -1 + number / 2, "to": -0.5 + number / 2}
        | {"count": count, "tuned": tuned}
        for layer in (0, 1)
        for name, counts in shares.items()
        for number, count in enumerate(counts)
    ]
    return pd.DataFrame(rows)


def test_relative_changes_are_shares_of_each_projections_weights_over_all_layers() -> None:
    frame = histogram({"q": (1, 4, 3, 2), "up": (0, 10, 0, 0)})
    figure = relative_changes(frame, "a pair")
    panels = {axis.get_title(): axis for axis in figure.axes}
    assert list(panels) == ["q", "up"]
    np.testing.assert_allclose(panels["q"].lines[0].get_xdata(), [-0.25, 0.25])
    np.testing.assert_allclose(panels["q"].lines[0].get_ydata(), [40, 30])
    np.testing.assert_allclose(panels["up"].lines[0].get_ydata(), [100, np.nan])
    # The outer bins are numbers.
    assert [text.get_text() for text in panels["q"].texts] == [
        "< −0.50:\n10.0 %",
        "> 0.50:\n20.0 %",
    ]
    assert panels["q"].get_ylabel() == "weights in a bin (%)"
    assert "bins are 0.5 wide" in figure.get_label()


def test_many_bins_are_merged_and_no_weight_is_lost() -> None:
    frame = pd.DataFrame(
        {"projection": "q", "from": np.arange(200) / 100, "to": np.arange(1, 201) / 100, "count": 1}
    )
    figure = relative_changes(frame, "")
    (line,) = figure.axes[0].lines
    assert len(line.get_ydata()) <= 64
    assert line.get_ydata().sum() == pytest.approx(99)


def test_every_projection_has_the_same_colour_in_bars_lines_and_points() -> None:
    figure = relative_changes(histogram(dict.fromkeys(PROJECTIONS, (1, 2, 2, 1))), "")
    lines = {axis.get_title(): axis.lines[0].get_color() for axis in figure.axes if axis.lines}
    (axis,) = singles(intervals("load", PROJECTIONS), "").axes
    drawn = {
        each.get_label(): to_hex(each[0].get_facecolor()).upper()
        for each in axis.containers
        if isinstance(each, BarContainer) and each.get_label() in PROJECTIONS
    }
    assert lines == drawn == COLOURS
    assert len({*COLOURS.values(), SEVERAL}) == 8


def test_relative_changes_that_were_not_counted_are_refused() -> None:
    empty = pd.DataFrame({"projection": [], "from": [], "to": [], "count": []})
    with refused("figure.no-histogram", figure="a pair", key="deltas.companions"):
        relative_changes(empty, "a pair")


def test_singles_are_bars_of_each_projection_on_every_task_and_the_mean() -> None:
    figure = singles(intervals("load", [*PROJECTIONS, "q+k"]), "a pair: load")
    (axis,) = figure.axes
    assert bars(figure, "height") == {name: [40 + 2 * n] * 2 for n, name in enumerate(PROJECTIONS)}
    assert [text.get_text() for text in axis.get_xticklabels()] == ["moods", "mean"]
    assert axis.get_ylabel() == "weighted F1 (%)"
    assert texts(figure) == ["base", "all seven", *PROJECTIONS]


def test_singles_can_be_drawn_as_paired_gains() -> None:
    figure = singles(intervals("tune", ["q", "up"]), "", gains=True)
    assert bars(figure, "height") == {"q": [-30, -30], "up": [-28, -28]}
    assert figure.axes[0].get_ylabel() == "gain over the base, weighted F1 (%)"
    assert "paired 95 % interval" in str(figure.get_label())
    low, high = figure.axes[0].get_ylim()
    assert low < -30
    assert high < 100


def test_the_intervals_of_base_and_all_seven_are_bands() -> None:
    given = intervals("load", ["q"])
    figure = singles(given, "")
    bars_drawn = [one for one in figure.axes[0].containers if isinstance(one, BarContainer)]
    bands = [one for one in bars_drawn if str(one.get_label()).startswith("_")]
    found = [[(bar.get_y(), bar.get_y() + bar.get_height()) for bar in band] for band in bands]
    rows = given[given["kind"].eq("base") | given["modules"].eq("all")]
    assert len(found) == 2
    for place, (low, high) in ((0, rows[["low", "high"]].min()), (1, rows[["low", "high"]].max())):
        assert found[place][0] == pytest.approx((low, high))


def test_what_a_constant_answer_scores_is_a_line_on_every_task_in_the_metric_of_the_bars() -> None:
    rows = [
        (baseline, task, metric, value + more)
        for baseline, value in (("majority", 20.0), ("uniform", 10.0))
        for task in ("mean", "moods", "text")
        for metric, more in (("accuracy", 50.0), ("weighted_f1", float(task == "mean")))
    ]
    baselines = pd.DataFrame(rows, columns=["baseline", "task", "metric", "value"])
    figure = singles(intervals("load", ["q"]), "", baselines)
    assert texts(figure) == ["base", "all seven", "majority answer", "uniform guess", "q"]
    for name, value in (("majority answer", 20), ("uniform guess", 10)):
        (line,) = (one for one in figure.axes[0].collections if one.get_label() == name)
        assert [segment[0][1] for segment in line.get_segments()] == [value, value + 1]


def test_a_single_projection_alone_is_drawn() -> None:
    figure = singles(intervals("tune", ["gate", "q+k"]), "")
    assert "gate" in texts(figure)
    assert not {"q", "q+k"} & set(texts(figure))


def test_singles_without_any_single_projection_are_refused() -> None:
    with refused("figure.no-single-projection", figure="my title"):
        singles(intervals("load", ["q+k+v+o"]), "my title")


def test_several_seeds_are_drawn_as_their_mean() -> None:
    frame = intervals("tune", ["q"])
    second = frame[frame["kind"] == "tune"].assign(value=50.0, low=48.0, high=53.0)
    figure = singles(pd.concat([frame, second]), "")
    assert bars(figure, "height") == {"q": [45, 45]}


def test_ablations_are_drops_of_the_mean_by_module_set_and_mode() -> None:
    frame = intervals("ablate", ["gate", "q+k"], ("zero", "revert"))
    figure = ablation(frame, "a pair: ablate")
    # Against 70 for the tuned model: 40 and 42 with zero, one more with revert.
    assert bars(figure, "width") == {"revert": [-29, -27], "zero": [-30, -28]}
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["gate", "q+k"]
    assert texts(figure) == ["revert", "zero"]
    assert figure.axes[0].yaxis_inverted(), "the first module set stands on top"


def test_a_mode_that_a_module_set_lacks_leaves_a_gap() -> None:
    frame = intervals("ablate", ["gate", "q"], ("zero", "revert"))
    figure = ablation(frame[(frame["modules"] != "q") | (frame["mode"] != "zero")], "")
    assert np.isnan(bars(figure, "width")["zero"]).tolist() == [False, True]


def test_a_table_without_ablations_is_refused() -> None:
    with refused("figure.no-ablated-cell", figure="my title"):
        ablation(intervals("load", ["q"]), "my title")


@pytest.mark.parametrize("kind", ["heat map", "singles", "ablation"])
def test_the_same_numbers_give_the_same_bytes_as_png_and_svg(tmp_path: Path, kind: str) -> None:
    def draw() -> Figure:
        if kind == "heat map":
            return heat_map(deltas(1, ("gate",)), kind)
        if kind == "singles":
            return singles(intervals("load", ["q", "gate"]), kind)
        return ablation(intervals("ablate", ["gate"], ("zero",)), kind)

    for name in ("one", "two"):
        save(draw(), tmp_path / f"{name}.pair")
    for suffix in ("png", "svg"):
        one, two = ((tmp_path / f"{name}.pair.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two
    assert (tmp_path / "one.pair.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    svg = (tmp_path / "one.pair.svg").read_text(encoding="utf-8")
    assert svg.rstrip().endswith("</svg>")
    assert f">{kind}<" in svg, "text stays text, for search and for editing"
    assert len(list(tmp_path.iterdir())) == 4


def test_saving_closes_the_figure(tmp_path: Path) -> None:
    figure = plt.figure(figsize=(1, 1))
    save(figure, tmp_path / "empty")
    assert not plt.fignum_exists(figure.number)


def test_a_histograms_seeds_give_a_mean_and_a_band() -> None:
    frame = pd.concat([histogram({"q": (0, 1, 3, 0)}, "a"), histogram({"q": (0, 2, 2, 0)}, "b")])
    figure = relative_changes(frame, "")
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [37.5, 62.5])
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (25, 75)
    assert "2 replicates" in figure.get_label()


def test_figures_of_tables_say_how_many_answers_and_seeds_there_are() -> None:
    pooled = intervals("load", ["q", "up"]).assign(seeds=3)
    caption = singles(pooled, "").get_label()
    assert caption.endswith("n = 12 answers, 3 replicates")
    assert "95 % interval over samples and replicates" in caption
    assert "95 % interval over samples only" in singles(pooled.assign(seeds=1), "").get_label()
    destroyed = intervals("ablate", ["q"], ("zero",))
    assert ablation(destroyed, "").get_label().endswith("n = 12 answers, 1 replicate")
    drawn = ablation(destroyed.assign(draws=5), "").get_label()
    assert drawn.endswith("n = 12 answers, 1 replicate, 5 random draws")
    assert "over samples and draws" in singles(pooled.assign(seeds=1, draws=5), "").get_label()
    assert interval(pooled.assign(draws=5)).endswith("over samples, replicates and draws")


def test_bars_end_at_the_highest_interval_and_constant_answers_are_in_front_of_them() -> None:
    constant = {"baseline": "majority", "metric": "weighted_f1", "value": 20.0}
    baselines = pd.DataFrame([constant | {"task": task} for task in ("moods", "mean")])
    (axis,) = singles(intervals("load", ["q"]), "", baselines).axes
    low, high = axis.get_ylim()
    assert low == 0
    assert 73 < high < 80, "all seven: 70, with an interval up to 73"
    (line,) = (one for one in axis.collections if one.get_label() == "majority answer")
    assert line.get_zorder() > max(bar.get_zorder() for bar in axis.patches)


def test_a_caption_is_in_both_files_and_not_in_the_drawing(tmp_path: Path) -> None:
    figure = captioned(plt.figure(figsize=(1, 1)), "n = 3 <a> & b", "", "bands: ranges")
    save(figure, tmp_path / "one")
    caption = "n = 3 <a> & b; bands: ranges"
    assert caption.encode() in (tmp_path / "one.png").read_bytes()
    root = read_drawing(tmp_path / "one.svg")
    assert description(root) == caption
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert picture(tmp_path / "one.png").caption == caption


def test_a_drawing_on_the_page_is_the_same_drawing_in_fewer_bytes(tmp_path: Path) -> None:
    hostile = '<b>it\'s</b> "100 %" & #1'
    frame = intervals("load", [*PROJECTIONS]).replace({"task": {"moods": hostile}})
    save(singles(frame, hostile), tmp_path / "bars")
    shown = picture(tmp_path / "bars.png")
    assert not set(shown.uri) & set('<>"&#\n')
    text = unquote(shown.uri.removeprefix("data:image/svg+xml,"))
    assert len(shown.uri) < 0.55 * (tmp_path / "bars.svg").stat().st_size
    root = ElementTree.fromstring(text)
    before = read_drawing(tmp_path / "bars.svg")
    svg = "{http://www.w3.org/2000/svg}"
    for tag in ("text", "path", "use"):
        assert len(list(root.iter(svg + tag))) == len(list(before.iter(svg + tag)))
    words = ["".join(one.itertext()) for one in root.iter(f"{svg}text")]
    assert words == ["".join(one.itertext()) for one in before.iter(f"{svg}text")]
    assert sum(hostile in word for word in words) == 2
    # Whatever is referred to exists.
    names = {one.get("id") for one in root.iter() if one.get("id")}
    used = set(re.findall(r"url\(#(\w+)\)", text)) | {
        one.get("href", "")[1:] for one in root.iter(f"{svg}use")
    }
    assert used <= names
    assert picture(tmp_path / "bars.png") == shown


def test_a_path_keeps_its_points() -> None:
    assert (
        _short_path("M 1 2 L 3 -4 L 5 6 C 1 2 3 4 5 6 L 7 8 z") == "M1 2 3-4 5 6C1 2 3 4 5 6L7 8z"
    )


def test_a_file_that_is_no_drawing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<svg")
    with refused("result.not-svg", file=tmp_path / "a.svg"):
        picture(tmp_path / "a.png")


@pytest.mark.parametrize("tasks", [1, 3, 9])
def test_nothing_written_around_the_bars_leaves_the_figure(tasks: int) -> None:
    rows = intervals("load", list(PROJECTIONS))
    rows = rows[rows["task"] == "moods"]
    several = [rows.assign(task=f"MELD-sentiment{one}") for one in range(tasks)]
    frame = pd.concat([*several, rows.assign(task="mean")]).assign(n=10_188)
    for figure in (
        singles(frame, "stories-affective: base + delta of one projection"),
        ablation(frame.assign(kind="ablate", mode="zero"), "stories-affective"),
    ):
        figure.draw_without_rendering()
        (axis,) = figure.axes
        for text in (axis.xaxis.label, axis.yaxis.label, axis.title):
            box = text.get_window_extent()
            assert box.x0 >= 0, text.get_text()
            assert box.x1 <= figure.bbox.x1, text.get_text()


def test_names_stay_text_in_a_drawing_whatever_they_look_like(tmp_path: Path) -> None:
    hostile = r"$\frac{x$ <script>alert(1)</script> & $x^2$"
    rows = intervals("load", ["q", "gate"]).replace({"task": {"moods": hostile}})
    save(singles(rows, hostile), tmp_path / "bars")
    drawn = ElementTree.parse(tmp_path / "bars.svg").getroot()
    texts = ["".join(one.itertext()) for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    # Above the axis, and below its bars.
    assert sum(hostile in text for text in texts) == 2
    assert not list(drawn.iter("{http://www.w3.org/2000/svg}script"))
