"""Figure: scores with and without media: base, bridge alone, tuned model, and its controls."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from affectlocus.config.scoring import MEAN
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import axis_label
from affectlocus.core.projections import BRIDGE
from affectlocus.reporting.baseline_lines import baseline_lines
from affectlocus.reporting.figure_style import STYLE, captioned, counted, interval, means, plain
from affectlocus.reporting.score_bars import bars

_COLOURS = ("#999999", "#F0E442", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#D55E00")
_HATCHES = ("", "", "....", "", "////", "\\\\\\", "xxx", "++")


def media_bars(
    intervals: pd.DataFrame, title: str, baselines: pd.DataFrame | None = None
) -> Figure:
    """A group of bars for each task and the mean, a bar for each row of a media table.

    Args:
        intervals: the intervals of a media table.
        baselines: its baselines, of which the majority answer and a uniform guess are lines.

    Raises:
        InputError: no cell has other media than its own.
    """
    rows = means(intervals)
    tasks = [*(task for task in rows["task"].unique() if task != MEAN), MEAN]
    cells = list(dict.fromkeys(zip(rows["kind"], rows["modules"], rows["mode"], strict=True)))
    if not any(kind == "tuned" and mode for kind, _, mode in cells):
        raise InputError(
            "figure.no-media-control",
            f"{title}: no cell with other media; expected the intervals of a media table",
            figure=title,
        )
    # The tuned model comes before its controls.
    order = sorted(
        cells, key=lambda cell: (cell[0] == "tuned", bool(cell[2]) and cell[0] == "tuned")
    )
    width = 0.84 / len(order)
    places = np.arange(len(tasks))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(max(6, 1.4 * len(tasks)), 3.8), layout="constrained")
        for number, cell in enumerate(order):
            kind, modules, mode = cell
            chosen = (rows["kind"] == kind) & (rows["modules"] == modules) & (rows["mode"] == mode)
            each = rows[chosen].set_index("task").loc[tasks]
            bars(
                axis,
                places + (number - (len(order) - 1) / 2) * width,
                each,
                width,
                ecolor="#333333",
                color=_COLOURS[number % len(_COLOURS)],
                hatch=_HATCHES[number % len(_HATCHES)],
                edgecolor="white",
                linewidth=0.3,
                label=_name(kind, modules, mode),
            )
        metric = intervals["metric"].iloc[0]
        for words, style, values in baseline_lines(baselines, metric, tasks):
            axis.hlines(
                values,
                places - 0.45,
                places + 0.45,
                colors="#555555",
                linestyles=style,
                lw=1.0,
                label=words,
            )
        axis.set_xticks(places, plain(tasks), rotation=20 if len(tasks) > 5 else 0)
        axis.set_xlim(-0.6, len(tasks) - 0.4)
        # Bars start at 0; above the highest interval there is nothing to see.
        axis.set_ylim(0, min(100.0, 1.04 * rows["high"].max()) or 1)
        axis.set_ylabel(axis_label(metric))
        axis.set_xlabel("task")
        axis.set_title(title, parse_math=False)
        figure.legend(loc="outside right upper")
    return captioned(figure, f"whiskers: {interval(intervals)}", f"of a mean: {counted(intervals)}")


def _name(kind: str, modules: str, mode: str) -> str:
    """The name of a row: `base, no media`, `base, tuned bridge`, `tuned, shuffled media`."""
    if kind == "base":
        return "base, no media"
    if modules == BRIDGE:
        return f"base, {mode or 'tuned bridge'}"
    return f"tuned, {mode}" if mode else "tuned model"
