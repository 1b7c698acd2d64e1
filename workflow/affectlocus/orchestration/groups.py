"""Which cells a job answers together, so that what is added costs its own cells and no others.

What has an answer on disk and what has none never share a job: a cell that is added to the matrix
would otherwise take those that it falls among with it. Nothing that Snakemake remembers of a cell
tells with which others it was answered, so that answered cells can be put together anew whenever
they all have to run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from affectlocus.core.cells import Cell
from affectlocus.core.files import write_json

REMEMBERED = Path(".snakemake/affectlocus-groups.json")
_LOCKS = Path(".snakemake/locks")
WRITTEN = ("predictions.parquet", "verification.json")
"""What an answered cell's folder holds of its own job."""


def answered(cell: Cell) -> bool:
    """Whether a cell's answers are on disk, in the experiment's folder."""
    folder = Path("results/cells", cell.id)
    return all((folder / name).exists() for name in WRITTEN)


def grouped(
    kinds: Iterable[Sequence[Cell]], size: int, there: Callable[[Cell], bool] = answered
) -> list[list[Cell]]:
    """The cells that share a job, at least two and at most `size` of them.

    Args:
        kinds: lists of cells that one job can answer; none with inputs of its own.
        there: tells whether a cell has its answers already.
    """
    if size == 1:
        return []
    groups: list[list[Cell]] = []
    for cells in kinds:
        missing = [cell for cell in cells if not there(cell)]
        lacking = set(missing)
        # By place in the whole list: a job that was killed half-way moves no other.
        parts = [cells[start : start + size] for start in range(0, len(cells), size)]
        groups += [[cell for cell in part if cell not in lacking] for part in parts]
        groups += [missing[start : start + size] for start in range(0, len(missing), size)]
    return [list(group) for group in groups if len(group) > 1]


def remember(groups: Sequence[Sequence[Cell]]) -> None:
    """Writes down a run's groups for its jobs on other hosts, which see answers appear meanwhile.

    Another run that is at work in the folder keeps its own: Snakemake refuses this one.
    """
    locked = _LOCKS.is_dir() and any(_LOCKS.iterdir())
    if locked or not (groups or REMEMBERED.exists()):
        return
    write_json(REMEMBERED, [[cell.id for cell in group] for group in groups])


def remembered() -> list[list[str]] | None:
    """The cells, by their ids, that share jobs in the run that started this one; None of no run."""
    try:
        return json.loads(REMEMBERED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
