"""Figure: concentration of a change over the feed-forward neurons, and neurons moved repeatedly."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from affectlocus.core.projections import FFN
from affectlocus.reporting.figure_style import (
    COLOURS,
    EDGE,
    MARKERS,
    SEVERAL,
    STYLE,
    captioned,
    plain,
)


def neurons(concentration: pd.DataFrame, overlaps: pd.DataFrame, title: str) -> Figure:
    """Concentration of each pair's change, and the number of moved neurons that two pairs share.

    All seeds of a pair have one row. The row of a pair with itself compares its seeds with each
    other; it is the reference for the other rows.

    Args:
        concentration: the rows of `neurons.concentration`, with a column `pair`.
        overlaps: the rows of `neurons.overlaps`; with those of one pair, there is no right panel.
    """
    shares = concentration.assign(pair=_without_seed(concentration["pair"]))
    pooled = overlaps[overlaps["layer"].isna()]
    pooled = pooled.assign(
        first=_without_seed(pooled["first"]), second=_without_seed(pooled["second"])
    )
    pairs = list(dict.fromkeys(shares["pair"]))
    compared = list(dict.fromkeys(zip(pooled["first"], pooled["second"], strict=True)))
    several = len(pairs) < concentration["pair"].nunique()
    with plt.rc_context(STYLE):
        panels = 2 if compared else 1
        height = 1.4 + 0.46 * max(len(pairs), len(compared), 2)
        figure, axes = plt.subplots(
            1, panels, figsize=(5.5 * panels, height), squeeze=False, layout="constrained"
        )
        left = axes[0, 0]
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
                axes[0, 1].plot(chance, [place] * 2, color="#BBBBBB", lw=6, solid_capstyle="butt")
                _dots(axes[0, 1], rows["shared"], place, style)
        even = 100 * concentration["even_share"].mean()
        left.axvline(even, color=SEVERAL, ls="dotted", lw=1.2)
        left.set_yticks(range(len(pairs)), plain(pairs))
        left.set_xlabel("squared change in the top 1 % of the neurons (%)")
        left.set_ylim(len(pairs) - 0.4, -0.6)
        handles: list[Line2D | Patch] = [
            Line2D([], [], marker=MARKERS[p], color=COLOURS[p], ls="", mec=EDGE, label=p)
            for p in FFN
        ]
        handles.append(Line2D([], [], color=SEVERAL, ls="dotted", lw=1.2, label="even change"))
        if compared:
            names = [
                f"{one}\n{two if two != one else 'with another replicate'}" for one, two in compared
            ]
            axes[0, 1].set_yticks(range(len(compared)), plain(names), fontsize=8)
            axes[0, 1].set_xlabel("moved neurons that two pairs share, all layers")
            axes[0, 1].set_ylim(len(compared) - 0.4, -0.6)
            handles.append(Patch(color="#BBBBBB", label="central 95 % by chance"))
        for axis in axes.flat:
            # Marks at 0 are not cut: the axis begins below it.
            axis.margins(x=0.06)
            axis.set_xlim(left=-0.04 * axis.get_xlim()[1])
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        figure.suptitle(title, parse_math=False)
    moved = f"{pooled['moved'].iloc[0]} of {pooled['neurons'].iloc[0]}" if compared else ""
    layer = "a layer of a replicate" if several else "a layer"
    return captioned(
        figure,
        f"left: a small mark is {layer}, a large one the mean",
        "right: a small mark is two replicates, a large one the mean" if several and moved else "",
        f"moved neurons: {moved}" if moved else "",
    )


def _without_seed(names: pd.Series) -> pd.Series:
    """The names of the pairs of tuned checkpoints."""
    return names.str.replace(r"\.seed\d+$", "", regex=True)


def _dots(axis: Axes, values: pd.Series, height: float, style: dict[str, Any]) -> None:
    """The mean as a large mark, and each value as a small mark if there are several."""
    if len(values) > 1:
        axis.plot(values, np.full(len(values), height), ms=4, alpha=0.6, mec="none", **style)
    axis.plot(values.mean(), height, ms=8, mec=EDGE, **style)
