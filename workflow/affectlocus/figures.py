"""Step `figures`: heat maps of the deltas, bars of the loads and tunes, drops of the ablations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from affectlocus.errors import InputError
from affectlocus.files import replacing
from affectlocus.projections import ALL, PROJECTIONS
from affectlocus.tables import MEAN

# Okabe and Ito's palette: told apart by colour-blind readers and in print.
COLOURS = dict(
    zip(
        PROJECTIONS,
        ("#56B4E9", "#0072B2", "#CC79A7", "#F0E442", "#D55E00", "#009E73", "#E69F00"),
        strict=True,
    )
)
HATCHES = dict(zip(PROJECTIONS, ("", "///", "", "", "", "\\\\\\", ""), strict=True))
DASHES = dict(zip(PROJECTIONS, ("-", "--", "-.", ":", "-", "--", "-."), strict=True))
MODE_HATCHES = {"revert": "", "zero": "////", "shuffle": "....", "noise": "\\\\\\\\"}
MODES = {"revert": "#0072B2", "zero": "#D55E00", "shuffle": "#E69F00", "noise": "#999999"}
SCORES = {
    "l2": "L2 norm of the change (eq. 1)",
    "relative": "L2 relative to the base's norm (eq. 2)",
    "rms": "RMS change per weight",
}
METRICS = {
    "weighted_f1": "weighted F1 (%)",
    "accuracy": "accuracy (%)",
    "macro_f1": "macro F1 (%)",
    "binary_f1": "F1 of the positive class (%)",
}
_BUDGETS = ("equal rank", "equal parameters")

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "affectlocus",
    "svg.fonttype": "none",
}


def heat_map(deltas: pd.DataFrame, title: str) -> Figure:
    """Layers × projections of the weights' deltas: L2, relative and RMS side by side.

    A score that no weight has (the relative change of an adapter without its base) gets no panel.
    """
    weights = deltas[deltas["parameter"] == "weight"]
    layers = sorted(weights["layer"].unique())
    known = {name: label for name, label in SCORES.items() if weights[name].notna().any()}
    known = known or SCORES
    hatched = False
    with plt.rc_context(_STYLE):
        height = max(2.9, 1.7 + 0.22 * len(layers))
        figure, axes = plt.subplots(
            1,
            len(known),
            figsize=(10 / 3 * len(known), height),
            layout="constrained",
            squeeze=False,
        )
        for axis, (score, label) in zip(axes[0], known.items(), strict=True):
            grid = weights.pivot_table(
                index="layer", columns="projection", values=score, dropna=False
            ).reindex(index=layers, columns=list(PROJECTIONS))
            # Small changes are shown in a power of ten, so that their figures fit their cells.
            largest = float(np.nanmax(grid.to_numpy())) if grid.notna().any(axis=None) else 1.0
            power = min(0, int(np.floor(np.log10(largest)))) if largest > 0 else 0
            unit = f" (×$10^{{{power}}}$)" if power < -1 else ""
            grid = grid / 10.0**power if unit else grid
            sns.heatmap(
                grid,
                ax=axis,
                cmap="viridis",
                vmin=0,
                annot=len(layers) <= 8,
                fmt=".2g",
                annot_kws={"size": 7},
                linewidths=0.5,
            )
            for column, projection in enumerate(PROJECTIONS):
                for start, stop in _runs(grid[projection].isna().to_list()):
                    hatched = True
                    axis.add_patch(
                        plt.Rectangle(
                            (column, start),
                            1,
                            stop - start,
                            fill=False,
                            hatch="////",
                            edgecolor="#999999",
                            lw=0,
                        )
                    )
            axis.set_title(label + unit)
            axis.set_xlabel("projection")
            axis.set_ylabel("layer" if score == "l2" else "")
            axis.tick_params(axis="y", rotation=0)
        if hatched:
            figure.legend(
                handles=[Patch(facecolor="white", edgecolor="#999999", hatch="////")],
                labels=["not adapted"],
                loc="outside lower right",
            )
        figure.suptitle(title, parse_math=False)
        figure.supxlabel("every panel of every figure has a colour scale of its own", fontsize=7)
    return figure


def relative_changes(histogram: pd.DataFrame, title: str) -> Figure:
    """How a projection's weights changed, each relative to itself, over all layers (Fig. 10).

    Args:
        histogram: the companion of a pair's deltas, `projection`, `from`, `to` and `count`.
    """
    rows = histogram.dropna(subset=["from", "to"])
    if rows.empty:
        raise InputError(f"{title}: no histogram was counted; set deltas.companions to true")
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
        for projection in PROJECTIONS:
            own = rows[rows["projection"] == projection]
            if own.empty:
                continue
            counts = own.groupby(["from", "to"], as_index=False)["count"].sum()
            share = 100 * counts["count"] / counts["count"].sum()
            axis.plot(
                (counts["from"] + counts["to"]) / 2,
                share.where(share > 0),
                color=COLOURS[projection],
                linestyle=DASHES[projection],
                label=projection,
                lw=1.4,
            )
        axis.set_yscale("log")
        axis.set_xlabel("relative change of a weight; the ends hold all beyond −1 and 1")
        axis.set_ylabel("share of the weights (%)")
        axis.set_title(title, parse_math=False)
        figure.legend(loc="outside right upper")
    return figure


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """Start and stop of every run of true flags: one patch for a whole run draws fast."""
    start = None
    for position, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = position
        elif not flag and start is not None:
            yield start, position
            start = None


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Several seeds of a cell as one row: the mean of values, and of interval ends."""
    columns = ["value", "low", "high", "gain", "gain_low", "gain_high"]
    return (
        rows.groupby(["kind", "modules", "mode", "task"], sort=False)[columns].mean().reset_index()
    )


