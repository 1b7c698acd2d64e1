"""Figure: mean score against the number of trained parameters, by tune cell (Fig. 9)."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from affectlocus.config.scoring import MEAN
from affectlocus.core.cells import FAIR
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import axis_label
from affectlocus.core.projections import ALL, BRIDGE, PROJECTIONS
from affectlocus.reporting.baseline_lines import baseline_lines
from affectlocus.reporting.figure_style import (
    COLOURS,
    STYLE,
    answered,
    captioned,
    interval,
    plain,
    replicated,
    sampled,
)

_BUDGETS = ("equal rank", "equal parameters")


def points(intervals: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """The tune cells of a pair with their numbers of trained parameters; input of `trade_off`.

    Args:
        intervals: the intervals of tune tables, at equal rank and (mode fair) at equal parameters.
        ledger: the rows of the pair's base in a ledger.

    Returns:
        `modules`, `budget`, `parameters`, `value`, `low`, `high`, `confidence`, `n` (answers),
        `seeds`, `draws`; first the base, with 0 parameters. Of a pair with a bridge it is the base
        with a bridge tuned alone: 0 parameters of the language model. If the cells at equal
        parameters have fewer replicates, the base has a second row with these, under their budget.
    """
    intervals = intervals[intervals["task"] == MEAN]
    tunings = intervals[intervals["kind"] == "tune"].sort_values("seeds", kind="stable")
    cells = tunings.drop_duplicates(["modules", "mode"], keep="last").sort_index()
    bases = intervals[intervals["kind"] == "base"].drop_duplicates("seeds")
    alone = cells["modules"] == BRIDGE
    if alone.any():
        bases, cells = cells[alone], cells[~alone]
    intervals = pd.concat([bases, cells], ignore_index=True)
    intervals["budget"] = np.where(intervals["mode"] == FAIR, *_BUDGETS[::-1])
    intervals.loc[1 : len(bases) - 1, "budget"] = _BUDGETS[1]
    keys = ["modules", "budget"]
    shown = ["value", "low", "high", "confidence", "n", "seeds", "draws"]
    rows = intervals.groupby(["kind", *keys], sort=False)[shown].mean()
    counted = ledger.assign(budget=ledger["budget"].fillna(_BUDGETS[0]).replace("", _BUDGETS[0]))
    found = rows.reset_index().merge(counted[[*keys, "parameters"]], on=keys, how="left")
    found.loc[(found["kind"] == "base") | (found["modules"] == BRIDGE), "parameters"] = 0
    if found["parameters"].isna().any():
        modules = found.loc[found["parameters"].isna(), "modules"].iloc[0]
        raise InputError(
            "ledger.no-row",
            f"the ledger has no row for {modules}; add this module set to the ledger",
            modules=modules,
        )
    return found.sort_values("parameters", kind="stable")[[*keys, "parameters", *rows.columns]]


def trade_off(
    cells: pd.DataFrame, metric: str, title: str, baselines: pd.DataFrame | None = None
) -> Figure:
    """Mean score against the number of trained parameters, a point for each tune cell (Fig. 9).

    Cells at equal parameters have their own panel, because they have the same abscissa.

    Args:
        cells: the result of `points`.
        baselines: the baselines of the table at equal rank; the majority answer and a uniform guess
            become lines.

    Raises:
        InputError: no cell was tuned at equal rank.
    """
    bases = cells[cells["parameters"] == 0]
    equal, fair = (
        cells[(cells["parameters"] > 0) & (cells["budget"] == budget)] for budget in _BUDGETS
    )
    if equal.empty:
        raise InputError(
            "figure.no-tune-cell",
            f"{title}: no tune cell; expected one in matrix.tune",
            figure=title,
            key="matrix.tune",
        )
    with plt.rc_context(STYLE):
        panels = 1 if fair.empty else 2
        figure, axes = plt.subplots(
            1,
            panels,
            figsize=(8 if panels == 1 else 11.5, 5),
            width_ratios=[8, 4][:panels],
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        axis = axes[0, 0]
        axis.set_xscale("log")
        # Cells with the same number of parameters are moved apart to show all whiskers. A strip
        # behind them shows that they belong together.
        equal = equal.sort_values(["parameters", "value"])
        number = equal.groupby("parameters").cumcount()
        size = equal.groupby("parameters")["value"].transform("size")
        x = equal["parameters"] * 1.03 ** (number - (size - 1) / 2)
        for place, row in zip(x, equal.itertuples(), strict=True):
            _point(axis, place, row)
        for _, group in x.groupby(equal["parameters"]):
            if len(group) > 1:
                ends = (group.min() / 1.02, group.max() * 1.02)
                axis.axvspan(*ends, color="#EDEDED", lw=0, zorder=0)
        axis.set_xlim(x.min() / 1.6, x.max() * 1.9)
        axis.set_xlabel("trained parameters")
        axis.set_ylabel(f"mean {axis_label(metric)}")
        if panels == 2:
            fair = fair.sort_values("value")
            for place, row in enumerate(fair.itertuples()):
                _point(axes[0, 1], place, row)
            axes[0, 1].set_xticks(range(len(fair)), plain(fair["modules"]), rotation=90, fontsize=7)
            axes[0, 1].set_xlim(-0.7, len(fair) - 0.3)
            least, most = (1e-3 * fair["parameters"].agg(end) for end in ("min", "max"))
            axes[0, 1].set_title(
                f"equal parameters ({least:,.4g}k to {most:,.4g}k), {replicated(fair)}"
            )
            axis.set_title(f"equal rank, {replicated(equal)}")
        if not bases.empty:
            # The right panel's own base comes last, if it has one.
            for each, (_, base) in zip(
                axes[0], bases.iloc[[0, -1][:panels]].iterrows(), strict=True
            ):
                each.axhspan(base["low"], base["high"], color="#999999", alpha=0.2, lw=0)
                each.axhline(
                    base["value"], color="#555555", ls="dotted", lw=1.4, label=base["modules"]
                )
        for label, style, (value,) in baseline_lines(baselines, metric, [MEAN]):
            for each in axes[0]:
                each.axhline(value, color="#555555", ls=style, lw=1, label=label)
        handles: list[Any] = [
            Line2D([], [], ls="", marker=marker, color=colour, label=text)
            for marker, text, colour in (
                ("*", "gate: GET (Algorithm 1)", COLOURS["gate"]),
                ("o", "one projection", "#555555"),
                ("s", "several", "#555555"),
            )
        ]
        handles += axis.get_legend_handles_labels()[0]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            # More than five are wider than the figure.
            ncols=len(handles) if len(handles) <= 5 else -(-len(handles) // 2),
        )
        figure.suptitle(title, parse_math=False)
        shown = {ALL: "all seven", "gate": "gate (GET)"}
        equal = equal.assign(x=x, name=[shown.get(name, name) for name in equal["modules"]])
        annotate(axis, equal)
    shared = equal["parameters"].duplicated().any()
    return captioned(
        figure,
        f"whiskers and band: {interval(cells)}",
        # Panels of two budgets name their own replicates.
        sampled(equal) if panels == 1 else answered(equal),
        "cells on one grey strip have the same number of parameters" if shared else "",
    )


def _point(axis: Axes, x: float, row: Any) -> None:
    single = row.modules in PROJECTIONS
    axis.errorbar(
        x,
        row.value,
        yerr=[[max(0, row.value - row.low)], [max(0, row.high - row.value)]],
        fmt="*" if row.modules == "gate" else "o" if single else "s",
        ms=12 if row.modules == "gate" else 6 if single else 5,
        color=COLOURS[row.modules] if single else "#555555",
        mec="#333333",
        mew=0.5,
        ecolor="#555555",
        elinewidth=0.8,
    )


def annotate(axis: Axes, marks: pd.DataFrame) -> None:
    """Writes the names of points next to them, without overlap of names, points and whiskers.

    A name takes the nearest free place around its point. If that is far, a line connects them.

    Args:
        marks: `x`, `value`, `low`, `high` in data coordinates, and `name`.
    """
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    inside = axis.get_window_extent()
    inch = figure.dpi
    places, lows, highs = (
        axis.transData.transform(marks[["x", end]].to_numpy()) for end in ("value", "low", "high")
    )
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    taken += [
        Bbox.from_extents(x - 2, low, x + 2, high)
        for (x, low), (_, high) in zip(lows, highs, strict=True)
    ]
    names = list(marks[["x", "value", "name"]].itertuples(index=False, name=None))
    angles = np.deg2rad([0, 180, 45, 315, 135, 225, 90, 270, 22, 338, 158, 202])
    for (x, y), (at, value, name) in sorted(
        zip(places, names, strict=True), key=lambda one: -one[0][1]
    ):
        text = axis.annotate(
            name, (at, value), (0, 0), textcoords="offset points", fontsize=7, parse_math=False
        )
        size = text.get_window_extent()
        best: tuple[float, float, float, Bbox] | None = None
        for radius in range(9, 130, 6):
            for angle in angles:
                dx, dy = radius * np.cos(angle), radius * np.sin(angle)
                left = x + dx * inch / 72 - (size.width if np.cos(angle) < -0.1 else 0)
                if abs(np.cos(angle)) < 0.1:
                    left -= size.width / 2
                box = Bbox.from_bounds(
                    left, y + dy * inch / 72 - size.height / 2, size.width, size.height
                )
                cost = sum(_shared(box, other.padded(1)) for other in taken)
                cost += size.width * size.height - _shared(box, inside)
                if best is None or cost < best[0] - 1e-6:
                    best = (cost, (left - x) * 72 / inch, dy - size.height * 36 / inch, box)
            if best is not None and best[0] < 1e-6:
                break
        assert best is not None
        _, dx, dy, box = best
        text.set_position((dx, dy))
        taken.append(box)
        if max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1) > 12 * inch / 72:
            end = (np.clip(x, box.x0, box.x1), np.clip(y, box.y0, box.y1))
            start = axis.transData.inverted().transform([(x, y), end])
            axis.plot(*start.T, color="#BBBBBB", lw=0.6, zorder=0.5, scalex=False, scaley=False)


def _shared(one: Bbox, other: Bbox) -> float:
    """The area of the intersection of two boxes."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)
