"""The seven projections of a transformer layer, how figures draw them, and sets of them."""

from __future__ import annotations

from dataclasses import dataclass

from affectlocus.core.errors import InputError

ATTENTION = ("q", "k", "v", "o")
FFN = ("gate", "up", "down")
PROJECTIONS = ATTENTION + FFN
"""The seven names, in the order of every table and figure."""

ALL = "all"


@dataclass(frozen=True)
class Style:
    """How figures draw a projection.

    Attributes:
        colour: of areas, from the palette of Okabe and Ito, which colour-blind readers can
            distinguish.
        marker, dashes: of lines and points, as in matplotlib.
        hatch: of bars, as in matplotlib.
        line_colour: of lines, if `colour` is too faint for a line; empty: the same.
    """

    colour: str
    marker: str
    dashes: str
    hatch: str = ""
    line_colour: str = ""


STYLES = {
    "q": Style("#56B4E9", "v", "-"),
    "k": Style("#0072B2", "<", "--", hatch="///"),
    "v": Style("#CC79A7", "P", "-."),
    "o": Style("#F0E442", "X", ":", line_colour="#000000"),
    "gate": Style("#D55E00", "o", "-"),
    "up": Style("#009E73", "s", "--", hatch="\\\\\\"),
    "down": Style("#E69F00", "^", "-."),
}
"""The registry of styles: one entry for each of `PROJECTIONS`."""


@dataclass(frozen=True)
class Location:
    """The place of a projection's tensor in a model.

    Attributes:
        layer: counted from 0.
        projection: one of `PROJECTIONS`.
        parameter: `weight` or `bias`.
        expert: in a mixture of experts, the expert's number as text, or `shared`; None elsewhere.
    """

    layer: int
    projection: str
    parameter: str
    expert: str | None = None

    @property
    def order(self) -> tuple[int, int, str, int, str]:
        """The sort key of every table: layer, projection, parameter and expert."""
        expert = self.expert or ""
        number = int(expert) if expert.isdecimal() and len(expert) < 10 else -1
        return self.layer, PROJECTIONS.index(self.projection), self.parameter, number, expert


def parse_modules(text: str) -> tuple[str, ...]:
    """The projections of a module set such as `q+k+v+o+gate` or `all`, in canonical order.

    Raises:
        InputError: a projection is unknown or named twice, or the set is empty.
    """
    if text == ALL:
        return PROJECTIONS
    names = text.split("+")
    for name in names:
        if name not in PROJECTIONS:
            raise InputError(
                "modules.unknown-projection",
                f"unknown projection {name!r} in module set {text!r}; "
                f"expected {', '.join(PROJECTIONS)} joined by '+', or 'all'",
                found=name,
                modules=text,
                expected=PROJECTIONS,
            )
    if len(set(names)) != len(names):
        raise InputError(
            "modules.listed-twice",
            f"module set {text!r} names a projection twice; name each once",
            modules=text,
        )
    return tuple(name for name in PROJECTIONS if name in names)


def format_modules(projections: tuple[str, ...] | list[str]) -> str:
    """The canonical text of a set of projections; `all` for all seven."""
    ordered = [name for name in PROJECTIONS if name in projections]
    return ALL if len(ordered) == len(PROJECTIONS) else "+".join(ordered)
