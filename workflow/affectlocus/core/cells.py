"""A cell: one model under evaluation, and its name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from affectlocus.core.errors import InputError
from affectlocus.core.projections import parse_modules

Kind = Literal["base", "tuned", "load", "tune", "ablate"]


@dataclass(frozen=True)
class Cell:
    """One model under evaluation.

    `pair` is None for a base. `modules` is empty for `base` and `tuned`, `mode` for all but
    `ablate` and some of `load` and `tune`. `seed` is that of the tuning; None without one. `draw`
    counts the random interventions on one checkpoint that was brought; None elsewhere: what is
    tuned here has one random intervention for each seed.
    """

    kind: Kind
    base: str
    pair: str | None = None
    modules: str = ""
    mode: str = ""
    seed: int | None = None
    draw: int | None = None

    @property
    def random_seed(self) -> int:
        """What the random numbers of an intervention are seeded by."""
        return self.seed or 0 if self.draw is None else self.draw

    @property
    def replicate(self) -> int | tuple[str, int] | None:
        """What replicate of its `condition` the cell is: its seed, or a draw."""
        return self.seed if self.draw is None else ("draw", self.draw)

    @property
    def condition(self) -> Cell:
        """The cell without seed and draw: what its replicates share."""
        return replace(self, seed=None, draw=None)

    @property
    def id(self) -> str:
        """The cell's folder below results/cells, readable and unique."""
        parts = [self.pair or self.base, self.kind, self.modules, self.mode]
        if self.seed is not None:
            parts.append(f"seed{self.seed}")
        if self.draw is not None:
            parts.append(f"draw{self.draw}")
        return "/".join(part for part in parts if part)


def tune_checkpoint(cell: Cell) -> str:
    """The name of a tune cell's own checkpoint."""
    parts = [cell.pair, "tune", cell.modules, cell.mode, f"seed{cell.seed}"]
    return ".".join(part for part in parts if part)


_KINDS = ("base", "tuned", "load", "tune", "ablate")
_MODES = ("revert", "zero", "shuffle", "noise")
EVEN = "even"
"""A load cell's mode: noise of one size in every weight, instead of the delta."""
FAIR = "fair"
"""A tune cell's mode: as many trained parameters as all seven modules have, by its rank."""
_DOSE = re.compile(r"x(\d+(?:\.\d+)?)")
RANDOM = ("shuffle", "noise", EVEN)
"""The modes that draw random numbers."""
_REPLICATE = re.compile(r"(seed|draw)(\d+)")


def validated(cell: Cell) -> Cell:
    """The cell itself.

    Raises:
        InputError: an unknown kind, or one whose modules or mode do not fit.
    """
    if cell.kind not in _KINDS:
        raise InputError(f"cell: unknown kind {cell.kind!r}; expected {', '.join(_KINDS)}")
    if (cell.kind in ("load", "tune", "ablate")) != bool(cell.modules):
        raise InputError(f"cell: kind {cell.kind!r} with modules {cell.modules!r} makes no sense")
    if cell.modules:
        parse_modules(cell.modules)
    if not _fits(cell):
        raise InputError(
            f"cell: kind {cell.kind!r} with mode {cell.mode!r}; an ablation has one of "
            f"{', '.join(_MODES)}, a load none, {EVEN} or a dose such as x0.5, a tune none or "
            f"{FAIR}, other cells none"
        )
    if cell.draw is not None and (cell.mode not in RANDOM or cell.seed is not None):
        raise InputError(
            f"cell {cell.id}: a draw goes with {', '.join(RANDOM)}, and without a seed; "
            f"remove draw{cell.draw}"
        )
    return cell


def _fits(cell: Cell) -> bool:
    if cell.kind == "ablate":
        return cell.mode in _MODES
    if cell.kind == "load":
        return cell.mode in ("", EVEN) or dose(cell) is not None
    if cell.kind == "tune":
        return cell.mode in ("", FAIR)
    return cell.mode == ""


def dose(cell: Cell) -> float | None:
    """How many times the delta a load cell holds, if its mode says so."""
    found = _DOSE.fullmatch(cell.mode)
    return float(found[1]) if found else None


def cell_at(folder: Path, base: str) -> Cell:
    """The cell whose folder this is: `Cell.id` read backwards.

    Args:
        base: name of the cell's base.

    Raises:
        InputError: the folder's path is no cell's id.
    """
    parts = list(folder.parts)
    expected = "NAME/base, PAIR/tuned, PAIR/load/MODULES[/MODE], PAIR/tune/MODULES[/fair] or "
    expected += "PAIR/ablate/MODULES/MODE, then /seedN for a tuning's seed or /drawN for a random "
    expected += "draw"
    found: dict[str, Any] = {"modules": "", "mode": ""}
    if len(parts) > 2 and (replicate := _REPLICATE.fullmatch(parts[-1])):
        found[replicate[1]] = int(replicate[2])
        parts.pop()
    if parts and parts[-1] not in ("base", "tuned"):
        if parts[-1] in (*_MODES, EVEN, FAIR) or _DOSE.fullmatch(parts[-1]):
            found["mode"] = parts.pop()
        if parts:
            found["modules"] = parts.pop()
    if len(parts) < 2 or parts[-1] not in _KINDS:
        raise InputError(f"{folder}: not a cell's folder; expected …/{expected}")
    *_, name, kind = parts
    if kind == "base" and name != base:
        raise InputError(f"{folder}: the cell's base is {name}, the base given {base}; give that")
    return validated(Cell(kind, base, None if kind == "base" else name, **found))  # type: ignore[arg-type]
