"""Figure: the scores of module sets among those of random places of the same size."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from affectlocus.core.cells import PLACES
from affectlocus.core.metrics import axis_label
from affectlocus.core.projections import parse_modules
from affectlocus.reporting.figure_style import COLOURS, STYLE, captioned, plain

_GREY, _DARK = "#999999", "#333333"


def place_dots(summary: pd.DataFrame, draws: pd.DataFrame, title: str) -> Figure:
    """A row for each module set and kind: its score, and a dot for each random place.

    Args:
        summary: the rows of `percentiles`; those of the mean over replicates are drawn.
        draws: the scores of all cells (`percentiles.draws_of`).
    """
    rows = summary[summary["seed"] == "all"].reset_index(drop=True)
    random = draws[draws["mode"].isin(PLACES)]
    seeds = max(1, draws["seed"].nunique())
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.9 + 0.62 * len(rows)), layout="constrained")
        for place, (_, row) in enumerate(rows.iterrows()):
            own = random[(random["modules"] == row["modules"]) & (random["mode"] == row["as_many"])]
            means = own.groupby("draw")["value"].mean().sort_index().to_numpy()
            # Dots are spread by their number in the order of scores, so that none hides another.
            rank = np.argsort(np.argsort(means, kind="stable"), kind="stable")
            axis.scatter(means, place + 0.3 * ((rank * 7 % 11) / 10 - 0.5), s=9, color=_GREY, lw=0)
            axis.plot([row["random_95th"]] * 2, [place - 0.3, place + 0.3], color=_DARK, lw=1.2)
            names = parse_modules(row["modules"]).projections
            colour = COLOURS[names[0]] if len(names) == 1 else _DARK
            axis.plot(row["score"], place, "D", ms=8, color=colour, mec=_DARK, mew=0.8, zorder=3)
            axis.annotate(
                f"{row['percentile']:.0f} [{row['low']:.0f}, {row['high']:.0f}]",
                (1.01, place),
                xycoords=axis.get_yaxis_transform(),
                va="center",
                fontsize=8,
                fontweight="bold" if row["locus"] else "normal",
                annotation_clip=False,
            )
        base, whole = (float(rows[name].iloc[0]) for name in ("base", "whole"))
        axis.axvline(base, color=_DARK, ls="dotted", lw=1.2)
        axis.axvline(whole, color=_DARK, ls="solid", lw=0.8)
        axis.set_yticks(
            range(len(rows)),
            plain(f"{row['modules']}\n{PLACES[row['as_many']]}" for _, row in rows.iterrows()),
        )
        axis.set_ylim(len(rows) - 0.5, -0.6)
        axis.annotate(
            "percentile",
            (1.01, -0.6),
            xycoords=axis.get_yaxis_transform(),
            va="bottom",
            fontsize=8,
            annotation_clip=False,
        )
        axis.set_xlabel(f"mean {axis_label(rows['metric'].iloc[0])}")
        count = int(rows["draws"].max())
        handles = [
            Line2D([], [], ls="", marker="D", color=_DARK, label="the module set"),
            Line2D([], [], ls="", marker="o", ms=3, color=_GREY, label=f"{count} random places"),
            Line2D([], [], color=_DARK, lw=1.2, ls="", marker="|", ms=10, label="their 95th %"),
            Line2D([], [], color=_DARK, ls="dotted", label="base"),
            Line2D([], [], color=_DARK, lw=0.8, label="tuned model"),
        ]
        replicates = f"means over {seeds} replicates" if seeds > 1 else "one replicate"
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=5,
        )
        figure.suptitle(title, parse_math=False)
    return captioned(
        figure,
        replicates,
        "brackets: exact 95 % interval over draws",
        "bold: above the 95th percentile, below which no locus is claimed",
    )
