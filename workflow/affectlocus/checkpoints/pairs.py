"""Checkpoints on disk: a base model, a tuned model, an adapter; read a tensor at a time.

Nothing here imports transformers or peft, and torch only to return its tensors: a tensor's name,
shape and bytes are all that deltas and interventions need.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectlocus.checkpoints.adapters import (
    CONFIG,
    PEFT,
    Adapter,
    counted,
    holds_factors,
    layered,
    outside_notes,
    prefixes,
)
from affectlocus.checkpoints.architectures import Rows, in_other_tower, parts, place
from affectlocus.checkpoints.base_names import check_base_name
from affectlocus.checkpoints.checksums import broken
from affectlocus.checkpoints.computed_matrices import DoraDelta, Sum, dense
from affectlocus.checkpoints.fused_experts import split_experts
from affectlocus.checkpoints.matching import Model, further_layers, matching, named, needed
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.stored import as_torch, rounded
from affectlocus.checkpoints.tensor_files import EPS, Cut, Held, Side, Tensors
from affectlocus.checkpoints.unmerged import instead_of_weights, refuse_empty, refuse_pieces
from affectlocus.core.checkpoint_files import checkpoint_paths, shards, whole_weights
from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE, read_json
from affectlocus.core.manifests import (
    first_missing_file,
    is_manifest,
    manifest_entry,
    manifest_folder,
)
from affectlocus.core.projections import PROJECTIONS, Location

if TYPE_CHECKING:
    import torch

# What torch.compile, FSDP and activation checkpointing put into the names of a module's tensors.
_WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_SHARD = re.compile(r"-\d+-of-(\d+)\.")
_QUANTISED = (
    ".qweight",
    ".qzeros",
    ".absmax",
    ".quant_map",
    ".weight_scale",
    ".weight_scale_inv",
    "_proj_blocks",
)


class Weights:
    """The tensors of a whole model: a folder of safetensors or .bin files, or a single file.

    Args:
        path: the folder, or a .safetensors, .bin, .pt or .pth file.
        prefix: what every name begins with that counts, and is then left out: `language_model.`
            reads the language model alone out of a multimodal checkpoint.

    Attributes:
        config: config.json; None where there is none.
        notes: sentences about how it is read.
        called_quantised: whether config.json says so of weights that are plain floats.

    Raises:
        InputError: no weights there, incomplete ones, or quantised ones.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        promised = shards(path) if path.is_dir() else {}
        self.files = sorted(set(promised.values())) or _weight_files(path)
        config = path / "config.json"
        self.config: dict[str, Any] | None = read_json(config) if config.is_file() else None
        if not isinstance(self.config, dict | None):
            raise InputError(f"{config}: holds no object; expected a model's settings")
        self.tensors = Tensors(self.files)
        lost = sorted(name for name in promised if name not in self.tensors)
        if lost:
            raise InputError(
                f"{promised[lost[0]]}: {lost[0]!r} is not in it, though the index says so "
                f"({len(lost)} tensors so); fetch the shard again"
            )
        split_experts(self.tensors, self.config, path)
        refuse_empty(path, self.tensors)
        self._stored: dict[str, str] = {}
        for name in self.tensors.names():
            if not name.startswith(prefix):
                continue
            plain = _plain(name.removeprefix(prefix))
            if plain in self._stored:
                raise InputError(
                    f"{path}: {self._stored[plain]!r} and {name!r} are both {plain!r} once the "
                    "wrappers' names are left out; expected one model"
                )
            self._stored[plain] = name
        if not self._stored:
            raise InputError(f"{path}: no tensor's name begins with {prefix!r}")
        self.notes: list[str] = []
        self.called_quantised = False
        self._refuse_quantised()

    def modules(self, layer: int) -> list[str]:
        """The modules with weights in a layer of the language model, but for norms."""
        stem = f"{self.layers_prefix}layers.{layer}."
        names = {
            name.removeprefix(stem).rpartition(".")[0]
            for name in self._stored
            if name.startswith(stem) and len(self.shape(name)) > 1
        }
        return sorted(re.sub(r"\.\d+(?=\.|$)", ".N", name) for name in names)

    def _refuse_quantised(self) -> None:
        """Refuses quantised tensors; notes a configuration that calls plain tensors quantised."""
        settings = (self.config or {}).get("quantization_config")
        method = settings.get("quant_method", "unnamed") if isinstance(settings, dict) else None
        odd = next((name for name in self.names() if name.endswith(_QUANTISED)), None)
        if method and odd is None:
            odd = next((name for name in self.names() if self._packed(name)), None)
        if odd is not None:
            found = f"quantised by {method!r} ({odd})" if method else f"quantised ({odd})"
            raise InputError(
                f"{self.path}: its weights are {found}, so their values are not in the files; "
                "expected float16, bfloat16, float32 or float64 (dequantise it with its own tool)"
            )
        if method:
            self.called_quantised = True
            self.notes.append(
                f"{self.path / 'config.json'} says that the weights are quantised by {method!r}, "
                "and all of them are stored as plain floats: they are read as they are stored"
            )

    def _packed(self, name: str) -> bool:
        """Whether a matrix is stored in a dtype that quantised weights have."""
        stored = self._stored[name]
        dtype = self.tensors.dtype(stored)
        return len(self.tensors.shape(stored)) > 1 and dtype not in (*EPS, "int64", "bool")

    @cached_property
    def further(self) -> set[str]:
        """The tensors of numbered layers that predict further tokens, after the model's own."""
        return further_layers(self.names(), self.config)

    def renamed(self, names: Mapping[str, str]) -> Weights:
        """The same tensors, those in `names` under the names that it gives them."""
        twin = copy.copy(self)
        twin._stored = {names.get(name, name): stored for name, stored in self._stored.items()}
        for cached in ("located", "unread", "projections", "layers_prefix", "further"):
            twin.__dict__.pop(cached, None)
        return twin

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self._stored)

    @cached_property
    def fused(self) -> dict[str, tuple[tuple[int, ...], dict[str, Cut]]]:
        """Fused experts as the files have them: tensor → its shape, and the matrices in it."""
        return {
            _plain(name): (shape, {_plain(part): cut for part, cut in parts.items()})
            for name, (shape, parts) in self.tensors.cuts.items()
        }

    def begins_with(self, prefix: str) -> bool:
        """Whether a tensor's name as it is stored begins so."""
        return any(name.startswith(prefix) for name in self._stored.values())

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from its file's header."""
        return self.tensors.shape(self._stored[name])

    def dtype(self, name: str) -> str:
        """A tensor's stored dtype by torch's name, from its file's header."""
        return self.tensors.dtype(self._stored[name])

    def stored(self, name: str) -> np.ndarray:
        """One tensor in its stored dtype (`stored.numpy_dtype`)."""
        return self.tensors.stored(self._stored[name])

    def tensor(self, name: str) -> torch.Tensor:
        """`stored` as a torch tensor on the CPU."""
        return as_torch(self.stored(name))

    def part(self, name: str, rows: Rows | None = None) -> Side:
        """Some rows of a tensor (None: all), to be read by chunks."""
        return self.tensors.part(self._stored[name], rows)

    @cached_property
    def located(self) -> dict[str, list[tuple[Location, Rows | None]]]:
        """Tensor → the projections it holds, each with its rows, for those that hold any."""
        found: dict[str, list[tuple[Location, Rows | None]]] = {}
        for location, (name, rows) in self.projections.items():
            found.setdefault(name, []).append((location, rows))
        return found

    @cached_property
    def unread(self) -> dict[str, list[int]]:
        """Projection → the layers of the language model that have none that is known."""
        found: dict[str, set[int]] = {projection: set() for projection in PROJECTIONS}
        for location in self.projections:
            found[location.projection].add(location.layer)
        layers = set().union(*found.values())
        return {name: sorted(layers - there) for name, there in found.items() if layers - there}

    @cached_property
    def projections(self) -> dict[Location, tuple[str, Rows | None]]:
        """Location → tensor and its rows, for the weights and biases of the seven projections."""
        found: dict[Location, tuple[str, Rows | None]] = {}
        for name in self.names():
            if name in self.further:
                continue
            shape = self.shape(name)
            for location, rows in parts(name, shape[0] if shape else 1, self.config):
                if location in found:
                    raise InputError(
                        f"{self.path}: both {found[location][0]} and {name} hold "
                        f"{location.projection} of layer {location.layer}; give the prefix of the "
                        "language model"
                    )
                found[location] = (name, rows)
        return {location: found[location] for location in sorted(found, key=lambda one: one.order)}

    @cached_property
    def layers_prefix(self) -> str | None:
        """What stands before `layers.N.` in the names of the language model's tensors."""
        for name, _ in self.projections.values():
            return re.sub(r"layers\.\d+\..*", "", name)
        return None


