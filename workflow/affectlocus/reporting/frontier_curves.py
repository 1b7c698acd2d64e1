"""Figure: the gain that a set of blocks keeps against its size."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.figure_style import COLOURS, STYLE

_LINES = {
    "greedy": ("#333333", "-", "o"),
    "learned": ("#0072B2", "--", "s"),
    "pruned": ("#D55E00", "", "^"),
}


def frontier_curves(rows: pd.DataFrame, title: str) -> Figure:
    """A line for each search, a point for each named set; a panel for each seed.

    Args:
        rows: the rows of `frontier_table`, with a column `seed`.
    """
    seeds = list(dict.fromkeys(rows["seed"].astype(str)))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(seeds),
            figsize=(2.2 + 4.2 * len(seeds), 4.2),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, seed in zip(axes[0], seeds, strict=True):
            own = rows[rows["seed"].astype(str) == seed]
            for method, (colour, dashes, marker) in _LINES.items():
                line = own[own["method"] == method].sort_values("share_of_entries")
                x, y = 100 * line["share_of_entries"], 100 * line["gain_kept"]
                axis.plot(x, y, dashes or "None", color=colour, marker=marker, ms=3.5, label=method)
                for _, row in line[line["smallest"]].iterrows():
                    at = 100 * row["share_of_entries"], 100 * row["gain_kept"]
                    axis.plot(*at, marker, ms=10, mfc="none", mec=colour, mew=1.5)
            for _, row in own[own["method"] == "named"].iterrows():
                name = str(row["modules"])
                kind = name.partition("@")[0]
                colour = COLOURS[kind] if kind in PROJECTIONS else "#999999"
                at = 100 * row["share_of_entries"], 100 * row["gain_kept"]
                axis.plot(*at, "D", ms=5, color=colour, mec="#333333", mew=0.5)
                axis.annotate(
                    str(row["named"]), at, xytext=(3, 3), textcoords="offset points", fontsize=6
                )
            axis.axhline(100, color="#BBBBBB", lw=0.8, zorder=0)
            axis.axhline(0, color="#BBBBBB", lw=0.8, zorder=0)
            axis.set_xscale("log")
            axis.set_xlabel("entries of the delta that the set has, %")
            if len(seeds) > 1:
                axis.set_title(f"seed {seed}", parse_math=False)
        axes[0, 0].set_ylabel("gain of the tuned model that the set keeps, %")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=3,
            title="circled: the smallest set that keeps enough; diamonds: sets of the matrix; "
            "scores are of samples that did not choose the sets",
            title_fontsize=7,
        )
        figure.suptitle(title, parse_math=False)
    return figure
