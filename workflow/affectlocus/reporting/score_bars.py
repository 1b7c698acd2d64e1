"""Figure: scores of the loads or tunes of module sets, as bars (Figs. 7 and 8)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from affectlocus.config.scoring import MEAN
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import axis_label
from affectlocus.core.projections import ALL, BRIDGE, PROJECTIONS
from affectlocus.reporting.baseline_lines import Style, baseline_lines
from affectlocus.reporting.figure_style import (
    COLOURS,
    EDGE,
    GAIN,
    HATCHES,
    SEVERAL,
    STYLE,
    captioned,
    counted,
    interval,
    means,
    plain,
)

_TUNED_BRIDGE: Style = (0, (7, 1.5, 1, 1.5, 1, 1.5))
_INITIAL_BRIDGE: Style = (0, (1, 4))


def bars(axis: Axes, x: np.ndarray, rows: pd.DataFrame, width: float, **style: object) -> None:
    """Draws bars of `value` with whiskers from `low` to `high`."""
    values = rows["value"].to_numpy()
    spans = np.vstack([values - rows["low"], rows["high"] - values]).clip(min=0)
    axis.bar(x, values, width, yerr=spans, error_kw={"lw": 0.7}, **style)  # type: ignore[arg-type]


def singles(
    intervals: pd.DataFrame,
    title: str,
    baselines: pd.DataFrame | None = None,
    gains: bool = False,
) -> Figure:
    """Bars of the seven single-module cells on every task and in the mean, with intervals.

    Args:
        intervals: the companion of table 1 or 2.
        baselines: the other one, of which the majority answer and a uniform guess are lines.
        gains: shows paired gains over the base, whose intervals are narrower than those of scores
            where replicates are few and their bases differ.
    """
    rows = means(intervals)
    if gains:
        rows[["value", "low", "high"]] = rows[GAIN]
    tasks = [task for task in rows["task"].unique() if task != MEAN] + [MEAN]
    base = rows[rows["kind"] == "base"].set_index("task").loc[tasks]
    whole = rows[(rows["modules"] == ALL) & (rows["mode"] == "")].set_index("task").loc[tasks]
    present = [p for p in PROJECTIONS if (rows["modules"] == p).any()]
    if not present:
        raise InputError(
            "figure.no-single-projection",
            f"{title}: no cell of a single projection; expected one in matrix.load or matrix.tune",
            figure=title,
        )
    width = 0.84 / len(present)
    places = np.arange(len(tasks))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(
            figsize=(max(6, 1.5 + 1.1 * len(tasks)), 3.6), layout="constrained"
        )
        for number, projection in enumerate(present):
            each = rows[rows["modules"] == projection].set_index("task").loc[tasks]
            offset = (number - (len(present) - 1) / 2) * width
            bars(
                axis,
                places + offset,
                each,
                width,
                color=COLOURS[projection],
                # A whisker is visible on its bar too.
                ecolor="#8C8C8C" if COLOURS[projection] == "#000000" else SEVERAL,
                edgecolor="white" if HATCHES[projection] else EDGE,
                linewidth=0.3,
                hatch=HATCHES[projection],
                label=projection,
            )
        for each in (base, whole):
            height = each["high"] - each["low"]
            axis.bar(places, height, 0.9, each["low"], color=SEVERAL, alpha=0.13, zorder=0)
        lines: list[tuple[str, Style, pd.Series]] = [
            ("base", "dotted", base["value"]),
            ("all seven", "solid", whole["value"]),
        ]
        alone = rows[rows["modules"] == BRIDGE]
        for (_, mode), each in () if gains else alone.groupby(["kind", "mode"], sort=False):
            label = f"base, {mode or 'tuned bridge'}"
            dashes = _INITIAL_BRIDGE if mode else _TUNED_BRIDGE
            lines.append((label, dashes, each.set_index("task").loc[tasks, "value"]))
        metric = intervals["metric"].iloc[0]
        if not gains:
            lines += baseline_lines(baselines, metric, tasks)
        for label, style, values in lines:
            axis.hlines(
                values,
                places - 0.45,
                places + 0.45,
                colors=EDGE,
                linestyles=style,
                lw=1.1,
                label=label,
                zorder=3,
                # White around it, so that it is visible on bars too.
                path_effects=[withStroke(linewidth=2.6, foreground="white")],
            )
        crowded = len(tasks) > 5 or max(map(len, tasks)) > 10
        axis.set_xticks(places, plain(tasks), rotation=20 if crowded else 0)
        axis.set_xlim(-0.6, len(tasks) - 0.4)
        tops = [each["high"].max() for each in (base, whole)]
        tops += [rows.loc[rows["modules"].isin(present), "high"].max()]
        tops += [values.max() for _, _, values in lines]
        label = axis_label(metric)
        if not gains:  # Bars start at 0; above the highest interval there is nothing to see.
            axis.set_ylim(0, min(100.0, 1.04 * max(tops)) or 1)
        axis.set_ylabel(f"gain over the base, {label}" if gains else label)
        axis.set_xlabel("task")
        axis.set_title(title, parse_math=False)
        figure.legend(loc="outside right upper")
    return captioned(
        figure,
        f"whiskers, and grey bands of base and all seven: {'paired ' * gains}{interval(intervals)}",
        f"of a mean: {counted(intervals)}",
    )
