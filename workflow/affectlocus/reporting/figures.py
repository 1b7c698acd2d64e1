"""Step `figures`: heat maps of the deltas, bars of the loads and tunes, drops of the ablations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from matplotlib.patches import Patch

from affectlocus.config.scoring import MEAN
from affectlocus.core.errors import InputError
from affectlocus.core.files import replacing
from affectlocus.core.projections import PROJECTIONS

# Okabe and Ito's palette: told apart by colour-blind readers and in print.
COLOURS = dict(
    zip(
        PROJECTIONS,
        ("#56B4E9", "#0072B2", "#CC79A7", "#F0E442", "#D55E00", "#009E73", "#E69F00"),
        strict=True,
    )
)
LINES = COLOURS | {"o": "#000000"}
"""The palette's black in place of its yellow, which is too faint for a line."""
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

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "affectlocus",
    "svg.fonttype": "none",
}


Style = Literal["dotted", "solid", "dashed", "dashdot"]
CONSTANTS: dict[str, tuple[str, Style]] = {
    "majority": ("majority answer", "dashed"),
    "uniform": ("uniform guess", "dashdot"),
}
"""What scores without looking, and the line that it is drawn as."""


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
            hatched |= hatch_missing(axis, grid)
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
        seeds = weights["tuned"].nunique() if "tuned" in weights else 1
        of = f"mean of {seeds} seeds; " if seeds > 1 else ""
        own = "every panel of every figure has a colour scale of its own"
        figure.supxlabel(of + own, fontsize=7)
    return figure


def relative_changes(histogram: pd.DataFrame, title: str) -> Figure:
    """How a projection's weights changed, each relative to itself, over all layers (Fig. 10).

    Args:
        histogram: the companion of a pair's deltas, `projection`, `from`, `to` and `count`; of
            several seeds, which `tuned` names, the mean is drawn, and their range as a band.
    """
    rows = histogram.dropna(subset=["from", "to"])
    if rows.empty:
        raise InputError(f"{title}: no histogram was counted; set deltas.companions to true")
    rows = rows if "tuned" in rows else rows.assign(tuned="")
    seeds = rows["tuned"].nunique()
    with plt.rc_context(_STYLE):
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
        of = f"mean of {seeds} seeds; bands: their range" if seeds > 1 else "one seed"
        axis.set_xlabel(f"relative change of a weight; the ends hold all beyond −1 and 1\n{of}")
        axis.set_ylabel("share of the weights (%)")
        axis.set_title(title, parse_math=False)
        figure.legend(loc="outside right upper")
    return figure


def hatch_missing(axis: Axes, grid: pd.DataFrame) -> bool:
    """Hatches the cells of a heat map that have no value; whether there are any.

    Args:
        grid: (layers, projections), as the map shows it.
    """
    hatched = False
    for column, projection in enumerate(grid.columns):
        for start, stop in _runs(grid[projection].isna().to_list()):
            hatched = True
            box = plt.Rectangle((column, start), 1, stop - start, fill=False, lw=0)
            box.set(hatch="////", edgecolor="#999999")
            axis.add_patch(box)
    return hatched


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """Start and stop of every run of true flags: one patch for a whole run draws fast."""
    start = None
    for position, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = position
        elif not flag and start is not None:
            yield start, position
            start = None


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Several seeds of a cell as one row: the mean of values, and of interval ends."""
    columns = ["value", "low", "high", "gain", "gain_low", "gain_high"]
    return (
        rows.groupby(["kind", "modules", "mode", "task"], sort=False)[columns].mean().reset_index()
    )


def level(intervals: pd.DataFrame) -> str:
    """The level of a table's intervals, as a figure names it: `95 %`."""
    return f"{100 * intervals['confidence'].iloc[0]:g} %"


def interval(cells: pd.DataFrame, samples: str = "samples") -> str:
    """What a figure's intervals are, in words: their level, and what they are over."""
    over = [samples, *(name for name in ("seeds", "draws") if cells[name].max() > 1)]
    said = f"{samples} alone" if len(over) == 1 else f"{', '.join(over[:-1])} and {over[-1]}"
    return f"{level(cells)} interval over {said}"


