"""Checks that module sets name only layers of their models, where the model is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from affectlocus.config.sources import Base
from affectlocus.core.errors import InputError
from affectlocus.core.model_config import language_model_config
from affectlocus.core.projections import parse_modules

if TYPE_CHECKING:
    from affectlocus.config.experiment import Parameters


def missing_layers(parameters: Parameters, folder: Path) -> Iterator[InputError]:
    """A problem for every module set with a layer that a base does not have.

    The number of layers is known of a base that is pre-trained here, and of one whose folder has a
    config.json. The jobs check the others.

    Args:
        folder: the experiment's folder, where `data_root` starts from.
    """
    root = folder / parameters.data_root
    for key, pair, sets in _used(parameters):
        if not any("@" in modules for modules in sets):
            continue
        for name, base in _models(parameters, parameters.pairs[pair].base):
            layers = _layers(base, root)
            for modules in sets if layers is not None else ():
                try:
                    parse_modules(modules).check_layers(layers or 0, f"base {name}")
                except InputError as error:
                    yield InputError(error.code, str(error), **{**error.fields, "key": key})


def _used(parameters: Parameters) -> Iterator[tuple[str, str, list[str]]]:
    """Key, pair and the module sets that the key lists for the pair."""
    for pair in parameters.matrix.pairs:
        if pair in parameters.pairs:
            for key, sets in parameters.matrix.listed.items():
                yield f"matrix.{key}", pair, sets
    for name, config in parameters.pairs.items():
        if config.tuning is not None:
            yield f"pairs.{name}.tuning.modules", name, [config.tuning.modules]


def _models(parameters: Parameters, base: str) -> Iterator[tuple[str, Base]]:
    if base in parameters.bases:
        for model in parameters.models_of(base).values():
            yield base, model


def _layers(base: Base, root: Path) -> int | None:
    """The number of a base's layers; None if it is not known before the base is read."""
    if base.pretrain is not None:
        return base.pretrain.layers
    if base.folder is None:
        return None
    try:
        config = json.loads((root / base.folder / "config.json").read_text(encoding="utf-8"))
        layers = language_model_config(config)["num_hidden_layers"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # reported by the step that reads the base
    return layers if isinstance(layers, int) and layers > 0 else None
