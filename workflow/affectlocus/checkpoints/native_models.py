"""Multimodal models of transformers: the regions of their tensors, by names in a data file.

The regions are the language model, the bridge (projectors and mergers) and the encoder (towers). A
tensor has two names: that of its module in transformers 5 (`model.visual.merger.mlp.0.weight`), and
one that checkpoints store (`visual.merger.mlp.0.weight`). Reads no tensors and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_data_file, read_object

Region = Literal["language", "bridge", "encoder"]
"""The language model, the bridge or the encoder."""

REGIONS: tuple[Region, ...] = ("language", "bridge", "encoder")


@dataclass(frozen=True)
class NativeModel:
    """The names of the tensors of one model type.

    Attributes:
        model_type: as in config.json.
        starts: region → start of a module's names → the same start as checkpoints spell it.
        placeholders: kind of medium → the text at whose place the processor puts its tokens.
    """

    model_type: str
    starts: Mapping[Region, Mapping[str, tuple[str, ...]]]
    placeholders: Mapping[str, str]

    @property
    def layers(self) -> str:
        """The prefix of `layers.N.` of the language model, in module names."""
        return next(iter(self.starts["language"]))

    def region(self, name: str) -> Region | None:
        """The region of a tensor, by either of its names; None if no start fits."""
        found = self._found(name)
        return None if found is None else found[0]

    def module_name(self, name: str) -> str:
        """The name of a tensor's module in transformers 5, from either of its names.

        A name that no start fits is returned as it is.
        """
        found = self._found(name)
        if found is None:
            return name
        _, start, module = found
        return module + name[len(start) :]

    @cached_property
    def _spellings(self) -> list[tuple[Region, str, str]]:
        """(region, start as spelled, start of the module), the longest spelling first."""
        known = [
            (region, spelling, module)
            for region, starts in self.starts.items()
            for module, others in starts.items()
            for spelling in (module, *others)
        ]
        return sorted(known, key=lambda one: -len(one[1]))

    def _found(self, name: str) -> tuple[Region, str, str] | None:
        for region, start, module in self._spellings:
            if name == start or (start.endswith(".") and name.startswith(start)):
                return region, start, module
        return None


def _read() -> dict[str, NativeModel]:
    listed = read_data_file(Path(__file__).with_name("native_models.yaml"))
    return {
        model_type: NativeModel(
            model_type,
            {
                region: {start: tuple(others) for start, others in keys[region].items()}
                for region in REGIONS
            },
            keys["placeholders"],
        )
        for model_type, keys in listed.items()
    }


NATIVE_MODELS = _read()
"""Model type → the names of its tensors."""


def native_model(config: Mapping[str, Any] | None) -> NativeModel | None:
    """The multimodal model that a config.json describes; None for any other model."""
    return NATIVE_MODELS.get(str((config or {}).get("model_type")))


def check_native(path: Path, config: Mapping[str, Any] | None) -> None:
    """Refuses a model that is no multimodal model of a known type.

    Args:
        path: its folder. config: its config.json.

    Raises:
        InputError: bridges of kind native need one.
    """
    if native_model(config) is None:
        found = str((config or {}).get("model_type"))
        raise InputError(
            "native.other-model",
            f"{path}: a model of type {found}; a bridge of kind native needs one of "
            f"{', '.join(NATIVE_MODELS)}",
            file=path,
            found=found,
            expected=list(NATIVE_MODELS),
        )


def other_spellings(
    names: Iterable[str], base: Iterable[str], config: Mapping[str, Any] | None
) -> dict[str, str]:
    """A tuned checkpoint's names of tensors → those of a multimodal base with another spelling.

    Args:
        names, base: names without a match.
        config: the base's config.json.
    """
    native = native_model(config)
    if native is None:
        return {}
    stored = {native.module_name(name): name for name in base}
    modules = {name: native.module_name(name) for name in names}
    return {name: stored[module] for name, module in modules.items() if module in stored}


def stored_native_model(folder: Path) -> NativeModel | None:
    """The multimodal model in a folder; None if it is another model, or has no config.json."""
    file = folder / "config.json"
    return native_model(read_object(file, "a model's settings")) if file.is_file() else None
