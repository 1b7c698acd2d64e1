"""The weights of cells: base plus the delta of a module set, or tuned with a module set ablated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.architectures import Rows
from affectlocus.checkpoints.bridge_files import compare_bridges
from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.stored import (
    as_array,
    as_torch,
    conversion,
    rounded,
    same_bits,
    select_rows,
)
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.cells import EVEN, PLACES, Cell, dose
from affectlocus.core.checkpoint_files import whole_weights
from affectlocus.core.errors import InputError
from affectlocus.core.extras import needed
from affectlocus.core.projections import ALL, BRIDGE, parse_modules
from affectlocus.evaluation.random_places import place_mask

if TYPE_CHECKING:
    import torch

# Old LLaMA checkpoints store the rotary frequencies. Models compute them; training ignores them.
BUFFER = ".rotary_emb.inv_freq"


def generator(seed: int, name: str) -> torch.Generator:
    """A random generator that depends only on the seed and the tensor's name, not on the order.

    It is torch's, so a cell with random numbers is the same for every user.
    """
    needed("torch", "to draw random numbers (shuffle, noise, even), affectlocus")
    import torch

    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class TorchChanges:
    """Random changes with torch's random numbers (`core.ablations.RandomChanges`)."""

    def __init__(self, random: torch.Generator) -> None:
        self._random = random

    def shuffled(self, delta: np.ndarray) -> np.ndarray:
        """The delta's entries in a random order, float64: norm and histogram stay the same."""
        import torch

        order = torch.randperm(delta.size, generator=self._random).numpy()
        return delta.reshape(-1)[order].reshape(delta.shape)

    def noise_like(self, delta: np.ndarray) -> np.ndarray:
        """Gaussian noise with the Frobenius norm of the delta, float64."""
        import torch

        noise = torch.randn(delta.shape, generator=self._random, dtype=torch.float64)
        # Both norms are torch's, so that cells keep their bits.
        return (noise * (torch.from_numpy(delta).norm() / noise.norm())).numpy()


def ablated_tensor(
    pair: Pair, name: str, mode: str, seed: int, rows: Rows | None = None, key: str | None = None
) -> np.ndarray:
    """An ablated tensor, or some of its rows, in the dtype of its checkpoint.

    Args:
        mode: the name of an ablation (`core.ablations`).
        key: the random numbers depend on this and the seed; by default the tensor's name.
    """
    base, tuned = (select_rows(side, rows) for side in pair.stored_sides(name))
    if mode not in ABLATIONS:
        raise InputError(
            "cell.unknown-ablation",
            f"unknown ablation {mode!r}; expected one of {', '.join(ABLATIONS)}",
            found=mode,
            expected=list(ABLATIONS),
        )
    values = ABLATIONS[mode].apply(
        base,
        tuned,
        lambda: select_rows(pair.difference(name), rows),
        lambda: TorchChanges(generator(seed, key or name)),
    )
    return values if values is base else rounded(values, tuned.dtype)


def load_cell_tensor(
    pair: Pair, name: str, cell: Cell, rows: Rows | None = None, key: str | None = None
) -> np.ndarray:
    """A tensor of a load cell's module set, or some of its rows, in the tuned model's dtype.

    The cell's mode decides: the tuned tensor; its entries in a random place, and the base's
    elsewhere; the base plus a multiple of the delta; or the base plus noise. The noise has the root
    mean square of the whole delta in every weight, so its size is the same for every projection.
    """
    base, tuned = (select_rows(side, rows) for side in pair.stored_sides(name))
    if cell.mode == "":
        return tuned
    if cell.mode in PLACES:
        random = generator(cell.random_seed, f"place/{cell.seed}/{key or name}")
        return np.where(place_mask(pair, name, cell, rows, random), tuned, base)
    if cell.mode == EVEN:
        random = generator(cell.random_seed, f"even/{key or name}")
        import torch

        noise = torch.randn(base.shape, generator=random, dtype=torch.float64).numpy()
        return rounded(base.astype(np.float64) + noise * delta_rms(pair), tuned.dtype)
    times = dose(cell)
    assert times is not None
    change = times * select_rows(pair.difference(name), rows)
    return rounded(base.astype(np.float64) + change, tuned.dtype)


@cache
def delta_rms(pair: Pair) -> float:
    """Root mean square of a pair's delta over all weights of the seven projections."""
    total, entries = 0.0, 0
    for location, (name, rows) in pair.projections.items():
        if location.parameter == "weight":
            # torch sums it, because another order of summation would change existing results.
            delta = as_torch(select_rows(pair.difference(name), rows))
            total += float(delta.square().sum())
            entries += delta.numel()
    return (total / entries) ** 0.5


def projections_inside(pair: Pair, name: str, cell: Cell) -> list[tuple[str, Rows | None]]:
    """The projections in a tensor that the cell changes, with their rows.

    They are those of its module set; of a random place, all seven.
    """
    if not cell.modules:
        return []
    wanted = parse_modules(ALL if cell.mode in PLACES else cell.modules)
    return [
        (location.projection, rows)
        for location, rows in pair.base.located.get(name, ())
        if wanted.contains(location.layer, location.projection)
    ]


def check_layers(pair: Pair, cell: Cell) -> None:
    """Refuses a cell whose module set names a layer that the base does not have.

    Raises:
        InputError: the set names a layer beyond the base's last one.
    """
    if cell.modules:
        layers = 1 + max(location.layer for location in pair.base.projections)
        parse_modules(cell.modules).check_layers(layers, pair.base.path)


