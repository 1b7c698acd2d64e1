"""The seven projections of a transformer layer, how figures draw them, and sets of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from affectlocus.core.errors import InputError, nearest

ATTENTION = ("q", "k", "v", "o")
FFN = ("gate", "up", "down")
PROJECTIONS = ATTENTION + FFN
"""The seven names, in the order of every table and figure."""

ALL = "all"

BRIDGE = "bridge"
"""The module set of no projection: a cell of it changes or trains the bridge alone."""


@dataclass(frozen=True)
class Style:
    """How figures draw a projection.

    Attributes:
        colour: of areas, lines and points, from the palette of Okabe and Ito, which colour-blind
            readers can distinguish. Its yellow is left out: a line in it is hardly visible.
        marker, dashes: of lines and points, as in matplotlib.
        hatch: of bars, as in matplotlib.
    """

    colour: str
    marker: str
    dashes: str
    hatch: str = ""


STYLES = {
    "q": Style("#56B4E9", "v", "-"),
    "k": Style("#0072B2", "<", "--", hatch="///"),
    "v": Style("#CC79A7", "P", "-."),
    "o": Style("#000000", "X", ":"),
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


def in_band(modules: str) -> bool:
    """Whether a module set is one projection in some layers, as `gate@0-9` is."""
    found = parse_modules(modules)
    return len(found.layers) == 1 and found.layers[0][1] is not None


Layers = tuple[int, ...] | None
"""The layers of a projection in a module set, sorted; None for every layer of the model."""


@dataclass(frozen=True)
class ModuleSet:
    """A set of projections, each in all layers of a model or in some.

    Its text is canonical: `str(parse_modules(text))` is the same for all texts of one set.

    Attributes:
        layers: projection → its layers, in the order of `PROJECTIONS`.
    """

    layers: tuple[tuple[str, Layers], ...]

    @classmethod
    def of(cls, projections: Iterable[str], layers: Iterable[int] | None = None) -> Self:
        """The set of these projections, in all layers or in the given ones."""
        names = set(projections)
        chosen = None if layers is None else tuple(sorted(set(layers)))
        return cls(tuple((name, chosen) for name in PROJECTIONS if name in names))

    @property
    def projections(self) -> tuple[str, ...]:
        """The projections, in canonical order."""
        return tuple(name for name, _ in self.layers)

    def contains(self, layer: int, projection: str) -> bool:
        """Whether a projection of a layer is in the set."""
        return any(
            name == projection and (layers is None or layer in layers)
            for name, layers in self.layers
        )

    def counts(self, layers: int) -> dict[str, int]:
        """Projection → the number of its layers, in a model of `layers` layers."""
        return {name: layers if chosen is None else len(chosen) for name, chosen in self.layers}

    def check_layers(self, layers: int, model: object) -> None:
        """Refuses a layer that a model does not have.

        Args:
            layers: the number of layers of the model.
            model: how the message names it.

        Raises:
            InputError: the set names a layer beyond the last one.
        """
        named = [number for _, chosen in self.layers for number in chosen or ()]
        if named and max(named) >= layers:
            raise InputError(
                "modules.no-such-layer",
                f"{model}: module set {str(self)!r} names layer {max(named)}; the model has "
                f"{layers} layers, 0 to {layers - 1}: name layers up to {layers - 1}",
                modules=str(self),
                found=max(named),
                expected=layers,
            )

    def __str__(self) -> str:
        """The canonical text: `all`, `q+k`, `gate@0-9`, `q+gate@0-3,8`, `all@4-7`, `bridge`."""
        if not self.layers:
            return BRIDGE
        if len({chosen for _, chosen in self.layers}) == 1 and len(self.layers) == len(PROJECTIONS):
            return _term(ALL, self.layers[0][1])
        return "+".join(_term(name, chosen) for name, chosen in self.layers)


def _term(name: str, layers: Layers) -> str:
    return name if layers is None else f"{name}@{layers_text(layers)}"


def layers_text(layers: Iterable[int]) -> str:
    """Sorted layers as text, with runs as ranges: `0-3,8`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


_LONGEST = 120
"""Characters of a module set: it is part of file names, which have 255 at most."""
_LAST_LAYER = 9999
_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


def parse_layers(text: str) -> tuple[int, ...]:
    """The layers in a text such as `3`, `0-9` or `0-3,8`, sorted.

    Raises:
        InputError: not such a text, or a layer is named twice.
    """
    layers: list[int] = []
    for part in text.split(","):
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise InputError(
                "modules.bad-layers",
                f"layers {text!r}: found {part!r}; expected a number such as 3, or a range from a "
                f"lower to a higher number such as 0-9, up to {_LAST_LAYER}, joined by ','",
                found=part,
                layers=text,
            )
        layers += range(first, last + 1)
    if len(set(layers)) != len(layers):
        raise InputError(
            "modules.layer-listed-twice",
            f"layers {text!r} name a layer twice; name each once",
            layers=text,
        )
    return tuple(sorted(layers))


def parse_modules(text: str) -> ModuleSet:
    """The module set of a text: terms joined by `+`.

    A term is a projection, or `all` for the seven; `@` limits it to some layers, counted from 0:
    `q+k+v+o+gate`, `all`, `gate@0-9`, `down@3`, `q@0-3,8+all@4`. `q_proj` means `q`. `bridge` alone
    is the set of no projection.

    Raises:
        InputError: an unknown projection, an unreadable layer, a projection of a layer that is
            named twice, an empty set, or a text that is too long for a file name.
    """
    if text == BRIDGE:
        return ModuleSet(())
    chosen: dict[str, list[Layers]] = {}
    for term in text.split("+"):
        name, at, numbers = term.partition("@")
        if name.removesuffix("_proj") in PROJECTIONS:
            name = name.removesuffix("_proj")
        if name not in PROJECTIONS and (name != ALL or ("+" in text and not at)):
            raise InputError(
                "modules.unknown-projection",
                f"unknown projection {name!r} in module set {text!r}; {_meant(name)}"
                f"expected {', '.join(PROJECTIONS)} joined by '+', or 'all'",
                found=name,
                modules=text,
                expected=PROJECTIONS,
            )
        try:
            layers = parse_layers(numbers) if at else None
        except InputError as error:
            raise error.within(f"module set {text!r}", modules=text) from None
        for each in PROJECTIONS if name == ALL else (name,):
            chosen.setdefault(each, []).append(layers)
    found = ModuleSet(
        tuple((name, _joined(text, name, chosen[name])) for name in PROJECTIONS if name in chosen)
    )
    if len(str(found)) > _LONGEST:
        raise InputError(
            "modules.too-long",
            f"module set {str(found)!r} has {len(str(found))} characters; expected {_LONGEST} at "
            "most, because file names contain it: use fewer, longer ranges of layers",
            modules=text,
            found=len(str(found)),
            expected=_LONGEST,
        )
    return found


def _meant(name: str) -> str:
    near = nearest(name.removesuffix("_proj"), (*PROJECTIONS, ALL))
    return f"{near}? " if near else ""


def _joined(text: str, name: str, terms: list[Layers]) -> Layers:
    """The layers of all terms of a projection."""
    if len(terms) == 1:
        return terms[0]
    layers = [layer for term in terms for layer in term or ()]
    if None in terms or len(set(layers)) != len(layers):
        raise InputError(
            "modules.listed-twice",
            f"module set {text!r} names {name} twice"
            f"{' in one layer' if any(terms) else ''}; name each once",
            modules=text,
        )
    return tuple(sorted(layers))
