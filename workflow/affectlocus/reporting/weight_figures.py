"""Figures of single neurons, of directions, and of the gate's activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from affectlocus.core.errors import InputError
from affectlocus.core.projections import FFN, PROJECTIONS
from affectlocus.reporting.figures import _STYLE, COLOURS, hatch_missing, plain

MARKERS = dict(zip(FFN, ("o", "s", "^"), strict=True))
MOVED = {True: ("#D55E00", "-", "moved"), False: ("#0072B2", "--", "the rest")}


def neurons(concentration: pd.DataFrame, overlaps: pd.DataFrame, title: str) -> Figure:
    """How concentrated each pair's change is, and in how many neurons any two pairs meet.

    The seeds of a pair share a row: two pairs meet in as many ways as they have seeds, and a pair
    of several seeds meets itself, which is the yardstick for the others.

    Args:
        concentration: the rows of `neurons.concentration`, with `pair`.
        overlaps: those of `neurons.overlaps`.
    """
    shares = concentration.assign(pair=_without_seed(concentration["pair"]))
    pooled = overlaps[overlaps["layer"].isna()]
    pooled = pooled.assign(
        first=_without_seed(pooled["first"]), second=_without_seed(pooled["second"])
    )
    pairs = list(dict.fromkeys(shares["pair"]))
    duos = list(dict.fromkeys(zip(pooled["first"], pooled["second"], strict=True)))
    with plt.rc_context(_STYLE):
        height = 1.8 + 0.42 * max(len(pairs), len(duos), 2)
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, height), width_ratios=[1, 1], layout="constrained"
        )
        for number, projection in enumerate(FFN):
            style = {"marker": MARKERS[projection], "color": COLOURS[projection], "ls": ""}
            shift = (number - 1) * 0.24
            mine = shares[shares["projection"] == projection].dropna(subset="top_share")
            for name, rows in mine.groupby("pair"):
                _dots(left, 100 * rows["top_share"], pairs.index(name) + shift, style)
            here = pooled[pooled["projection"] == projection]
            for (first, second), rows in here.groupby(["first", "second"]):
                place = duos.index((first, second)) + shift
                chance = rows[["chance_low", "chance_high"]].mean()
                right.plot(chance, [place] * 2, color="#BBBBBB", lw=6, solid_capstyle="butt")
                _dots(right, rows["shared"], place, style)
        even = 100 * concentration["even_share"].mean()
        left.axvline(even, color="#555555", ls="dotted", lw=1.2)
        left.set_yticks(range(len(pairs)), plain(pairs))
        left.set_xlim(left=0)
        left.set_xlabel("squared change in the top 1 % of the neurons (%)")
        seeds = " of a seed" if len(pairs) < concentration["pair"].nunique() else ""
        left.set_title(
            f"small: a layer{seeds}; large: the mean; dotted: if all changed alike", fontsize=8
        )
        names = [f"{one}\n{two if two != one else 'with another seed'}" for one, two in duos]
        right.set_yticks(range(len(duos)), plain(names), fontsize=8)
        right.set_xlim(left=-0.5)
        right.set_xlabel("moved neurons that two pairs share, all layers")
        moved = f"{pooled['moved'].iloc[0]} of {pooled['neurons'].iloc[0]}" if duos else "none"
        each = "small: two seeds; large: the mean\n" if seeds else ""
        right.set_title(f"{each}moved: {moved}; grey: the middle 95 % of chance", fontsize=8)
        if not duos:
            style = {"transform": right.transAxes, "ha": "center"}
            right.text(0.5, 0.5, "one pair: nothing to compare", **style)
        for axis, count in ((left, len(pairs)), (right, max(1, len(duos)))):
            axis.set_ylim(count - 0.4, -0.6)
        handles = [
            Line2D([], [], marker=MARKERS[p], color=COLOURS[p], ls="", mec="#333333", label=p)
            for p in FFN
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(title, parse_math=False)
    return figure


def _without_seed(names: pd.Series) -> pd.Series:
    """Tuned checkpoints' names → the names of their pairs."""
    return names.str.replace(r"\.seed\d+$", "", regex=True)


def _dots(axis: Axes, values: pd.Series, height: float, style: dict[str, Any]) -> None:
    """Each value as a small mark, where there are several, and their mean as a large one."""
    if len(values) > 1:
        axis.plot(values, np.full(len(values), height), ms=4, alpha=0.6, mec="none", **style)
    axis.plot(values.mean(), height, ms=8, mec="#333333", **style)


