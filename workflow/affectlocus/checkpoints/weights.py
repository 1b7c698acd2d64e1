"""A whole model on disk: the tensors of its files, by name."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.architectures import Rows, parts
from affectlocus.checkpoints.fused_experts import split_experts
from affectlocus.checkpoints.matching import mtp_layers
from affectlocus.checkpoints.stored import as_torch
from affectlocus.checkpoints.tensor_entries import ExpertView
from affectlocus.checkpoints.tensor_files import EPS, TensorReader, Tensors
from affectlocus.checkpoints.unsupported_formats import (
    refuse_empty,
    refuse_known_folder,
    refuse_partitioned,
)
from affectlocus.core.checkpoint_files import shards, whole_weights
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_object
from affectlocus.core.model_config import language_model_config
from affectlocus.core.phrases import counted
from affectlocus.core.projections import ATTENTION, PROJECTIONS, Location

if TYPE_CHECKING:
    import torch

# Parts that torch.compile, FSDP and activation checkpointing add to the names of tensors.
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

# How the names of matrices end; fused experts have no ".weight".
_WEIGHTS = (".weight", "_proj")


class Weights:
    """The tensors of a whole model: a folder of safetensors or .bin files, or a single file.

    Args:
        path: the folder, or a .safetensors, .bin, .pt or .pth file.
        prefix: only tensors with this prefix are read, and their names are shortened by it:
            `language_model.` reads only the language model of a multimodal checkpoint.

    Attributes:
        config: config.json, or None.
        notes: sentences about how the model is read.
        has_stale_quantisation: whether config.json describes quantised weights, but the
            files hold plain floats.

    Raises:
        InputError: the weights are missing, incomplete or quantised.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        indexed = shards(path) if path.is_dir() else {}
        self.files = sorted(set(indexed.values())) or _weight_files(path)
        config = path / "config.json"
        self.config: dict[str, Any] | None = (
            read_object(config, "a model's settings") if config.is_file() else None
        )
        self.tensors = Tensors(self.files)
        missing = sorted(name for name in indexed if name not in self.tensors)
        if missing:
            raise InputError(
                "checkpoint.tensor-not-in-shard",
                f"{indexed[missing[0]]}: {missing[0]!r} is not in it, but the index lists it there "
                f"({counted(missing, 'tensor')} in all); fetch the shard again",
                file=indexed[missing[0]],
                tensor=missing[0],
            )
        split_experts(self.tensors, self.config, path)
        refuse_empty(path, self.tensors)
        self.stored_names: dict[str, str] = {}
        for name in self.tensors.names():
            if not name.startswith(prefix):
                continue
            plain = _plain(name.removeprefix(prefix))
            if plain in self.stored_names:
                raise InputError(
                    "model.two-wrapped-copies",
                    f"{path}: {self.stored_names[plain]!r} and {name!r} are both {plain!r} without "
                    "the names of wrappers; expected one model",
                    file=path,
                    tensor=plain,
                    found=(self.stored_names[plain], name),
                )
            self.stored_names[plain] = name
        if not self.stored_names:
            raise InputError(
                "model.no-such-prefix",
                f"{path}: no tensor's name begins with {prefix!r}",
                file=path,
                option="prefix",
                found=prefix,
            )
        self.notes: list[str] = []
        self.has_stale_quantisation = False
        self._refuse_quantised()

    def modules(self, layer: int) -> list[str]:
        """The modules with matrices in a layer of the language model."""
        stem = f"{self.layers_prefix}layers.{layer}."
        names = {
            name.removeprefix(stem).rpartition(".")[0]
            for name in self.stored_names
            if name.startswith(stem) and len(self.shape(name)) > 1
        }
        return sorted({re.sub(r"\.\d+(?=\.|$)", ".N", name) for name in names})

    def _refuse_quantised(self) -> None:
        """Refuses quantised tensors; notes a configuration that calls plain tensors quantised."""
        settings = (self.config or {}).get("quantization_config")
        method = settings.get("quant_method", "unnamed") if isinstance(settings, dict) else None
        quantised = next((name for name in self.names() if name.endswith(_QUANTISED)), None)
        if quantised is None:
            # Without settings, a matrix of integers may also be a mask or a table of positions.
            quantised = next(
                (
                    name
                    for name in self.names()
                    if (method or name.endswith(_WEIGHTS)) and self._packed(name)
                ),
                None,
            )
        if quantised is not None:
            dtype = self.dtype(quantised)
            state = (
                f"quantised by {method!r} ({quantised})"
                if method
                else f"quantised ({quantised}: {dtype})"
            )
            raise InputError(
                "model.quantised",
                f"{self.path}: its weights are {state}, so their values are not in the files; "
                "expected float16, bfloat16, float32 or float64 (dequantise it with its own tool)",
                file=self.path,
                tensor=quantised,
                found=method or dtype,
            )
        if method:
            self.has_stale_quantisation = True
            self.notes.append(
                f"{self.path / 'config.json'} says that the weights are quantised by {method!r}, "
                "and all of them are stored as plain floats: they are read as they are stored"
            )

    def _packed(self, name: str) -> bool:
        """Whether a matrix is stored in a dtype that quantised weights have."""
        stored = self.stored_names[name]
        dtype = self.tensors.dtype(stored)
        return len(self.tensors.shape(stored)) > 1 and dtype not in (*EPS, "int64", "bool")

    @cached_property
    def mtp_tensors(self) -> set[str]:
        """The tensors of numbered layers for multi-token prediction, which follow the others."""
        return mtp_layers(self.names(), self.config)

    def renamed(self, names: Mapping[str, str]) -> Weights:
        """The same tensors, with those in `names` renamed."""
        twin = copy.copy(self)
        twin.stored_names = {
            names.get(name, name): stored for name, stored in self.stored_names.items()
        }
        for cached in ("located", "unread", "projections", "layers_prefix", "mtp_tensors"):
            twin.__dict__.pop(cached, None)
        return twin

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self.stored_names)

    @cached_property
    def fused(self) -> dict[str, tuple[tuple[int, ...], dict[str, ExpertView]]]:
        """Fused tensors of experts in the files: tensor → its shape and its matrices."""
        return {
            _plain(name): (shape, {_plain(part): cut for part, cut in parts.items()})
            for name, (shape, parts) in self.tensors.expert_views.items()
        }

    def begins_with(self, prefix: str) -> bool:
        """Whether the stored name of a tensor begins with the prefix."""
        return any(name.startswith(prefix) for name in self.stored_names.values())

    def __contains__(self, name: str) -> bool:
        return name in self.stored_names

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from its file's header."""
        return self.tensors.shape(self.stored_names[name])

    def dtype(self, name: str) -> str:
        """A tensor's stored dtype by torch's name, from its file's header."""
        return self.tensors.dtype(self.stored_names[name])

    def stored(self, name: str) -> np.ndarray:
        """One tensor in its stored dtype (`stored.numpy_dtype`)."""
        return self.tensors.stored(self.stored_names[name])

    def tensor(self, name: str) -> torch.Tensor:
        """`stored` as a torch tensor on the CPU."""
        return as_torch(self.stored(name))

    def part(self, name: str, rows: Rows | None = None) -> TensorReader:
        """A reader of some rows of a tensor (None: all rows)."""
        return self.tensors.part(self.stored_names[name], rows)

    @cached_property
    def located(self) -> dict[str, list[tuple[Location, Rows | None]]]:
        """Tensor → its projections with their rows, for tensors that hold a projection."""
        found: dict[str, list[tuple[Location, Rows | None]]] = {}
        for location, (name, rows) in self.projections.items():
            found.setdefault(name, []).append((location, rows))
        return found

    @cached_property
    def unread(self) -> dict[str, list[int]]:
        """Projection → the layers of the language model in which it was not found."""
        found: dict[str, set[int]] = {projection: set() for projection in PROJECTIONS}
        for location in self.projections:
            found[location.projection].add(location.layer)
        layers = set().union(*found.values())
        return {name: sorted(layers - known) for name, known in found.items() if layers - known}

    @cached_property
    def linear_layers(self) -> frozenset[int]:
        """The layers that config.json says have linear attention.

        Their matrices may have the names of q, k, v and o, but are another mechanism's.
        """
        kinds = language_model_config(self.config).get("layer_types")
        if not isinstance(kinds, list):
            return frozenset()
        return frozenset(layer for layer, kind in enumerate(kinds) if kind == "linear_attention")

    @cached_property
    def projections(self) -> dict[Location, tuple[str, Rows | None]]:
        """Location → tensor and its rows, for the weights and biases of the seven projections."""
        found: dict[Location, tuple[str, Rows | None]] = {}
        for name in self.names():
            if name in self.mtp_tensors:
                continue
            shape = self.shape(name)
            try:
                placed = parts(name, shape[0] if shape else 1, self.config)
            except InputError as error:
                raise error.within(self.path, file=self.path) from None
            for location, rows in placed:
                if location.projection in ATTENTION and location.layer in self.linear_layers:
                    continue
                if location in found:
                    raise InputError(
                        "model.projection-twice",
                        f"{self.path}: both {found[location][0]} and {name} hold "
                        f"{location.projection} of layer {location.layer}; give the prefix of the "
                        "language model",
                        file=self.path,
                        found=(found[location][0], name),
                    )
                found[location] = (name, rows)
        return {
            location: found[location]
            for location in sorted(found, key=lambda location: location.order)
        }

    @cached_property
    def layers_prefix(self) -> str | None:
        """The prefix of `layers.N.` in the names of the language model's tensors."""
        for name, _ in self.projections.values():
            return re.sub(r"layers\.\d+\..*", "", name)
        return None


