"""A base and a tuned model or adapter on disk, read one tensor at a time.

Deltas and interventions need only names, shapes and bytes of tensors. So transformers and peft are
not imported here, and torch is imported only to return its tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.adapters import (
    PEFT,
    Adapter,
    holds_factors,
)
from affectlocus.checkpoints.applied_adapters import Applied
from affectlocus.checkpoints.architectures import Rows, place
from affectlocus.checkpoints.base_names import check_base_name
from affectlocus.checkpoints.computed_matrices import Sum, dense
from affectlocus.checkpoints.fused_experts import split_experts
from affectlocus.checkpoints.layout_checks import check_projections
from affectlocus.checkpoints.matching import (
    ModelNames,
    align_with_path,
    is_required,
    matching,
)
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.stored import as_torch, rounded
from affectlocus.checkpoints.tensor_files import ArrayReader, TensorReader, Tensors
from affectlocus.checkpoints.unsupported_formats import refuse_partitioned
from affectlocus.checkpoints.weights import Weights, is_vocabulary
from affectlocus.core.checkpoint_files import whole_weights
from affectlocus.core.errors import InputError
from affectlocus.core.projections import Location, layers_text

if TYPE_CHECKING:
    import torch


class Pair:
    """A base and a tuned model or adapter, read tensor by tensor.

    Args:
        base: a model, or a chain: a model and the adapters to apply to it. A file of trained
            tensors continues the training of an earlier one and replaces its change; any other
            adapter is added.
        tuned: a model or an adapter.
        alpha: LoRA alpha, for a file of trained tensors that does not store it.
        prefix: reads only the language model of a multimodal tuned model (see `Weights`).
        any_base: accept an adapter that names another base.

    Attributes:
        tuned: its path.
        notes: sentences about tensors that are not measured and about uncertain input.
        only_base, only_tuned: for two whole models, the tensors that the other one lacks.

    Raises:
        InputError: one model lacks tensors of the other, or has them in another shape.
    """

    def __init__(
        self,
        base: Path | Sequence[Path],
        tuned: Path,
        alpha: float | None = None,
        prefix: str = "",
        any_base: bool = False,
    ) -> None:
        first, *chain = [base] if isinstance(base, Path) else base
        self.tuned = tuned
        self.base = Weights(first)
        narrowed = bool(prefix) and self.base.begins_with(prefix)
        if narrowed:
            self.base = Weights(first, prefix)
        self.before = [Applied(Adapter(path, alpha, self.base.config), self.base) for path in chain]
        self.notes = [*self.base.notes, *check_projections(self.base)]
        self.notes += [note for applied in self.before for note in applied.notes]
        self.only_base: list[str] = []
        self.only_tuned: list[str] = []
        self.adapter: Applied | None = None
        self._tuned: Weights | None = None
        if (first / CONFIG).is_file():
            self.notes.append(
                f"{first} holds a whole model and an adapter: as the base, the model alone is read"
            )
        if is_adapter(tuned, self.base):
            if (tuned / CONFIG).is_file() and holds_model(tuned):
                self.notes.append(
                    f"{tuned} holds an adapter and a whole model: the adapter is read, and the "
                    "model is not"
                )
            adapter = Adapter(tuned, alpha, self.base.config)
            names = [] if any_base else check_base_name(adapter, self.base.path, self.base.config)
            self.adapter = Applied(adapter, self.base)
            self.notes += self.adapter.notes + self.adapter.unmeasured() + names
            self.notes += self.missed_layers()
            continued = [one.adapter for one in self.before if one.adapter.continues_training]
            if continued and not adapter.continues_training:
                self.notes.append(
                    f"{tuned} is added on top of {continued[-1].path}; if it continues the "
                    "training of that file, its factors take the place of the earlier ones: give "
                    "the .pth of the continued training instead"
                )
        else:
            whole = Weights(tuned)
            if prefix and not (narrowed and not whole.begins_with(prefix)):
                whole = Weights(tuned, prefix)
            self._tuned = self._matched(whole)

    def missed_layers(self) -> list[str]:
        """A sentence if the adapter changes no projection of some layers; empty without one."""
        if self.adapter is None:
            return []
        adapted: dict[int, bool] = {}
        for name, places in self.base.located.items():
            for location, _ in places:
                changed = location.parameter == "weight" and name in self.adapter
                adapted[location.layer] = adapted.get(location.layer, False) or changed
        found = sorted(layer for layer, changed in adapted.items() if changed)
        if not found or len(found) == len(adapted):
            return []
        return [
            f"{self.tuned}: {len(found)} of {len(adapted)} layers adapted ({layers_text(found)}); "
            "the other layers are as in the base"
        ]

    def _matched(self, whole: Weights) -> Weights:
        """A full tuned model with the base's names, after a check that names and shapes match."""
        sides = (
            ModelNames(one.path, one.names(), one.config, one.mtp_tensors)
            for one in (self.base, whole)
        )
        found = matching(*sides)
        self.only_base, self.only_tuned = found.only_base, found.only_tuned
        self.notes += whole.notes + found.notes
        tuned = whole.renamed(found.names)
        mine, theirs = set(self.base.names()), set(found.names.values())
        located = {name for name, _ in self.base.projections.values()}
        for name in sorted(mine & theirs):
            a, b = self.base.shape(name), tuned.shape(name)
            if a == b:
                continue
            if name in located or a[1:] != b[1:] or not is_vocabulary(name):
                raise InputError(
                    "pair.shapes-differ",
                    f"{tuned.path}: {name} has shape {b}, in the base {a}; expected the "
                    "same shapes in both",
                    file=tuned.path,
                    tensor=name,
                    found=b,
                    expected=a,
                )
            self.notes.append(
                f"the vocabulary was resized: {name} has {a[0]} rows in the base, {b[0]} tuned"
            )
        return tuned

    @cached_property
    def names(self) -> list[str]:
        """The tensors that base and tuned model both have, by the base's names, sorted."""
        return [name for name in self.base.names() if self._tuned is None or name in self._tuned]

    @property
    def projections(self) -> dict[Location, tuple[str, Rows | None]]:
        """Location → tensor and rows of the seven projections, in the tables' order."""
        return self.base.projections

    def adapted(self, name: str) -> bool:
        """Whether the training can have changed a tensor."""
        return name in self.adapter if self.adapter else True

    def base_side(self, name: str, rows: Rows | None = None) -> TensorReader:
        """A tensor of the base, with the changes of the chain's adapters."""
        side = self.base.part(name, rows)
        for applied in self._applicable(name):
            side = Sum(side, applied.change(name, rows, side))
        return side

    def _applicable(self, name: str) -> list[Applied]:
        """The chain's adapters that change a tensor; of a continued training, only the last."""
        return latest([applied for applied in self.before if name in applied])

    def delta_side(self, name: str, rows: Rows | None = None) -> TensorReader | None:
        """The delta of a tensor that the adapter changes, without rounding; else None."""
        if self.adapter is None or name not in self.adapter:
            return None
        earlier = None
        if self.adapter.adapter.continues_training:
            earlier = next(
                (one for one in self._applicable(name) if one.adapter.continues_training), None
            )
        if earlier is None:
            return self.adapter.change(name, rows, self.base_side(name, rows))
        after, before = self.adapter.low_rank(name, rows), earlier.low_rank(name, rows)
        if after is not None and before is not None:
            return _difference(after, before)
        stored = self.base.part(name, rows)
        now = dense(self.adapter.change(name, rows, stored))
        return ArrayReader(now - dense(earlier.change(name, rows, stored)))

    def tuned_side(self, name: str, rows: Rows | None = None) -> TensorReader:
        """A tensor of the tuned model; an adapter is merged without rounding."""
        if self._tuned is not None:
            return self._tuned.part(name, rows)
        base = self.base_side(name, rows)
        delta = self.delta_side(name, rows)
        return base if delta is None else Sum(base, delta)

    def stored_base(self, name: str) -> np.ndarray:
        """The tensor of the base after the changes of the chain's adapters, in its stored dtype."""
        stored = self.base.stored(name)
        return (
            rounded(dense(self.base_side(name)), stored.dtype) if self._applicable(name) else stored
        )

    def stored_sides(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The tensor in the base and in the tuned model, each in its stored dtype.

        An adapter is merged in float64 and rounded once to the base's dtype.
        """
        base = self.stored_base(name)
        if self._tuned is not None:
            return base, self._tuned.stored(name)
        if not self.adapted(name):
            return base, base
        return base, rounded(dense(self.base_side(name)) + self.difference(name), base.dtype)

    def difference(self, name: str) -> np.ndarray:
        """Tuned minus base in float64; for an adapter, before any rounding."""
        if self._tuned is not None:
            return dense(self.tuned_side(name)) - dense(self.base_side(name))
        side = self.delta_side(name)
        return np.zeros(self.base.shape(name)) if side is None else dense(side)

    def sides(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """`stored_sides` as torch tensors."""
        base, tuned = self.stored_sides(name)
        return as_torch(base), as_torch(tuned)

    def delta(self, name: str) -> torch.Tensor:
        """`difference` as a torch tensor."""
        return as_torch(self.difference(name))


def holds_model(path: Path) -> bool:
    """Whether a folder holds a whole model, with or without an adapter."""
    return path.is_dir() and bool(whole_weights(path)) and not holds_factors(path)


def is_adapter(path: Path, base: Weights | None = None) -> bool:
    """Whether a checkpoint is an adapter, and not a whole model."""
    if path.is_dir():
        if (path / CONFIG).is_file():
            return True
        refuse_partitioned(path)
        return holds_factors(path)
    if not path.is_file():
        return False
    refuse_partitioned(path)
    tensors = Tensors([path])
    split_experts(tensors, None if base is None else base.config, path)
    names = tensors.names()
    low_rank = any(".lora_" in name for name in names)
    whole = any(place(name.replace(".base_layer.", ".")) is not None for name in names)
    if low_rank and ((path.suffix == ".safetensors" and not whole) or path.stem == PEFT):
        raise InputError(
            "adapter.no-settings",
            f"{path}: holds an adapter's weights alone, without their scaling; give the folder "
            f"{path.parent}, with the {CONFIG} in it",
            file=path,
            expected=CONFIG,
        )
    if low_rank or path.suffix == ".safetensors":
        return low_rank
    # A PyTorch file without required tensors of the base holds the trained tensors only.
    if base is None:
        return False
    known = set(base.names())
    missing = known - base.mtp_tensors - set(align_with_path(names, known, path).values())
    return any(is_required(name, base.layers_prefix or "") for name in missing)


def latest(adapters: Sequence[Applied]) -> list[Applied]:
    """The adapters without those whose training a later one continues."""
    last = next((one for one in reversed(adapters) if one.adapter.continues_training), None)
    return [one for one in adapters if one is last or not one.adapter.continues_training]


def _difference(after: LowRank, before: LowRank) -> LowRank:
    """The difference of two low-rank changes; its rank is the sum of their ranks."""
    return LowRank(
        np.concatenate([after.a, before.a]),
        np.concatenate([after.scaling * after.b, -before.scaling * before.b], axis=1),
        1.0,
    )
