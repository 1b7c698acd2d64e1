"""A cell: one model under evaluation, and its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from affectlocus.errors import InputError
from affectlocus.projections import parse_modules

Kind = Literal["base", "tuned", "load", "tune", "ablate"]


@dataclass(frozen=True)
class Cell:
    """One model under evaluation.

    `pair` is None for a base. `modules` is empty for `base` and `tuned`, `mode` for all but
    `ablate`, `seed` where nothing is drawn.
    """

    kind: Kind
    base: str
    pair: str | None = None
    modules: str = ""
    mode: str = ""
    seed: int | None = None

    @property
    def id(self) -> str:
        """The cell's folder below results/cells, readable and unique."""
        parts = [self.pair or self.base, self.kind, self.modules, self.mode]
        if self.seed is not None:
            parts.append(f"seed{self.seed}")
        return "/".join(part for part in parts if part)

    @property
    def tuned(self) -> str | None:
        """Name of the tuned checkpoint that the cell needs; None for a base."""
        if self.kind == "tune":
            return f"{self.pair}.tune.{self.modules}.seed{self.seed}"
        return self.pair


_KINDS = ("base", "tuned", "load", "tune", "ablate")
_MODES = ("revert", "zero", "shuffle", "noise")
_SEED = re.compile(r"seed(\d+)")


def checked(cell: Cell) -> Cell:
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
    if (cell.kind == "ablate") != (cell.mode in _MODES):
        raise InputError(
            f"cell: kind {cell.kind!r} with mode {cell.mode!r}; "
            f"an ablation has one of {', '.join(_MODES)}, other cells none"
        )
    return cell


def cell_at(folder: Path, base: str) -> Cell:
    """The cell whose folder this is: `Cell.id` read backwards.

    Args:
        base: name of the cell's base.

    Raises:
        InputError: the folder's path is no cell's id.
    """
    parts = list(folder.parts)
    expected = "NAME/base, PAIR/tuned, PAIR/load/MODULES, PAIR/tune/MODULES/seedN or "
    expected += "PAIR/ablate/MODULES/MODE[/seedN]"
    found: dict[str, Any] = {"modules": "", "mode": "", "seed": None}
    if parts and parts[-1] not in ("base", "tuned"):
        if seed := _SEED.fullmatch(parts[-1]):
            found["seed"] = int(seed[1])
            parts.pop()
        if parts and parts[-1] in _MODES:
            found["mode"] = parts.pop()
        if parts:
            found["modules"] = parts.pop()
    if len(parts) < 2 or parts[-1] not in _KINDS:
        raise InputError(f"{folder}: not a cell's folder; expected …/{expected}")
    *_, name, kind = parts
    if kind == "base" and name != base:
        raise InputError(f"{folder}: the cell's base is {name}, the base given {base}; give that")
    return checked(Cell(kind, base, None if kind == "base" else name, **found))  # type: ignore[arg-type]
