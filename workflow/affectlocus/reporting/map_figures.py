"""Figures of the deltas of several pairs: the paper's Figs. 4, 5 and 6.

All panels of a score have one colour scale, so that equal colours are equal numbers.
"""

from __future__ import annotations

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
from affectlocus.reporting.figure_style import STYLE, captioned, hatch_missing, plain, scaled
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
    heights = [min(5.5, 1.1 + 0.24 * layers)] * len(shown) + [2.3] * lines
    tops = {
        score: max(
            _largest(_map(one, score)) for members in weights.values() for one in members.values()
        )
        for score in DRAWN_SCORES
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(heights),
            len(columns),
            figsize=(1.4 + 2.9 * len(columns), 0.7 + sum(heights)),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        hatched = [
            _row(
                dict(zip(columns, axes[number], strict=True)), weights[row], score, row, tops[score]
            )
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
        spread(figure, drawn)
    return captioned(figure, *_caption(weights, lines))


def _row(
    axes: Mapping[str, Axes], members: Mapping[str, pd.DataFrame], score: str, row: str, top: float
) -> bool:
    """Draws one row of panels; returns whether any cell is hatched.

    Args:
        top: the end of the colour scale.
    """
    hatched = False
    for column, axis in axes.items():
        if column not in members:
            axis.set_axis_off()
            continue
        grid, unit, decimals = scaled(_map(members[column], score), top)
        last = column == list(members)[-1]
        sns.heatmap(
            grid,
            ax=axis,
            cmap="viridis",
            vmin=0,
            vmax=float(scaled(pd.DataFrame([top]), top)[0].to_numpy().max()) or 1,
            annot=len(grid) <= _MAX_ANNOTATED,
            fmt=decimals,
            annot_kws={"size": 7},
            linewidths=0.5,
            cbar=last,
            cbar_kws={"label": f"{DRAWN_SCORES[score]}{unit}"},
        )
        hatched |= hatch_missing(axis, grid)
        (named,) = plain([_named(row, column)])
        axis.set_title(named, fontsize=8)
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


def _alike(members: Iterable[pd.DataFrame]) -> bool:
    """Whether the matrices of all pairs have the same sizes, so that their L2 norms compare."""
    sizes = {
        tuple(sorted(set(zip(one["projection"], one["numel"], strict=True)))) for one in members
    }
    return len(sizes) == 1


def _lines(axes: Iterable[Axes], members: Mapping[str, pd.DataFrame]) -> list[NamedLines]:
    """RMS of gate and up by layer, a panel for each pair, with one scale."""
    drawn = []
    for number, (axis, (column, weights)) in enumerate(zip(axes, members.items(), strict=True)):
        lines = NamedLines(axis)
        for projection in ("gate", "up"):
            mine = weights[(weights["projection"] == projection) & weights["rms"].notna()]
            if mine.empty:
                continue
            over = mine.groupby("layer")["rms"].agg(["mean", "min", "max"])
            band = over[["min", "max"]].to_numpy().T if mine["tuned"].nunique() > 1 else None
            lines.add(projection, over.index.to_numpy(float), over["mean"].to_numpy(), band)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_title(column, fontsize=8, parse_math=False)
        axis.set_xlabel("layer", fontsize=8)
        if number == 0:
            axis.set_ylabel(DRAWN_SCORES["rms"])
        axis.tick_params(labelsize=7)
        drawn.append(lines)
    top = max(lines.axis.get_ylim()[1] for lines in drawn)
    for lines in drawn:
        lines.axis.set_ylim(0, top)
    return drawn


def _caption(weights: Grid, lines: bool) -> list[str]:
    frames = [one for each in weights.values() for one in each.values()]
    seeds = sorted({one["tuned"].nunique() for one in frames})
    parts = ["one replicate"]
    if seeds != [1]:
        over = [
            one.groupby(["layer", "projection"])["rms"].agg(["min", "max", "mean"]).dropna()
            for one in frames
            if one["tuned"].nunique() > 1
        ]
        spans = np.concatenate([(one["max"] - one["min"]) / one["mean"] for one in over])
        counted = "–".join(str(one) for one in dict.fromkeys((seeds[0], seeds[-1])))
        parts = [
            f"means over {counted} replicates, whose range relative to a cell's mean is "
            f"{np.median(spans):.0%} in the median and {spans.max():.0%} at most",
            "bands: range of the replicates" if lines else "",
        ]
    parts.append("one colour scale for each score")
    if not _alike(frames):
        parts.append("the matrices of the models differ in size, and the L2 norm grows with it")
    return parts
