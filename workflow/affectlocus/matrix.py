"""The matrix: which cells an experiment has, and which of them make a table."""

from __future__ import annotations

from collections.abc import Iterator

from affectlocus.cells import Cell, Kind
from affectlocus.parameters import Parameters
from affectlocus.projections import ALL

# Putting back the base's weights, or zeros, draws no random number: one cell serves every seed.
_DETERMINISTIC = ("revert", "zero")


def all_cells(parameters: Parameters) -> list[Cell]:
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


def table_cells(cells: list[Cell], pair: str, kind: Kind) -> list[Cell]:
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
