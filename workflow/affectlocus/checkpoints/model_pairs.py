"""The two whole models of a pair, tensor by tensor, as transformers and peft load them.

`pairs.Pair` reads the seven projections. A cell is a whole model, which also has a head,
embeddings, norms and a vocabulary. A base may tie its head to its embeddings (one tensor, used
twice) while the tuned model has a separate head, or more tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.adapters import Adapter, counted
from affectlocus.checkpoints.applied_adapters import Applied
from affectlocus.checkpoints.computed_matrices import dense
from affectlocus.checkpoints.name_alignment import align_names, split_layer
from affectlocus.checkpoints.pairs import Pair
from affectlocus.checkpoints.stored import conversion, rounded, same_bits
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.errors import InputError

_HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "tok_embeddings.weight")
# Model types whose configurations omit tie_word_embeddings where it is true, their default.
_TIED_BY_DEFAULT = ("gemma", "cohere", "ernie4_5", "smollm3")
# Model types whose default is false. For others, a configuration without the key says nothing.
_UNTIED_BY_DEFAULT = frozenset(
    ("llama", "mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
)


@dataclass(frozen=True)
class TensorEdit:
    """An adapter's change of one tensor, in the order of its parts. Absent parts are None.

    Attributes:
        start: the stored tensor that replaces the base's.
        rows: the stored rows that replace single rows, and their indices.
        module: the module whose low-rank factors are added last.
    """

    start: str | None = None
    module: str | None = None
    rows: tuple[str, tuple[int, ...]] | None = None

    def __bool__(self) -> bool:
        return self != TensorEdit()


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

    def __init__(
        self,
        base: Path | Sequence[Path],
        tuned: Path,
        alpha: float | None = None,
        prefix: str = "",
        any_base: bool = False,
    ) -> None:
        super().__init__(base, tuned, alpha, prefix, any_base)
        known = set(self.base.names())
        words = (self.base.layers_prefix or "").split(".")[:-1]
        above = ["".join(f"{word}." for word in words[:count]) for count in range(len(words) + 1)]
        beside = [f"{above[-1]}{name}" for name in _EMBEDDINGS]
        self.embedding = next((name for name in beside if name in known), None)
        stored = [f"{stem}{_HEAD}" for stem in above if f"{stem}{_HEAD}" in known]
        stem = above[words.index("model") if "model" in words else -1]
        self.head = stored[0] if stored else f"{stem}{_HEAD}" if self.embedding else None

    @cached_property
    def _edits(self) -> dict[int, dict[str, TensorEdit]]:
        applied = [*self.before, *([self.adapter] if self.adapter else [])]
        return {id(one): self._head_edits(one) for one in applied}

    @cached_property
    def tied(self) -> bool:
        """Whether head and embeddings are one parameter in the base."""
        if self.embedding is None or self.head is None:
            return False
        if self.head not in self.base:
            return True
        # As in transformers, two tensors that differ are never tied.
        return _says_tied(self.base.config) and same_bits(
            self.base.stored(self.head), self.base.stored(self.embedding)
        )

    @property
    def _headless(self) -> bool:
        """Whether a full tuned model lacks the head that its base has."""
        if self._tuned is None or self.head is None or self.head in self._tuned:
            return False
        return self.head in self.base and not self.tied and not _says_tied(self._tuned.config)

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
        found = [applied for applied in self.before if self._changes(applied, name)]
        last = next((one for one in reversed(found) if one.adapter.continues_training), None)
        return [one for one in found if one is last or not one.adapter.continues_training]

    def _changes(self, applied: Applied, name: str) -> bool:
        if name in (self.head, self.embedding):
            return name in self._edits[id(applied)]
        return name in applied

    def _changed(self, applied: Applied, name: str, base: np.ndarray) -> np.ndarray:
        """A tensor outside the seven projections after an adapter's change, without rounding."""
        adapter = applied.adapter
        edit = self._edits[id(applied)].get(name) or _edit(adapter, applied.names[name])
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

    def _head_edits(self, applied: Applied) -> dict[str, TensorEdit]:
        """An adapter's changes of head and embeddings, for those that it changes.

        If the embeddings are changed in place, a tied head follows them. If a copy of them is
        changed, as in LoRA and in modules that peft saves whole, the head keeps the base's values.
        """
        if self.embedding is None or self.head is None:
            return {}
        adapter, pair = applied.adapter, (self.embedding, self.head)
        given = [*adapter.changed(), *adapter.rows]
        known = {*self.base.names(), self.head}
        where = align_names(sorted(set(given)), known)
        own = {where[name]: name for name in given if where.get(name) in pair}
        found = {name: _edit(adapter, own[name]) for name in pair if name in own}
        if not self.tied or len(found) == 0:
            return found
        for name, twin in (pair, pair[::-1]):
            theirs = found.get(twin, TensorEdit())
            mine = found.get(name, TensorEdit())
            if mine.start is None and theirs.start is not None:
                whole = theirs.module is None and theirs.rows is None
                # A file of trained tensors stores tied parameters under the embeddings' name.
                own_head = adapter.layout == "trained-only" and twin == self.head
                copied = whole and (own_head or adapter.copied(own[twin]))
                start = None if copied else theirs.start
                found[name] = TensorEdit(start, mine.module, mine.rows)
        embedding, head = (found.get(name, TensorEdit()) for name in pair)
        if head.rows is None and embedding.rows is not None:
            found[self.head] = TensorEdit(head.start, head.module, embedding.rows)
        if self.head not in own and adapter.layout == "mlx":
            found[self.head] = embedding  # MLX has one module for both
        return {name: edit for name, edit in found.items() if edit}

    @cached_property
    def outside(self) -> list[str]:
        """The modules outside the seven projections in which the tuned model differs, sorted.

        Without layer numbers: `embed_tokens`, `input_layernorm`, `lm_head`.
        """
        short = set()
        for name in self.names:
            if name in self.base.located or not self.adapted(name):
                continue
            if not same_bits(*self.stored_sides(name)):
                short.add(_short(name))
        return sorted(short)

    def notes_on_cells(self) -> list[str]:
        """Sentences about the tensors outside the seven projections in cells. Reads no weights."""
        notes = []
        have = "Tuned and ablate cells have these as tuned; load cells have the base's"
        if self._tuned is None:
            changed = [name for name in self.names if self.adapted(name) and self._trained(name)]
            if short := sorted({_short(name) for name in changed if name not in self.base.located}):
                notes.append(
                    f"{self.tuned}: outside the seven projections it also changes "
                    f"{', '.join(short)}. {have}"
                )
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
        return model.config is not None and _tying(model.config)[0] is False

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
    _, source = _tying(model.config)
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


