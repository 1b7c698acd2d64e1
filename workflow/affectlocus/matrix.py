"""The matrix: which cells an experiment has, and which of them make a table."""

from __future__ import annotations

from collections.abc import Iterator

from affectlocus.cells import EVEN, Cell, Kind
from affectlocus.parameters import Parameters
from affectlocus.projections import ALL, PROJECTIONS

# Putting back the base's weights, or zeros, draws no random number.
_DETERMINISTIC = ("revert", "zero")


def all_cells(parameters: Parameters) -> list[Cell]:
    """Every cell of the experiment, in the order of the tables.

    What is tuned here is tuned once for each seed, and every cell that is made from it with it. A
    checkpoint that was brought is there once: seeds are then those of random ablations alone.
    """
    return list(_cells(parameters))


def seeds_of(parameters: Parameters, pair: str) -> list[int | None]:
    """The seeds that a pair's tuned checkpoint was made with; [None] for one that was brought."""
    return [None] if parameters.pairs[pair].tuning is None else list(parameters.seeds)


def _cells(parameters: Parameters) -> Iterator[Cell]:
    for base in dict.fromkeys(pair.base for pair in parameters.pairs.values()):
        yield Cell("base", base)
    for name, pair in parameters.pairs.items():
        for seed in seeds_of(parameters, name):
            yield Cell("tuned", pair.base, name, seed=seed)
    for name in parameters.matrix.beside:
        for modules in PROJECTIONS:
            for seed in seeds_of(parameters, name):
                yield Cell("load", parameters.pairs[name].base, name, modules, seed=seed)
    for name in parameters.matrix.pairs:
        base = parameters.pairs[name].base
        own = seeds_of(parameters, name)
        for modules in parameters.matrix.load:
            for seed in own:
                yield Cell("load", base, name, modules, seed=seed)
        for modules in parameters.matrix.dose.modules:
            for times in parameters.matrix.dose.times:
                for seed in own:
                    yield Cell("load", base, name, modules, f"x{times:g}", seed)
        for modules in parameters.matrix.even:
            for seed in own if own != [None] else parameters.seeds:
                yield Cell("load", base, name, modules, EVEN, seed)
        for modules in parameters.matrix.tune:
            for seed in parameters.seeds:
                yield Cell("tune", base, name, modules, seed=seed)
        for modules in parameters.matrix.ablate:
            for mode in parameters.matrix.modes:
                drawn = own if mode in _DETERMINISTIC or own != [None] else parameters.seeds
                for seed in drawn:
                    yield Cell("ablate", base, name, modules, mode, seed)


def table_cells(cells: list[Cell], pair: str, kind: Kind) -> list[Cell]:
    """The rows of one table, in order: the base, the cells of `kind`, the whole affective model.

    The whole model is the pair's tuned checkpoint, where `load all` would only repeat it; in the
    tune table it is the base tuned on all seven by the table's own recipe, where there is one.
    """
    tuned = [cell for cell in cells if cell.pair == pair and cell.kind == "tuned"]
    base = next(cell for cell in cells if cell.kind == "base" and cell.base == tuned[0].base)
    rows = [cell for cell in cells if cell.pair == pair and cell.kind == kind]
    if kind == "load":
        rows = [cell for cell in rows if cell.mode == ""]
    if kind == "ablate":
        return [base, *rows, *tuned]
    parts = [cell for cell in rows if cell.modules != ALL]
    whole = [cell for cell in rows if cell.modules == ALL] if kind == "tune" else []
    return [base, *parts, *(whole or tuned)]