def _plain(name: str) -> str:
    """A tensor's name without those of wrappers around its modules."""
    return _WRAPPERS.sub("", name)


def _weight_files(path: Path) -> list[Path]:
    refuse_pieces(path)
    if path.is_file():
        shard = _SHARD.search(path.name)
        if shard is not None and int(shard[1]) > 1:
            raise InputError(f"{path}: one shard of {int(shard[1])}; give the folder of them all")
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; expected a model or an adapter")
    if files := whole_weights(path):
        return files
    if (path / CONFIG).is_file():
        raise InputError(f"{path}: an adapter without a whole model; expected a model")
    if found := instead_of_weights(path):
        raise InputError(f"{path}: {found}")
    raise InputError(
        f"{path}: no .safetensors file, no pytorch_model.bin and no .pth; "
        "expected a model as it was saved"
    )


# The first matrix of a feed-forward block that has two.
_UNGATED = re.compile(r"(?:.*\.)?(?:fc1|fc_in|c_fc|dense_h_to_4h|linear1|lin1|wi|up_proj)")
_LATENT = re.compile(r"(?:.*\.)?(?:kv_b_proj|kv_a_proj_with_mqa|kv_a_proj)")


def _why_unread(modules: Sequence[str], nowhere: Sequence[str]) -> str:
    """Why a model has none of some projections, by its other modules, and what to do."""
    expected = "expected a model with q, k, v, o, gate, up and down"
    if {"k", "v"} & set(nowhere) and (latent := list(filter(_LATENT.fullmatch, modules))):
        joined = " and ".join(name.rpartition(".")[2] for name in latent)
        return f"its attention is latent, and k and v are in {joined}, not measured; {expected}"
    experts = any("experts" in name for name in modules)
    if "gate" in nowhere and not experts and any(map(_UNGATED.fullmatch, modules)):
        return f"its feed-forward block has no gate; {expected}"
    return (
        "its layout is not known; a few lines in workflow/affectlocus/checkpoints/architectures.py "
        "teach another layout"
    )


