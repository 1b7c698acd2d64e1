"""The two whole models of a pair, tensor by tensor, as transformers and peft load them.

`pairs.Pair` reads the seven projections. A cell is a whole model, which also has a head,
embeddings, norms and a vocabulary. A base may tie its head to its embeddings (one tensor, used
twice) while the tuned model has a separate head, or more tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.applied_adapters import Applied
from affectlocus.checkpoints.computed_matrices import dense
from affectlocus.checkpoints.name_alignment import split_layer
from affectlocus.checkpoints.native_models import native_model
from affectlocus.checkpoints.pairs import Pair, latest
from affectlocus.checkpoints.stored import conversion, rounded, same_bits
from affectlocus.checkpoints.tied_heads import (
    TensorEdit,
    expects_tied,
    head_edits,
    is_tied_by_default,
    tensor_edit,
    vocabulary_tensors,
)
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.errors import InputError
from affectlocus.core.phrases import counted


class ModelPair(Pair):
    """A base and a tuned model, read as two whole models, tensor by tensor.

    A base that ties its head may store only the embeddings. Here the head is still a separate
    tensor, with the name that it has in other models.

    Args: as for `Pair`.

    Attributes:
        embedding: name of the base's token embeddings; None if unknown.
        head: name of the weight of the base's output layer; None if unknown.

    Raises:
        InputError: as `Pair`.
    """

    @cached_property
    def _vocabulary(self) -> tuple[str | None, str | None]:
        return vocabulary_tensors(self.base)

    @property
    def embedding(self) -> str | None:
        return self._vocabulary[0]

    @property
    def head(self) -> str | None:
        return self._vocabulary[1]

    @cached_property
    def _edits(self) -> dict[int, dict[str, TensorEdit]]:
        applied = [*self.before, *([self.adapter] if self.adapter else [])]
        if self.embedding is None or self.head is None:
            return {id(one): {} for one in applied}
        return {
            id(one): head_edits(one.adapter, self.base, self.embedding, self.head, self.tied)
            for one in applied
        }

    @cached_property
    def tied(self) -> bool:
        """Whether head and embeddings are one parameter in the base."""
        if self.embedding is None or self.head is None:
            return False
        if self.head not in self.base:
            return True
        # As in transformers, two tensors that differ are never tied.
        return bool(expects_tied(self.base.config)) and same_bits(
            self.base.stored(self.head), self.base.stored(self.embedding)
        )

    @property
    def _headless(self) -> bool:
        """Whether a full tuned model lacks the head that its base has."""
        if self._tuned is None or self.head is None or self.head in self._tuned:
            return False
        return self.head in self.base and not self.tied and not expects_tied(self._tuned.config)

    @cached_property
    def names(self) -> list[str]:
        """Every tensor of the two models, sorted; the head only if it is a separate tensor."""
        names = {
            name for name in self.base.names() if self._tuned is None or name in self._tuned
        } | {name for one in self._edits.values() for name in one if name in self.base}
        if self.head is not None and (self.head in self.base or self.is_untied(True)):
            names.add(self.head)
        return sorted(names)

    def is_untied(self, tuned: bool) -> bool:
        """Whether head and embeddings differ: in the tuned model, or in the base."""
        return self._tuned_untied if tuned else self._base_untied

    @cached_property
    def _base_untied(self) -> bool:
        if self.head is None or self.embedding is None:
            return False
        if self.head not in self.base and not self._touched(self.before):
            return False
        return not same_bits(self.stored_base(self.head), self.stored_base(self.embedding))

    @cached_property
    def _tuned_untied(self) -> bool:
        if self.head is None or self.embedding is None:
            return False
        if self._tuned is not None:
            if self.head not in self._tuned:
                return False
        elif not self._touched([self.adapter] if self.adapter else []):
            return self._base_untied
        return not same_bits(self.stored_sides(self.head)[1], self.stored_sides(self.embedding)[1])

    def _touched(self, adapters: Sequence[Applied]) -> bool:
        return any(self._edits[id(applied)] for applied in adapters)

    def adapted(self, name: str) -> bool:
        """Whether the training can have changed a tensor."""
        if self.adapter is not None and name in (self.head, self.embedding):
            return name in self._edits[id(self.adapter)]
        return super().adapted(name)

    def stored_base(self, name: str) -> np.ndarray:
        """The tensor of the base after the changes of the chain's adapters, in its stored dtype."""
        if name in self.base.located:
            return super().stored_base(name)
        stored = self._stored(name)
        return rounded(self._before(name, stored), stored.dtype)

    def stored_sides(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The tensor in the base and in the tuned model, both in the base's stored dtype.

        Added tokens make the shapes differ. An adapter's change is computed in float64. The tuned
        tensor is rounded once, where it has another dtype. A tensor that `check_dtypes` refuses
        keeps its own dtype.
        """
        base, tuned = self.sides_as_stored(name)
        if conversion(tuned.dtype.name, base.dtype.name) == "none":
            return base, tuned
        return base, rounded(tuned, base.dtype)

    def sides_as_stored(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """`stored_sides`, but a full tuned model's tensor has the dtype of its own file."""
        if name in self.base.located:
            return super().stored_sides(name)
        stored = self._stored(name)
        base = self._before(name, stored)
        if self._tuned is not None:
            own = name if name in self._tuned or name != self.head else str(self.embedding)
            return rounded(base, stored.dtype), self._tuned.stored(own)
        tuned = self._after(name, stored, base)
        return rounded(base, stored.dtype), rounded(tuned, stored.dtype)

    def _stored(self, name: str) -> np.ndarray:
        own = name if name in self.base or name != self.head else str(self.embedding)
        return self.base.stored(own)

    def _before(self, name: str, stored: np.ndarray) -> np.ndarray:
        value = stored
        for applied in self._chain(name):
            value = self._changed(applied, name, value)
        return value

    def _after(self, name: str, stored: np.ndarray, base: np.ndarray) -> np.ndarray:
        if self.adapter is None or not self._changes(self.adapter, name):
            return base
        after = self._changed(self.adapter, name, base)
        if self.adapter.adapter.continues_training and (
            earlier := [one for one in self._chain(name) if one.adapter.continues_training]
        ):
            # Its change replaces that of the earlier adapter.
            after = self._changed(self.adapter, name, stored)
            before = self._changed(earlier[-1], name, stored)
            after = _wide(base) + (_wide(after) - _wide(before))
        return after

    def _chain(self, name: str) -> list[Applied]:
        """The chain's adapters that change a tensor; of a continued training, only the last."""
        return latest([one for one in self.before if self._changes(one, name)])

    def _changes(self, applied: Applied, name: str) -> bool:
        if name in (self.head, self.embedding):
            return name in self._edits[id(applied)]
        return name in applied

    def _changed(self, applied: Applied, name: str, base: np.ndarray) -> np.ndarray:
        """A tensor outside the seven projections after an adapter's change, without rounding."""
        adapter = applied.adapter
        edit = self._edits[id(applied)].get(name) or tensor_edit(adapter, applied.names[name])
        value = base if edit.start is None else adapter.tensors.stored(edit.start)
        if edit.rows is not None:
            file, indices = edit.rows
            value = np.array(value, np.float64)
            value[list(indices)] = adapter.tensors.stored(file)
        if edit.module is not None:
            value = self._added(adapter, edit.module, name, value)
        return value

    def _added(self, adapter: Adapter, module: str, name: str, base: np.ndarray) -> np.ndarray:
        if name.endswith(".bias"):
            return _wide(base) + adapter.bias(module)
        change = dense(adapter.low_rank(module))
        tuned = _wide(base) + change
        magnitude = adapter.magnitude(module)
        if magnitude is not None:
            # For embeddings, the norms of peft are those of columns.
            axis = 0 if adapter.factors[module].layout == "embedding" else 1
            scale = magnitude / np.linalg.norm(tuned, axis=axis)
            tuned *= scale if axis == 0 else scale[:, None]
        return tuned

    @cached_property
    def outside(self) -> list[str]:
        """The modules outside the seven projections in which the tuned model differs, sorted.

        Without layer numbers: `embed_tokens`, `input_layernorm`, `lm_head`. What a multimodal model
        has besides its language model is called `bridge` or `encoder`.
        """
        short = set()
        for name in self.names:
            if name in self.base.located or not self.adapted(name):
                continue
            if not same_bits(*self.stored_sides(name)):
                short.add(self._outside_name(name))
        return sorted(short)

    def _outside_name(self, name: str) -> str:
        """A tensor outside the seven projections in short."""
        native = native_model(self.base.config)
        region = None if native is None else native.region(name)
        return _short(name) if region in (None, "language") else str(region)

    @property
    def _have(self) -> str:
        """What cells have outside the seven projections."""
        text = "Tuned and ablate cells have these as tuned; load cells have the base's"
        if native_model(self.base.config) is not None:
            text += ", except for the bridge, which each cell's row names"
        return text

    def outside_note(self, names: Iterable[str]) -> str:
        """A sentence about changed modules outside the seven projections."""
        return (
            f"{self.tuned}: outside the seven projections it also changes {', '.join(names)}. "
            f"{self._have}"
        )

    def notes_on_cells(self) -> list[str]:
        """Sentences about the tensors outside the seven projections in cells. Reads no weights."""
        notes = []
        have = self._have
        if self._tuned is None:
            changed = [name for name in self.names if self.adapted(name) and self._trained(name)]
            outside = [name for name in changed if name not in self.base.located]
            if short := sorted({self._outside_name(name) for name in outside}):
                notes.append(self.outside_note(short))
        elif self.tied and self.head is not None and self.head in self._tuned:
            notes.append(
                f"{self.tuned}: it stores {self.head}, which the base ties to {self.embedding}. "
                f"{have}"
            )
        inexact = [one for one in self._other_dtypes() if conversion(*one[1:]) == "rounded"]
        if inexact:
            name, own, target = inexact[0]
            notes.append(
                f"{self.tuned}: {counted(inexact, 'tensor')}, as {name!r}, stored as {own}, in the "
                f"base as {target}: cells have them rounded to {target}"
            )
        rows = self._rows()
        if len(set(rows.values())) == 1 and self.embedding is not None:
            few, many = self.base.shape(self.embedding)[0], rows[self.embedding]
            if few != many:
                notes.append(
                    f"{self.tuned}: its vocabulary has {many} tokens, the base's {few}. Tuned and "
                    "ablate cells have the tuned one, and its tokenizer where it has one"
                )
        if notes and self._untied_without_head(self.base):
            return [
                f"{self.base.path}: it stores no {self.head}, and its config.json does not tie one "
                "to its embeddings: no cells can be made of this pair"
            ]
        return notes

    def _trained(self, name: str) -> bool:
        """Whether the adapter holds more of a tensor than a copy of the base's."""
        edit = self._edits[id(self.adapter)].get(name)
        if edit is None or edit.module is not None or edit.rows is not None:
            return True
        return ".base_layer." not in str(edit.start)

    def _rows(self) -> dict[str, int]:
        """The rows of the tuned model's head and embeddings, from the files' headers."""
        found: dict[str, int] = {}
        for name in (self.embedding, self.head):
            if name is None:
                continue
            stored = name if name in self.base else str(self.embedding)
            found[name] = self.base.shape(stored)[0]
            if self._tuned is not None:
                own = name if name in self._tuned else str(self.embedding)
                found[name] = self._tuned.shape(own)[0]
                continue
            for applied in [*self.before, *([self.adapter] if self.adapter else [])]:
                start = self._edits[id(applied)].get(name, TensorEdit()).start
                if start is not None:
                    found[name] = applied.adapter.tensors.shape(start)[0]
        return found

    def check(self) -> None:
        """Refuses a tuned model from which no cell can be made. Reads no weights.

        Raises:
            InputError: the base, or the tuned model, has no head; head and embeddings do not have
                the same tokens; or as `check_dtypes`.
        """
        self.check_base()
        self.check_dtypes()
        if self._tuned is not None and self._untied_without_head(self._tuned):
            raise _no_head(self._tuned, self.head, "; affectlocus graft can make its load cells")
        if self._headless:
            raise InputError(
                "model.head-missing",
                f"{self.tuned}: it has no {self.head}, which its base has, and does not tie its "
                "head to its embeddings, so it predicts no tokens (a classifier?); save it with "
                "its head; load cells of it can be made with affectlocus graft",
                file=self.tuned,
                tensor=self.head,
            )
        rows = self._rows()
        for name in rows:
            self._check_factors(name, rows[name])
        if len(set(rows.values())) > 1:
            (longer, many), (shorter, few) = sorted(rows.items(), key=lambda item: -item[1])
            raise InputError(
                "model.token-counts-differ",
                f"{self.tuned}: {longer} has {many} rows and {shorter} {few}, so the new tokens "
                "have values in one of them only; save both (peft: save_embedding_layers=True), or "
                "merge the adapter and give that folder",
                file=self.tuned,
                found=rows,
            )

    def check_dtypes(self) -> None:
        """Refuses a tuned model whose tensors cannot be converted to the base's dtypes.

        Reads no weights.

        Raises:
            InputError: names a tensor, its two dtypes, and a dtype in which a cell can be made.
        """
        for name, own, target in self._other_dtypes():
            if conversion(own, target) == "none":
                wide = "float64" if own == "float64" else "float32"
                raise InputError(
                    "pair.dtype-too-narrow",
                    f"{self.tuned}: {name} is stored as {own}, in the base {self.base.path} as "
                    f"{target}, which cannot hold all values of {own}; save both in {wide}",
                    file=self.tuned,
                    tensor=name,
                    found=own,
                    expected=target,
                )

    def _other_dtypes(self) -> list[tuple[str, str, str]]:
        """The tensors with another dtype in a full tuned model: name, its dtype, the base's."""
        if self._tuned is None:
            return []
        found = []
        for name in self.names:
            own = name if name in self._tuned else str(self.embedding)
            mine = name if name in self.base else str(self.embedding)
            dtypes = self._tuned.dtype(own), self.base.dtype(mine)
            if dtypes[0] != dtypes[1]:
                found.append((name, *dtypes))
        return found

    def check_base(self) -> None:
        """Refuses a base that stores no head. Reads no weights.

        Raises:
            InputError: the base stores no head, and its configuration does not tie it to the
                embeddings.
        """
        if self._untied_without_head(self.base):
            raise _no_head(self.base, self.head)

    def _untied_without_head(self, model: Weights) -> bool:
        """Whether a model's configuration says that its head is a tensor which it does not store.

        A model without the head that its base stores is `_headless` instead.
        """
        if self.head is None or self.head in model or self.head in self.base:
            return False
        return model.config is not None and expects_tied(model.config) is False

    def _check_factors(self, name: str, rows: int) -> None:
        """Refuses factors or rows for tokens that the model does not have."""
        if self.adapter is None:
            return
        adapter = self.adapter.adapter
        edit = self._edits[id(self.adapter)].get(name, TensorEdit())
        reached = 0
        if edit.module is not None:
            change = adapter.low_rank(edit.module)
            reached = change.shape[0]
            if reached == rows:
                return
        if edit.rows is not None:
            reached = max((*edit.rows[1], -1)) + 1
        if reached > rows or (edit.module is not None and reached != rows):
            raise InputError(
                "adapter.other-token-count",
                f"{self.tuned}: its change of {name} has {reached} tokens, but its files and the "
                f"base have {rows}; save the embeddings with the adapter (peft: "
                "save_embedding_layers=True), or merge it and give that folder",
                file=self.tuned,
                tensor=name,
                found=reached,
                expected=rows,
            )


def _no_head(model: Weights, head: str | None, remark: str = "") -> InputError:
    _, kind = is_tied_by_default(model.config)
    source = f" (the default of {kind})" if kind else ""
    file = model.path / "config.json"
    return InputError(
        "model.no-head",
        f"{file}: tie_word_embeddings is false{source}, and the model stores no {head}, so "
        "transformers would initialise its head at random; set tie_word_embeddings to true if the "
        f"head is the embeddings, or save the model with its head{remark}",
        file=file,
        key="tie_word_embeddings",
        tensor=head,
    )


def _short(name: str) -> str:
    """A tensor's module without prefix and layer number."""
    tail = split_layer(name)[1]
    if tail is not None:
        return tail.split(".", 2)[2].removesuffix(".weight")
    return name.rpartition(".")[0].rpartition(".")[2]


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64, copy=False)
