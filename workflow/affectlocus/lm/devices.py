"""A model on the device at hand: the CPU, one card, or its layers spread over several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from affectlocus.config.hardware import Hardware
from affectlocus.core.errors import InputError
from affectlocus.lm.config_limits import called_quantised, check_size, explained

CARDS = "AFFECTLOCUS_CARDS"
"""Environment variable: the cards that a job asked for (--cards); one, where it is not set."""


def spread() -> bool:
    """Whether a model's layers go on several cards: the job asked for them, and has them."""
    asked = os.environ.get(CARDS, "")
    return asked.isdigit() and int(asked) > 1 and torch.cuda.device_count() > 1


def load(folder: Path, hardware: Hardware, place: bool = True) -> PreTrainedModel:
    """A model in its stored dtype, with the chosen attention.

    Args:
        place: put it on the card. A trainer places a model itself; one for several cards is
            spread by accelerate either way.

    Raises:
        InputError: weights that the model needs are in no file, or the cards do not hold it.
    """
    # Never code of the checkpoint's own: left open, transformers asks whoever sits there.
    options = _options(hardware) | {"trust_remote_code": False}
    check_size(folder)
    with explained(folder):
        if called_quantised(folder):
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            del config.quantization_config
            options["config"] = config
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype="auto", output_loading_info=True, **options
        )
    return _placed(folder, model, loading, place)


def rebuilt(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    folder: Path,
    tensors: dict[str, torch.Tensor],
    hardware: Hardware,
) -> PreTrainedModel:
    """A model of a class and a configuration from values that are in no file as they are.

    Args:
        folder: the model's, which error messages name.
        tensors: by the names that a checkpoint on disk has; transformers may hold several of them
            in one (the experts of a mixture).

    Raises:
        InputError: as `load`.
    """
    with explained(folder):
        new, loading = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=config.dtype,
            output_loading_info=True,
            **_options(hardware),
        )
    return _placed(folder, new, loading, True)


def _options(hardware: Hardware) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if torch.cuda.is_available():
        repeatable()
        options["attn_implementation"] = hardware.attention
    if spread():
        options["device_map"] = hardware.placement
    return options


def _placed(
    folder: Path, model: PreTrainedModel, loading: Mapping[str, Any], place: bool
) -> PreTrainedModel:
    # transformers would draw these at random, and the model would answer with them.
    if loading["missing_keys"]:
        name = min(loading["missing_keys"])
        raise InputError(f"{folder}: the model needs {name}, which no file of the checkpoint holds")
    if spread():
        check_placed(folder, model.hf_device_map)
    elif place:
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


def check_placed(folder: Path, placed: Mapping[str, Any]) -> None:
    """Refuses a model of which a part went to main memory or to the disk.

    It would be answered with at the speed of the bus, and its weights could not be edited in place.
    """
    outside = [module for module, device in placed.items() if str(device) in ("cpu", "disk")]
    if outside:
        raise InputError(
            f"{folder}: the job's cards do not hold {outside[0]} and {len(outside) - 1} more "
            "parts; lower plan.card_gb to what a card has, so that the job asks for more cards"
        )


def repeatable() -> None:
    """The same result from the same card, where an operation has a deterministic form."""
    # cuBLAS reads it when the first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def computing(model: PreTrainedModel, hardware: Hardware) -> contextlib.AbstractContextManager:
    """In this block a float32 model on a card multiplies in `hardware.precision`.

    Its weights stay as they are stored: they are what is compared bit for bit.
    """
    half = hardware.precision == "bfloat16" and model.dtype == torch.float32
    if model.device.type == "cuda" and half and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
