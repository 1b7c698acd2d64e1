"""Figure: difference of the gate's activations between emotional and neutral texts."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from affectlocus.reporting.figure_style import COLOURS, SEVERAL, STYLE, captioned

# The neurons are those of gate.
MOVED = {True: (COLOURS["gate"], "-", "moved"), False: (SEVERAL, "--", "the rest")}


def shifts(shift: pd.DataFrame, summary: pd.DataFrame, title: str) -> Figure:
    """The size of the shift of gate neurons by layer, for moved neurons and for all others.

    Args:
        shift: rows of `activations.shifts`, with columns `model` and `moved` (bool).
        summary: rows of `activations.moved_against_rest`, with columns `model` and `set`. A panel
            shows each set's comparison over all layers.
    """
    tasks = list(dict.fromkeys(shift["task"]))
    models: Sequence[str] = list(dict.fromkeys(shift["model"]))
    with plt.rc_context(STYLE):
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
                sizes = mine[mine["moved"] == flag].assign(size=lambda f: f["effect"].abs())
                if sizes.empty:
                    continue
                each = sizes.groupby("layer")["size"].quantile([0.25, 0.5, 0.75]).unstack()
                axis.fill_between(each.index, each[0.25], each[0.75], color=colour, alpha=0.2, lw=0)
                axis.plot(each.index, each[0.5], line, color=colour, marker=".", label=label)
            axis.set_title(f"{model}, {task}", fontsize=8, parse_math=False)
            axis.text(
                0.02,
                0.98,
                _verdict(summary, model, task),
                va="top",
                fontsize=7,
                transform=axis.transAxes,
                parse_math=False,
            )
            axis.xaxis.get_major_locator().set_params(integer=True)
        # Space for the comparisons above the highest band; all panels have one scale.
        axes[0, 0].set_ylim(0, 1.35 * max(axis.dataLim.ymax for axis in axes.flat))
        for axis in axes[-1]:
            axis.set_xlabel("layer")
        for axis in axes[:, 0]:
            axis.set_ylabel("size of the shift (|Hedges' g|)")
        handles = [
            Line2D([], [], color=colour, ls=line, label=f"neurons: {label}")
            for colour, line, label in MOVED.values()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
        figure.suptitle(title, parse_math=False)
    return captioned(
        figure,
        "lines: medians over neurons; bands: their quartiles",
        "P: the probability that a moved neuron shifts more than one of the rest, over all layers",
    )


def _verdict(summary: pd.DataFrame, model: str, task: str) -> str:
    rows = summary[
        (summary["model"] == model)
        & (summary["task"] == task)
        & summary["layer"].isna()
        & summary["p"].notna()
    ]
    lines = [
        f"{row.set}, n = {row.moved}: P = {row.probability:.2f}, p = {row.p:.2g}"
        for row in rows.itertuples()
    ]
    return "\n".join(lines) or "no neuron to compare"
