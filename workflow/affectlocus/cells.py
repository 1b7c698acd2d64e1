"""A cell: one model under evaluation, and its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

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


def read_cell(text: str) -> Cell:
    """A cell from JSON with the fields of `Cell`.

    Raises:
        InputError: not JSON, an unknown field, or a kind whose modules or mode do not fit.
    """
    try:
        cell = Cell(**json.loads(text))
    except (json.JSONDecodeError, TypeError) as error:
        raise InputError(
            f"cell: {error}; expected JSON with kind, base, pair, modules, mode, seed"
        ) from None
    if cell.kind not in _KINDS:
        raise InputError(f"cell: unknown kind {cell.kind!r}; expected {', '.join(_KINDS)}")
    if not isinstance(cell.modules, str):
        raise InputError(f"cell: modules is {cell.modules!r}; expected text such as gate or q+k")
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
