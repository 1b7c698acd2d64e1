"""The cells' weights: base plus the delta of a module set, or tuned with a module set destroyed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from affectlocus.cells import Cell
from affectlocus.checkpoints import Pair
from affectlocus.errors import InputError
from affectlocus.projections import format_modules, locate, parse_modules

# Old LLaMA checkpoints store the rotary frequencies; no model keeps them, and none is tuned.
_BUFFER = ".rotary_emb.inv_freq"


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


def destroyed(pair: Pair, name: str, mode: str, seed: int) -> torch.Tensor:
    """An ablated tensor, in the dtype of the checkpoint that it comes from.

    Args:
        mode: `revert` to the base's values, `zero` them, `shuffle` the delta's entries within the
            tensor, or put `noise` of the delta's norm in its place.
    """
    base, tuned = pair.sides(name)
    if mode == "revert":
        return base
    if mode == "zero":
        return torch.zeros_like(tuned)
    delta = pair.delta(name)
    if mode == "shuffle":
        delta = shuffled(delta, generator(seed, name))
    elif mode == "noise":
        delta = noise_of_equal_norm(delta, generator(seed, name))
    else:
        raise InputError(f"unknown ablation {mode!r}; expected revert, zero, shuffle or noise")
    return (base.double() + delta).to(tuned.dtype)


def inside(name: str, cell: Cell) -> bool:
    """Whether a tensor belongs to the cell's module set."""
    location = locate(name)
    return (
        bool(cell.modules)
        and location is not None
        and location.projection in parse_modules(cell.modules)
    )


def intervened(pair: Pair, name: str, cell: Cell) -> torch.Tensor:
    """One tensor of a cell's model, (d_out, d_in) for a weight, in the stored dtype."""
    if cell.kind in ("tuned", "tune"):
        return pair.sides(name)[1]
    if cell.kind == "load":
        return pair.sides(name)[1] if inside(name, cell) else pair.base.tensor(name)
    if cell.kind == "ablate":
        if inside(name, cell):
            return destroyed(pair, name, cell.mode, cell.seed or 0)
        return pair.sides(name)[1]
    return pair.base.tensor(name)


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
        if name.endswith(_BUFFER) and name not in tensors:
            continue
        base, tuned = pair.sides(name)
        reference = tuned if cell.kind == "ablate" else base
        same = name in tensors and _same_bits(tensors[name], reference)
        if inside(name, cell):
            counts["inside"] += 1
            counts["changed"] += not same
        else:
            counts["outside"] += 1
            counts["untouched"] += same
            if not same:
                raise InputError(
                    f"{cell.id}: {name} lies outside {cell.modules} and differs from the "
                    f"{'tuned' if cell.kind == 'ablate' else 'base'} checkpoint; what is said of "
                    f"{cell.modules} alone would not hold"
                )
    return counts


def verify_folders(reference: Path, changed: Path, modules: str) -> dict[str, int]:
    """`verify` for two checkpoints on disk: a model, and a model or adapter made from it."""
    pair = Pair(reference, changed)
    tensors = {name: pair.sides(name)[1] for name in pair.names}
    modules = format_modules(parse_modules(modules))
    return verify(tensors, pair, Cell("load", reference.name, changed.name, modules))


def _same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    # As bytes: 0.0 equals -0.0 and NaN differs from itself only as numbers.
    return torch.equal(
        left.contiguous().flatten().view(torch.uint8),
        right.contiguous().flatten().view(torch.uint8),
    )
