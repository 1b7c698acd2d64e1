"""Common parts of all figures: colours, labels, phrases of captions, and saving.

The import selects matplotlib's Agg backend, so that a figure needs no display.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affectlocus.config.scoring import MEAN
from affectlocus.core.output_files import replacing
from affectlocus.core.phrases import in_words
from affectlocus.core.projections import STYLES

COLOURS = {name: style.colour for name, style in STYLES.items()}
"""Projection → its colour in every figure. Nothing else in a figure has one of these colours."""
SEVERAL = "#555555"
"""The colour of what is no single projection: several modules, baselines, whiskers."""
EDGE = "#333333"
"""The edge of bars and marks. It is visible on white, as light colours are not."""
HATCHES = {name: style.hatch for name, style in STYLES.items()}
DASHES = {name: style.dashes for name, style in STYLES.items()}
MARKERS = {name: style.marker for name, style in STYLES.items()}
DELTA_LABELS = {
    "l2": "L2 norm of the change (eq. 1)",
    "relative": "L2 relative to the base's norm (eq. 2)",
    "rms": "RMS change per weight",
}

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "affectlocus",
    "svg.fonttype": "none",
}
GAIN = ["gain", "gain_low", "gain_high"]
"""The columns of a paired gain and its interval."""


def hatch_missing(axis: Axes, grid: pd.DataFrame) -> bool:
    """Hatches the cells of a heat map that have no value; returns whether there are any.

    Args:
        grid: (layers, projections), the values of the heat map.
    """
    hatched = False
    for column, projection in enumerate(grid.columns):
        for start, stop in _runs(grid[projection].isna().to_list()):
            hatched = True
            box = plt.Rectangle((column, start), 1, stop - start, fill=False, lw=0)
            box.set(hatch="////", edgecolor="#999999")
            axis.add_patch(box)
    return hatched


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """Start and stop of every run of true flags; one patch for each run is drawn fast."""
    start = None
    for position, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = position
        elif not flag and start is not None:
            yield start, position
            start = None


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for the seeds of a cell: the means of values and of interval ends."""
    columns = ["value", "low", "high", "gain", "gain_low", "gain_high"]
    return (
        rows.groupby(["kind", "modules", "mode", "task"], sort=False)[columns].mean().reset_index()
    )


def level(intervals: pd.DataFrame) -> str:
    """The confidence level of a table's intervals as text, such as `95 %`."""
    return f"{100 * intervals['confidence'].iloc[0]:g} %"


def interval(cells: pd.DataFrame, samples: str = "samples") -> str:
    """A phrase for a figure's intervals: their level, and the units that they are over."""
    names = {"seeds": "replicates", "draws": "draws"}
    over = [samples, *(name for column, name in names.items() if cells[column].max() > 1)]
    units = f"{samples} only" if len(over) == 1 else in_words(over)
    return f"{level(cells)} interval over {units}"


def sampled(cells: pd.DataFrame) -> str:
    """A phrase for the number of answers, replicates and random draws of cells."""
    return f"{answered(cells)}, {replicated(cells)}"


def answered(cells: pd.DataFrame) -> str:
    """A phrase for the number of answers of a cell."""
    return f"n = {int(cells['n'].max())} answers"


def replicated(cells: pd.DataFrame) -> str:
    """A phrase for the number of replicates, and of random draws if there are several."""
    seeds, draws = int(cells["seeds"].max()), int(cells["draws"].max())
    drawn = f", {draws} random draws" if draws > 1 else ""
    return f"{seeds} replicate{'s' * (seeds > 1)}{drawn}"


def counted(intervals: pd.DataFrame) -> str:
    """`sampled` for the mean scores of a table's cells."""
    return sampled(
        intervals[(intervals["task"] == MEAN) & ~intervals["kind"].isin(["base", "tuned"])]
    )


def captioned(figure: Figure, *parts: str) -> Figure:
    """Gives a figure its caption: how its numbers were made, and what its marks are.

    The caption is not drawn. `save` writes it into both files, and the report shows it below.
    """
    figure.set_label("; ".join(part for part in parts if part))
    return figure


def scaled(grid: pd.DataFrame, largest: float) -> tuple[pd.DataFrame, str, str]:
    """The numbers of a heat map, a phrase for their unit, and their format.

    Small numbers are divided by a power of ten, so that they fit into the cells. All numbers have
    the same decimals: two below 10, one below 100, none above.
    """
    power = math.floor(math.log10(largest)) if 0 < largest < 0.1 else 0
    shown = largest / 10.0**power
    decimals = 2 if shown < 9.995 else 1 if shown < 99.95 else 0
    return grid / 10.0**power, f" (×$10^{{{power}}}$)" if power else "", f".{decimals}f"


def flatten_colour_bars(axes: Iterable[Axes]) -> None:
    """Stores the colour bars of heat maps as images in a drawing; each has 256 shapes otherwise."""
    for axis in axes:
        for drawn in axis.collections:
            bar = getattr(drawn, "colorbar", None)
            if bar is not None:
                bar.solids.set_rasterized(True)


def plain(texts: Iterable[object]) -> list[str]:
    """Names with escaped dollar signs, between which matplotlib would read a formula."""
    return [str(text).replace("$", r"\$") for text in texts]


def save(figure: Figure, stem: Path) -> None:
    """Writes `stem`.png (200 dpi) and `stem`.svg; the same figure gives the same bytes.

    The caption of the figure (`captioned`) is in both files, as their description.
    """
    flatten_colour_bars(figure.axes)
    caption = str(figure.get_label())
    described = {"Description": caption} if caption else {}
    for suffix in (".png", ".svg"):
        with (
            plt.rc_context(STYLE),
            replacing(stem.with_name(stem.name + suffix)) as temporary,
        ):
            metadata: dict[str, Any] = described | (
                {"Date": None} if suffix == ".svg" else {"Software": None}
            )
            figure.savefig(temporary, dpi=200, metadata=metadata, facecolor="white")
    plt.close(figure)