def _plain(name: str) -> str:
    """A tensor's name without the parts that wrappers add."""
    return _WRAPPERS.sub("", name)


def _weight_files(path: Path) -> list[Path]:
    refuse_partitioned(path)
    if path.is_file():
        shard = _SHARD.search(path.name)
        if shard is not None and int(shard[1]) > 1:
            raise InputError(
                "checkpoint.one-shard",
                f"{path}: one shard of {int(shard[1])}; give the folder of them all",
                file=path,
                expected=int(shard[1]),
            )
        return [path]
    if not path.is_dir():
        raise InputError(
            "checkpoint.missing",
            f"{path}: no such file or folder; expected a model or an adapter",
            file=path,
        )
    if files := whole_weights(path):
        return files
    if (path / CONFIG).is_file():
        raise InputError(
            "checkpoint.adapter-alone",
            f"{path}: an adapter without a whole model; expected a model",
            file=path,
        )
    refuse_known_folder(path)
    raise InputError(
        "checkpoint.no-weights",
        f"{path}: no .safetensors file, no pytorch_model.bin and no .pth; "
        "expected a model as it was saved",
        file=path,
    )


def is_vocabulary(name: str) -> bool:
    """Whether a tensor has a row for each token: embeddings or head."""
    return name.endswith(("embed_tokens.weight", "lm_head.weight", "tok_embeddings.weight"))
