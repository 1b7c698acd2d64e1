"""Loads a model on the CPU, on one GPU, or with its layers spread over several GPUs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from affectlocus.checkpoints.native_models import stored_native_model
from affectlocus.config.hardware import Hardware
from affectlocus.core.errors import InputError
from affectlocus.lm.config_limits import check_size, has_stale_quantisation, loading_errors

CARDS = "AFFECTLOCUS_CARDS"
"""Environment variable: the number of GPUs that a job requests (--cards); 1 if it is not set."""


def uses_several_gpus() -> bool:
    """Whether a model's layers are spread over GPUs: the job requests several and has them."""
    requested = os.environ.get(CARDS, "")
    return requested.isdigit() and int(requested) > 1 and torch.cuda.device_count() > 1


def main_device() -> str:
    """The device of a model that fits on one: the GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load(folder: Path, hardware: Hardware) -> PreTrainedModel:
    """A model in its stored dtype, with the attention of `hardware`, on the job's devices.

    Raises:
        InputError: the files lack a weight, or the GPUs cannot hold the model.
    """
    # Without this option transformers asks on the terminal whether to run code of the checkpoint.
    options = _options(hardware) | {"trust_remote_code": False}
    check_size(folder)
    with loading_errors(folder):
        if has_stale_quantisation(folder):
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            del config.quantization_config
            options["config"] = config
        kind = (
            AutoModelForCausalLM
            if stored_native_model(folder) is None
            else AutoModelForMultimodalLM
        )
        model, loading = kind.from_pretrained(
            folder, local_files_only=True, dtype="auto", output_loading_info=True, **options
        )
    return _placed(folder, model, loading)


def model_from_tensors(
    kind: type[PreTrainedModel],
    config: PreTrainedConfig,
    folder: Path,
    tensors: dict[str, torch.Tensor],
    hardware: Hardware,
) -> PreTrainedModel:
    """A model of a class and a configuration, from tensors in memory.

    Args:
        folder: the folder of the model, for messages.
        tensors: by their names in a checkpoint on disk; transformers may fuse several of them into
            one parameter (the experts of a mixture).

    Raises:
        InputError: as `load`.
    """
    with loading_errors(folder):
        new, loading = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=config.dtype,
            output_loading_info=True,
            **_options(hardware),
        )
    return _placed(folder, new, loading)


def _options(hardware: Hardware) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if torch.cuda.is_available():
        make_deterministic()
        options["attn_implementation"] = hardware.attention
    if uses_several_gpus():
        options["device_map"] = hardware.placement
    return options


def _placed(folder: Path, model: PreTrainedModel, loading: Mapping[str, Any]) -> PreTrainedModel:
    # transformers initialises missing weights at random.
    if loading["missing_keys"]:
        name = min(loading["missing_keys"])
        raise InputError(
            "model.missing-weight",
            f"{folder}: the model needs {name}, which no file of the checkpoint holds; restore the "
            "file that holds it",
            file=folder,
            tensor=name,
        )
    if uses_several_gpus():
        check_device_map(folder, model.hf_device_map)
        return model
    return model.to(main_device())


def check_device_map(folder: Path, device_map: Mapping[str, Any]) -> None:
    """Refuses a model that accelerate placed partly in main memory or on the disk.

    Such a model is slow, and its weights cannot be edited in place.

    Raises:
        InputError: the first module that is not on a GPU.
    """
    outside = [module for module, device in device_map.items() if str(device) in ("cpu", "disk")]
    if outside:
        raise InputError(
            "model.too-large-for-gpus",
            f"{folder}: the job's GPUs have no memory for {outside[0]} and {len(outside) - 1} more "
            "modules; set plan.card_gb to the memory of one GPU, so that the job requests more "
            "GPUs",
            file=folder,
            modules=outside,
            key="plan.card_gb",
        )


def make_deterministic() -> None:
    """Selects deterministic algorithms on the GPU, where an operation has one."""
    # cuBLAS reads this variable when its first handle is created.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def autocast(model: PreTrainedModel, hardware: Hardware) -> contextlib.AbstractContextManager:
    """Context manager: a float32 model computes in `hardware.precision`, or `cpu_precision`.

    Its weights keep their dtype, because they are compared bit for bit.
    """
    if model.dtype != torch.float32:
        return contextlib.nullcontext()
    if model.device.type == "cuda":
        half = hardware.precision == "bfloat16" and torch.cuda.is_bf16_supported()
        return torch.autocast("cuda", torch.bfloat16, enabled=half)
    if hardware.cpu_precision == "bfloat16" and model.device.type == "cpu":
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()
