"""Figures of the deltas of several pairs: the paper's Figs. 4, 5 and 6.

The panels of a row have a common colour scale if their numbers can be compared: RMS always, because
it is per weight; L2 if the matrices have the same size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.figure_style import STYLE, hatch_missing, plain
from affectlocus.reporting.named_lines import NamedLines, spread

DRAWN_SCORES = {"l2": "L2 norm (eq. 1)", "rms": "RMS per weight"}
"""The scores that are drawn: the paper's, and one that is independent of the matrix's size."""

Grid = Mapping[str, Mapping[str, pd.DataFrame]]
"""Row → column → rows of step `deltas`; the column `tuned` names the seeds."""

_MAX_ANNOTATED = 8  # layers; with more, the cells show no numbers


def delta_maps(grid: Grid, title: str, *, lines: bool = False) -> Figure:
    """Layers × projections of several pairs: L2 in the top rows, RMS below; means over seeds.

    Args:
        grid: the panels; a row may lack some columns.
        lines: whether gate and up are also drawn by layer, with the range of the seeds; only for a
            grid with one row.

    Raises:
        InputError: fewer than two panels.
    """
    if sum(map(len, grid.values())) < 2:
        raise InputError(
            "figure.one-pair", f"{title}: found one pair; expected two or more", figure=title
        )
    weights = {
        row: {column: frame[frame["parameter"] == "weight"] for column, frame in members.items()}
        for row, members in grid.items()
    }
    columns = list(dict.fromkeys(column for members in grid.values() for column in members))
    shown = [(score, row) for score in DRAWN_SCORES for row in grid]
    layers = max(one["layer"].nunique() for each in weights.values() for one in each.values())
    heights = [min(5.5, 1.3 + 0.24 * layers)] * len(shown) + [2.3] * lines
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(heights),
            len(columns),
            figsize=(0.9 + 3.1 * len(columns), 0.9 + sum(heights)),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        hatched = [
            _row(dict(zip(columns, axes[number], strict=True)), weights[row], score, row)
            for number, (score, row) in enumerate(shown)
        ]
        drawn = []
        if lines:
            (members,) = weights.values()
            drawn = _lines(axes[-1], members)
        if any(hatched):
            patch = Patch(facecolor="white", edgecolor="#999999", hatch="////")
            figure.legend([patch], ["not adapted"], loc="outside lower right")
        figure.suptitle(title, parse_math=False)
        figure.supxlabel(_caption(weights, lines), fontsize=8)
        spread(figure, drawn)
    return figure


def _row(
    axes: Mapping[str, Axes], members: Mapping[str, pd.DataFrame], score: str, row: str
) -> bool:
    """Draws one row of panels; returns whether any cell is hatched."""
    together = _together(score, members.values())
    maps = {column: _map(one, score) for column, one in members.items()}
    largest = max((_largest(one) for one in maps.values()), default=0.0)
    hatched = False
    for column, axis in axes.items():
        if column not in maps:
            axis.set_axis_off()
            axis.text(0.5, 0.5, "no such pair", ha="center", transform=axis.transAxes)
            continue
        top = largest if together else _largest(maps[column])
        # Small values are divided by a power of ten, so that the numbers fit into the cells.
        power = math.floor(math.log10(top)) if 0 < top < 0.1 else 0
        grid = maps[column] / 10.0**power
        sns.heatmap(
            grid,
            ax=axis,
            cmap="viridis",
            vmin=0,
            vmax=top / 10.0**power or 1,
            annot=len(grid) <= _MAX_ANNOTATED,
            fmt=".2g",
            annot_kws={"size": 7},
            linewidths=0.5,
            cbar=not together or column == list(maps)[-1],
        )
        hatched |= hatch_missing(axis, grid)
        unit = f" (×$10^{{{power}}}$)" if power else ""
        (named,) = plain([_named(row, column)])
        axis.set_title(f"{named}\n{DRAWN_SCORES[score]}{unit}", fontsize=8)
        axis.set_xlabel("projection", fontsize=8)
        axis.set_ylabel("layer" if column == next(iter(axes)) else "")
        axis.tick_params(axis="both", labelsize=7, rotation=0)
    return hatched


def _named(row: str, column: str) -> str:
    return ", ".join(part for part in (column, row) if part)


def _map(weights: pd.DataFrame, score: str) -> pd.DataFrame:
    """(layers, projections): means over seeds; NaN if the projection was not adapted."""
    grid = weights.pivot_table(index="layer", columns="projection", values=score, dropna=False)
    return grid.reindex(index=sorted(weights["layer"].unique()), columns=list(PROJECTIONS))


def _largest(grid: pd.DataFrame) -> float:
    values = grid.to_numpy()[grid.notna().to_numpy()]
    return float(values.max()) if len(values) else 0.0


def _together(score: str, members: Iterable[pd.DataFrame]) -> bool:
    """Whether the panels of a row share a scale: not for L2 of matrices of different sizes."""
    sizes = {
        tuple(sorted(set(zip(one["projection"], one["numel"], strict=True)))) for one in members
    }
    return score != "l2" or len(sizes) == 1


def _lines(axes: Iterable[Axes], members: Mapping[str, pd.DataFrame]) -> list[NamedLines]:
    """RMS of gate and up by layer, a panel for each pair, with one scale."""
    drawn = []
    for axis, (column, weights) in zip(axes, members.items(), strict=True):
        lines = NamedLines(axis)
        for projection in ("gate", "up"):
            mine = weights[(weights["projection"] == projection) & weights["rms"].notna()]
            if mine.empty:
                continue
            over = mine.groupby("layer")["rms"].agg(["mean", "min", "max"])
            band = over[["min", "max"]].to_numpy().T if mine["tuned"].nunique() > 1 else None
            lines.add(projection, over.index.to_numpy(float), over["mean"].to_numpy(), band)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_title(f"{column}\ngate and up: RMS per weight", fontsize=8, parse_math=False)
        axis.set_xlabel("layer", fontsize=8)
        axis.tick_params(labelsize=7)
        drawn.append(lines)
    top = max(lines.axis.get_ylim()[1] for lines in drawn)
    for lines in drawn:
        lines.axis.set_ylim(0, top)
    return drawn


def _caption(weights: Grid, lines: bool) -> str:
    frames = [one for each in weights.values() for one in each.values()]
    seeds = sorted({one["tuned"].nunique() for one in frames})
    spread_text = "one replicate"
    if seeds != [1]:
        over = [
            one.groupby(["layer", "projection"])["rms"].agg(["min", "max", "mean"]).dropna()
            for one in frames
            if one["tuned"].nunique() > 1
        ]
        spans = np.concatenate([(one["max"] - one["min"]) / one["mean"] for one in over])
        counted = "–".join(str(one) for one in dict.fromkeys((seeds[0], seeds[-1])))
        spread_text = (
            f"means over {counted} replicates; their range relative to a cell's mean: "
            f"median {np.median(spans):.0%}, maximum {spans.max():.0%}"
        )
        spread_text += "; bands: range of the replicates" if lines else ""
    alike = all(_together("l2", each.values()) for each in weights.values())
    scales = "one colour scale for each row"
    if not alike:
        scales = (
            "L2: a colour scale for each panel, as matrices differ in size; RMS: one for each row"
        )
    return f"{spread_text}\n{scales}"
