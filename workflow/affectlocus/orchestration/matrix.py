"""The matrix: the cells of an experiment, and the cells of each table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, cast

from affectlocus.config.experiment import Parameters
from affectlocus.config.matrix import MEDIA_ARMS, Arm
from affectlocus.core.cells import (
    EVEN,
    FAIR,
    INITIAL,
    NONE,
    RANDOM,
    SHUFFLED,
    TUNED,
    ZEROED,
    BridgeState,
    Cell,
    Kind,
    dose,
)
from affectlocus.core.projections import ALL, BRIDGE, PROJECTIONS


def all_cells(parameters: Parameters) -> list[Cell]:
    """Every cell of the experiment, in the order of the tables.

    A checkpoint that the workflow tunes has one replicate for each seed, and so has every cell made
    from it. So has a base that is a model of its own for each seed. A brought checkpoint has one
    replicate, and each random intervention on it has `matrix.draws` replicates, whatever the seeds.
    """
    return [cell for cell in _cells(parameters) if _within_limit(parameters, cell)]


def _within_limit(parameters: Parameters, cell: Cell) -> bool:
    """False for a cell whose arm has fewer replicates than the experiment, and not this one."""
    arm = arm_of(cell)
    count = parameters.matrix.replicates.get(arm) if arm else None
    return count is None or cell.seed is None or cell.seed in parameters.seeds[:count]


def seeds_of(parameters: Parameters, pair: str) -> list[int | None]:
    """The seeds of a pair's tuned checkpoints; [None] for a brought checkpoint."""
    return [None] if parameters.pairs[pair].tuning is None else [*parameters.tuning_seeds(pair)]


def _replicates(parameters: Parameters, cell: Cell) -> Iterator[Cell]:
    """The replicates of a cell: one for each seed or random draw of its checkpoint."""
    assert cell.pair is not None
    own = seeds_of(parameters, cell.pair)
    if own == [None] and cell.mode in RANDOM:
        for draw in range(parameters.matrix.draws):
            yield replace(cell, draw=draw)
    else:
        for seed in own:
            yield replace(cell, seed=seed)


def _cells(parameters: Parameters) -> Iterator[Cell]:
    for base in dict.fromkeys(pair.base for pair in parameters.pairs.values()):
        for seed in parameters.base_seeds(base):
            yield Cell("base", base, seed=seed)
    for name in parameters.pairs:
        yield from _replicates(parameters, _cell(parameters, "tuned", name))
    for name in parameters.matrix.beside:
        yield from _bridge_alone(parameters, name)
        for modules in PROJECTIONS:
            yield from _replicates(parameters, _cell(parameters, "load", name, modules))
    for name in parameters.matrix.pairs:
        alone = [] if parameters.pairs[name].bridge is None else [BRIDGE]
        yield from _bridge_alone(parameters, name)
        for modules in parameters.matrix.sets("load"):
            yield from _replicates(parameters, _cell(parameters, "load", name, modules))
        if alone:
            yield from _media_cells(parameters, name)
        for modules in parameters.matrix.dose.modules:
            for times in parameters.matrix.dose.times:
                cell = _cell(parameters, "load", name, modules, f"x{times:g}")
                yield from _replicates(parameters, cell)
        for modules in parameters.matrix.even:
            yield from _replicates(parameters, _cell(parameters, "load", name, modules, EVEN))
        for mode, sets in (("", parameters.matrix.tune), (FAIR, parameters.matrix.fair)):
            for modules in [*(alone if sets and not mode else []), *sets]:
                for seed in parameters.tuning_seeds(name):
                    yield replace(_cell(parameters, "tune", name, modules, mode), seed=seed)
        for modules in [*(alone if parameters.matrix.ablate else []), *parameters.matrix.ablate]:
            for mode in parameters.matrix.modes:
                yield from _replicates(parameters, _cell(parameters, "ablate", name, modules, mode))


def _cell(parameters: Parameters, kind: Kind, pair: str, modules: str = "", mode: str = "") -> Cell:
    """A cell of a pair, with the tuned bridge if the pair has one."""
    source = parameters.pairs[pair]
    bridge: BridgeState | Literal[""] = "" if source.bridge is None else "tuned"
    return Cell(kind, source.base, pair, modules, mode, bridge=bridge)


