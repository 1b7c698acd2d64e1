"""Figures of curves: the score against a load's dose, and the deltas along the tuning.

Every line has its name at its end, moved apart from the others', and a marker of its own: neither
colour nor a legend is needed to tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation
from scipy.optimize import isotonic_regression

from affectlocus.config.scoring import MEAN
from affectlocus.core.cells import Cell, dose
from affectlocus.core.errors import InputError
from affectlocus.core.projections import ATTENTION, FFN, PROJECTIONS
from affectlocus.reporting.figures import (
    _STYLE,
    CONSTANTS,
    DASHES,
    LINES,
    METRICS,
    counted,
    interval,
    means,
)

MARKERS = dict(zip(PROJECTIONS, ("v", "<", "P", "X", "o", "s", "^"), strict=True))
_OTHERS = ("#000000", "#666666", "#999999")
_SIZE = 8  # points, of the names at the lines' ends
_TRAJECTORY = {
    "l2": "L2 norm of the change (eq. 1)",
    "share_ratio": "share of change / share of weights",
    "cosine": "cosine with the change at the end",
}


@dataclass
class NamedLines:
    """The lines of one panel, and their names: behind the ends, or `first` before the starts."""

    axis: Axes
    first: bool = False
    names: list[Annotation] = field(default_factory=list)

    def add(self, name: str, x: np.ndarray, y: np.ndarray, band: np.ndarray | None = None) -> None:
        """A line, its band if it has one ((2, points), low and high), and its name."""
        colour = LINES.get(name, _OTHERS[len(self.names) % len(_OTHERS)])
        dashes, marker = DASHES.get(name, "-"), MARKERS.get(name, "d")
        self.axis.plot(x, y, dashes, marker=marker, color=colour, lw=1.5, ms=4, label=name)
        if band is not None:
            self.axis.fill_between(x, *band, color=colour, alpha=0.15, lw=0)
        end, place = (0, 0.02) if self.first else (-1, 1.04)
        self.names.append(
            self.axis.annotate(
                name,
                (x[end], y[end]),
                (place, y[end]),
                textcoords=self.axis.get_yaxis_transform(),
                va="center",
                fontsize=_SIZE,
                arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8, "shrinkA": 1},
            )
        )

    def spread(self) -> None:
        """Moves the names apart, no further than they need, once the layout is known."""
        if not self.names:
            return
        self.names.sort(key=lambda each: each.xy[1])
        low, high = self.axis.get_ylim()
        height = self.axis.get_window_extent().height / self.axis.figure.dpi * 72
        gap = 1.15 * _SIZE * (high - low) / height
        steps = gap * np.arange(len(self.names))
        wanted = np.array([each.xy[1] for each in self.names]) - steps
        # The nearest places in order, each a gap above the one before.
        places = isotonic_regression(np.clip(wanted, low, max(low, high - steps[-1]))).x + steps
        for name, place in zip(self.names, places, strict=True):
            name.set_y(place)


def dose_curves(
    intervals: pd.DataFrame, title: str, baselines: pd.DataFrame | None = None
) -> Figure:
    """The mean score against how many times the delta of a module set is loaded.

    Args:
        intervals: the companion of a dose table; dose 0 is the base, 1 a plain load.
        baselines: the other one, of which the majority answer and a uniform guess are lines.

    Raises:
        InputError: no load with a dose.
    """
    rows = means(intervals[intervals["task"] == MEAN])
    base = rows[rows["kind"] == "base"].iloc[0]
    loads = rows[rows["kind"] == "load"].assign(dose=_doses(rows[rows["kind"] == "load"]))
    sets = list(dict.fromkeys(loads["modules"]))
    if not sets or (loads["dose"] == 1).all():
        raise InputError(f"{title}: no load with a dose among the cells; nothing to draw")
    panels = {
        "attention": [one for one in ATTENTION if one in sets],
        "feed-forward": [one for one in FFN if one in sets],
        "several modules": [one for one in sets if one not in PROJECTIONS],
    }
    panels = {name: members for name, members in panels.items() if members}
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(1.2 + 3.6 * len(panels), 3.9),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        drawn = []
        for axis, (name, members) in zip(axes[0], panels.items(), strict=True):
            lines = NamedLines(axis)
            for modules in members:
                each = loads[loads["modules"] == modules].sort_values("dose")
                each = pd.concat([base.to_frame().T.assign(dose=0.0), each])
                x, y, *band = each[["dose", "value", "low", "high"]].to_numpy(float).T
                lines.add(modules, x, y, np.array(band))
            drawn.append(lines)
            axis.axhline(base["value"], color="#555555", ls="dotted", lw=1.2, zorder=0)
            axis.axvline(1, color="#BBBBBB", lw=0.8, zorder=0)
            axis.set_title(name, parse_math=False)
            axis.set_xticks(sorted({0.0, *loads["dose"]}))
            axis.tick_params(axis="x", labelsize=8)
            axis.set_xlabel("times the delta (0: base, 1: plain load)")
        metric = intervals["metric"].iloc[0]
        low, high = axes[0, 0].get_ylim()
        axes[0, 0].set_ylim(max(0, low), min(100, high))
        axes[0, 0].set_ylabel(f"mean {METRICS[metric]}")
        handles: list[Line2D | Patch] = [
            Line2D([], [], color="#555555", ls="dotted", label=f"base, {base['value']:.1f}")
        ]
        if baselines is not None:
            for name, (words, style) in CONSTANTS.items():
                value = _constant(baselines, name, metric)
                if value is None:
                    continue
                for axis in axes[0]:
                    axis.axhline(value, color="#555555", ls=style, lw=0.8, zorder=0)
                label = f"{words}, {value:.1f}"
                handles.append(Line2D([], [], color="#555555", ls=style, lw=0.8, label=label))
        handles.append(Patch(facecolor="#555555", alpha=0.25, label=interval(intervals)))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(f"{title}\n{_caption(intervals, rows)}", parse_math=False)
        spread(figure, drawn)
    return figure


def _doses(loads: pd.DataFrame) -> list[float]:
    cells = [Cell("load", "", "", modules="gate", mode=mode) for mode in loads["mode"]]
    return [1.0 if (times := dose(cell)) is None else times for cell in cells]


def _constant(baselines: pd.DataFrame, name: str, metric: str) -> float | None:
    chosen = (baselines["baseline"] == name) & (baselines["metric"] == metric)
    values = baselines.loc[chosen & (baselines["task"] == MEAN), "value"]
    return None if values.empty else float(values.iloc[0])


def _caption(intervals: pd.DataFrame, rows: pd.DataFrame) -> str:
    tasks = intervals.loc[intervals["task"] != MEAN, "task"].nunique()
    tuned = rows[rows["kind"] == "tuned"]
    whole = f"; the tuned model: {tuned['value'].iloc[0]:.1f}" if len(tuned) else ""
    return f"{tasks} task{'s' * (tasks > 1)}, {counted(intervals)}{whole}"


def trajectory_curves(rows: pd.DataFrame, title: str) -> Figure:
    """Sizes of the delta along the tuning, and how much of its last direction is there.

    Args:
        rows: those of step `trajectory`, with `tuned`, a name for each seed. Lines are means over
            layers and seeds, bands the range of the seeds' means over layers.

    Raises:
        InputError: no state to draw.
    """
    if rows.empty:
        raise InputError(f"{title}: no state along the tuning; set trajectory in its recipe")
    touched = rows[rows["l2"] > 0].groupby(["projection", "step", "tuned"])
    each = touched[list(_TRAJECTORY)].mean().reset_index()
    seeds = rows["tuned"].nunique()
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.8), layout="constrained")
        drawn = []
        for axis, (score, label) in zip(axes, _TRAJECTORY.items(), strict=True):
            lines = NamedLines(axis, first=score == "cosine")
            for projection in PROJECTIONS:
                mine = each[each["projection"] == projection]
                if mine.empty:
                    continue
                line = mine.groupby("step")[score].agg(["mean", "min", "max"])
                x, y = line.index.to_numpy(float), line["mean"].to_numpy()
                band = line[["min", "max"]].to_numpy().T
                if score == "l2":
                    # Nothing is changed before the first step.
                    x, y = np.append(0, x), np.append(0, y)
                    band = np.insert(band, 0, 0, axis=1)
                lines.add(projection, x, y, band if seeds > 1 else None)
            drawn.append(lines)
            # Room for the names, where all lines end in one point.
            axis.set_xlim(left=-0.12 * rows["step"].max() if lines.first else 0)
            axis.set_xlabel("step of the tuning")
            axis.set_ylabel(label)
        axes[0].set_ylim(bottom=0)
        axes[1].axhline(1, color="#555555", ls="dotted", lw=1)
        axes[1].set_title("dotted: an even share", fontsize=8)
        axes[0].set_title("grows with the matrix too", fontsize=8)
        axes[2].set_title("1: the direction of the end", fontsize=8)
        axes[2].set_ylim(top=1.02)
        absent = [one for one in PROJECTIONS if one not in set(each["projection"])]
        layers = rows["layer"].nunique()
        caption = f"means over {layers} layer{'s' * (layers > 1)} and {seeds} seed"
        caption += "s; bands: range of the seeds" if seeds > 1 else "; one seed, so no bands"
        caption += f"; not adapted: {', '.join(absent)}" if absent else ""
        figure.suptitle(f"{title}\n{caption}", parse_math=False)
        spread(figure, drawn)
    return figure


def spread(figure: Figure, drawn: list[NamedLines]) -> None:
    """Lays the figure out and moves the names of its lines apart."""
    figure.canvas.draw()
    for lines in drawn:
        lines.spread()
