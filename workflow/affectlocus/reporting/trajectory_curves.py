"""Figure: the deltas during the tuning."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.reporting.figure_style import STYLE, captioned
from affectlocus.reporting.named_lines import NamedLines, spread

_TRAJECTORY = {
    "l2": "L2 norm of the change (eq. 1)",
    "share_ratio": "share of change / share of weights",
    "cosine": "cosine with the final change",
}


def trajectory_curves(rows: pd.DataFrame, title: str) -> Figure:
    """Size of the delta during the tuning, and its cosine with the final delta.

    Lines are means over layers and seeds; bands are the range over seeds of the means over layers.

    Args:
        rows: the rows of step `trajectory`; the column `tuned` names the seeds.

    Raises:
        InputError: there are no rows.
    """
    if rows.empty:
        raise InputError(
            "figure.no-snapshot",
            f"{title}: no snapshot of the tuning; set trajectory in the recipe of the pair",
            figure=title,
            key="trajectory",
        )
    touched = rows[rows["l2"] > 0].groupby(["projection", "step", "tuned"])
    each = touched[list(_TRAJECTORY)].mean().reset_index()
    seeds = rows["tuned"].nunique()
    with plt.rc_context(STYLE):
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
                    # Before the first step the change is zero.
                    x, y = np.append(0, x), np.append(0, y)
                    band = np.insert(band, 0, 0, axis=1)
                lines.add(projection, x, y, band if seeds > 1 else None)
            drawn.append(lines)
            # Space for the names, because all lines of the cosine end in one point.
            axis.set_xlim(left=-0.12 * rows["step"].max() if lines.first else 0)
            axis.set_xlabel("step of the tuning")
            axis.set_ylabel(label)
        axes[0].set_ylim(bottom=0)
        axes[1].axhline(1, color="#555555", ls="dotted", lw=1)
        axes[2].set_ylim(top=1.02)
        absent = [one for one in PROJECTIONS if one not in set(each["projection"])]
        layers = rows["layer"].nunique()
        caption = f"means over {layers} layer{'s' * (layers > 1)} and {seeds} replicate"
        caption += "s; bands: their range" if seeds > 1 else ", so no bands"
        caption += f"; not adapted: {', '.join(absent)}" if absent else ""
        figure.suptitle(title, parse_math=False)
        spread(figure, drawn)
    return captioned(
        figure,
        caption,
        "the L2 norm grows with the size of the matrix",
        "dotted: an equal share",
        "a cosine of 1 is the final direction",
    )
