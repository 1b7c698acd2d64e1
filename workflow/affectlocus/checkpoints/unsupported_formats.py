"""Refuse partitioned checkpoints and formats that are not read, and say how to convert them.

DeepSpeed and FSDP save the part of each process. Their own tools merge the parts.
"""

from __future__ import annotations

import re
from pathlib import Path

from affectlocus.checkpoints.architectures import place
from affectlocus.checkpoints.tensor_files import Tensors
from affectlocus.core.errors import InputError

_ZERO3 = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
_STATES = re.compile(r"mp_rank_\d+_model_states\.pt")
_ZERO_TOOL = (
    "merge them with DeepSpeed's own script, which it leaves next to the file `latest` (python "
    "zero_to_fp32.py . OUT), and give the folder OUT"
)


def refuse_partitioned(path: Path) -> None:
    """Refuses a file or folder with parts of a model.

    Raises:
        InputError: names the format and how to merge the parts.
    """
    found = _file(path) if path.is_file() else _folder(path) if path.is_dir() else None
    if found is not None:
        raise InputError(f"{path}: {found}")


def refuse_empty(path: Path, tensors: Tensors) -> None:
    """Refuses weights without entries, which ZeRO-3 saves when each process holds a part."""
    for name in tensors.names():
        shape = tensors.shape(name)
        if shape == (0,) and (".lora_" in name or place(name) is not None or "embed" in name):
            raise InputError(
                f"{path}: {name} is empty (shape (0,)), as DeepSpeed's ZeRO-3 saves it where "
                f"each process holds a part; {_ZERO_TOOL}"
            )


def _file(path: Path) -> str | None:
    if path.suffix == ".distcp":
        return _distributed(path.parent)
    if _ZERO3.fullmatch(path.name):
        return f"one of the parts of a DeepSpeed ZeRO-3 checkpoint; {_ZERO_TOOL}"
    return None


def _folder(path: Path) -> str | None:
    names = sorted(one.name for one in path.iterdir())
    if any(_ZERO3.fullmatch(name) for name in names):
        return f"the parts of a DeepSpeed ZeRO-3 checkpoint; {_ZERO_TOOL}"
    if sum(bool(_STATES.fullmatch(name)) for name in names) > 1:
        return (
            "the parts of a DeepSpeed checkpoint with tensor parallelism (several mp_rank files), "
            "which is not read; merge them with the tool of the training code"
        )
    if any(name.endswith(".distcp") for name in names):
        return _distributed(path)
    return None


def explain_missing_weights(path: Path) -> str | None:
    """What a folder without weights holds instead, and what to do; None if nothing is known."""
    folders = sorted(one for one in path.iterdir() if one.is_dir())
    for folder in folders:
        if any(folder.glob("*.distcp")):
            return _distributed(folder)
    steps = [one for one in folders if any(_STATES.search(file.name) for file in one.iterdir())]
    if steps:
        pointer = path / "latest"
        latest = steps[-1]
        if pointer.is_file():
            latest = path / pointer.read_text(encoding="utf-8").strip()
        found = _folder(latest) if latest in steps else None
        return found or f"a DeepSpeed checkpoint; give {latest if latest in steps else steps[-1]}"
    if gguf := sorted(path.glob("*.gguf")):
        return f"holds {gguf[0].name}, a GGUF file, which is not read; give the safetensors files"
    return None


def _distributed(folder: Path) -> str:
    return (
        "a checkpoint of torch.distributed.checkpoint (FSDP), in parts; merge them (python -m "
        f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt) and give "
        "model.pt"
    )
