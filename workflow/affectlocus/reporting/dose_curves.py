"""Figure: the gain against the dose, the factor of the loaded delta."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from affectlocus.config.scoring import MEAN
from affectlocus.core.cells import Cell, dose
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import axis_label
from affectlocus.core.projections import ATTENTION, BRIDGE, FFN, PROJECTIONS
from affectlocus.reporting.baseline_lines import baseline_lines
from affectlocus.reporting.figure_style import GAIN, STYLE, captioned, counted, interval, means
from affectlocus.reporting.named_lines import NamedLines, spread


def dose_curves(
    intervals: pd.DataFrame, title: str, baselines: pd.DataFrame | None = None
) -> Figure:
    """The gain in the mean score against the factor of the loaded delta, a line for each set.

    Gains over the base are paired, by sample and by replicate.

    Args:
        intervals: the intervals of a dose table; dose 0 is the base, 1 the load of the delta.
        baselines: the baselines of the table; majority answer and uniform guess become lines.

    Raises:
        InputError: no cell has a dose.
    """
    rows = means(intervals[intervals["task"] == MEAN])
    # With a bridge, a dose of 0 is the base with the tuned bridge alone.
    alone = rows[(rows["modules"] == BRIDGE) & (rows["mode"] == "")]
    name = "base" if alone.empty else "base with the tuned bridge"
    # Loads are compared with this row, so its own gain is 0.
    zero = alone.assign(**dict.fromkeys(GAIN, 0.0))
    base = (rows[rows["kind"] == "base"] if alone.empty else zero).iloc[0]
    loads = rows[(rows["kind"] == "load") & (rows["modules"] != BRIDGE)]
    loads = loads.assign(dose=_doses(loads))
    sets = list(dict.fromkeys(loads["modules"]))
    if not sets or (loads["dose"] == 1).all():
        raise InputError(
            "figure.no-dose",
            f"{title}: no cell with a dose; expected the intervals of a dose table",
            figure=title,
        )
    panels = {
        "attention": [one for one in ATTENTION if one in sets],
        "feed-forward": [one for one in FFN if one in sets],
        ("several modules" if not any("@" in one for one in sets) else "other module sets"): [
            one for one in sets if one not in PROJECTIONS
        ],
    }
    panels = {name: members for name, members in panels.items() if members}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(1.2 + 3.6 * len(panels), 3.9),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        drawn = []
        for axis, (panel, members) in zip(axes[0], panels.items(), strict=True):
            lines = NamedLines(axis)
            for modules in members:
                each = loads[loads["modules"] == modules].sort_values("dose")
                each = pd.concat([base.to_frame().T.assign(dose=0.0), each])
                x, y, *band = each[["dose", *GAIN]].to_numpy(float).T
                lines.add(modules, x, y, np.array(band))
            drawn.append(lines)
            axis.axhline(0, color="#555555", ls="dotted", lw=1.2, zorder=0)
            axis.axvline(1, color="#BBBBBB", lw=0.8, zorder=0)
            axis.set_title(panel, parse_math=False)
            axis.set_xticks(sorted({0.0, *loads["dose"]}))
            axis.tick_params(axis="x", labelsize=8)
            axis.set_xlabel("factor of the delta (0: base, 1: whole delta)")
        metric = intervals["metric"].iloc[0]
        axes[0, 0].set_ylabel(f"gain over the {name}, mean {axis_label(metric)}")
        words = f"{name}, {base['value']:.1f}"
        handles = [Line2D([], [], color="#555555", ls="dotted", label=words)]
        for words, style, (value,) in baseline_lines(baselines, metric, [MEAN]):
            for axis in axes[0]:
                axis.axhline(value - base["value"], color="#555555", ls=style, lw=0.8, zorder=0)
            label = f"{words}, {value:.1f}"
            handles.append(Line2D([], [], color="#555555", ls=style, lw=0.8, label=label))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(title, parse_math=False)
        spread(figure, drawn)
    bands = f"bands: paired {interval(intervals)}"
    return captioned(figure, _caption(intervals, rows), bands)


def _doses(loads: pd.DataFrame) -> list[float]:
    cells = [Cell("load", "", "", modules="gate", mode=mode) for mode in loads["mode"]]
    return [1.0 if (times := dose(cell)) is None else times for cell in cells]


def _caption(intervals: pd.DataFrame, rows: pd.DataFrame) -> str:
    tasks = intervals.loc[intervals["task"] != MEAN, "task"].nunique()
    tuned = rows[rows["kind"] == "tuned"]
    whole = f"; the tuned model: {tuned['value'].iloc[0]:.1f}" if len(tuned) else ""
    return f"{tasks} task{'s' * (tasks > 1)}, {counted(intervals)}{whole}"
