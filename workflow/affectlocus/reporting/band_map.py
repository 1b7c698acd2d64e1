"""Figure: the gain of each projection that is loaded in one band of layers alone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from affectlocus.config.scoring import MEAN
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import axis_label
from affectlocus.core.projections import PROJECTIONS, in_band, parse_layers
from affectlocus.reporting.figure_style import (
    STYLE,
    captioned,
    hatch_missing,
    interval,
    means,
    sampled,
)


def band_map(intervals: pd.DataFrame, title: str) -> Figure:
    """Layer bands × projections: the mean gain over the base, in points.

    Args:
        intervals: the intervals of a load table.

    Raises:
        InputError: no cell loads one projection in some layers.
    """
    cells = intervals[
        (intervals["task"] == MEAN)
        & (intervals["kind"] == "load")
        & (intervals["mode"].fillna("") == "")
    ]
    cells = cells[[in_band(str(modules)) for modules in cells["modules"]]]
    if cells.empty:
        raise InputError(
            "figure.no-band",
            f"{title}: no cell of one projection in some layers; expected one in matrix.bands, or "
            "one such as gate@0-9 in matrix.load",
            figure=title,
        )
    rows = means(cells)
    rows[["projection", "band"]] = [str(modules).split("@") for modules in rows["modules"]]
    bands = sorted(set(rows["band"]), key=parse_layers)
    grids = {
        name: rows.pivot_table(index="band", columns="projection", values=name).reindex(
            index=bands, columns=list(PROJECTIONS)
        )
        for name in ("gain", "gain_low", "gain_high")
    }
    gain = grids["gain"]
    largest = float(np.nanmax(gain.abs().to_numpy())) or 1.0
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(
            figsize=(8.2, 1.9 + 0.5 * len(bands)), layout="constrained", squeeze=True
        )
        # Orange and purple are told apart by colour-blind readers; 0 is white.
        sns.heatmap(
            gain,
            ax=axis,
            cmap="PuOr_r",
            vmin=-largest,
            vmax=largest,
            linewidths=0.5,
            cbar_kws={"label": "gain over the base, points"},
        )
        values, lows, highs = (grid.to_numpy(float) for grid in grids.values())
        for row, column in np.argwhere(~np.isnan(values)):
            value, *ends = (float(grid[row, column]) for grid in (values, lows, highs))
            axis.text(
                column + 0.5,
                row + 0.5,
                f"{value:+.1f}\n[{ends[0]:.1f}, {ends[1]:.1f}]",
                ha="center",
                va="center",
                fontsize=7,
                fontweight="bold" if min(ends) > 0 or max(ends) < 0 else "normal",
                color="white" if abs(value) > 0.65 * largest else "black",
            )
        if hatch_missing(axis, gain):
            figure.legend(
                handles=[Patch(facecolor="white", edgecolor="#999999", hatch="////")],
                labels=["no such cell"],
                loc="outside lower right",
            )
        axis.tick_params(axis="both", rotation=0)
        axis.set_xlabel("projection")
        axis.set_ylabel("layers")
        metric = axis_label(cells["metric"].iloc[0])
        figure.suptitle(f"{title}\nmean {metric}", parse_math=False)
    return captioned(figure, f"brackets: {interval(cells)}", "bold: without zero", sampled(cells))
