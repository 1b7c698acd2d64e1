"""Figures of single neurons, of directions, and of the gate's activations."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from affectlocus.errors import InputError
from affectlocus.figures import _STYLE, COLOURS, _runs
from affectlocus.projections import FFN, PROJECTIONS

MARKERS = dict(zip(FFN, ("o", "s", "^"), strict=True))
MOVED = {True: ("#D55E00", "-", "moved"), False: ("#0072B2", "--", "the rest")}


def neurons(concentration: pd.DataFrame, overlaps: pd.DataFrame, title: str) -> Figure:
    """How concentrated each pair's change is, and in how many neurons any two pairs meet.

    Args:
        concentration: the rows of `neurons.concentration`, with `pair`.
        overlaps: those of `neurons.overlaps`.
    """
    pairs = list(dict.fromkeys(concentration["pair"]))
    pooled = overlaps[overlaps["layer"].isna()]
    duos = list(dict.fromkeys(zip(pooled["first"], pooled["second"], strict=True)))
    with plt.rc_context(_STYLE):
        height = 1.8 + 0.42 * max(len(pairs), len(duos), 2)
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, height), width_ratios=[1, 1], layout="constrained"
        )
        for number, projection in enumerate(FFN):
            style = {"marker": MARKERS[projection], "color": COLOURS[projection], "ls": ""}
            shift = (number - 1) * 0.24
            for place, pair in enumerate(pairs):
                mine = concentration["pair"] == pair
                rows = concentration[mine & (concentration["projection"] == projection)]
                shares = 100 * rows["top_share"].dropna()
                y = np.full(len(shares), place + shift)
                left.plot(shares, y, ms=4, alpha=0.6, mec="none", **style)
                if len(shares):
                    left.plot(shares.mean(), place + shift, ms=8, mec="#333333", **style)
            here = pooled[pooled["projection"] == projection].set_index(["first", "second"])
            for place, duo in enumerate(duos):
                if duo not in here.index:
                    continue
                row = here.loc[duo]
                chance = (row["chance_low"], row["chance_high"])
                right.plot(
                    chance, [place + shift] * 2, color="#BBBBBB", lw=6, solid_capstyle="butt"
                )
                right.plot(row["shared"], place + shift, ms=7, mec="#333333", **style)
        even = 100 * concentration["even_share"].mean()
        left.axvline(even, color="#555555", ls="dotted", lw=1.2)
        left.set_yticks(range(len(pairs)), pairs)
        left.set_xlim(left=0)
        left.set_xlabel("squared change in the top 1 % of the neurons (%)")
        left.set_title("small: a layer; large: the mean; dotted: if all changed alike", fontsize=8)
        right.set_yticks(range(len(duos)), [f"{one}\n{two}" for one, two in duos], fontsize=8)
        right.set_xlim(left=-0.5)
        right.set_xlabel("moved neurons that two pairs share, all layers")
        moved = f"{pooled['moved'].iloc[0]} of {pooled['neurons'].iloc[0]}" if duos else "none"
        right.set_title(f"moved: {moved}; grey: the middle 95 % of chance", fontsize=8)
        if not duos:
            style = {"transform": right.transAxes, "ha": "center"}
            right.text(0.5, 0.5, "one pair: nothing to compare", **style)
        for axis in (left, right):
            low, high = sorted(axis.get_ylim())
            axis.set_ylim(max(high, 0.6), min(low, -0.6))
        handles = [
            Line2D([], [], marker=MARKERS[p], color=COLOURS[p], ls="", mec="#333333", label=p)
            for p in FFN
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(title, parse_math=False)
    return figure


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
            limit = max(0.1, float(grid.abs().max(axis=None))) if score == "cosine" else 1.0
            sns.heatmap(
                grid,
                ax=axis,
                cmap=palette,
                vmin=-limit if score == "cosine" else 0,
                vmax=limit,
                annot=len(layers) <= 8,
                fmt=".2f",
                annot_kws={"size": 7},
                linewidths=0.5,
            )
            for column, projection in enumerate(PROJECTIONS):
                for start, stop in _runs(grid[projection].isna().to_list()):
                    size = (1, stop - start)
                    style = {"fill": False, "hatch": "////", "edgecolor": "#999999", "lw": 0}
                    axis.add_patch(plt.Rectangle((column, start), *size, **style))
            axis.set_title(label)
            axis.set_xlabel(f"projection\n{_by_chance(rows, score)}")
            axis.set_ylabel("layer" if score == "cosine" else "")
            axis.tick_params(axis="y", rotation=0)
        if set(PROJECTIONS) - set(rows["projection"]):
            patch = Patch(facecolor="white", edgecolor="#999999", hatch="////")
            figure.legend([patch], ["not adapted by both"], loc="outside lower right")
        figure.suptitle(title, parse_math=False)
    return figure


def _by_chance(rows: pd.DataFrame, score: str) -> str:
    if score == "cosine":
        return f"by chance 0 ± {rows['cosine_sd'].max():.2g} at most"
    expected = rows[score.replace("overlap", "expected")]
    return f"by chance {expected.min():.2g} to {expected.max():.2g}"


def shifts(shift: pd.DataFrame, summary: pd.DataFrame, which: str, title: str) -> Figure:
    """The size of the gate neurons' shift, layer by layer: the moved ones and the rest.

    Args:
        shift: rows of `activations.shifts` with `model` and the flag `which`.
        summary: the rows of `activations.moved_against_rest`, with `model` and `set`.
        which: the column that says which neurons moved, `moved` or `again`.
    """
    tasks = list(dict.fromkeys(shift["task"]))
    models: Sequence[str] = list(dict.fromkeys(shift["model"]))
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            len(models),
            len(tasks),
            figsize=(1.2 + 3.1 * len(tasks), 0.9 + 2.5 * len(models)),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for (row, model), (column, task) in (
            (one, two) for one in enumerate(models) for two in enumerate(tasks)
        ):
            axis = axes[row, column]
            mine = shift[(shift["model"] == model) & (shift["task"] == task)]
            for flag, (colour, line, label) in MOVED.items():
                sizes = mine[mine[which] == flag].assign(size=lambda f: f["effect"].abs())
                if sizes.empty:
                    continue
                each = sizes.groupby("layer")["size"].quantile([0.25, 0.5, 0.75]).unstack()
                axis.fill_between(each.index, each[0.25], each[0.75], color=colour, alpha=0.2, lw=0)
                axis.plot(each.index, each[0.5], line, color=colour, marker=".", label=label)
            axis.set_title(f"{model}, {task}\n{_verdict(summary, model, task, which)}", fontsize=8)
            axis.set_ylim(bottom=0)
            axis.xaxis.get_major_locator().set_params(integer=True)
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


def _verdict(summary: pd.DataFrame, model: str, task: str, which: str) -> str:
    rows = summary[
        (summary["model"] == model)
        & (summary["task"] == task)
        & (summary["set"] == which)
        & summary["layer"].isna()
    ]
    if rows.empty or pd.isna(rows["p"].iloc[0]):
        return "no neuron to compare"
    one = rows.iloc[0]
    return f"P(moved > rest) = {one['probability']:.2f}, p = {one['p']:.2g}, {one['moved']} moved"