def may_differ(pair: Pair, name: str, cell: Cell) -> bool:
    """Whether a tensor of the cell's model may differ from the base's."""
    if cell.kind == "base":
        return False
    chosen = bool(projections_inside(pair, name, cell))
    return chosen if cell.kind == "load" else chosen or pair.adapted(name)


def intervened(pair: Pair, name: str, cell: Cell) -> np.ndarray:
    """One tensor of a cell's model, (d_out, d_in) for a weight, in the stored dtype.

    Raises:
        InputError: a cell with random numbers where torch is not installed.
    """
    chosen = projections_inside(pair, name, cell)
    if cell.kind == "base" or (cell.kind == "load" and not chosen):
        return pair.stored_base(name)  # nothing changes here
    base, tuned = pair.stored_sides(name)
    if cell.kind in ("tuned", "tune"):
        return tuned
    result = base if cell.kind == "load" else tuned
    for projection, rows in chosen:
        key = name if rows is None else f"{name}[{projection}]"
        value = (
            load_cell_tensor(pair, name, cell, rows, key)
            if cell.kind == "load"
            else ablated_tensor(pair, name, cell.mode, cell.random_seed, rows, key)
        )
        if rows is None:
            return value
        # A fused tensor: the rows of other projections are not changed.
        result = rounded(result, value.dtype).copy()
        done = 0
        for start, stop in rows:
            result[start:stop] = value[done : done + stop - start]
            done += stop - start
    return result


def verify(tensors: Mapping[str, Any], pair: Pair, cell: Cell) -> dict[str, int]:
    """Compares a cell's model bit for bit with its checkpoints.

    Outside the module set, `load` and `tune` cells must equal the base and `ablate` cells the
    tuned model.

    Args:
        tensors: the model before its evaluation, by tensor name: arrays in their stored dtype, or
            torch tensors.

    Returns:
        Counts of tensors: `inside` the module set, of these the ones `changed` against the
        reference; `outside`, and of these the ones `untouched`.

    Raises:
        InputError: a tensor outside the set differs from the reference, or is missing.
    """
    counts = dict.fromkeys(("inside", "changed", "outside", "untouched"), 0)
    if cell.kind in ("base", "tuned"):
        return counts
    for name in pair.names:
        if name.endswith(BUFFER) and name not in tensors:
            continue
        base, tuned = pair.stored_sides(name)
        reference = tuned if cell.kind == "ablate" else base
        found = as_array(tensors[name]) if name in tensors else None
        same = found is not None and same_bits(found, reference)
        chosen = projections_inside(pair, name, cell)
        if chosen:
            counts["inside"] += 1
            counts["changed"] += not same
        else:
            counts["outside"] += 1
            counts["untouched"] += same
        if not same and not _same_outside(found, reference, chosen):
            if found is not None and found.dtype != reference.dtype:
                raise InputError(
                    "cell.other-dtype-outside",
                    f"{cell.id}: {name} lies outside {cell.modules} and is stored as "
                    f"{found.dtype.name}, in the checkpoint that it is compared with as "
                    f"{reference.dtype.name}; the bits of the two cannot be compared",
                    cell=cell.id,
                    tensor=name,
                    found=found.dtype.name,
                    expected=reference.dtype.name,
                )
            raise InputError(
                "cell.changed-outside",
                f"{cell.id}: {name} lies outside {cell.modules} and differs from the "
                f"{'tuned' if cell.kind == 'ablate' else 'base'} checkpoint; the cell would not "
                f"test {cell.modules} alone",
                cell=cell.id,
                tensor=name,
            )
    return counts


def verify_folders(reference: Path, changed: Path, modules: str) -> dict[str, int]:
    """`verify` for two checkpoints on disk: a model, and a model or adapter trained from it.

    Their bridges are compared too (`bridge_files.compare_bridges`); they may differ in the module
    set `bridge` alone. A bridge that was tuned alone has the language model of the reference.
    """
    bridges = compare_bridges(reference, changed, str(parse_modules(modules)) == BRIDGE)
    if bridges and not (changed / CONFIG).is_file() and not whole_weights(changed):
        return dict.fromkeys(("inside", "changed", "outside", "untouched"), 0) | bridges
    pair = ModelPair(reference, changed)

    def read(name: str) -> np.ndarray:
        base, tuned = pair.sides_as_stored(name)
        # A rounding could hide a change.
        exact = conversion(tuned.dtype.name, base.dtype.name) == "exact"
        return rounded(tuned, base.dtype) if exact else tuned

    tensors = LazyTensors(pair.names, read)
    cell = Cell("load", reference.name, changed.name, str(parse_modules(modules)))
    check_layers(pair, cell)
    return verify(tensors, pair, cell) | bridges


class LazyTensors(Mapping[str, np.ndarray]):
    """Tensors by name, each read on access, so memory holds one tensor at a time."""

    def __init__(self, names: list[str], read: Callable[[str], np.ndarray]) -> None:
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _same_outside(
    found: np.ndarray | None, reference: np.ndarray, chosen: list[tuple[str, Rows | None]]
) -> bool:
    """Whether a tensor differs from its reference only inside the module set."""
    if not chosen or found is None or found.shape != reference.shape:
        return False
    if any(rows is None for _, rows in chosen):
        return True
    # A fused tensor: the rows of other projections are outside the set.
    outside = np.ones(len(reference), bool)
    for _, rows in chosen:
        for start, stop in rows or ():
            outside[start:stop] = False
    return same_bits(found[outside], reference[outside])
