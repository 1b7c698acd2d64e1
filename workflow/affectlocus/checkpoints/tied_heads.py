"""Head and embeddings of a model: whether they are one tensor, and how an adapter changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.name_alignment import align_names
from affectlocus.core.model_config import text_config

if TYPE_CHECKING:
    from affectlocus.checkpoints.weights import Weights

_HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "tok_embeddings.weight")
# Model types whose configurations omit tie_word_embeddings where it is true, their default.
_TIED_BY_DEFAULT = ("gemma", "cohere", "ernie4_5", "smollm3")
# Model types whose default is false. For others, a configuration without the key says nothing.
_UNTIED_BY_DEFAULT = frozenset(
    ("llama", "mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
)


def vocabulary_tensors(base: Weights) -> tuple[str | None, str | None]:
    """The names of a model's token embeddings and of its head; None if unknown.

    A head that is not stored has the name that it has in other models.
    """
    known = set(base.names())
    words = (base.layers_prefix or "").split(".")[:-1]
    stems = ["".join(f"{word}." for word in words[:count]) for count in range(len(words) + 1)]
    embeddings = [f"{stems[-1]}{end}" for end in _EMBEDDINGS if f"{stems[-1]}{end}" in known]
    embedding = embeddings[0] if embeddings else None
    for stem in stems:
        if f"{stem}{_HEAD}" in known:
            return embedding, f"{stem}{_HEAD}"
    stem = stems[words.index("model") if "model" in words else -1]
    return embedding, f"{stem}{_HEAD}" if embedding else None


def is_tied(config: Mapping[str, Any] | None) -> bool | None:
    """tie_word_embeddings of a config.json; None if it does not say."""
    for settings in (config or {}, text_config(config)):
        if "tie_word_embeddings" in settings:
            return bool(settings["tie_word_embeddings"])
    return None


def is_tied_by_default(config: Mapping[str, Any] | None) -> tuple[bool | None, str]:
    """Whether the default of a config.json's model type ties the two, and that model type.

    (None, "") if the configuration has the setting itself, or if the default is unknown.
    """
    config = config or {}
    kind = str(text_config(config).get("model_type") or config.get("model_type"))
    if is_tied(config) is None:
        if kind.startswith(_TIED_BY_DEFAULT):
            return True, kind
        if kind in _UNTIED_BY_DEFAULT:
            return False, kind
    return None, ""


def expects_tied(config: Mapping[str, Any] | None) -> bool | None:
    """Whether head and embeddings are one tensor by a config.json or its default; None: unknown."""
    own = is_tied(config)
    return is_tied_by_default(config)[0] if own is None else own


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


def tensor_edit(adapter: Adapter, name: str) -> TensorEdit:
    """An adapter's own change of one tensor, by the adapter's name of the tensor."""
    module: str | None = name.removesuffix(".weight").removesuffix(".bias")
    if module not in adapter.factors or (
        name.endswith(".bias") and adapter.factors[module].bias is None
    ):
        module = None
    file = adapter.rows.get(name)
    rows = None if file is None else (file, tuple(adapter.row_indices(name)))
    return TensorEdit(adapter.replaced.get(name), module, rows)


def head_edits(
    adapter: Adapter, base: Weights, embedding: str, head: str, tied: bool
) -> dict[str, TensorEdit]:
    """An adapter's changes of head and embeddings, for those that it changes.

    If the embeddings are changed in place, a tied head follows them. If a copy of them is changed,
    as in LoRA and in modules that peft saves whole, the head keeps the base's values.
    """
    pair = (embedding, head)
    changed = [*adapter.changed(), *adapter.rows]
    where = align_names(sorted(set(changed)), {*base.names(), head})
    own = {where[name]: name for name in changed if where.get(name) in pair}
    edits = {name: tensor_edit(adapter, own[name]) for name in pair if name in own}
    if not tied or not edits:
        return edits
    for name, twin in (pair, pair[::-1]):
        mine, theirs = edits.get(name, TensorEdit()), edits.get(twin, TensorEdit())
        if mine.start is None and theirs.start is not None:
            whole = theirs.module is None and theirs.rows is None
            # A file of trained tensors stores tied parameters under the embeddings' name.
            own_head = adapter.layout == "trained-only" and twin == head
            copied = whole and (own_head or adapter.copied(own[twin]))
            edits[name] = TensorEdit(None if copied else theirs.start, mine.module, mine.rows)
    of_embedding, of_head = (edits.get(name, TensorEdit()) for name in pair)
    if of_head.rows is None and of_embedding.rows is not None:
        edits[head] = TensorEdit(of_head.start, of_head.module, of_embedding.rows)
    if head not in own and adapter.layout == "mlx":
        edits[head] = of_embedding  # MLX has one module for both
    return {name: edit for name, edit in edits.items() if edit}
