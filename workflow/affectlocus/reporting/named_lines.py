"""Lines with their names written next to their ends, without overlap."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from scipy.optimize import isotonic_regression

from affectlocus.reporting.figure_style import COLOURS, DASHES, MARKERS

OTHERS = ("#4D4D4D", "#767676", "#8C8C8C")
_SIZE = 8  # points, of the names at the lines' ends


@dataclass
class NamedLines:
    """The lines of one panel, with names after their ends, or before their starts if `first`."""

    axis: Axes
    first: bool = False
    names: list[Annotation] = field(default_factory=list)

    def add(self, name: str, x: np.ndarray, y: np.ndarray, band: np.ndarray | None = None) -> None:
        """Adds a line, its name, and its band if it has one: (2, points), low and high."""
        colour = COLOURS.get(name, OTHERS[len(self.names) % len(OTHERS)])
        dashes, marker = DASHES.get(name, "-"), MARKERS.get(name, "d")
        self.axis.plot(x, y, dashes, marker=marker, color=colour, lw=1.5, ms=4, label=name)
        if band is not None:
            self.axis.fill_between(x, *band, color=colour, alpha=0.15, lw=0)
        end, place = (0, 0.02) if self.first else (-1, 1.04)
        self.names.append(
            self.axis.annotate(
                name,
                (x[end], y[end]),
                (place, y[end]),
                textcoords=self.axis.get_yaxis_transform(),
                va="center",
                fontsize=_SIZE,
                arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8, "shrinkA": 1},
            )
        )

    def spread(self) -> None:
        """Moves the names apart, no further than necessary; call it after the layout."""
        if not self.names:
            return
        self.names.sort(key=lambda each: each.xy[1])
        low, high = self.axis.get_ylim()
        height = self.axis.get_window_extent().height / self.axis.figure.dpi * 72
        gap = 1.15 * _SIZE * (high - low) / height
        steps = gap * np.arange(len(self.names))
        wanted = np.array([each.xy[1] for each in self.names]) - steps
        # The nearest positions in order, each at least a gap above the one before.
        places = isotonic_regression(np.clip(wanted, low, max(low, high - steps[-1]))).x + steps
        for name, place in zip(self.names, places, strict=True):
            name.set_y(place)


def spread(figure: Figure, drawn: list[NamedLines]) -> None:
    """Computes the layout of the figure and moves the names of its lines apart."""
    figure.canvas.draw()
    for lines in drawn:
        lines.spread()
