"""Random places: the entries of the delta in a random mask, loaded into the base.

A random place is compared with a module set S. It is a mask over the entries of all tensors of the
seven projections that the tuning changed (`core.cells.PLACES`):

- `entries`: as many entries as S has;
- `change`: as much squared change as S has, up to one entry of each tensor.

The mask takes from each tensor the same share, of its entries or of its squared change, and which
entries these are is random. So it depends on the seed, the draw and the tensor's name, and neither
on the order of tensors nor on the machine. A masked entry has the bits of the tuned model, and any
other entry those of the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from affectlocus.checkpoints.architectures import Rows
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.stored import select_rows
from affectlocus.core.cells import ENTRIES, Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import Location, parse_modules

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ChangedTensor:
    """A tensor of the seven projections, or its rows of one projection, that the tuning changed.

    Attributes:
        entries: the number of its entries.
        square: the sum of the squares of its delta.
    """

    location: Location
    entries: int
    square: float


@dataclass(frozen=True)
class PlaceSize:
    """What a random place shares with its module set.

    Attributes:
        entries: of each tensor, how many are masked (kind `entries`).
        share_of_entries, share_of_change: of the module set, in the whole delta, 0 to 1.
    """

    entries: dict[Location, int]
    share_of_entries: float
    share_of_change: float


@cache
def changed_tensors(pair: Pair) -> dict[tuple[str, Rows | None], ChangedTensor]:
    """The tensors of the seven projections that differ from the base, by name and rows."""
    found = {}
    for location, (name, rows) in pair.projections.items():
        if not pair.adapted(name):
            continue
        delta = select_rows(pair.difference(name), rows)
        # A running sum has one order of summation on every machine.
        square = float(np.cumsum(np.square(delta, dtype=np.float64))[-1])
        if square > 0:
            found[name, rows] = ChangedTensor(location, delta.size, square)
    return found


@cache
def place_size(pair: Pair, modules: str) -> PlaceSize:
    """The size of the random places of a module set.

    Raises:
        InputError: the tuning changed nothing in the set, or nothing outside it.
    """
    tensors = list(changed_tensors(pair).values())
    wanted = parse_modules(modules)
    layers = 1 + max(location.layer for location in pair.base.projections)
    wanted.check_layers(layers, pair.base.path)
    inside = [t for t in tensors if wanted.contains(t.location.layer, t.location.projection)]
    if len(inside) in (0, len(tensors)):
        where = "inside" if not inside else "outside"
        raise InputError(
            "place.nothing-to-compare",
            f"{pair.tuned}: the tuning changed nothing {where} {modules}, so that a random place "
            "cannot be compared with it; choose a set that is a part of the change",
            file=pair.tuned,
            modules=modules,
        )
    total, chosen = (sum(t.entries for t in some) for some in (tensors, inside))
    # Largest remainders: whole numbers whose sum is exactly that of the set.
    counts = {t.location: t.entries * chosen // total for t in tensors}
    rest = sorted(tensors, key=lambda t: (-(t.entries * chosen % total), t.location.order))
    for tensor in rest[: chosen - sum(counts.values())]:
        counts[tensor.location] += 1
    squares = [sum(t.square for t in some) for some in (tensors, inside)]
    return PlaceSize(counts, chosen / total, squares[1] / squares[0])


def place_mask(
    pair: Pair, name: str, cell: Cell, rows: Rows | None, random: torch.Generator
) -> np.ndarray:
    """Which entries of a tensor, or of some of its rows, are in a cell's random place.

    Args:
        cell: a load cell of a mode in `core.cells.PLACES`.
        random: the random numbers of the cell and the tensor.

    Returns:
        Booleans in the shape of the tensor.
    """
    import torch

    delta = select_rows(pair.difference(name), rows)
    mask = np.zeros(delta.size, bool)
    tensor = changed_tensors(pair).get((name, rows))
    if tensor is None:
        return mask.reshape(delta.shape)
    size = place_size(pair, cell.modules)
    # Both kinds take their entries in one random order.
    order = torch.randperm(delta.size, generator=random).numpy()
    if cell.mode == ENTRIES:
        count = size.entries[tensor.location]
    else:
        sums = np.cumsum(np.square(delta.reshape(-1)[order], dtype=np.float64))
        target = size.share_of_change * tensor.square
        count = int(np.searchsorted(sums, target))
        # The nearer of the two counts between which the target lies.
        below = sums[count - 1] if count else 0.0
        if count < delta.size and sums[count] - target <= target - below:
            count += 1
    mask[order[:count]] = True
    return mask.reshape(delta.shape)