def _refuse_unread(base: Weights) -> list[str]:
    """Refuses a model that has none of some projection; notes about single layers without it.

    What is there and not known by name must never pass for "not adapted".
    """
    unread = base.unread
    if not base.projections or not unread:
        return []
    layers = {location.layer for location in base.projections}
    nowhere = [name for name, missing in unread.items() if set(missing) == layers]
    first = min(min(missing) for missing in unread.values())
    modules = ", ".join(base.modules(first))
    if nowhere:
        raise InputError(
            f"{base.path}: no {', '.join(nowhere)} among the modules of its layers ({modules}): "
            f"{_why_unread(base.modules(first), nowhere)}"
        )
    return [
        f"{base.path}: {name} is not known in {len(missing)} of {len(layers)} layers, as layer "
        f"{missing[0]} ({', '.join(base.modules(missing[0]))}): not measured there"
        for name, missing in unread.items()
    ]


class Applied:
    """An adapter on a base: what it does to the base's tensors, by their names there.

    Attributes:
        names: tensor of the base → the adapter's name of it, for all that it changes.
        other: the adapter's names of what it changes elsewhere: encoders, heads of its own, tied or
            resized embeddings.
        notes: sentences about them.

    Raises:
        InputError: a projection of the language model that the base has not, or in another shape;
            nothing that the base has; modules that the adapter was to change and does not hold.
    """

    def __init__(self, adapter: Adapter, base: Weights) -> None:
        self.adapter = adapter
        self.notes = list(adapter.notes)
        names, known = adapter.changed(), set(base.names())
        where = named(names, known, adapter.path)
        both = prefixes(names, known)
        self.names = {where[name]: name for name in names if name in where}
        self.other = sorted(set(names) - set(where))
        self._refuse_new_biases(base, where)
        lost = [
            name
            for name in self.other
            if (place(name) is not None and both is None)
            or (both is not None and layered(name)[1] is not None and layered(name)[0] == both[0])
        ]
        factors = {name for name in names if name not in adapter.replaced}
        if not lost and factors and factors.isdisjoint(where):
            lost = sorted(factors)
        if lost or not (self.names or adapter.rows):
            first = lost[0] if lost else next(iter(sorted(names)), "nothing")
            raise InputError(
                f"{adapter.path}: {first!r} is not in its base {base.path} "
                f"({len(lost) or len(names)} tensors so); check that this is the base that it was "
                "tuned from"
            )
        for name in sorted(self.names):
            self._check_shape(name, base)
        if both is not None:
            self._refuse_incomplete(base, both[1])
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
                    f"{self.adapter.path}: it holds LoRA biases (lora_bias), as {factors.bias!r}, "
                    f"and {weight.removesuffix('.weight')} of the base {base.path} has no bias "
                    "that they could be added to, so neither this program nor peft can merge "
                    "them; train the adapter without lora_bias"
                )

    def _refuse_incomplete(self, base: Weights, prefix: str) -> None:
        """Refuses a peft adapter whose list of targets names projections that it does not hold."""
        for target in self.adapter.untouched_targets():
            for name in base.names():
                module, found = name.removesuffix(".weight"), place(name)
                # Experts may be one parameter in memory, which the name of a module does not reach.
                if name in self.names or found is None or found.expert is not None:
                    continue
                if layered(name)[0] != prefix or not f".{module}".endswith(f".{target}"):
                    continue
                if self.adapter.targets(module):
                    raise InputError(
                        f"{self.adapter.path / CONFIG}: target_modules names {target!r}, which the "
                        f"base has ({module}), and the adapter holds no factors of it; it is "
                        "incomplete: fetch it again"
                    )

    def _leave(self, name: str, note: str | None = None) -> None:
        self.other = sorted([*self.other, self.names.pop(name)])
        if note is not None:
            self.notes.append(note)

    def _check_shape(self, name: str, base: Weights) -> None:
        """Refuses what does not fit a projection; leaves out what does not fit elsewhere."""
        given = self.names[name]
        found: list[tuple[str, tuple[int, ...]]] = []
        if given in self.adapter.replaced:
            shape = self.adapter.tensors.shape(self.adapter.replaced[given])
            found.append((f"{name} has shape {shape}", shape))
        if (module := self.module(name)) is not None:
            factors = self.adapter.factors[module]
            if factors.layout == "embedding" and factors.magnitude is not None:
                # Its norms are those of the columns; outside the seven, so nobody asks for it.
                self._leave(name)
                return
            a, b = (self.adapter.tensors.shape(part) for part in (factors.a, factors.b))
            shape = {
                "linear": (b[0], a[-1]),
                "embedding": (a[-1], b[0]),
                "mlx": (b[-1], a[0]),
                "mlx embedding": (a[0], b[-1]),
            }[factors.layout]
            found.append((f"the delta of {name} has shape {shape}", shape))
        stored = base.shape(name)
        for what, shape in found:
            if shape == stored:
                continue
            if place(name) is not None:
                raise InputError(
                    f"{self.adapter.path}: {what}, the base's weight {stored}; "
                    "this is not the adapter's base"
                )
            resized = _vocabulary(name) and shape[1:] == stored[1:]
            rows = f"{name} has {stored[0]} rows in the base, {shape[0]} in {self.adapter.path}"
            self._leave(name, f"the vocabulary was resized: {rows}" if resized else None)
            return

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def unmeasured(self) -> list[str]:
        """Sentences about what it changes of the base outside the seven projections."""
        modules = {name for name in self.names if self.module(name) is not None}
        # peft keeps a copy of the embeddings beside their factors; a bias goes with its module.
        whole = [
            name
            for name, given in self.names.items()
            if name not in modules and given in self.adapter.replaced
        ]
        modules = {name.removesuffix(".weight") for name in modules}
        rows = [
            f"{self.adapter.path} also trains {len(self.adapter.row_indices(name))} rows of "
            f"{name.removesuffix('.weight')}: none of the seven projections, and not measured"
            for name in sorted(self.adapter.rows)
        ]
        return outside_notes(self.adapter.path, sorted(modules), sorted(whole)) + rows

    def module(self, name: str) -> str | None:
        """The adapter's module that changes a weight by low-rank factors; else None."""
        given = self.names.get(name, "")
        module = given.removesuffix(".weight")
        return module if given.endswith(".weight") and module in self.adapter.factors else None

    def low_rank(self, name: str, rows: Rows | None) -> LowRank | None:
        """The low-rank change of a weight, if that is all that becomes of it."""
        module = self.module(name)
        if module is None or self.names[name] in self.adapter.replaced:
            return None
        return self.adapter.low_rank(module, rows)

    def change(self, name: str, rows: Rows | None, base: Side) -> Side:
        """Tuned minus base of one tensor that the adapter changes, unrounded."""
        module = self.module(name)
        given = self.names[name]
        if module is not None:
            low_rank = self.adapter.low_rank(module, rows)
            magnitude = self.adapter.magnitude(module, rows)
            if given in self.adapter.replaced:
                # The wrapped module's own weight, which may differ from the base's.
                own = self.adapter.tensors.part(self.adapter.replaced[given], rows)
                apart = dense(own) - dense(base)
                if apart.any():
                    on_own = low_rank if magnitude is None else DoraDelta(own, low_rank, magnitude)
                    return Held(apart + dense(on_own))
            return low_rank if magnitude is None else DoraDelta(base, low_rank, magnitude)
        if given in self.adapter.replaced:
            stored = self.adapter.tensors.part(self.adapter.replaced[given], rows)
            return Held(dense(stored) - dense(base))
        owner = given.removesuffix(".bias")
        factors = self.adapter.factors[owner]
        assert factors.bias is not None
        added = self.adapter.tensors.array(factors.bias) * self.adapter.scaling(owner)
        return Held(added if rows is None else np.concatenate([added[a:b] for a, b in rows]))


