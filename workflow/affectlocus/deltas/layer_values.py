"""The deltas by layer: as numbers, as a heat map of text, and in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from affectlocus.core.projections import PROJECTIONS
from affectlocus.deltas.delta_tables import DELTA_SCORES, Row

SCORE_NAMES = {"l2": "L2", "relative": "relative", "rms": "RMS", "share_ratio": "share ratio"}
"""The scores by which projections can be compared → their names in tables."""

_SHADES = " ▁▂▃▄▅▆▇█"
_MOST_ROWS = 40  # of the heat map; more layers are put together

Values = Mapping[tuple[int, str], float]
"""(layer, projection) → the score of its weight."""


def layer_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row per layer and projection with every score; None if a score is not defined.

    Args:
        rows: the rows of step `deltas`.
    """
    return [
        {"layer": row["layer"], "projection": row["projection"], "adapted": row["adapted"]}
        | {name: None if math.isnan(row[name]) else row[name] for name in DELTA_SCORES}
        for row in rows
        if row["parameter"] == "weight"
    ]


def layer_values(rows: Sequence[Row], score: str) -> dict[tuple[int, str], float]:
    """The score of every adapted weight that has one."""
    return {
        (row["layer"], row["projection"]): row[score]
        for row in rows
        if row["parameter"] == "weight" and row["adapted"] and not math.isnan(row[score])
    }


def conclusion(rows: Sequence[Row], score: str) -> str:
    """Where the tuning changed most, by projection and by layer, in one sentence."""
    values = layer_values(rows, score)
    if not any(values.values()):
        return "No projection differs."
    means = _means(values)
    first, *others = sorted(means, key=lambda name: -means[name])
    # The adapted layers of this projection; the largest of them is named.
    own = {layer: value for (layer, name), value in values.items() if name == first}
    at = max(own, key=lambda layer: own[layer])
    change = f"{SCORE_NAMES[score]} {means[first]:.3g}"
    if others:
        nearest = others[0]
        times = means[first] / means[nearest] if means[nearest] else math.inf
        change += f", {times:.3g} times that of {nearest}"
    said = f"{first} changed most ({change})"
    if len(own) > 1:
        said += f", most of all in layer {at} ({own[at]:.3g}, {own[at] / means[first]:.2f} times "
        said += "its mean over layers)"
    halves = _half(rows)
    if halves is not None and halves[1] > 1:
        said += f"; half of the squared change is in {halves[0]} of {halves[1]} layers"
    return f"{said}."


def _means(values: Values) -> dict[str, float]:
    """Projection → its mean over layers."""
    found = {}
    for projection in PROJECTIONS:
        mine = [value for (_, name), value in values.items() if name == projection]
        if mine:
            found[projection] = math.fsum(mine) / len(mine)
    return found


def _half(rows: Sequence[Row]) -> tuple[int, int] | None:
    """The fewest layers with half of the squared change, and the number of layers."""
    squares: dict[int, float] = {}
    for (layer, _), value in layer_values(rows, "l2").items():
        squares[layer] = squares.get(layer, 0.0) + value**2
    total = math.fsum(squares.values())
    if not total:
        return None
    reached, count = 0.0, 0
    for square in sorted(squares.values(), reverse=True):
        if reached >= total / 2:
            break
        reached, count = reached + square, count + 1
    return count, len(squares)


def largest_layers(rows: Sequence[Row], score: str) -> dict[str, str]:
    """Projection → its layer with the largest score, and how many times its mean that is."""
    values = layer_values(rows, score)
    means = _means(values)
    found = {}
    for projection, mean in means.items():
        own = {layer: value for (layer, name), value in values.items() if name == projection}
        at = max(own, key=lambda layer: own[layer])
        times = own[at] / mean if mean else 1.0
        found[projection] = f"{at} (×{times:.2f})" if len(own) > 1 else str(at)
    return found


def heat_map(rows: Sequence[Row], score: str) -> Table | None:
    """Layers × projections as a table of numbers, each after a bar of its height; None if empty.

    With many layers, a row is the mean over several of them.
    """
    values = layer_values(rows, score)
    top = max(values.values(), default=0.0)
    if not top:
        return None
    layers = sorted({row["layer"] for row in rows})
    size = -(-len(layers) // _MOST_ROWS)
    bands = [layers[start : start + size] for start in range(0, len(layers), size)]
    power = math.floor(math.log10(top)) if not 0.1 <= top < 1000 else 0
    decimals = max(0, 2 - max(0, math.floor(math.log10(top / 10.0**power))))
    unit = f", ×10^{power}" if power else ""
    of = f"; each row is the mean of {size} layers" if size > 1 else ""
    title = f"{SCORE_NAMES[score]} by layer{unit}{of}"
    grid = Table(title=Text(title, style="table.title"), title_justify="left")
    grid.add_column("layer", justify="right", no_wrap=True)
    for projection in PROJECTIONS:
        grid.add_column(projection, justify="right", no_wrap=True)
    for band in bands:
        cells = []
        for projection in PROJECTIONS:
            found = [values[at, projection] for at in band if (at, projection) in values]
            if not found:
                cells.append("")
                continue
            value = math.fsum(found) / len(found)
            shade = _SHADES[min(8, math.ceil(8 * value / top))]
            cells.append(f"{shade} {value / 10.0**power:.{decimals}f}")
        name = str(band[0]) if len(band) == 1 else f"{band[0]}-{band[-1]}"
        grid.add_row(name, *cells)
    return grid
