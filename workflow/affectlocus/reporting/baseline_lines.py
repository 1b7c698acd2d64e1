"""Baselines that ignore the text, drawn as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import pandas as pd

Style = Literal["dotted", "solid", "dashed", "dashdot"] | tuple[int, tuple[float, ...]]
_LINES: dict[str, tuple[str, Style]] = {
    "majority": ("majority answer", "dashed"),
    "uniform": ("uniform guess", "dashdot"),
}
"""Baseline → its label and line style."""


def baseline_lines(
    baselines: pd.DataFrame | None, metric: str, tasks: Sequence[str]
) -> Iterator[tuple[str, Style, pd.Series]]:
    """Label, line style and scores (a row per task) of each baseline that has scores.

    Args:
        baselines: the companion of a table; None: no line.
    """
    if baselines is None:
        return
    known = baselines[(baselines["metric"] == metric) & baselines["task"].isin(tasks)]
    for name, (label, style) in _LINES.items():
        rows = known[known["baseline"] == name]
        if not rows.empty:
            yield label, style, rows.set_index("task")["value"].loc[list(tasks)]
