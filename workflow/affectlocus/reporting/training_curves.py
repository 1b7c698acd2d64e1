"""Figure: the losses of a tuning and of its null."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from affectlocus.core.errors import InputError
from affectlocus.reporting.figure_style import SEVERAL, STYLE, captioned
from affectlocus.training.learning import judged

_OWN = "#000000"


def training_curves(rows: pd.DataFrame, pair: str, title: str) -> Figure:
    """The training loss of a pair, and dashed that of its null, by step.

    Lines are means over seeds; bands are their range.

    Args:
        rows: training.csv, as of `learning.curves`.

    Raises:
        InputError: the rows have no loss of the pair.
    """
    own = rows[rows["pair"] == pair]
    if own.empty:
        raise InputError(
            "figure.no-losses",
            f"{title}: no loss of pair {pair}; expected one of {', '.join(rows['pair'].unique())}",
            figure=title,
            pair=pair,
        )
    null = own["null"].iloc[0]
    curves = [(pair, own, _OWN, "-")]
    if isinstance(null, str) and null:
        curves.append((f"{null} (null)", rows[rows["pair"] == null], SEVERAL, "--"))
    seeds = own["seed"].nunique()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
        for name, part, colour, dashes in curves:
            line = part.groupby("step")["loss"].agg(["mean", "min", "max"])
            steps = line.index.to_numpy(float)
            axis.plot(steps, line["mean"], color=colour, ls=dashes, label=name)
            if part["seed"].nunique() > 1:
                axis.fill_between(steps, line["min"], line["max"], color=colour, alpha=0.15, lw=0)
        axis.set_xlabel("step of the tuning")
        axis.set_ylabel("training loss (nats per token)")
        axis.set_ylim(bottom=0)
        axis.legend()
        figure.suptitle(title, parse_math=False)
    said = f"means over {seeds} seeds; bands: their range" if seeds > 1 else "one seed"
    verdicts = [one.sentence for one in judged(rows) if one.pair == pair]
    return captioned(figure, said, *verdicts)
