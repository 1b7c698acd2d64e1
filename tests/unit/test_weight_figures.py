"""Figures of neurons, directions and activations: what they show."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from refusal import refused

from affectlocus.deltas.neurons import concentration, overlaps
from affectlocus.reporting.activation_shifts import shifts
from affectlocus.reporting.direction_maps import direction_maps
from affectlocus.reporting.neuron_figure import neurons

PROJECTIONS = ["q", "k", "v", "o", "gate", "up", "down"]


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def changes(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = product(range(2), ("gate", "up", "down"), range(40))
    frame = pd.DataFrame(rows, columns=["layer", "projection", "neuron"]).assign(expert=None)
    return frame.assign(l2=random.random(len(frame)))


def test_every_pair_and_every_two_pairs_have_a_row() -> None:
    pairs = {"felt": changes(0), "sums": changes(1), "other": changes(2)}
    spread = pd.concat([concentration(one).assign(pair=name) for name, one in pairs.items()])
    figure = neurons(spread, overlaps(pairs, 0.1), "a base")
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == list(pairs)
    assert len(right.get_yticklabels()) == 3
    assert "moved neurons: 8 of 80" in figure.get_label()
    assert titles(figure) == ["", ""], "what marks mean is in the legend and the caption"
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == [
        "even change",
        "central 95 % by chance",
    ]
    # Marks at 0 are inside the panel.
    assert all(axis.get_xlim()[0] < 0 for axis in figure.axes)
    # Of each projection a point for a layer and a mean, for every pair; and the dotted line.
    assert len(left.lines) == 3 * 3 * 2 + 1


def test_seeds_of_a_pair_share_a_row_and_a_pair_meets_itself_in_another_seed() -> None:
    names = ("felt.seed0", "felt.seed1", "sums.seed0", "sums.seed1")
    pairs = {name: changes(number) for number, name in enumerate(names)}
    spread = pd.concat([concentration(one).assign(pair=name) for name, one in pairs.items()])
    shared = overlaps(pairs, 0.1)
    left, right = neurons(spread, shared, "a base").axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["felt", "sums"]
    rows = [text.get_text() for text in right.get_yticklabels()]
    assert rows == ["felt\nwith another replicate", "felt\nsums", "sums\nwith another replicate"]
    apart = shared[shared["first"].str.startswith("felt") & shared["second"].str.startswith("sums")]
    gate = apart[apart["layer"].isna() & (apart["projection"] == "gate")]["shared"]
    assert len(gate) == 4
    marks = [line.get_xdata() for line in right.lines if line.get_ydata()[0] == 1 - 0.24]
    assert sorted(marks[1]) == sorted(gate)
    assert marks[2] == pytest.approx(gate.mean())


def test_a_lone_pair_has_nothing_to_share() -> None:
    one = {"felt": changes(0)}
    spread = concentration(one["felt"]).assign(pair="felt")
    figure = neurons(spread, overlaps(one), "a base")
    assert len(figure.axes) == 1


def rows(projections: list[str], layers: int = 2, second: str = "b.seed0") -> pd.DataFrame:
    frame = pd.DataFrame(product(range(layers), projections), columns=["layer", "projection"])
    return frame.assign(
        first="a.seed0",
        second=second,
        cosine=np.linspace(-0.3, 0.2, len(frame)),
        cosine_sd=0.01,
        left_overlap=0.5,
        right_overlap=0.9,
        left_expected=0.125,
        right_expected=0.25,
    )


def test_directions_are_three_maps_with_chance_below_each() -> None:
    figure = direction_maps(rows(PROJECTIONS), "two pairs")
    maps = [axis for axis in figure.axes if "projection" in axis.get_xlabel()]
    assert [axis.get_title().split()[0] for axis in maps] == ["cosine", "overlap", "overlap"]
    assert maps[0].collections[0].get_clim() == (-1, 1)
    assert maps[1].collections[0].get_clim() == (0, 1)
    below = [[text.get_text() for text in axis.get_xticklabels()] for axis in maps]
    assert [each[0] for each in below] == ["q\n±0.01", "q\n0.12", "q\n0.25"]
    assert not figure.legends


@pytest.mark.parametrize(("second", "told"), [("b.seed0", True), ("a.seed2", False)])
def test_that_two_begin_alike_is_told_of_one_seed_alone(second: str, told: bool) -> None:
    figure = direction_maps(rows(PROJECTIONS, second=second), "two pairs")
    assert ("start with the same A" in figure.get_label()) == told


def test_what_one_pair_did_not_adapt_is_hatched() -> None:
    figure = direction_maps(rows(["q", "gate"]), "two pairs")
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text() == "not adapted by both"
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == 5


def test_two_pairs_without_a_common_weight_are_refused() -> None:
    with refused("figure.no-common-weight", figure="two pairs"):
        direction_maps(rows([]), "two pairs")


def test_shifts_are_drawn_for_every_model_and_task() -> None:
    keys = product(("base", "tuned"), ("a", "b"), range(3), range(20))
    shift = pd.DataFrame(keys, columns=["model", "task", "layer", "neuron"])
    shift["effect"] = np.random.default_rng(0).normal(size=len(shift))
    shift["moved"] = shift["neuron"] < 2
    summary = pd.DataFrame(
        {"model": ["base"], "task": ["a"], "set": ["moved"], "layer": [None]}
        | {"moved": [6], "probability": [0.75], "p": [0.004]}
    )
    figure = shifts(shift, summary, "a pair")
    assert titles(figure) == ["base, a", "base, b", "tuned, a", "tuned, b"]
    notes = [axis.texts[0].get_text() for axis in figure.axes]
    assert notes == ["moved, n = 6: P = 0.75, p = 0.004", *["no neuron to compare"] * 3]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1, "all panels have one scale"
    for axis in figure.axes:
        assert [line.get_label() for line in axis.lines] == ["moved", "the rest"]
        assert axis.lines[0].get_xdata().tolist() == [0, 1, 2]
