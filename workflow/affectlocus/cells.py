"""The matrix: which models are evaluated, and the name of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from affectlocus.errors import InputError
from affectlocus.parameters import Parameters
from affectlocus.projections import ALL, parse_modules

Kind = Literal["base", "tuned", "load", "tune", "ablate"]

# Putting back the base's weights, or zeros, draws no random number: one cell serves every seed.
_DETERMINISTIC = ("revert", "zero")


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


def matrix(parameters: Parameters) -> list[Cell]:
    """Every cell of the experiment, in the order of the tables."""
    return list(_cells(parameters))


def _cells(parameters: Parameters) -> Iterator[Cell]:
    for base in dict.fromkeys(pair.base for pair in parameters.pairs.values()):
        yield Cell("base", base)
    for name, pair in parameters.pairs.items():
        yield Cell("tuned", pair.base, name)
    for name in parameters.matrix.pairs:
        base = parameters.pairs[name].base
        for modules in parameters.matrix.load:
            yield Cell("load", base, name, modules)
        for modules in parameters.matrix.tune:
            for seed in parameters.matrix.seeds:
                yield Cell("tune", base, name, modules, seed=seed)
        for modules in parameters.matrix.ablate:
            for mode in parameters.matrix.modes:
                if mode in _DETERMINISTIC:
                    yield Cell("ablate", base, name, modules, mode)
                else:
                    for seed in parameters.matrix.seeds:
                        yield Cell("ablate", base, name, modules, mode, seed)


def arm(cells: list[Cell], pair: str, kind: Kind) -> list[Cell]:
    """The rows of one table, in order: the base, the cells of `kind`, the whole affective model.

    The whole model is the pair's tuned checkpoint, where `load all` would only repeat it; in the
    tune table it is the base tuned on all seven by the table's own recipe, where there is one.
    """
    tuned = next(cell for cell in cells if cell.pair == pair and cell.kind == "tuned")
    base = next(cell for cell in cells if cell.kind == "base" and cell.base == tuned.base)
    rows = [cell for cell in cells if cell.pair == pair and cell.kind == kind]
    if kind == "ablate":
        return [base, *rows, tuned]
    parts = [cell for cell in rows if cell.modules != ALL]
    whole = [cell for cell in rows if cell.modules == ALL] if kind == "tune" else []
    return [base, *parts, *(whole or [tuned])]


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
            f"--cell: {error}; expected JSON with kind, base, pair, modules, mode, seed"
        ) from None
    if cell.kind not in _KINDS:
        raise InputError(f"--cell: unknown kind {cell.kind!r}; expected {', '.join(_KINDS)}")
    if (cell.kind in ("load", "tune", "ablate")) != bool(cell.modules):
        raise InputError(f"--cell: kind {cell.kind!r} with modules {cell.modules!r} makes no sense")
    if cell.modules:
        parse_modules(cell.modules)
    if (cell.kind == "ablate") != (cell.mode in _MODES):
        raise InputError(
            f"--cell: kind {cell.kind!r} with mode {cell.mode!r}; "
            f"an ablation has one of {', '.join(_MODES)}, other cells none"
        )
    return cell
