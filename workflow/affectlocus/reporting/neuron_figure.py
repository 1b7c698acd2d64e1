"""Figure: concentration of a change over the feed-forward neurons, and neurons moved repeatedly."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from affectlocus.core.projections import FFN
from affectlocus.reporting.figure_style import COLOURS, MARKERS, STYLE, plain


def neurons(concentration: pd.DataFrame, overlaps: pd.DataFrame, title: str) -> Figure:
    """Concentration of each pair's change, and the number of moved neurons that two pairs share.

    All seeds of a pair have one row. The row of a pair with itself compares its seeds with each
    other; it is the reference for the other rows.

    Args:
        concentration: the rows of `neurons.concentration`, with a column `pair`.
        overlaps: the rows of `neurons.overlaps`.
    """
    shares = concentration.assign(pair=_without_seed(concentration["pair"]))
    pooled = overlaps[overlaps["layer"].isna()]
    pooled = pooled.assign(
        first=_without_seed(pooled["first"]), second=_without_seed(pooled["second"])
    )
    pairs = list(dict.fromkeys(shares["pair"]))
    compared = list(dict.fromkeys(zip(pooled["first"], pooled["second"], strict=True)))
    with plt.rc_context(STYLE):
        height = 1.8 + 0.42 * max(len(pairs), len(compared), 2)
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, height), width_ratios=[1, 1], layout="constrained"
        )
        for number, projection in enumerate(FFN):
            style = {"marker": MARKERS[projection], "color": COLOURS[projection], "ls": ""}
            shift = (number - 1) * 0.24
            mine = shares[shares["projection"] == projection].dropna(subset="top_share")
            for name, rows in mine.groupby("pair"):
                _dots(left, 100 * rows["top_share"], pairs.index(name) + shift, style)
            here = pooled[pooled["projection"] == projection]
            for (first, second), rows in here.groupby(["first", "second"]):
                place = compared.index((first, second)) + shift
                chance = rows[["chance_low", "chance_high"]].mean()
                right.plot(chance, [place] * 2, color="#BBBBBB", lw=6, solid_capstyle="butt")
                _dots(right, rows["shared"], place, style)
        even = 100 * concentration["even_share"].mean()
        left.axvline(even, color="#555555", ls="dotted", lw=1.2)
        left.set_yticks(range(len(pairs)), plain(pairs))
        left.set_xlim(left=0)
        left.set_xlabel("squared change in the top 1 % of the neurons (%)")
        seeds = " of a replicate" if len(pairs) < concentration["pair"].nunique() else ""
        left.set_title(
            f"small: a layer{seeds}; large: the mean; dotted: even change",
            fontsize=8,
        )
        names = [
            f"{one}\n{two if two != one else 'with another replicate'}" for one, two in compared
        ]
        right.set_yticks(range(len(compared)), plain(names), fontsize=8)
        right.set_xlim(left=-0.5)
        right.set_xlabel("moved neurons that two pairs share, all layers")
        moved = f"{pooled['moved'].iloc[0]} of {pooled['neurons'].iloc[0]}" if compared else "none"
        each = "small: two replicates; large: the mean\n" if seeds else ""
        right.set_title(f"{each}moved: {moved}; grey: central 95 % by chance", fontsize=8)
        if not compared:
            style = {"transform": right.transAxes, "ha": "center"}
            right.text(0.5, 0.5, "one pair: nothing to compare", **style)
        for axis, count in ((left, len(pairs)), (right, max(1, len(compared)))):
            axis.set_ylim(count - 0.4, -0.6)
        handles = [
            Line2D([], [], marker=MARKERS[p], color=COLOURS[p], ls="", mec="#333333", label=p)
            for p in FFN
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(title, parse_math=False)
    return figure


def _without_seed(names: pd.Series) -> pd.Series:
    """The names of the pairs of tuned checkpoints."""
    return names.str.replace(r"\.seed\d+$", "", regex=True)


def _dots(axis: Axes, values: pd.Series, height: float, style: dict[str, Any]) -> None:
    """The mean as a large mark, and each value as a small mark if there are several."""
    if len(values) > 1:
        axis.plot(values, np.full(len(values), height), ms=4, alpha=0.6, mec="none", **style)
    axis.plot(values.mean(), height, ms=8, mec="#333333", **style)
