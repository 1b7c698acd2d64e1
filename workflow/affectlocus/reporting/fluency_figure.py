"""Figure: fluency of each cell, a row for each cell and a panel for each metric."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from affectlocus.core.metrics import METRICS
from affectlocus.reporting.figure_style import (
    COLOURS,
    SEVERAL,
    STYLE,
    captioned,
    interval,
    plain,
    replicated,
)
from affectlocus.scoring.fluency import intervals

_PANELS = {
    name: METRICS[name].label + ("" if METRICS[name].higher_is_better else "\n(lower is better)")
    for name in ("perplexity", "distinct_1", "distinct_2")
}


def figure(scores: pd.DataFrame, title: str) -> Figure:
    """A row for each cell and a panel for each metric; a vertical line shows the base.

    A point is the mean over texts of values and of interval ends.
    """
    rows = intervals(scores)
    parts = rows[["kind", "modules", "mode"]].fillna("").astype(str).agg(" ".join, axis=1)
    rows = rows.assign(name=parts.str.split().str.join(" "))
    ends = ["value", "low", "high"]
    points = rows.groupby(["metric", "name"], sort=False)[ends].mean()
    modules = rows.drop_duplicates("name").set_index("name")["modules"]
    names = list(rows["name"].unique())
    panels = {key: words for key, words in _PANELS.items() if key in points.index}
    with plt.rc_context(STYLE):
        drawn, axes = plt.subplots(
            1,
            len(panels),
            figsize=(2.2 + 2.6 * len(panels), 1.2 + 0.2 * len(names)),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, (metric, words) in zip(axes[0], panels.items(), strict=True):
            each = points.loc[metric].reindex(names)
            span = [each["value"] - each["low"], each["high"] - each["value"]]
            axis.errorbar(
                each["value"],
                range(len(names)),
                xerr=[part.clip(lower=0) for part in span],
                fmt="none",
                ecolor=SEVERAL,
                elinewidth=0.8,
            )
            colours = [COLOURS.get(modules[name], SEVERAL) for name in names]
            axis.scatter(each["value"], range(len(names)), s=18, color=colours, zorder=3)
            if "base" in names:
                axis.axvline(each.loc["base", "value"], color="#555555", ls="dotted", lw=1.2)
            # Perplexity of an ablated model can be ten thousand times that of the base.
            if metric == "perplexity" and each["value"].max() > 20 * each["value"].min():
                axis.set_xscale("log")
            axis.set_xlabel(words)
        axes[0, 0].set_yticks(range(len(names)), plain(names), fontsize=7)
        axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
        drawn.suptitle(title, parse_math=False)
    texts = int(rows["n"].max())
    return captioned(
        drawn,
        f"whiskers: {interval(rows, 'texts')}",
        "dotted: the base",
        f"n = {texts} texts, {replicated(rows)}",
    )