def direction_maps(rows: pd.DataFrame, title: str) -> Figure:
    """Layers × projections of two pairs' deltas: cosine, and overlap on either side.

    Args:
        rows: those of `directions.directions` for one two pairs.
    """
    if rows.empty:
        raise InputError(f"{title}: no weight that both pairs adapted; nothing to draw")
    layers = sorted(rows["layer"].unique())
    panels = (
        ("cosine", "cosine of the deltas", "RdBu_r"),
        ("left_overlap", "overlap of what they write (left)", "viridis"),
        ("right_overlap", "overlap of what they read (right)", "viridis"),
    )
    with plt.rc_context(_STYLE):
        height = max(3.1, 1.9 + 0.22 * len(layers))
        figure, axes = plt.subplots(1, 3, figsize=(10.5, height), layout="constrained")
        for axis, (score, label, palette) in zip(axes, panels, strict=True):
            grid = rows.pivot_table(index="layer", columns="projection", values=score, dropna=False)
            grid = grid.reindex(index=layers, columns=list(PROJECTIONS))
            sns.heatmap(
                grid,
                ax=axis,
                cmap=palette,
                # The same in every figure, so that two of them compare.
                vmin=-1 if score == "cosine" else 0,
                vmax=1,
                annot=len(layers) <= 8,
                fmt=".2f",
                annot_kws={"size": 7},
                linewidths=0.5,
            )
            hatch_missing(axis, grid)
            axis.set_title(label)
            below = [f"{p}\n{_by_chance(rows, score, p)}" for p in PROJECTIONS]
            axis.set_xticklabels(below, fontsize=7)
            axis.set_xlabel("projection, and what it would be by chance")
            axis.set_ylabel("layer" if score == "cosine" else "")
            axis.tick_params(axis="y", rotation=0)
        if set(PROJECTIONS) - set(rows["projection"]):
            patch = Patch(facecolor="white", edgecolor="#999999", hatch="////")
            figure.legend([patch], ["not adapted by both"], loc="outside lower right")
        figure.suptitle(title, parse_math=False)
        seeds = {str(rows[side].iloc[0]).rpartition(".seed")[2] for side in ("first", "second")}
        if len(seeds) == 1:
            alike = "two LoRAs of one seed begin with the same A: what they read overlaps at first"
            figure.supxlabel(alike, fontsize=7)
    return figure


def _by_chance(rows: pd.DataFrame, score: str, projection: str) -> str:
    mine = rows[rows["projection"] == projection]
    if mine.empty:
        return ""
    if score == "cosine":
        return f"±{mine['cosine_sd'].mean():.1g}"
    return f"{mine[score.replace('overlap', 'expected')].mean():.2g}"


def shifts(shift: pd.DataFrame, summary: pd.DataFrame, title: str) -> Figure:
    """The size of the gate neurons' shift, layer by layer: those that the pair moved and the rest.

    Args:
        shift: rows of `activations.shifts` with `model` and the flag `moved`.
        summary: the rows of `activations.moved_against_rest`, with `model` and `set`; each set's
            comparison over all layers stands above its panel.
    """
    tasks = list(dict.fromkeys(shift["task"]))
    models: Sequence[str] = list(dict.fromkeys(shift["model"]))
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            len(models),
            len(tasks),
            figsize=(1.2 + 3.1 * len(tasks), 0.9 + 2.5 * len(models)),
            sharex=True,
            sharey="row",
            squeeze=False,
            layout="constrained",
        )
        for (row, model), (column, task) in (
            (one, two) for one in enumerate(models) for two in enumerate(tasks)
        ):
            axis = axes[row, column]
            mine = shift[(shift["model"] == model) & (shift["task"] == task)]
            for flag, (colour, line, label) in MOVED.items():
                sizes = mine[mine["moved"] == flag].assign(size=lambda f: f["effect"].abs())
                if sizes.empty:
                    continue
                each = sizes.groupby("layer")["size"].quantile([0.25, 0.5, 0.75]).unstack()
                axis.fill_between(each.index, each[0.25], each[0.75], color=colour, alpha=0.2, lw=0)
                axis.plot(each.index, each[0.5], line, color=colour, marker=".", label=label)
            above = f"{model}, {task}\n{_verdict(summary, model, task)}"
            axis.set_title(above, fontsize=8, parse_math=False)
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes.flat:
            axis.set_ylim(bottom=0)
        for axis in axes[-1]:
            axis.set_xlabel("layer")
        for axis in axes[:, 0]:
            axis.set_ylabel("size of the shift (|Hedges' g|)")
        handles = [
            Line2D([], [], color=colour, ls=line, label=f"neurons: {label}")
            for colour, line, label in MOVED.values()
        ]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=2,
            title="lines: medians over neurons; bands: their quartiles",
        )
        figure.suptitle(title, parse_math=False)
    return figure


def _verdict(summary: pd.DataFrame, model: str, task: str) -> str:
    rows = summary[
        (summary["model"] == model)
        & (summary["task"] == task)
        & summary["layer"].isna()
        & summary["p"].notna()
    ]
    lines = [
        f"{row.moved} {row.set}: P(larger than the rest) = {row.probability:.2f}, p = {row.p:.2g}"
        for row in rows.itertuples()
    ]
    return "\n".join(lines) or "no neuron to compare"
