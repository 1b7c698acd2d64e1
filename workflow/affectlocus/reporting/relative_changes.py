"""Figure: distribution of the relative change of single weights, by projection (Fig. 10)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.figure_style import COLOURS, STYLE, captioned

_COLUMNS = 4
_MAX_BINS = 64  # more bins show noise, and make the drawing large


def relative_changes(histogram: pd.DataFrame, title: str) -> Figure:
    """Distribution of the relative change of single weights over all layers (Fig. 10).

    A panel for each projection. The two outer bins hold everything beyond them, so they are numbers
    and no part of the line.

    Args:
        histogram: the histograms of a pair: `projection`, `from`, `to` and `count`. With several
            seeds, named in `tuned`, the line is their mean and the band their range.

    Raises:
        InputError: the pair has no histogram.
    """
    rows = histogram.dropna(subset=["from", "to"])
    if rows.empty:
        raise InputError(
            "figure.no-histogram",
            f"{title}: no histogram; set deltas.companions to true",
            figure=title,
            key="deltas.companions",
        )
    rows = rows if "tuned" in rows else rows.assign(tuned="")
    seeds = rows["tuned"].nunique()
    present = [one for one in PROJECTIONS if (rows["projection"] == one).any()]
    lines = -(-len(present) // _COLUMNS)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            lines,
            min(_COLUMNS, len(present)),
            figsize=(0.8 + 2.2 * min(_COLUMNS, len(present)), 0.9 + 1.75 * lines),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        width = 0.0
        for axis, projection in zip(axes.flat, present, strict=False):
            width = _panel(axis, projection, rows[rows["projection"] == projection])
        for axis in list(axes.flat)[len(present) :]:
            axis.set_axis_off()
        for number, axis in enumerate(list(axes.flat)[: len(present)]):
            if number + _COLUMNS >= len(present):
                axis.set_xlabel("relative change")
                axis.tick_params(labelbottom=True)
            if number % _COLUMNS == 0:
                axis.set_ylabel("weights in a bin (%)")
        axes[0, 0].set_yscale("log")
        figure.suptitle(title, parse_math=False)
    of = f"means over {seeds} replicates; bands: their range" if seeds > 1 else "one replicate"
    return captioned(
        figure,
        of,
        f"bins are {width:.2g} wide",
        "the numbers on the left and right are the shares of weights in the outer bins, which hold "
        "all changes below and above",
    )


def _panel(axis: Axes, projection: str, own: pd.DataFrame) -> float:
    """Draws one projection; returns the width of a bin."""
    counts = own.pivot_table("count", ["from", "to"], "tuned", aggfunc="sum", fill_value=0)
    shares = 100 * counts / counts.sum()
    ends = shares.iloc[[0, -1]].mean(axis=1).to_numpy()
    inner = shares.iloc[1:-1]
    merged = max(1, -(-len(inner) // _MAX_BINS))
    groups = np.arange(len(inner)) // merged
    starts, stops = (
        inner.index.get_level_values(name).to_series().groupby(groups).agg(how).to_numpy()
        for name, how in (("from", "first"), ("to", "last"))
    )
    inner = inner.groupby(groups).sum()
    middle = (starts + stops) / 2
    share = inner.mean(axis=1).to_numpy()
    colour = COLOURS[projection]
    if inner.shape[1] > 1:
        low, high = inner.min(axis=1), inner.max(axis=1)
        axis.fill_between(middle, low, high, color=colour, alpha=0.25, lw=0)
    axis.plot(middle, np.where(share > 0, share, np.nan), color=colour, label=projection, lw=1.4)
    axis.set_title(projection)
    edges = (starts[0], stops[-1])
    for place, side, sign, edge, end in zip(
        (0.02, 0.98), ("left", "right"), "<>", edges, ends, strict=True
    ):
        axis.text(
            place,
            0.98,
            f"{sign} {edge:.2f}:\n{end:.1f} %".replace("-", "−"),
            ha=side,
            va="top",
            fontsize=7,
            transform=axis.transAxes,
        )
    return float(stops[0] - starts[0])
