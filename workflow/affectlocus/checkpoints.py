"""Checkpoints on disk: a base model, a tuned model, an adapter; read a tensor at a time.

Nothing here imports transformers or peft: a tensor's name, shape and bytes are all that deltas and
interventions need.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from affectlocus.errors import InputError
from affectlocus.files import checkpoint_paths, manifest_entry, read_json
from affectlocus.projections import Location, locate

ADAPTER = "adapter_model.safetensors"
_INDEX = "model.safetensors.index.json"


class Weights:
    """The tensors of a folder's safetensors files, single or sharded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = folder / _INDEX
        if index.is_file():
            placed = read_json(index).get("weight_map")
            if not placed:
                raise InputError(f"{index}: no weight_map; expected the names of all tensors")
            names = sorted(set(placed.values()))
        else:
            names = sorted(path.name for path in folder.glob("*.safetensors"))
        if not names:
            raise InputError(
                f"{folder}: no .safetensors file; expected a model saved in safetensors"
            )
        self.files = [folder / name for name in names]
        self._where: dict[str, Path] = {}
        for file in self.files:
            with _opened(file) as tensors:
                self._where.update(dict.fromkeys(tensors.keys(), file))

    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self._where)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, in its stored dtype, on the CPU."""
        with _opened(self._where[name]) as tensors:
            return tensors.get_tensor(name)

    def projections(self) -> dict[Location, str]:
        """Location → tensor name, for the weights and biases of the seven projections."""
        found = {}
        for name in self.names():
            location = locate(name)
            if location is not None:
                found[location] = name
        return dict(sorted(found.items()))


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; the checkpoint is incomplete") from None
    except SafetensorError as error:
        raise InputError(f"{file}: not a whole safetensors file ({error})") from None


class Adapter:
    """A LoRA adapter in peft's layout: delta = scaling · B·A for each module it touches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = read_json(folder / "adapter_config.json")
        for key, refused in (
            ("peft_type", self.config.get("peft_type") != "LORA"),
            ("use_dora", bool(self.config.get("use_dora"))),
            ("alora_invocation_tokens", bool(self.config.get("alora_invocation_tokens"))),
            ("fan_in_fan_out", bool(self.config.get("fan_in_fan_out"))),
            ("modules_to_save", bool(self.config.get("modules_to_save"))),
            ("bias", self.config.get("bias", "none") != "none"),
            # These begin from a changed base, so that B·A is not the whole delta.
            (
                "init_lora_weights",
                str(self.config.get("init_lora_weights"))
                .lower()
                .startswith(("pissa", "olora", "corda", "loftq", "lora_ga")),
            ),
        ):
            if refused:
                raise InputError(
                    f"{folder / 'adapter_config.json'}: {key} is {self.config.get(key)!r}, which "
                    "is not read yet; merge it into its base with peft and give that folder"
                )
        self._weights = Weights(folder)
        self.factors: dict[str, tuple[str, str]] = {}
        for name in self._weights.names():
            module, _, factor = name.partition(".lora_")
            if factor not in ("A.weight", "B.weight"):
                raise InputError(
                    f"{folder / ADAPTER}: unknown tensor {name!r}; expected LoRA factors"
                )
            weight = f"{module.removeprefix('base_model.model.')}.weight"
            self.factors[weight] = (f"{module}.lora_A.weight", f"{module}.lora_B.weight")
        for pair in self.factors.values():
            for name in pair:
                if name not in self._weights:
                    raise InputError(f"{folder / ADAPTER}: {name!r} is missing; its twin is there")

    def scaling(self, name: str, rank: int) -> float:
        """alpha / r (or alpha / √r with rsLoRA) of a weight, by peft's patterns."""
        module = name.removesuffix(".weight")
        alpha = self._pattern("alpha_pattern", module, self.config.get("lora_alpha", rank))
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)

    def _pattern(self, key: str, module: str, default: float) -> float:
        # As peft does it: a key is a regular expression for the end of a module's name.
        for pattern, value in (self.config.get(key) or {}).items():
            if re.match(rf"(?:.*\.)?({pattern})$", module):
                return float(value)
        return float(default)

    def delta(self, name: str) -> torch.Tensor:
        """The delta of a weight, float64, shape (d_out, d_in)."""
        first, second = self.factors[name]
        a = self._weights.tensor(first).double()  # (r, d_in)
        b = self._weights.tensor(second).double()  # (d_out, r)
        return self.scaling(name, a.shape[0]) * (b @ a)