def _says_tied(config: Mapping[str, Any] | None) -> bool:
    """Whether a config.json, or its model's default, makes head and embeddings one tensor."""
    return bool(_tying(config)[0])


def _tying(config: Mapping[str, Any] | None) -> tuple[bool | None, str]:
    """tie_word_embeddings of a config.json (None: unknown), and a remark where it is a default."""
    config = config or {}
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    for settings in (config, text):
        if "tie_word_embeddings" in settings:
            return bool(settings["tie_word_embeddings"]), ""
    kind = str(text.get("model_type") or config.get("model_type"))
    if kind.startswith(_TIED_BY_DEFAULT):
        return True, f" (the default of {kind})"
    return (False, f" (the default of {kind})") if kind in _UNTIED_BY_DEFAULT else (None, "")


def _short(name: str) -> str:
    """A tensor's module without prefix and layer number."""
    tail = split_layer(name)[1]
    if tail is not None:
        return tail.split(".", 2)[2].removesuffix(".weight")
    return name.rpartition(".")[0].rpartition(".")[2]


def _edit(adapter: Adapter, given: str) -> TensorEdit:
    """An adapter's own change of one tensor, by the adapter's name of the tensor."""
    stem = given.removesuffix(".weight").removesuffix(".bias")
    module = stem if stem in adapter.factors else None
    if given.endswith(".bias") and module is not None and adapter.factors[module].bias is None:
        module = None
    file = adapter.rows.get(given)
    rows = None if file is None else (file, tuple(adapter.row_indices(given)))
    return TensorEdit(adapter.replaced.get(given), module, rows)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64, copy=False)