class Pair:
    """A base and what was tuned from it, seen tensor by tensor.

    Args:
        base: a model, or a chain: a model and the adapters that made it the base in question. A
            file of trained tensors that continues another one's training takes its place; any other
            adapter is added on top.
        tuned: a model or an adapter.
        alpha: LoRA alpha of a file of trained tensors that does not tell its own.
        prefix: reads the language model alone out of a multimodal tuned model (see `Weights`).
        any_base: whether an adapter that names another base is read all the same.

    Attributes:
        tuned: its path.
        notes: sentences about what is not measured, or was accepted with a doubt.
        only_base, only_tuned: of two whole models, the tensors that the other one does not have.

    Raises:
        InputError: tensors that are missing on a side, or differ in shape.
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
        self.before = [Applied(Adapter(path, alpha), self.base) for path in chain]
        self.notes = [*self.base.notes, *_refuse_unread(self.base)]
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
            adapter = Adapter(tuned, alpha)
            names = [] if any_base else check_base_name(adapter, self.base.path, self.base.config)
            self.adapter = Applied(adapter, self.base)
            self.notes += self.adapter.notes + self.adapter.unmeasured() + names
            continued = [one.adapter for one in self.before if _continues(one.adapter)]
            if continued and not _continues(adapter):
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

    def _matched(self, whole: Weights) -> Weights:
        """A full tuned model under the base's names; refused if it is no twin of the base."""
        sides = (
            Model(one.path, one.names(), one.config, one.further) for one in (self.base, whole)
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
            if name in located or a[1:] != b[1:] or not _vocabulary(name):
                raise InputError(
                    f"{tuned.path}: {name} has shape {b}, in the base {a}; the two are no pair"
                )
            self.notes.append(
                f"the vocabulary was resized: {name} has {a[0]} rows in the base, {b[0]} tuned"
            )
        return tuned

    @cached_property
    def names(self) -> list[str]:
        """Every tensor of the base that the tuned model has as well, sorted."""
        return [name for name in self.base.names() if self._tuned is None or name in self._tuned]

    @property
    def projections(self) -> dict[Location, tuple[str, Rows | None]]:
        """Location → tensor and rows of the seven projections, in the tables' order."""
        return self.base.projections

    def adapted(self, name: str) -> bool:
        """Whether the tuning could touch this tensor at all."""
        return name in self.adapter if self.adapter else True

    def base_side(self, name: str, rows: Rows | None = None) -> Side:
        """A tensor of the base, with what the chain's adapters made of it."""
        side = self.base.part(name, rows)
        for applied in self._standing(name):
            side = Sum(side, applied.change(name, rows, side))
        return side

    def _standing(self, name: str) -> list[Applied]:
        """The chain's adapters that change a tensor; of a continued training, the last."""
        found = [applied for applied in self.before if name in applied]
        last = next((one for one in reversed(found) if _continues(one.adapter)), None)
        return [one for one in found if one is last or not _continues(one.adapter)]

    def delta_side(self, name: str, rows: Rows | None = None) -> Side | None:
        """The delta of a tensor where an adapter tells it, unrounded; None for full models."""
        if self.adapter is None or name not in self.adapter:
            return None
        earlier = None
        if _continues(self.adapter.adapter):
            earlier = next((one for one in self._standing(name) if _continues(one.adapter)), None)
        if earlier is None:
            return self.adapter.change(name, rows, self.base_side(name, rows))
        after, before = self.adapter.low_rank(name, rows), earlier.low_rank(name, rows)
        if after is not None and before is not None:
            return _difference(after, before)
        stored = self.base.part(name, rows)
        now = dense(self.adapter.change(name, rows, stored))
        return Held(now - dense(earlier.change(name, rows, stored)))

    def tuned_side(self, name: str, rows: Rows | None = None) -> Side:
        """A tensor of the tuned model; an adapter's is merged, and not rounded."""
        if self._tuned is not None:
            return self._tuned.part(name, rows)
        base = self.base_side(name, rows)
        delta = self.delta_side(name, rows)
        return base if delta is None else Sum(base, delta)

    def stored_base(self, name: str) -> np.ndarray:
        """The tensor in the base, with what the chain's adapters made of it, as stored."""
        stored = self.base.stored(name)
        return (
            rounded(dense(self.base_side(name)), stored.dtype) if self._standing(name) else stored
        )

    def stored_sides(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The tensor in the base and in the tuned model, both in the base's dtype or the tuned's.

        An adapter is merged in float64 and rounded once to the base's dtype.
        """
        base = self.stored_base(name)
        if self._tuned is not None:
            return base, self._tuned.stored(name)
        if not self.adapted(name):
            return base, base
        return base, rounded(dense(self.base_side(name)) + self.difference(name), base.dtype)

    def difference(self, name: str) -> np.ndarray:
        """Tuned minus base in float64, as trained: an adapter's before any rounding."""
        if self._tuned is not None:
            return dense(self.tuned_side(name)) - dense(self.base_side(name))
        side = self.delta_side(name)
        return np.zeros(self.base.shape(name)) if side is None else dense(side)

    def base_tensor(self, name: str) -> torch.Tensor:
        """`stored_base` as a torch tensor."""
        return as_torch(self.stored_base(name))

    def sides(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """`stored_sides` as torch tensors."""
        base, tuned = self.stored_sides(name)
        return as_torch(base), as_torch(tuned)

    def delta(self, name: str) -> torch.Tensor:
        """`difference` as a torch tensor."""
        return as_torch(self.difference(name))


def holds_model(path: Path) -> bool:
    """Whether a folder holds a whole model of its own, whether or not an adapter is there too."""
    return path.is_dir() and bool(whole_weights(path)) and not holds_factors(path)


def is_adapter(path: Path, base: Weights | None = None) -> bool:
    """Whether a checkpoint holds changes of a base, not a whole model."""
    if path.is_dir():
        if (path / CONFIG).is_file():
            return True
        refuse_pieces(path)
        return holds_factors(path)
    if not path.is_file():
        return False
    refuse_pieces(path)
    tensors = Tensors([path])
    split_experts(tensors, None if base is None else base.config, path)
    names = tensors.names()
    low_rank = any(".lora_" in name for name in names)
    whole = any(place(name.replace(".base_layer.", ".")) is not None for name in names)
    if low_rank and ((path.suffix == ".safetensors" and not whole) or path.stem == PEFT):
        raise InputError(
            f"{path}: holds an adapter's weights alone, without their scaling; give the folder "
            f"{path.parent}, with the {CONFIG} in it"
        )
    if low_rank or path.suffix == ".safetensors":
        return low_rank
    # A part of the base's tensors, and nothing of the rest: what else than those that were trained?
    if base is None:
        return False
    known = set(base.names())
    missing = known - base.further - set(named(names, known, path).values())
    return any(needed(name, base.layers_prefix or "") for name in missing)


def _difference(after: LowRank, before: LowRank) -> LowRank:
    """Two low-rank changes' difference, of the sum of their ranks."""
    return LowRank(
        np.concatenate([after.a, before.a]),
        np.concatenate([after.scaling * after.b, -before.scaling * before.b], axis=1),
        1.0,
    )


def _continues(adapter: Adapter) -> bool:
    return adapter.layout == "trained-only"


def _vocabulary(name: str) -> bool:
    return name.endswith(("embed_tokens.weight", "lm_head.weight", "tok_embeddings.weight"))


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Name, size in bytes and SHA-256 of every file of a checkpoint: what jobs depend on."""
    return [manifest_entry(path) for path in checkpoint_paths(folder)]


def checkpoint_folder(manifest_file: Path) -> Path:
    """The folder of a manifest's checkpoint, with every file there, of its size and its SHA-256.

    A checkpoint that is a single file (kind "file") is given by that file's own path.

    Raises:
        InputError: no manifest; weights that it lists are gone or were changed.
    """
    if problem := manifest_problem(manifest_file):
        if not manifest_file.is_file():
            raise InputError(problem)
        if STATE.is_dir():
            raise InputError(f"{problem}; affectlocus doctor --fix puts it right; then run again")
        if is_listed(manifest_file):
            problem += f"; bring it back with the command that wrote {manifest_file}"
        raise InputError(problem)
    record = read_json(manifest_file)
    folder = manifest_folder(record)
    return folder / record["files"][0]["file"] if record.get("kind") == "file" else folder


def is_listed(manifest_file: Path) -> bool:
    """Whether a file is a manifest, whatever became of the files that it lists."""
    try:
        return is_manifest(read_json(manifest_file))
    except InputError:
        return False


def manifest_problem(manifest_file: Path) -> str:
    """What is wrong with a manifest or with the files that it lists; empty where all is whole."""
    written = "written by affectlocus retrieve CHECKPOINT --out FILE.json"
    if manifest_file.is_dir():
        return f"{manifest_file}: a folder; expected the manifest of a checkpoint, a JSON file"
    if not manifest_file.exists():
        return f"{manifest_file}: no such file; expected the manifest of a checkpoint, {written}"
    try:
        record = read_json(manifest_file)
    except InputError as error:
        return str(error)
    if not is_manifest(record):
        return f"{manifest_file}: no manifest of a checkpoint; expected one {written}"
    folder = manifest_folder(record)
    if lost := first_missing_file(record):
        path, size = lost
        state = "changed" if path.is_file() else "missing"
        return f"{path}: {state}, though {manifest_file} lists it with {size} bytes"
    changed = broken(folder, record["files"])
    if changed is not None:
        return (
            f"{changed}: as long as {manifest_file} lists it, but with other bytes (their SHA-256 "
            "differs)"
        )
    return ""
