"""The bridge of a cell: tuned, initial, or with its tuning destroyed, and verified bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from affectlocus.checkpoints.bridge_files import INITIAL as INITIAL_FILE
from affectlocus.checkpoints.bridge_files import Description, StoredBridge
from affectlocus.checkpoints.released_files import check_same_sizes, stored_bridge
from affectlocus.checkpoints.stored import as_array, as_torch, rounded, same_bits
from affectlocus.core.ablations import ABLATIONS
from affectlocus.core.cells import INITIAL, NONE, Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE
from affectlocus.evaluation.interventions import TorchChanges, generator
from affectlocus.lm.bridges import built, drawn, loaded


def language_model_of(cell: Cell, tuned: Path | None) -> tuple[Cell, Path | None]:
    """The cell that a language model is, and its tuned checkpoint, where the bridge alone changes.

    Base and bridge, and a bridge that was tuned alone, have the base's language model. A tuned
    model with its bridge destroyed has that of the tuned model.
    """
    if cell.modules != BRIDGE:
        return cell, tuned
    if cell.kind == "ablate":
        return Cell("tuned", cell.base, cell.pair, seed=cell.seed), tuned
    return Cell("base", cell.base, seed=cell.seed), None


@dataclass(frozen=True)
class CellBridge:
    """The bridge of a cell.

    Attributes:
        module: in the dtype of its tensors on disk.
        counts: tensors of the bridge: `bridge_tensors`, and of these `bridge_changed`, which differ
            from the initial bridge.
    """

    module: nn.Module
    description: Description
    counts: dict[str, int]


def cell_bridge(
    cell: Cell, tuned: Path, initial: Path | None = None, kind: str | None = None
) -> CellBridge | None:
    """The bridge of a cell; None if it has none.

    Args:
        tuned: the tuned checkpoint: a folder, or a file of trained tensors.
        initial: a checkpoint with the bridge before the tuning. By default it is in the folder
            `tuned`, or else it is drawn with the cell's seed.
        kind: the expected kind of bridge.

    Raises:
        InputError: no bridge, bridges that do not fit each other, or a module that differs from its
            file.
    """
    if cell.bridge in ("", NONE):
        return None
    stored = stored_bridge(tuned, kind)
    after = stored.read()
    before = _initial(cell, tuned, initial, stored)
    if cell.modules == BRIDGE and cell.kind == "ablate":
        fixed = {name for name, _ in built(stored.description).named_buffers()}  # not trained
        wanted = {
            name: one if name in fixed else _ablated(cell, name, before[name], one)
            for name, one in after.items()
        }
    else:
        wanted = before if cell.bridge == INITIAL else after
    module = loaded(stored) if wanted is after else built(stored.description)
    if wanted is not after:
        tensors = {name: as_torch(value) for name, value in wanted.items()}
        module.load_state_dict(tensors, assign=True)
    module.requires_grad_(False).eval()
    return CellBridge(module, stored.description, verify_bridge(cell, module, wanted, before))


def verify_bridge(
    cell: Cell,
    module: nn.Module,
    wanted: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray],
) -> dict[str, int]:
    """Compares a cell's bridge bit for bit with the tensors that it should have.

    Args:
        wanted: the tensors of the cell's bridge.
        before: those of the initial bridge.

    Returns:
        The counts of `CellBridge`.

    Raises:
        InputError: a tensor differs.
    """
    held = {name: as_array(one) for name, one in module.state_dict().items()}
    for name in wanted:
        if not same_bits(held[name], wanted[name]):
            raise InputError(
                "cell.changed-bridge",
                f"{cell.id}: {name} of the bridge differs from the {cell.bridge} bridge",
                cell=cell.id,
                tensor=name,
            )
    changed = sum(not same_bits(held[name], before[name]) for name in before)
    return {"bridge_tensors": len(wanted), "bridge_changed": changed}


def _initial(
    cell: Cell, tuned: Path, initial: Path | None, stored: StoredBridge
) -> dict[str, np.ndarray]:
    """The tensors of the bridge before the tuning."""
    start: StoredBridge | None = None
    if initial is not None:
        inside = initial.is_dir() and (initial / f"{INITIAL_FILE}.json").is_file()
        stem = {"stem": INITIAL_FILE} if inside else {}
        start = stored_bridge(initial, stored.description.kind, **stem)
    elif tuned.is_dir() and (tuned / f"{INITIAL_FILE}.json").is_file():
        start = stored_bridge(tuned, stored.description.kind, INITIAL_FILE)
    if start is not None:
        check_same_sizes(start, stored)
        return start.read()
    module = drawn(stored.description, cell.random_seed)
    kept = stored.read()
    # Buffers are not trained: they come from the training samples, before the tuning as after it.
    first = {
        name: rounded(as_array(one), kept[name].dtype) for name, one in module.named_parameters()
    }
    return {name: first.get(name, value) for name, value in kept.items()}


def _ablated(cell: Cell, name: str, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A tensor of a bridge whose tuning is destroyed, in its stored dtype."""
    values = ABLATIONS[cell.mode].apply(
        before,
        after,
        lambda: after.astype(np.float64) - before.astype(np.float64),
        lambda: TorchChanges(generator(cell.random_seed, f"{BRIDGE}/{name}")),
    )
    return rounded(values, after.dtype)
