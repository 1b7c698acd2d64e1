"""Cells: a cell is one model under evaluation, and its id names its folder."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE, parse_modules

Kind = Literal["base", "tuned", "load", "tune", "ablate"]
BridgeState = Literal["tuned", "initial", "none"]
"""The bridge of a cell: as tuned, as drawn before the tuning, or none, so that it reads no media.
"""
BRIDGE_STATES: tuple[BridgeState, ...] = ("tuned", "initial", "none")
TUNED, INITIAL, NONE = BRIDGE_STATES
SHUFFLED = "shuffled"
"""A control of cells that read media: each sample gets the media of another sample."""
ZEROED = "zero-"
"""Start of a control of cells that read media: `zero-NAME` sets the features of medium NAME to 0.
"""


@dataclass(frozen=True)
class Cell:
    """One model under evaluation.

    Attributes:
        pair: None for a base.
        modules: the module set; empty for `base` and `tuned`.
        mode: set for `ablate`, optional for `load` and `tune`, empty for other kinds.
        seed: the seed of the tuning; of a base, its own seed. None if the checkpoint is not tuned
            here, or if one base serves every seed.
        draw: the number of the random draw on a checkpoint that is not tuned here. None otherwise:
            a checkpoint that is tuned here has one random draw for each seed.
        bridge: the state of the pair's bridge. Empty if the pair has none, and for a base, which
            reads no media.
        media: a control: `shuffled`, or `zero-NAME` with the name of a medium. Empty: the media as
            they are.
    """

    kind: Kind
    base: str
    pair: str | None = None
    modules: str = ""
    mode: str = ""
    seed: int | None = None
    draw: int | None = None
    bridge: BridgeState | Literal[""] = ""
    media: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields as a record; those of media are left out if the cell has no bridge."""
        values = asdict(self)
        if not self.bridge:
            del values["bridge"], values["media"]
        return values

    @property
    def variant(self) -> str:
        """The mode, and in words how the bridge and the media differ from the tuned model's.

        It is the column `mode` of scores and tables: `x0.5`, `initial bridge`, `shuffled media`.
        """
        words: dict[str, str] = {INITIAL: "initial bridge", NONE: "no media"}
        medium = self.media.removeprefix(ZEROED)
        media = f"zero {medium}" if medium != self.media else f"{self.media} media"
        parts = [self.mode, words.get(self.bridge, ""), media if self.media else ""]
        return ", ".join(part for part in parts if part)

    @property
    def random_seed(self) -> int:
        """The seed of the random numbers of an intervention: the draw, or else the seed, or 0."""
        return self.seed or 0 if self.draw is None else self.draw

    @property
    def replicate(self) -> int | tuple[str, int] | None:
        """The seed or the draw, by which the cells of one `condition` differ."""
        return self.seed if self.draw is None else ("draw", self.draw)

    @property
    def condition(self) -> Cell:
        """The cell without seed and draw, which is the same for all its replicates."""
        return replace(self, seed=None, draw=None)

    @property
    def id(self) -> str:
        """The cell's folder below results/cells; unique."""
        parts = [self.pair or self.base, self.kind, self.modules, self.mode]
        if self.bridge not in ("", TUNED):
            parts.append(f"{BRIDGE}-{self.bridge}")
        parts.append(self.media)
        if self.seed is not None:
            parts.append(f"seed{self.seed}")
        if self.draw is not None:
            parts.append(f"draw{self.draw}")
        return "/".join(part for part in parts if part)


def replicate_name(name: str, seed: int | None) -> str:
    """The name of a checkpoint's replicate: NAME.seedN, or NAME if it has no seed."""
    return name if seed is None else f"{name}.seed{seed}"


def tune_checkpoint(cell: Cell) -> str:
    """The name of the checkpoint of a tune cell."""
    parts = [cell.pair, "tune", cell.modules, cell.mode]
    return replicate_name(".".join(part for part in parts if part), cell.seed)