def _bars(axis: Axes, x: np.ndarray, rows: pd.DataFrame, width: float, **style: object) -> None:
    values = rows["value"].to_numpy()
    spans = np.vstack([values - rows["low"], rows["high"] - values]).clip(min=0)
    axis.bar(x, values, width, yerr=spans, error_kw={"lw": 0.7}, **style)  # type: ignore[arg-type]


def singles(intervals: pd.DataFrame, title: str, baselines: pd.DataFrame | None = None) -> Figure:
    """Bars of the seven single-module cells on every task and in the mean, with intervals.

    Args:
        intervals: the companion of table 1 or 2.
        baselines: the other one, of which the majority answer is drawn as a line.
    """
    rows = _means(intervals)
    tasks = [task for task in rows["task"].unique() if task != MEAN] + [MEAN]
    base = rows[rows["kind"] == "base"].set_index("task").loc[tasks]
    whole = rows[rows["modules"] == "all"].set_index("task").loc[tasks]
    present = [p for p in PROJECTIONS if (rows["modules"] == p).any()]
    if not present:
        raise InputError(f"{title}: no single projection among the cells; nothing to draw")
    width = 0.84 / len(present)
    places = np.arange(len(tasks))
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(max(6, 1.25 * len(tasks)), 3.6), layout="constrained")
        for number, projection in enumerate(present):
            each = rows[rows["modules"] == projection].set_index("task").loc[tasks]
            offset = (number - (len(present) - 1) / 2) * width
            _bars(
                axis,
                places + offset,
                each,
                width,
                color=COLOURS[projection],
                ecolor="#555555",
                edgecolor="white",
                linewidth=0.3,
                hatch=HATCHES[projection],
                label=projection,
            )
        lines: list[tuple[pd.DataFrame, Literal["dotted", "solid", "dashed"], str]] = [
            (base, "dotted", "base"),
            (whole, "solid", "all seven"),
        ]
        if baselines is not None:
            metric = intervals["metric"].iloc[0]
            chosen = (baselines["baseline"] == "majority") & (baselines["metric"] == metric)
            most = baselines[chosen].set_index("task").loc[tasks]
            lines.append((most, "dashed", "majority answer"))
        for each, style, label in lines:
            axis.hlines(
                each["value"],
                places - 0.45,
                places + 0.45,
                colors="#555555",
                linestyles=style,
                lw=0.8 if style == "dashed" else 1.4,
                label=label,
            )
        axis.set_xticks(places, tasks, rotation=20 if len(tasks) > 5 else 0)
        axis.set_xlim(-0.6, len(tasks) - 0.4)
        axis.set_ylim(0, 100)
        axis.set_ylabel(METRICS[intervals["metric"].iloc[0]])
        axis.set_xlabel("task; whiskers: bootstrap interval over samples (95 % by default)")
        axis.set_title(title, parse_math=False)
        figure.legend(loc="outside right upper")
    return figure


