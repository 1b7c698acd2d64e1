"""A table of numbers as coloured cells, with a colour bar."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

_BRIGHT = 0.408  # relative luminance (WCAG 2), above which dark text reads better


def coloured_cells(
    axis: Axes,
    grid: pd.DataFrame,
    palette: str,
    low: float,
    high: float | None = None,
    numbers: str | None = None,
    bar: bool = True,
) -> None:
    """Draws a cell for each entry, the first row at the top; cells without a value stay white.

    Args:
        grid: (rows, columns) floats; its index and columns label the ticks.
        low, high: the values at the palette's two ends; by default `high` is the largest value.
        numbers: format of the number in each cell, such as `.2g`; None writes none.
        bar: whether a colour bar is drawn.
    """
    values = np.ma.masked_invalid(grid.to_numpy(dtype=float))
    rows, columns = values.shape
    high = float(values.max()) if high is None and values.count() else high
    axis.spines[:].set_visible(False)
    mesh = axis.pcolormesh(
        values, cmap=palette, vmin=low, vmax=high, linewidths=0.5, edgecolors="white"
    )
    axis.set(xlim=(0, columns), ylim=(rows, 0))
    if bar:
        axis.figure.colorbar(mesh, ax=axis).outline.set_linewidth(0)
    for ticks, labels, size in (
        (axis.set_xticks, grid.columns, axis.bbox.width),
        (axis.set_yticks, grid.index, axis.bbox.height),
    ):
        letter = mpl.rcParams["font.size"] / 72 * axis.figure.dpi
        every = max(1, len(labels) // max(1, int(size // letter)) + 1)
        ticks(np.arange(0, len(labels), every) + 0.5, [str(one) for one in labels[::every]])
    if numbers is None:
        return
    mesh.update_scalarmappable()
    for place, colour in enumerate(np.asarray(mesh.get_facecolor())):
        row, column = divmod(place, columns)
        if values[row, column] is not np.ma.masked:
            axis.text(
                column + 0.5,
                row + 0.5,
                format(values[row, column], numbers),
                color=".15" if _luminance(colour) > _BRIGHT else "white",
                ha="center",
                va="center",
                size=7,
            )


def _luminance(colour: np.ndarray) -> float:
    """Relative luminance of an RGB colour, by WCAG 2."""
    rgb = np.asarray(colour[:3])
    linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