def sampled(cells: pd.DataFrame) -> str:
    """How many answers, seeds and random draws some cells' scores come from, in words."""
    return f"n = {int(cells['n'].max())} answers, {replicated(cells)}"


def replicated(cells: pd.DataFrame) -> str:
    """How many seeds, and random draws if there are several."""
    seeds, draws = int(cells["seeds"].max()), int(cells["draws"].max())
    drawn = f", {draws} random draws" if draws > 1 else ""
    return f"{seeds} seed{'s' * (seeds > 1)}{drawn}"


def counted(intervals: pd.DataFrame) -> str:
    """The same of the mean scores of a table's cells."""
    return sampled(
        intervals[(intervals["task"] == MEAN) & ~intervals["kind"].isin(["base", "tuned"])]
    )


def _bars(axis: Axes, x: np.ndarray, rows: pd.DataFrame, width: float, **style: object) -> None:
    values = rows["value"].to_numpy()
    spans = np.vstack([values - rows["low"], rows["high"] - values]).clip(min=0)
    axis.bar(x, values, width, yerr=spans, error_kw={"lw": 0.7}, **style)  # type: ignore[arg-type]


def singles(intervals: pd.DataFrame, title: str, baselines: pd.DataFrame | None = None) -> Figure:
    """Bars of the seven single-module cells on every task and in the mean, with intervals.

    Args:
        intervals: the companion of table 1 or 2.
        baselines: the other one, of which the majority answer and a uniform guess are lines.
    """
    rows = means(intervals)
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
        for each in (base, whole):
            height = each["high"] - each["low"]
            axis.bar(places, height, 0.9, each["low"], color="#555555", alpha=0.13, zorder=0)
        lines: list[tuple[pd.DataFrame, Style, str]] = [
            (base, "dotted", "base"),
            (whole, "solid", "all seven"),
        ]
        if baselines is not None:
            known = baselines[baselines["metric"] == intervals["metric"].iloc[0]]
            for name, (label, style) in CONSTANTS.items():
                each = known[known["baseline"] == name].set_index("task")
                if not each.empty:
                    lines.append((each.loc[tasks], style, label))
        for each, style, label in lines:
            axis.hlines(
                each["value"],
                places - 0.45,
                places + 0.45,
                colors="#555555",
                linestyles=style,
                lw=0.8 if style.startswith("dash") else 1.4,
                label=label,
            )
        crowded = len(tasks) > 5 or max(map(len, tasks)) > 10
        axis.set_xticks(places, plain(tasks), rotation=20 if crowded else 0)
        axis.set_xlim(-0.6, len(tasks) - 0.4)
        axis.set_ylim(0, 100)
        axis.set_ylabel(METRICS[intervals["metric"].iloc[0]])
        axis.set_xlabel(
            "task\nwhiskers, and grey bands of base and all seven:\n"
            f"{interval(intervals)}\n"
            f"of a mean: {counted(intervals)}"
        )
        axis.set_title(title, parse_math=False)
        figure.legend(loc="outside right upper")
    return figure


def ablation(intervals: pd.DataFrame, title: str) -> Figure:
    """Change of the mean score when a module set of the tuned model is destroyed.

    Args:
        intervals: the companion of table 3, whose gains are over the tuned model.
    """
    rows = means(intervals)
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
        axis.set_yticks(range(len(modules)), plain(modules))
        axis.invert_yaxis()
        axis.set_ylabel("destroyed modules")
        axis.set_xlabel(
            f"change of mean {METRICS[intervals['metric'].iloc[0]].replace('(%)', '(points)')} "
            f"against the tuned model\n"
            f"whiskers: paired {level(intervals)} interval; {counted(intervals)}"
        )
        axis.set_title(title, parse_math=False)
        figure.legend(title="put in its place", loc="outside right upper")
    return figure


def plain(texts: Iterable[object]) -> list[str]:
    """Names as they are: between two dollar signs matplotlib would read a formula."""
    return [str(text).replace("$", r"\$") for text in texts]


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
