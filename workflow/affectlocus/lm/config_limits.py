"""What stands between a checkpoint's configuration and transformers: sizes that its files do not
hold, and code of its own, which is never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.adapters import CONFIG
from affectlocus.checkpoints.model_size import size_from_config
from affectlocus.checkpoints.weights import Weights
from affectlocus.core.checkpoint_files import checkpoint_paths, is_weights
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json

_MOST_LAYERS = 100_000  # each expert is one; the deepest models have a hundred of 256 experts
_LARGEST = 2**40
_SLACK = 10_000_000  # parameters


def check_depth(config: Mapping[str, Any], origin: str) -> None:
    """Refuses a configuration whose model could not be built, not even without its weights.

    Raises:
        InputError: more layers, or experts in them, than any model has.
    """
    text = config.get("text_config")
    for each in (config, text if isinstance(text, Mapping) else {}):
        for key, value in each.items():
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise InputError(f"{origin}: {key} is larger than in any model; restore the file")
    size = size_from_config(config, origin)
    experts = [config.get(key) for key in ("num_local_experts", "num_experts")]
    wide = max((one for one in experts if isinstance(one, int)), default=1)
    if size is not None and size.layers * max(wide, 1) > _MOST_LAYERS:
        raise InputError(
            f"{origin}: it describes {size.layers} layers of {max(wide, 1)} blocks, more than any "
            "model has; restore the file"
        )


def check_size(folder: Path) -> None:
    """Refuses a model whose configuration describes far more than its files hold.

    transformers would make room for all of it.

    Raises:
        InputError: as said; or no object in config.json.
    """
    file = folder / "config.json"
    if not file.is_file():
        return
    if (folder / CONFIG).is_file():
        raise InputError(
            f"{folder / CONFIG}: an adapter in the folder of a model, and transformers would put "
            "the adapter onto it; move the adapter's files into a folder of their own"
        )
    config = read_json(file)
    if not isinstance(config, dict):
        raise InputError(f"{file}: holds a {type(config).__name__}; expected an object of settings")
    check_depth(config, str(file))
    size = size_from_config(config)
    files = [path for path in checkpoint_paths(folder) if is_weights(path.name)]
    held = sum(path.stat().st_size for path in files)
    # A stored parameter has a byte at least.
    if files and size is not None and size.parameters > 4 * held + _SLACK:
        raise InputError(
            f"{file}: it describes {size.parameters:.3g} parameters, its files hold {held:.3g} "
            "bytes; the two do not belong together"
        )


def called_quantised(folder: Path) -> bool:
    """Whether config.json says of weights that are stored as plain floats that they are quantised.

    Saving a merged model in 16 bits may leave that behind, and transformers would believe it.
    """
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else None
    if not isinstance(config, dict) or not config.get("quantization_config"):
        return False
    try:
        return Weights(folder).called_quantised
    except InputError:
        return False


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """What transformers raises of a folder's files becomes one sentence."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # each class of configurations and tokenizers checks in its own way
        # A full card, a full disk: nothing that the files could help.
        if type(error).__name__ == "OutOfMemoryError" or getattr(error, "errno", None) is not None:
            raise
        line = " ".join(str(error).split())
        if "trust_remote_code" in line or "custom code" in line:
            raise InputError(
                f"{folder}: it comes with program code of its own (auto_map), and no code out of a "
                "checkpoint is ever run; expected a model and a tokenizer that transformers has"
            ) from None
        raise InputError(
            f"{folder}: transformers cannot load it ({type(error).__name__}: {line[:400]}); "
            "restore its files"
        ) from None
