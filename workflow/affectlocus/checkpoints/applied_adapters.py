"""An adapter on its base: the tensors of the base that it changes, and their changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.adapters import (
    Adapter,
    outside_notes,
)
from affectlocus.checkpoints.architectures import Rows, in_other_tower, locate, place
from affectlocus.checkpoints.computed_matrices import DoraDelta, dense
from affectlocus.checkpoints.matching import align_with_path, not_in_base
from affectlocus.checkpoints.name_alignment import layer_prefixes, split_layer
from affectlocus.checkpoints.native_models import other_spellings
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.tensor_files import ArrayReader, TensorReader
from affectlocus.checkpoints.weights import Weights, is_vocabulary
from affectlocus.core.errors import InputError
from affectlocus.core.phrases import counted


class Applied:
    """An adapter on a base: its changes of the base's tensors, by the base's names.

    Attributes:
        names: tensor of the base → its name in the adapter, for all that the adapter changes.
        other: the adapter's names of other tensors that it changes: encoders, own heads, tied or
            resized embeddings.
        notes: sentences about the other tensors.

    Raises:
        InputError: the adapter changes a projection that the base lacks or has in another shape; it
            changes no tensor of the base; or it lacks factors for one of its target modules.
    """

    def __init__(self, adapter: Adapter, base: Weights) -> None:
        self.adapter = adapter
        self.notes = list(adapter.notes)
        names, known = adapter.changed(), set(base.names())
        if not (names or adapter.rows):
            raise InputError(
                "adapter.empty",
                f"{adapter.path}: it changes no tensor; expected LoRA factors or trained tensors",
                file=adapter.path,
            )
        matched = align_with_path(names, known, adapter.path)
        matched |= _experts(set(names) - set(matched), base)
        matched |= other_spellings(
            set(names) - set(matched), known - {*matched.values()}, base.config
        )
        prefixes = layer_prefixes(names, known)
        self.names = {matched[name]: name for name in names if name in matched}
        self.other = sorted(set(names) - set(matched))
        self._refuse_new_biases(base, matched)
        missing = [
            name
            for name in self.other
            if (place(name) is not None and prefixes is None)
            or (
                prefixes is not None
                and split_layer(name)[1] is not None
                and split_layer(name)[0] == prefixes[0]
            )
        ]
        factors = {name for name in names if name not in adapter.replaced}
        if not missing and factors and factors.isdisjoint(matched):
            missing = sorted(factors)
        if missing or not (self.names or adapter.rows):
            raise not_in_base(adapter.path, missing or names, base.path)
        for name in sorted(self.names):
            self._check_shape(name, base)
        if prefixes is not None:
            self._refuse_incomplete(base, prefixes[1])
        if self.other:
            self.notes.append(
                f"{adapter.path} holds {counted(self.other, 'trained tensor')} outside the base, "
                f"as {self.other[0]!r}: not measured"
            )

    def _refuse_new_biases(self, base: Weights, names: Mapping[str, str]) -> None:
        """Refuses biases of LoRA for modules that have none in the base.

        Args:
            names: the adapter's name of a tensor → the base's.
        """
        for module, factors in self.adapter.factors.items():
            weight = names.get(f"{module}.weight")
            if factors.bias is None or weight is None or in_other_tower(weight):
                continue
            if f"{module}.bias" not in names:
                raise InputError(
                    "adapter.bias-without-base",
                    f"{self.adapter.path}: it holds LoRA biases (lora_bias), as {factors.bias!r}, "
                    f"and {weight.removesuffix('.weight')} of the base {base.path} has no bias "
                    "that they could be added to, so neither this program nor peft can merge "
                    "them; train the adapter without lora_bias",
                    file=self.adapter.path,
                    tensor=factors.bias,
                    base=base.path,
                )

    def _refuse_incomplete(self, base: Weights, prefix: str) -> None:
        """Refuses a peft adapter that lacks factors for a projection in its target_modules."""
        for target in self.adapter.untouched_targets():
            for name in base.names():
                module, found = name.removesuffix(".weight"), place(name)
                # In memory all experts may be one parameter, which target_modules cannot name.
                if name in self.names or found is None or found.expert is not None:
                    continue
                if split_layer(name)[0] != prefix or not f".{module}".endswith(f".{target}"):
                    continue
                if self.adapter.targets(module):
                    raise InputError(
                        "adapter.target-without-factors",
                        f"{self.adapter.path / CONFIG}: target_modules names {target!r}, which the "
                        f"base has ({module}), but the adapter holds no factors of it; it is "
                        "incomplete: fetch it again",
                        file=self.adapter.path / CONFIG,
                        key="target_modules",
                        found=target,
                        module=module,
                    )

    def _exclude(self, name: str, note: str | None = None) -> None:
        self.other = sorted([*self.other, self.names.pop(name)])
        if note is not None:
            self.notes.append(note)

    def _check_shape(self, name: str, base: Weights) -> None:
        """Refuses a misfit change of a projection; excludes a misfit change of other tensors."""
        given = self.names[name]
        found: list[tuple[str, tuple[int, ...]]] = []
        if given in self.adapter.replaced:
            shape = self.adapter.tensors.shape(self.adapter.replaced[given])
            found.append((f"{name} has shape {shape}", shape))
        if (module := self.module(name)) is not None:
            factors = self.adapter.factors[module]
            if factors.layout == "embedding" and factors.magnitude is not None:
                # DoRA's norms of columns; outside the seven projections, so nothing reads it.
                self._exclude(name)
                return
            shape = self.adapter.shape(module)
            found.append((f"the delta of {name} has shape {shape}", shape))
        stored = base.shape(name)
        for what, shape in found:
            if shape == stored:
                continue
            if place(name) is not None:
                raise InputError(
                    "pair.shapes-differ",
                    f"{self.adapter.path}: {what}, but the base's weight has {stored}; "
                    "this is not the adapter's base",
                    file=self.adapter.path,
                    tensor=name,
                    found=shape,
                    expected=stored,
                )
            resized = is_vocabulary(name) and shape[1:] == stored[1:]
            rows = f"{name} has {stored[0]} rows in the base, {shape[0]} in {self.adapter.path}"
            self._exclude(name, f"the vocabulary was resized: {rows}" if resized else None)
            return

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def unmeasured(self) -> list[str]:
        """Sentences about the changes of the base outside the seven projections."""
        modules = {name for name in self.names if self.module(name) is not None}
        # peft saves a copy of the embeddings with their factors. A bias belongs to its module.
        whole = [
            name
            for name, given in self.names.items()
            if name not in modules and given in self.adapter.replaced
        ]
        modules = {name.removesuffix(".weight") for name in modules}
        rows = [
            f"{self.adapter.path} also trains {len(self.adapter.row_indices(name))} rows of "
            f"{name.removesuffix('.weight')}: outside the seven projections, so not measured"
            for name in sorted(self.adapter.rows)
        ]
        return outside_notes(self.adapter.path, sorted(modules), sorted(whole)) + rows

    def module(self, name: str) -> str | None:
        """The adapter's module that changes a weight by low-rank factors, or None."""
        given = self.names.get(name, "")
        module = given.removesuffix(".weight")
        return module if given.endswith(".weight") and module in self.adapter.factors else None

    def low_rank(self, name: str, rows: Rows | None) -> LowRank | None:
        """The low-rank change of a weight; None if the weight is changed in another way, or not."""
        module = self.module(name)
        if module is None or self.names[name] in self.adapter.replaced:
            return None
        return self.adapter.low_rank(module, rows)

    def change(self, name: str, rows: Rows | None, base: TensorReader) -> TensorReader:
        """Tuned minus base of one tensor that the adapter changes, without rounding."""
        module = self.module(name)
        given = self.names[name]
        if module is not None:
            low_rank = self.adapter.low_rank(module, rows)
            magnitude = self.adapter.magnitude(module, rows)
            if given in self.adapter.replaced:
                # The adapter also stores the module's own weight, which may differ from the base's.
                own = self.adapter.tensors.part(self.adapter.replaced[given], rows)
                own_change = dense(own) - dense(base)
                if own_change.any():
                    on_own = low_rank if magnitude is None else DoraDelta(own, low_rank, magnitude)
                    return ArrayReader(own_change + dense(on_own))
            return low_rank if magnitude is None else DoraDelta(base, low_rank, magnitude)
        if given in self.adapter.replaced:
            stored = self.adapter.tensors.part(self.adapter.replaced[given], rows)
            return ArrayReader(dense(stored) - dense(base))
        added = self.adapter.bias(given.removesuffix(".bias"))
        return ArrayReader(added if rows is None else np.concatenate([added[a:b] for a, b in rows]))


def _experts(names: Iterable[str], base: Weights) -> dict[str, str]:
    """The base's names of experts' matrices, by the adapter's names.

    In memory and in peft's files, experts have other names than in the files of some models.
    """
    found = {}
    for name in names:
        at = locate(name)
        if at is not None and at.expert is not None:
            stored, rows = base.projections.get(at, (None, None))
            if stored is not None and rows is None:
                found[name] = stored
    return found
