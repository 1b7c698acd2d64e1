"""Checks of a checkpoint before transformers loads it.

Sizes that its files do not support are refused. Program code in a checkpoint is never run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.adapter_settings import CONFIG
from affectlocus.checkpoints.model_size import size_from_config
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.checkpoint_files import checkpoint_paths, is_weights
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, read_object
from affectlocus.core.model_config import text_config

_MOST_LAYERS = 100_000  # layers times experts; the largest models have 100 layers of 256 experts
_LARGEST = 2**40  # the largest integer that a configuration may contain
_SLACK = 10_000_000  # parameters


def check_depth(config: Mapping[str, Any], origin: str) -> None:
    """Refuses a configuration whose model is too large to be built even without weights.

    Args:
        origin: the file, for messages.

    Raises:
        InputError: the product of layers and experts, or an integer, is larger than in any model.
    """
    for section in (config, text_config(config)):
        for key, value in section.items():
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise InputError(
                    "model.config-value-too-large",
                    f"{origin}: {key} is larger than in any model; restore the file",
                    file=origin,
                    key=key,
                    found=value,
                )
    size = size_from_config(config, origin)
    counts = [config.get(key) for key in ("num_local_experts", "num_experts")]
    experts = max((count for count in counts if isinstance(count, int)), default=1)
    if size is not None and size.layers * max(experts, 1) > _MOST_LAYERS:
        raise InputError(
            "model.too-many-layers",
            f"{origin}: it describes {size.layers} layers of {max(experts, 1)} experts, more than "
            "any model has; restore the file",
            file=origin,
            found=size.layers,
        )


def check_size(folder: Path) -> None:
    """Refuses a model whose configuration describes far more parameters than its files hold.

    transformers would allocate memory for all of them.

    Raises:
        InputError: too many parameters, an adapter in the model's folder, or a config.json that is
            not a JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        return
    if (folder / CONFIG).is_file():
        raise InputError(
            "model.adapter-in-folder",
            f"{folder / CONFIG}: an adapter in the folder of a model, which transformers would "
            "apply to the model; move the adapter's files to another folder",
            file=folder / CONFIG,
        )
    config = read_object(file, "a model's settings")
    check_depth(config, str(file))
    size = size_from_config(config)
    files = [path for path in checkpoint_paths(folder) if is_weights(path.name)]
    held = sum(path.stat().st_size for path in files)
    # A quarter byte per parameter is less than any stored format uses.
    if files and size is not None and size.parameters > 4 * held + _SLACK:
        raise InputError(
            "model.larger-than-its-files",
            f"{file}: it describes {size.parameters:.3g} parameters, but the weight files have "
            f"{held:.3g} bytes; restore config.json or the weights",
            file=file,
            found=size.parameters,
            bytes=held,
        )


def has_stale_quantisation(folder: Path) -> bool:
    """Whether config.json describes quantised weights, but the files hold plain floats.

    Saving a merged model in 16 bits may keep the old quantization_config, which transformers would
    apply.
    """
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else None
    if not isinstance(config, dict) or not config.get("quantization_config"):
        return False
    try:
        return Weights(folder).has_stale_quantisation
    except InputError:
        return False


@contextmanager
def loading_errors(folder: Path) -> Iterator[None]:
    """Context manager: turns errors of transformers about a folder into an `InputError`."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # configuration and tokenizer classes raise many types
        # Out of memory or a full disk: not an error of the files.
        if type(error).__name__ == "OutOfMemoryError" or getattr(error, "errno", None) is not None:
            raise
        line = " ".join(str(error).split())
        if "trust_remote_code" in line or "custom code" in line:
            raise InputError(
                "model.needs-own-code",
                f"{folder}: it needs program code of its own (auto_map), and code in a checkpoint "
                "is never run; expected a model and a tokenizer that transformers supports",
                file=folder,
            ) from None
        raise InputError(
            "model.cannot-be-loaded",
            f"{folder}: transformers cannot load it ({type(error).__name__}: {line[:400]}); "
            "restore its files",
            file=folder,
            error=type(error).__name__,
        ) from None
