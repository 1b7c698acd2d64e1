"""Figure: cosines between the deltas of pairs on one base."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.figure_style import STYLE, captioned, hatch_missing


def direction_maps(rows: pd.DataFrame, title: str) -> Figure:
    """Heat maps of layers × projections for two deltas: cosine, and overlap of their subspaces.

    Args:
        rows: the rows of `directions.directions` for one couple of pairs.

    Raises:
        InputError: no weight was adapted by both pairs.
    """
    if rows.empty:
        raise InputError(
            "figure.no-common-weight",
            f"{title}: no weight that both pairs adapted; expected pairs with common modules",
            figure=title,
        )
    layers = sorted(rows["layer"].unique())
    panels = (
        ("cosine", "cosine of the deltas", "RdBu_r"),
        ("left_overlap", "overlap of output subspaces (left)", "viridis"),
        ("right_overlap", "overlap of input subspaces (right)", "viridis"),
    )
    with plt.rc_context(STYLE):
        height = max(3.1, 1.9 + 0.22 * len(layers))
        figure, axes = plt.subplots(1, 3, figsize=(10.5, height), layout="constrained")
        for axis, (score, label, palette) in zip(axes, panels, strict=True):
            grid = rows.pivot_table(index="layer", columns="projection", values=score, dropna=False)
            grid = grid.reindex(index=layers, columns=list(PROJECTIONS))
            # The same ends in every figure, so that two of them compare.
            low = -1 if score == "cosine" else 0
            numbers = ".2f" if len(layers) <= 8 else None
            sns.heatmap(
                grid,
                ax=axis,
                cmap=palette,
                vmin=low,
                vmax=1,
                annot=numbers is not None,
                fmt=numbers or "",
                annot_kws={"size": 7},
                linewidths=0.5,
            )
            hatch_missing(axis, grid)
            axis.set_title(label)
            below = [f"{p}\n{_by_chance(rows, score, p)}" for p in PROJECTIONS]
            axis.set_xticklabels(below, fontsize=7)
            axis.set_xlabel("projection, with the value expected by chance")
            axis.set_ylabel("layer" if score == "cosine" else "")
            axis.tick_params(axis="y", rotation=0)
        if set(PROJECTIONS) - set(rows["projection"]):
            patch = Patch(facecolor="white", edgecolor="#999999", hatch="////")
            figure.legend([patch], ["not adapted by both"], loc="outside lower right")
        figure.suptitle(title, parse_math=False)
        seeds = {str(rows[side].iloc[0]).rpartition(".seed")[2] for side in ("first", "second")}
    alike = "two LoRAs of one seed start with the same A, so their input subspaces overlap"
    return captioned(
        figure,
        "below each projection is the value expected by chance",
        alike if len(seeds) == 1 else "",
    )


def _by_chance(rows: pd.DataFrame, score: str, projection: str) -> str:
    mine = rows[rows["projection"] == projection]
    if mine.empty:
        return ""
    if score == "cosine":
        return f"±{mine['cosine_sd'].mean():.1g}"
    return f"{mine[score.replace('overlap', 'expected')].mean():.2g}"