class Pair:
    """A base and what was tuned from it, seen tensor by tensor.

    Raises:
        InputError: tensors that are missing on a side, or differ in shape.
    """

    def __init__(self, base: Path, tuned: Path) -> None:
        self.base = Weights(base)
        self.adapter = Adapter(tuned) if (tuned / "adapter_config.json").is_file() else None
        self._tuned = None if self.adapter else Weights(tuned)
        named = set(self.adapter.factors) if self.adapter else set(self._full.names())
        for difference, problem in (
            (named - set(self.base.names()), f"is not in its base {base}"),
            (
                set() if self.adapter else set(self.base.names()) - named,
                "is missing; the base has it",
            ),
        ):
            if difference:
                raise InputError(
                    f"{tuned}: {min(difference)!r} {problem} ({len(difference)} tensors so); "
                    "check that this is the base that it was tuned from"
                )

    @property
    def _full(self) -> Weights:
        assert self._tuned is not None
        return self._tuned

    @cached_property
    def names(self) -> list[str]:
        """Every tensor of the base, sorted."""
        return self.base.names()

    def adapted(self, name: str) -> bool:
        """Whether the tuning could touch this tensor at all."""
        return name in self.adapter.factors if self.adapter else True

    def sides(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The tensor in the base and in the tuned model, both in the base's dtype or the tuned's.

        An adapter is merged in float64 and rounded once to the base's dtype.
        """
        base = self.base.tensor(name)
        if self.adapter is None:
            tuned = self._full.tensor(name)
            if tuned.shape != base.shape:
                raise InputError(
                    f"{self._full.folder}: {name} has shape {tuple(tuned.shape)}, "
                    f"in the base {tuple(base.shape)}; the two are no pair"
                )
            return base, tuned
        if not self.adapted(name):
            return base, base
        delta = self.adapter.delta(name)
        if delta.shape != base.shape:
            raise InputError(
                f"{self.adapter.folder}: the delta of {name} has shape {tuple(delta.shape)}, "
                f"the base's weight {tuple(base.shape)}; this is not the adapter's base"
            )
        return base, (base.double() + delta).to(base.dtype)

    def delta(self, name: str) -> torch.Tensor:
        """Tuned minus base in float64, as trained: an adapter's before any rounding."""
        if self.adapter is None:
            base, tuned = self.sides(name)
            return tuned.double() - base.double()
        if self.adapted(name):
            return self.adapter.delta(name)
        return torch.zeros_like(self.base.tensor(name), dtype=torch.float64)


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Name, size in bytes and SHA-256 of every file of a checkpoint: what jobs depend on."""
    return [manifest_entry(path) for path in checkpoint_paths(folder)]


def checkpoint_folder(manifest_file: Path) -> Path:
    """The folder of a manifest's checkpoint, with every file there and of its size.

    A checkpoint that is a single file (kind "file") is given by that file's own path.

    Raises:
        InputError: weights that the manifest lists are gone or were changed.
    """
    record = read_json(manifest_file)
    folder = Path(record["folder"])
    source = record.get("source", {})
    again = "download it" if "hub" in source or "url" in source else "take stock of it"
    for entry in record["files"]:
        path = folder / entry["file"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise InputError(
                f"{path}: {'changed' if path.is_file() else 'missing'}, though {manifest_file} "
                f"lists it with {entry['bytes']} bytes; delete {manifest_file} and run again, to "
                f"{again} anew"
            )
    return folder / record["files"][0]["file"] if record.get("kind") == "file" else folder