def ablation(intervals: pd.DataFrame, title: str) -> Figure:
    """Change of the mean score when a module set of the tuned model is destroyed.

    Args:
        intervals: the companion of table 3, whose gains are over the tuned model.
    """
    rows = _means(intervals)
    rows = rows[(rows["kind"] == "ablate") & (rows["task"] == MEAN)]
    if rows.empty:
        raise InputError(f"{title}: no ablated cell; nothing to draw")
    modules = list(dict.fromkeys(rows["modules"]))
    modes = [mode for mode in MODES if (rows["mode"] == mode).any()]
    height = 0.8 / len(modes)
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(7, 1.2 + 0.42 * len(modules)), layout="constrained")
        for number, mode in enumerate(modes):
            each = rows[rows["mode"] == mode].set_index("modules").reindex(modules)
            places = np.arange(len(modules)) + (number - (len(modes) - 1) / 2) * height
            gains = each["gain"].to_numpy()
            spans = np.vstack([gains - each["gain_low"], each["gain_high"] - gains]).clip(min=0)
            axis.barh(
                places,
                gains,
                height,
                xerr=spans,
                color=MODES[mode],
                hatch=MODE_HATCHES[mode],
                label=mode,
                error_kw={"lw": 0.7, "ecolor": "#333333"},
                edgecolor="white",
                linewidth=0.3,
            )
        axis.axvline(0, color="black", lw=0.8)
        axis.set_yticks(range(len(modules)), modules)
        axis.invert_yaxis()
        axis.set_ylabel("destroyed modules")
        axis.set_xlabel(
            f"change of mean {METRICS[intervals['metric'].iloc[0]].replace('(%)', '(points)')} "
            "against the tuned model; whiskers: paired bootstrap interval"
        )
        axis.set_title(title, parse_math=False)
        figure.legend(title="put in its place", loc="outside right upper")
    return figure