def _bridge_alone(parameters: Parameters, pair: str) -> Iterator[Cell]:
    """Base and bridge, without a change of the language model: row 0 of tables of media."""
    if parameters.pairs[pair].bridge is not None:
        for state in parameters.matrix.bridge:
            if state != NONE:  # this is the base, which reads no media
                cell = replace(_cell(parameters, "load", pair, BRIDGE), bridge=state)
                yield from _replicates(parameters, cell)


def _media_cells(parameters: Parameters, pair: str) -> Iterator[Cell]:
    """The loads with another bridge than the tuned one, and the controls of media."""
    matrix = parameters.matrix
    for state in matrix.bridge:
        for modules in matrix.sets("load") if state != TUNED else ():
            cell = replace(_cell(parameters, "load", pair, modules), bridge=state)
            yield from _replicates(parameters, cell)
    bridge = parameters.bridges[str(parameters.pairs[pair].bridge)]
    changed = {
        "shuffled": [SHUFFLED],
        "zeroed": [f"{ZEROED}{medium}" for medium in bridge.media],
        "text": [],
    }
    tuned = _cell(parameters, "tuned", pair)
    for control in matrix.media_controls:
        for media in changed[control]:
            yield from _replicates(parameters, replace(tuned, media=media))
    if "text" in matrix.media_controls:
        yield from _replicates(parameters, replace(tuned, bridge="none"))


def arm_of(cell: Cell) -> Arm | None:
    """The arm of a cell; None for a base and for a tuned model with its media.

    Base and bridge alone are rows of the load table, whatever the bridge.
    """
    if cell.kind == "tuned" and (cell.media or cell.bridge == NONE):
        return "media"
    if cell.kind == "load" and cell.bridge in (INITIAL, NONE) and cell.modules != BRIDGE:
        return "load_initial" if cell.bridge == INITIAL else "load_none"
    if dose(cell) is not None:
        return "dose"
    if cell.mode == EVEN:
        return "even"
    if cell.mode == FAIR:
        return "fair"
    return None if cell.kind in ("base", "tuned") else cast(Arm, cell.kind)


def table_cells(cells: list[Cell], pair: str, arm: Arm) -> list[Cell]:
    """The rows of one table, in order: the base, the cells of an arm, the whole affective model.

    The last row is the pair's tuned checkpoint, because `load all` would only repeat it. In the
    tune table it is the base tuned on all seven projections with the table's own recipe, if there
    is such a cell. Rows of the bridge alone follow the base. An arm that has fewer replicates than
    the experiment is compared with the same replicates of the other rows.
    """
    seeds = {cell.seed for cell in cells if cell.pair == pair and arm_of(cell) == arm}
    if seeds:
        cells = [cell for cell in cells if cell.seed is None or cell.seed in seeds]
    tuned = [
        cell
        for cell in cells
        if cell.pair == pair and cell.kind == "tuned" and arm_of(cell) is None
    ]
    bases = [cell for cell in cells if cell.kind == "base" and cell.base == tuned[0].base]
    own = [cell for cell in cells if cell.pair == pair]
    rows = [cell for cell in own if arm_of(cell) == arm]
    if arm in (*MEDIA_ARMS, "even", "dose"):
        bases += [cell for cell in own if cell.kind == "load" and cell.modules == BRIDGE]
    if arm in ("ablate", "media"):
        return [*bases, *rows, *tuned]
    if arm == "dose":
        # Dose 1 is a load cell, and dose 0 is the base.
        scaled = {cell.modules for cell in rows}
        rows += [cell for cell in own if arm_of(cell) == "load" and cell.modules in scaled]
        return [*bases, *sorted(rows, key=lambda cell: _place(cell, rows)), *tuned]
    parts = [cell for cell in rows if cell.modules != ALL or arm in MEDIA_ARMS]
    tunes = [cell for cell in own if arm_of(cell) == "tune" and cell.modules == ALL]
    return [*bases, *parts, *((arm in ("tune", "fair") and tunes) or tuned)]


def _place(cell: Cell, cells: list[Cell]) -> tuple[int, float]:
    """A sorting key: by module set, then by dose."""
    sets = list(dict.fromkeys(other.modules for other in cells))
    times = dose(cell)
    return sets.index(cell.modules), 1.0 if times is None else times
