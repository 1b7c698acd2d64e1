"""The cells' weights: base plus the delta of a module set, or tuned with a module set destroyed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch

from affectlocus.checkpoints.architectures import Rows
from affectlocus.checkpoints.live import LivePair, same_bits
from affectlocus.checkpoints.pairs import Pair
from affectlocus.core.cells import EVEN, Cell, dose
from affectlocus.core.errors import InputError
from affectlocus.core.projections import format_modules, parse_modules

# Old LLaMA checkpoints store the rotary frequencies; no model keeps them, and none is tuned.
BUFFER = ".rotary_emb.inv_freq"


def generator(seed: int, name: str) -> torch.Generator:
    """Random numbers that depend on the seed and the tensor's name alone, not on any order."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def shuffled(delta: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """The same entries in other places of the same tensor: norm and histogram stay."""
    order = torch.randperm(delta.numel(), generator=random)
    return delta.flatten()[order].reshape(delta.shape)


def noise_of_equal_norm(delta: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Gaussian noise with the Frobenius norm of `delta`, float64."""
    noise = torch.randn(delta.shape, generator=random, dtype=torch.float64)
    return noise * (delta.norm() / noise.norm())


def destroyed(
    pair: Pair, name: str, mode: str, seed: int, rows: Rows | None = None, key: str | None = None
) -> torch.Tensor:
    """An ablated tensor, or some of its rows, in the dtype of the checkpoint that it comes from.

    Args:
        mode: `revert` to the base's values, `zero` them, `shuffle` the delta's entries within the
            matrix, or put `noise` of the delta's norm in its place.
        key: what the random numbers depend on besides the seed; by default the tensor's name.
    """
    base, tuned = (picked(side, rows) for side in pair.sides(name))
    if mode == "revert":
        return base
    if mode == "zero":
        return torch.zeros_like(tuned)
    delta = picked(pair.delta(name), rows)
    if mode == "shuffle":
        delta = shuffled(delta, generator(seed, key or name))
    elif mode == "noise":
        delta = noise_of_equal_norm(delta, generator(seed, key or name))
    else:
        raise InputError(f"unknown ablation {mode!r}; expected revert, zero, shuffle or noise")
    return (base.double() + delta).to(tuned.dtype)


def loaded(
    pair: Pair, name: str, cell: Cell, rows: Rows | None = None, key: str | None = None
) -> torch.Tensor:
    """A tensor of a load cell's module set, or some of its rows, in the tuned one's dtype.

    By the cell's mode: tuned as it is; the base and some times the delta; or the base and noise
    that has in every weight the root mean square of the whole delta, so that its size favours no
    projection.
    """
    base, tuned = (picked(side, rows) for side in pair.sides(name))
    if cell.mode == "":
        return tuned
    if cell.mode == EVEN:
        random = generator(cell.random_seed, f"even/{key or name}")
        noise = torch.randn(base.shape, generator=random, dtype=torch.float64)
        return (base.double() + noise * spread(pair)).to(tuned.dtype)
    times = dose(cell)
    assert times is not None
    return (base.double() + times * picked(pair.delta(name), rows)).to(tuned.dtype)


@cache
def spread(pair: Pair) -> float:
    """Root mean square of a pair's delta over all weights of the seven projections."""
    total, entries = 0.0, 0
    for location, (name, rows) in pair.projections.items():
        if location.parameter == "weight":
            delta = picked(pair.delta(name), rows)
            total += float(delta.square().sum())
            entries += delta.numel()
    return (total / entries) ** 0.5


def picked(tensor: torch.Tensor, rows: Rows | None) -> torch.Tensor:
    """Ranges of a tensor's first axis, one after the other; None: all of it."""
    return tensor if rows is None else torch.cat([tensor[start:stop] for start, stop in rows])


def inside(pair: Pair, name: str, cell: Cell) -> list[tuple[str, Rows | None]]:
    """The cell's projections that a tensor holds, with their rows; empty where it holds none."""
    if not cell.modules:
        return []
    wanted = parse_modules(cell.modules)
    return [
        (location.projection, rows)
        for location, rows in pair.base.located.get(name, ())
        if location.projection in wanted
    ]


def touched(pair: Pair, name: str, cell: Cell) -> bool:
    """Whether a tensor of the cell's model may differ from the base's."""
    if cell.kind == "base":
        return False
    chosen = bool(inside(pair, name, cell))
    return chosen if cell.kind == "load" else chosen or pair.adapted(name)


def intervened(pair: Pair, name: str, cell: Cell) -> torch.Tensor:
    """One tensor of a cell's model, (d_out, d_in) for a weight, in the stored dtype."""
    chosen = inside(pair, name, cell)
    if cell.kind == "base" or (cell.kind == "load" and not chosen):
        return pair.base_tensor(name)  # nothing to merge
    base, tuned = pair.sides(name)
    if cell.kind in ("tuned", "tune"):
        return tuned
    result = base if cell.kind == "load" else tuned
    for projection, rows in chosen:
        key = name if rows is None else f"{name}[{projection}]"
        value = (
            loaded(pair, name, cell, rows, key)
            if cell.kind == "load"
            else destroyed(pair, name, cell.mode, cell.random_seed, rows, key)
        )
        if rows is None:
            return value
        # A fused tensor: the other projections' rows stay as they are.
        result = result.to(value.dtype, copy=True)
        for (start, stop), block in zip(rows, _blocks(value, rows), strict=True):
            result[start:stop] = block
    return result


def _blocks(value: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, ...]:
    return value.split([stop - start for start, stop in rows])


def verify(tensors: dict[str, torch.Tensor], pair: Pair, cell: Cell) -> dict[str, int]:
    """Compares a cell's model bit for bit with the checkpoints that it came from.

    Outside the module set, `load` and `tune` cells must equal the base and `ablate` cells the
    tuned model.

    Args:
        tensors: the model as it is about to be evaluated, by tensor name.

    Returns:
        Counts: tensors `inside` the set, those of them `changed` against that reference, tensors
        `outside`, and those of them `untouched`.

    Raises:
        InputError: a tensor outside the set differs, or is not there.
    """
    counts = dict.fromkeys(("inside", "changed", "outside", "untouched"), 0)
    if cell.kind in ("base", "tuned"):
        return counts
    for name in pair.names:
        if name.endswith(BUFFER) and name not in tensors:
            continue
        base, tuned = pair.sides(name)
        reference = tuned if cell.kind == "ablate" else base
        found = tensors[name].cpu() if name in tensors else None
        same = found is not None and same_bits(found, reference)
        chosen = inside(pair, name, cell)
        if chosen:
            counts["inside"] += 1
            counts["changed"] += not same
        else:
            counts["outside"] += 1
            counts["untouched"] += same
        if not same and not _same_outside(found, reference, chosen):
            raise InputError(
                f"{cell.id}: {name} lies outside {cell.modules} and differs from the "
                f"{'tuned' if cell.kind == 'ablate' else 'base'} checkpoint; what is said of "
                f"{cell.modules} alone would not hold"
            )
    return counts


def verify_folders(reference: Path, changed: Path, modules: str) -> dict[str, int]:
    """`verify` for two checkpoints on disk: a model, and a model or adapter made from it."""
    pair = LivePair(reference, changed)
    tensors = {name: pair.sides(name)[1] for name in pair.names}
    modules = format_modules(parse_modules(modules))
    return verify(tensors, pair, Cell("load", reference.name, changed.name, modules))


def _same_outside(
    found: torch.Tensor | None, reference: torch.Tensor, chosen: list[tuple[str, Rows | None]]
) -> bool:
    """Whether a tensor that is not the reference differs from it inside the module set only."""
    if not chosen or found is None or found.shape != reference.shape:
        return False
    if any(rows is None for _, rows in chosen):
        return True
    # A fused tensor: the rows of the other projections lie outside.
    outside = torch.ones(len(reference), dtype=torch.bool)
    for _, rows in chosen:
        for start, stop in rows or ():
            outside[start:stop] = False
    return same_bits(found[outside], reference[outside])