def points(intervals: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """The tune cells of a table with what each trained: what `trade_off` draws.

    Args:
        intervals: the companion of a tune table; its rows without a column `budget` are of equal
            rank.
        ledger: the rows of its base in a ledger.

    Returns:
        `modules`, `budget`, `parameters`, `value`, `low`, `high` (means of seeds); first the base,
        with 0 parameters.
    """
    intervals = intervals[intervals["task"] == MEAN]
    if "budget" not in intervals:
        intervals = intervals.assign(budget=_BUDGETS[0])
    intervals = intervals[intervals["kind"].isin(["base", "tune"])]
    keys = ["modules", "budget"]
    rows = intervals.groupby(["kind", *keys], sort=False)[["value", "low", "high"]].mean()
    counted = ledger.assign(budget=ledger["budget"].fillna(_BUDGETS[0]).replace("", _BUDGETS[0]))
    found = rows.reset_index().merge(counted[[*keys, "parameters"]], on=keys, how="left")
    found.loc[found["kind"] == "base", "parameters"] = 0
    if found["parameters"].isna().any():
        modules = found.loc[found["parameters"].isna(), "modules"].iloc[0]
        raise InputError(f"the ledger has no row of {modules}; count it as well")
    return found.sort_values("parameters", kind="stable")[[*keys, "parameters", *rows.columns]]


def trade_off(cells: pd.DataFrame, metric: str, title: str) -> Figure:
    """Mean score against trainable parameters, a point for each tune cell (Fig. 9).

    Cells at equal parameters, which would all stand in one place, have a panel of their own.

    Args:
        cells: as `points` gives them.
    """
    base = cells[cells["parameters"] == 0].mean(numeric_only=True)
    equal, fair = (
        cells[(cells["parameters"] > 0) & (cells["budget"] == budget)] for budget in _BUDGETS
    )
    if equal.empty:
        raise InputError(f"{title}: no tune cell; nothing to draw")
    with plt.rc_context(_STYLE):
        panels = 1 if fair.empty else 2
        figure, axes = plt.subplots(
            1,
            panels,
            figsize=(8 if panels == 1 else 11.5, 5),
            width_ratios=[8, 4][:panels],
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        axis = axes[0, 0]
        axis.set_xscale("log")
        # Cells that train as many stand a hair apart, so that no whisker hides another.
        equal = equal.sort_values(["parameters", "value"])
        number = equal.groupby("parameters").cumcount()
        size = equal.groupby("parameters")["value"].transform("size")
        x = equal["parameters"] * 1.03 ** (number - (size - 1) / 2)
        for place, row in zip(x, equal.itertuples(), strict=True):
            _point(axis, place, row)
        axis.set_xlim(x.min() / 1.6, x.max() * 1.9)
        axis.set_xlabel("trainable parameters (cells of the same number stand side by side)")
        axis.set_ylabel(f"mean {METRICS.get(metric, metric)}")
        if panels == 2:
            fair = fair.sort_values("value")
            for place, row in enumerate(fair.itertuples()):
                _point(axes[0, 1], place, row)
            axes[0, 1].set_xticks(range(len(fair)), fair["modules"], rotation=90, fontsize=7)
            axes[0, 1].set_xlim(-0.7, len(fair) - 0.3)
            least, most = (1e-3 * fair["parameters"].agg(end) for end in ("min", "max"))
            axes[0, 1].set_title(f"equal parameters ({least:,.4g}k to {most:,.4g}k)")
            axis.set_title("equal rank")
        if not base.isna().any():
            for each in axes[0]:
                each.axhspan(base["low"], base["high"], color="#999999", alpha=0.2, lw=0)
                each.axhline(base["value"], color="#555555", ls="dotted", lw=1.4, label="base")
        handles: list[Any] = [
            Line2D([], [], ls="", marker=marker, color=colour, label=text)
            for marker, text, colour in (
                ("*", "gate: GET (Algorithm 1)", COLOURS["gate"]),
                ("o", "one projection", "#555555"),
                ("s", "several", "#555555"),
            )
        ]
        handles += axis.get_legend_handles_labels()[0]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=len(handles),
            title="whiskers and band: bootstrap interval (95 % by default)",
        )
        figure.suptitle(title, parse_math=False)
        shown = {ALL: "all seven", "gate": "gate (GET)"}
        equal = equal.assign(x=x, name=[shown.get(name, name) for name in equal["modules"]])
        beside(axis, equal)
    return figure


def _point(axis: Axes, x: float, row: Any) -> None:
    single = row.modules in PROJECTIONS
    axis.errorbar(
        x,
        row.value,
        yerr=[[max(0, row.value - row.low)], [max(0, row.high - row.value)]],
        fmt="*" if row.modules == "gate" else "o" if single else "s",
        ms=12 if row.modules == "gate" else 6 if single else 5,
        color=COLOURS[row.modules] if single else "#555555",
        mec="#333333",
        mew=0.5,
        ecolor="#555555",
        elinewidth=0.8,
    )


def beside(axis: Axes, marks: pd.DataFrame) -> None:
    """Writes names beside their points, none over another, over a point or over a whisker.

    Each takes the nearest free place around its point, with a line to it where that is far.

    Args:
        marks: `x`, `value`, `low`, `high` in data, `name`.
    """
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    inside = axis.get_window_extent()
    inch = figure.dpi
    places, lows, highs = (
        axis.transData.transform(marks[["x", end]].to_numpy()) for end in ("value", "low", "high")
    )
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    taken += [
        Bbox.from_extents(x - 2, low, x + 2, high)
        for (x, low), (_, high) in zip(lows, highs, strict=True)
    ]
    names = list(marks[["x", "value", "name"]].itertuples(index=False, name=None))
    angles = np.deg2rad([0, 180, 45, 315, 135, 225, 90, 270, 22, 338, 158, 202])
    for (x, y), (at, value, name) in sorted(
        zip(places, names, strict=True), key=lambda one: -one[0][1]
    ):
        text = axis.annotate(name, (at, value), (0, 0), textcoords="offset points", fontsize=7)
        size = text.get_window_extent()
        best: tuple[float, float, float, Bbox] | None = None
        for radius in range(9, 130, 6):
            for angle in angles:
                dx, dy = radius * np.cos(angle), radius * np.sin(angle)
                left = x + dx * inch / 72 - (size.width if np.cos(angle) < -0.1 else 0)
                if abs(np.cos(angle)) < 0.1:
                    left -= size.width / 2
                box = Bbox.from_bounds(
                    left, y + dy * inch / 72 - size.height / 2, size.width, size.height
                )
                cost = sum(_shared(box, other.padded(1)) for other in taken)
                cost += size.width * size.height - _shared(box, inside)
                if best is None or cost < best[0] - 1e-6:
                    best = (cost, (left - x) * 72 / inch, dy - size.height * 36 / inch, box)
            if best is not None and best[0] < 1e-6:
                break
        assert best is not None
        _, dx, dy, box = best
        text.set_position((dx, dy))
        taken.append(box)
        if max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1) > 12 * inch / 72:
            end = (np.clip(x, box.x0, box.x1), np.clip(y, box.y0, box.y1))
            start = axis.transData.inverted().transform([(x, y), end])
            axis.plot(*start.T, color="#BBBBBB", lw=0.6, zorder=0.5, scalex=False, scaley=False)


def _shared(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)


def save(figure: Figure, stem: Path) -> None:
    """Writes `stem`.png (200 dpi) and `stem`.svg, the same bytes for the same figure."""
    for suffix in (".png", ".svg"):
        with (
            plt.rc_context(_STYLE),
            replacing(stem.with_name(stem.name + suffix)) as temporary,
        ):
            metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
            figure.savefig(temporary, dpi=200, metadata=metadata, facecolor="white")
    plt.close(figure)
