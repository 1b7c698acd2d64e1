"""Pairs whose tuned model also differs from its base outside the seven projections.

Head, embeddings, norms, biases and vocabulary are not measured. A cell has either the base's or
the tuned model's tensors there; its verification.json records which (`outside_is`), and the modules
that differ (`outside_tuned`).
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json

UNRECORDED = "not recorded"


@dataclass(frozen=True)
class OutsideChange:
    """What the tuned model of a pair changes outside the seven projections.

    Attributes:
        pair: the pair's name.
        modules: the modules that differ, sorted; empty if nothing differs.
        sides: kind of cell → `base` or `tuned`: whose tensors its cells have there; `UNRECORDED`
            if an older version evaluated them. Kinds without cells are left out.
    """

    pair: str
    modules: list[str]
    sides: dict[str, str]

    @property
    def unrecorded(self) -> bool:
        """Whether some cells have no record, because an older version evaluated them."""
        return UNRECORDED in self.sides.values()


def outside_changes(
    results: Path, pairs: Collection[str], cells: Container[str] | None = None
) -> list[OutsideChange]:
    """The changes of every pair that has cells, in the order of `pairs`.

    Args:
        results: the folder of an experiment's results.
        cells: ids of the cells that count; all by default.

    Raises:
        InputError: a verification.json has another form.
    """
    found: dict[str, OutsideChange] = {}
    for path in sorted((results / "cells").rglob("verification.json")):
        cell = path.parent.relative_to(results / "cells").as_posix()
        pair, _, rest = cell.partition("/")
        kind = rest.partition("/")[0]
        if pair not in pairs or kind == "base" or not (cells is None or cell in cells):
            continue
        side, modules = _read(path)
        change = found.setdefault(pair, OutsideChange(pair, [], {}))
        if kind == "tune" and side == "tuned" and not modules:
            side = "base"  # outside its module set, a tune cell's own checkpoint is the base
        if change.sides.get(kind) != UNRECORDED:
            change.sides[kind] = side
        change.modules[:] = sorted({*change.modules, *modules})
    return [found[pair] for pair in pairs if pair in found]


def _read(path: Path) -> tuple[str, list[str]]:
    record = read_json(path)
    if isinstance(record, dict):
        side = record.get("outside_is", UNRECORDED)
        modules = record.get("outside_tuned", [])
        if side in ("base", "tuned", UNRECORDED) and isinstance(modules, list):
            return side, [str(name) for name in modules]
    raise InputError(
        "result.not-a-verification",
        f"{path}: not the record of a cell's evaluation; delete the file and run snakemake again",
        file=path,
    )
