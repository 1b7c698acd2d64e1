"""Figure: change of the tuned model's score by each ablation."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from affectlocus.config.scoring import MEAN
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import axis_label
from affectlocus.reporting.figure_style import (
    EDGE,
    STYLE,
    captioned,
    counted,
    level,
    means,
    plain,
)


def ablation(intervals: pd.DataFrame, title: str) -> Figure:
    """Change of the mean score when a module set of the tuned model is destroyed.

    Args:
        intervals: table3_intervals.csv, whose gains are relative to the tuned model.
    """
    rows = means(intervals)
    rows = rows[(rows["kind"] == "ablate") & (rows["task"] == MEAN)]
    if rows.empty:
        raise InputError(
            "figure.no-ablated-cell",
            f"{title}: no ablated cell; expected the intervals of an ablation table",
            figure=title,
        )
    modules = list(dict.fromkeys(rows["modules"]))
    modes = [mode for mode in ABLATIONS if (rows["mode"] == mode).any()]
    height = 0.8 / len(modes)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 1.2 + 0.42 * len(modules)), layout="constrained")
        for number, mode in enumerate(modes):
            bars = rows[rows["mode"] == mode].set_index("modules").reindex(modules)
            places = np.arange(len(modules)) + (number - (len(modes) - 1) / 2) * height
            gains = bars["gain"].to_numpy()
            spans = np.vstack([gains - bars["gain_low"], bars["gain_high"] - gains]).clip(min=0)
            axis.barh(
                places,
                gains,
                height,
                xerr=spans,
                color=ABLATIONS[mode].colour,
                hatch=ABLATIONS[mode].hatch,
                label=mode,
                error_kw={"lw": 0.7, "ecolor": EDGE},
                edgecolor=EDGE,
                linewidth=0.5,
            )
        axis.axvline(0, color="black", lw=0.8)
        axis.set_yticks(range(len(modules)), plain(modules))
        axis.invert_yaxis()
        axis.set_ylabel("destroyed modules")
        axis.set_xlabel(
            f"change of mean {axis_label(intervals['metric'].iloc[0]).replace('(%)', '(points)')} "
            "against the tuned model"
        )
        axis.set_title(title, parse_math=False)
        figure.legend(title="replaced by", loc="outside right upper")
    return captioned(figure, f"whiskers: paired {level(intervals)} interval", counted(intervals))
