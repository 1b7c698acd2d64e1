"""Figure: heat maps of one pair's deltas, layers by projections."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.figure_style import DELTA_LABELS, STYLE, captioned, hatch_missing, scaled


def heat_map(deltas: pd.DataFrame, title: str) -> Figure:
    """Layers × projections of the weights' deltas, with a panel for each of L2, relative and RMS.

    A score without values has no panel: the relative change needs the base.
    """
    weights = deltas[deltas["parameter"] == "weight"]
    layers = sorted(weights["layer"].unique())
    known = {name: label for name, label in DELTA_LABELS.items() if weights[name].notna().any()}
    known = known or DELTA_LABELS
    hatched = False
    with plt.rc_context(STYLE):
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
            largest = (
                float(grid.to_numpy(float)[grid.notna()].max())
                if grid.notna().any(axis=None)
                else 1.0
            )
            grid, unit, decimals = scaled(grid, largest)
            sns.heatmap(
                grid,
                ax=axis,
                cmap="viridis",
                vmin=0,
                annot=len(layers) <= 8,
                fmt=decimals,
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
    of = f"means over {seeds} replicates" if seeds > 1 else "one replicate"
    return captioned(figure, of, "each panel has its own colour scale")
