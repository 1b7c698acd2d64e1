"""Step `places`: the answers of a module set, and of random places that are as large as it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pandas as pd

from affectlocus.config.evaluation import Evaluate
from affectlocus.config.matrix import RandomPlaces
from affectlocus.core.cells import Cell
from affectlocus.core.projections import BRIDGE
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.predictions import Predictions

CELL_COLUMNS = ("kind", "modules", "mode", "draw")
"""The columns that tell the cells of a file apart."""


def place_cells(tuned: Cell, settings: RandomPlaces) -> Iterator[Cell]:
    """The cells of a checkpoint: base, tuned model, each set's load, and its random places.

    With a bridge, all have the tuned one, and the base is base and bridge: what the language model
    adds is compared.

    Args:
        tuned: the cell of the tuned checkpoint.
    """
    if tuned.bridge:
        yield replace(tuned, kind="load", modules=BRIDGE)
    else:
        yield Cell("base", tuned.base, seed=tuned.seed)
    yield tuned
    for modules in settings.modules:
        load = replace(tuned, kind="load", modules=modules)
        yield load
        for mode in settings.kinds:
            for draw in range(settings.draws):
                yield replace(load, mode=mode, draw=draw)


def answered(task: PreparedTask, evaluate: Evaluate) -> bool:
    """Whether the cells of random places answer a task: its answers are candidates."""
    return bool(task.labels) and evaluate.of(task.name) == "candidates"


def thinned(task: PreparedTask, count: int) -> PreparedTask:
    """The task with `count` of its test samples at most, evenly spaced in their order."""
    test = task.test
    few = min(count, len(test))
    places = [number * len(test) // few for number in range(few)]
    return PreparedTask(task.name, task.labels, test.iloc[places])


def joined(cells: Iterable[Predictions]) -> pd.DataFrame:
    """The predictions of several cells, with `CELL_COLUMNS` in front."""
    parts = []
    for one in cells:
        rows = one.rows
        for place, column in enumerate(CELL_COLUMNS):
            rows.insert(place, column, getattr(one.cell, column))
        parts.append(rows)
    frame = pd.concat(parts, ignore_index=True)
    return frame.astype({"draw": "Int64"})


def separated(rows: pd.DataFrame, labels: dict[str, list[str]]) -> Iterator[Predictions]:
    """The predictions of each cell in a file of step `places`."""
    for _, own in rows.groupby(list(CELL_COLUMNS), sort=False, dropna=False):
        kind, modules, mode, draw = own[list(CELL_COLUMNS)].iloc[0]
        number = None if pd.isna(draw) else int(draw)
        yield Predictions(Cell(kind, "", None, modules, mode, draw=number), labels, own)
