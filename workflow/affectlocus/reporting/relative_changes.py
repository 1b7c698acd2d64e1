"""Figure: distribution of the relative change of single weights, by projection (Fig. 10)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.figure_style import DASHES, LINES, STYLE


def relative_changes(histogram: pd.DataFrame, title: str) -> Figure:
    """Distribution of the relative change of single weights over all layers (Fig. 10).

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
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
        for projection in PROJECTIONS:
            own = rows[rows["projection"] == projection]
            if own.empty:
                continue
            counts = own.pivot_table("count", ["from", "to"], "tuned", aggfunc="sum", fill_value=0)
            shares = 100 * counts / counts.sum()
            middle = counts.index.to_frame().mean(axis=1).to_numpy()
            share = shares.mean(axis=1).to_numpy()
            if seeds > 1:
                low, high = shares.min(axis=1), shares.max(axis=1)
                axis.fill_between(middle, low, high, color=LINES[projection], alpha=0.15, lw=0)
            axis.plot(
                middle,
                np.where(share > 0, share, np.nan),
                color=LINES[projection],
                linestyle=DASHES[projection],
                label=projection,
                lw=1.4,
            )
        axis.set_yscale("log")
        of = f"mean of {seeds} replicates; bands: their range" if seeds > 1 else "one replicate"
        axis.set_xlabel(
            f"relative change of a weight; the outer bins hold all below −1 and above 1\n{of}"
        )
        axis.set_ylabel("share of the weights (%)")
        axis.set_title(title, parse_math=False)
        figure.legend(loc="outside right upper")
    return figure