_KINDS = ("base", "tuned", "load", "tune", "ablate")
EVEN = "even"
"""A mode of load cells: noise of one size in every weight, in place of the delta."""
FAIR = "fair"
"""A mode of tune cells: the rank is chosen so that as many parameters are trained as for all seven.
"""
ENTRIES, CHANGE = "entries", "change"
PLACES = {ENTRIES: "as many entries", CHANGE: "as much squared change"}
"""Modes of load cells: a random place in the whole delta, with as much of it as the module set has.

The values are labels. Such cells are not in the matrix: step `places` evaluates many draws at once.
"""
_DOSE = re.compile(r"x(\d+(?:\.\d+)?)")
RANDOM = (*(name for name, one in ABLATIONS.items() if one.random), EVEN, *PLACES)
"""The modes that use random numbers."""


def validated(cell: Cell) -> Cell:
    """Returns the cell if its fields fit together.

    Raises:
        InputError: the kind is unknown, or modules, mode, seed, draw, bridge or media do not fit
            the kind.
    """
    if cell.kind not in _KINDS:
        raise InputError(
            "cell.unknown-kind",
            f"cell: unknown kind {cell.kind!r}; expected {', '.join(_KINDS)}",
            found=cell.kind,
            expected=list(_KINDS),
        )
    if (cell.kind in ("load", "tune", "ablate")) != bool(cell.modules):
        expected = "no modules" if cell.modules else "a module set such as gate or all"
        raise InputError(
            "cell.wrong-modules",
            f"cell: kind {cell.kind!r} with modules {cell.modules!r}; expected {expected}",
            kind=cell.kind,
            found=cell.modules,
        )
    if cell.modules:
        parse_modules(cell.modules)
    if not _fits(cell):
        raise InputError(
            "cell.wrong-mode",
            f"cell: kind {cell.kind!r} with mode {cell.mode!r}; expected one of "
            f"{', '.join(ABLATIONS)} for ablate; none, {EVEN}, {', '.join(PLACES)} or a dose such "
            f"as x0.5 for load; none or {FAIR} for tune; none for other kinds",
            kind=cell.kind,
            found=cell.mode,
        )
    if problem := _media_problem(cell):
        raise InputError(
            "cell.wrong-bridge",
            f"cell {cell.id}: {problem}",
            cell=cell.id,
            bridge=cell.bridge,
            media=cell.media,
        )
    # A random place has draws in addition to the seed of its checkpoint.
    drawn = cell.mode in RANDOM and (cell.seed is None or cell.mode in PLACES)
    if cell.draw is not None and not drawn:
        raise InputError(
            "cell.unused-draw",
            f"cell {cell.id}: only cells of the modes {', '.join(RANDOM)} without a seed have "
            f"draws; remove draw{cell.draw}",
            cell=cell.id,
            found=cell.draw,
        )
    return cell


def _fits(cell: Cell) -> bool:
    if cell.kind == "ablate":
        return cell.mode in ABLATIONS
    if cell.kind == "load":
        return cell.mode in ("", EVEN, *PLACES) or dose(cell) is not None
    if cell.kind == "tune":
        return cell.mode in ("", FAIR)
    return cell.mode == ""


def _media_problem(cell: Cell) -> str:
    """What is wrong with a cell's bridge and media; an empty string if nothing is."""
    if cell.bridge not in ("", *BRIDGE_STATES):
        return f"bridge {cell.bridge!r}; expected {', '.join(BRIDGE_STATES)}, or none of them"
    if cell.kind == "base" and cell.bridge:
        return (
            f"bridge {cell.bridge!r} for a base; expected no bridge: base and bridge together are "
            f"a load cell of the module set {BRIDGE}"
        )
    if cell.modules == BRIDGE and (cell.bridge in ("", NONE)):
        return f"module set {BRIDGE} with bridge {cell.bridge!r}; expected tuned or initial"
    if cell.kind in ("tune", "ablate") and cell.bridge not in ("", TUNED):
        return f"bridge {cell.bridge!r} for kind {cell.kind!r}; expected {TUNED}"
    if cell.media and not (cell.media == SHUFFLED or cell.media[len(ZEROED) :]):
        return f"media {cell.media!r}; expected {SHUFFLED} or {ZEROED}NAME"
    if cell.media and cell.bridge not in (TUNED, INITIAL):
        return f"media {cell.media!r} without a bridge; remove media, or set bridge to tuned"
    return ""


def dose(cell: Cell) -> float | None:
    """The factor by which a load cell scales the delta; None if its mode is not a dose."""
    found = _DOSE.fullmatch(cell.mode)
    return float(found[1]) if found else None
