"""Refuse partitioned checkpoints and formats that are not read, and say how to convert them.

DeepSpeed and FSDP save the part of each process. Their own tools merge the parts.
"""

from __future__ import annotations

import re
from pathlib import Path

from affectlocus.checkpoints.architectures import place
from affectlocus.checkpoints.gguf_files import refusal
from affectlocus.checkpoints.tensor_files import Tensors
from affectlocus.core.errors import InputError

_ZERO3 = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
_STATES = re.compile(r"mp_rank_\d+_model_states\.pt")
_ZERO_TOOL = (
    "merge the parts with DeepSpeed's own script, which it leaves next to the file `latest` "
    "(python zero_to_fp32.py . OUT), and give the folder OUT"
)


def refuse_partitioned(path: Path) -> None:
    """Refuses a file or folder with parts of a model.

    Raises:
        InputError: names the format and how to merge the parts.
    """
    if path.is_file():
        if path.suffix == ".distcp":
            raise _distributed(path, path.parent)
        if _ZERO3.fullmatch(path.name):
            raise _zero3(path)
    elif path.is_dir():
        _refuse_parts(path, path)


def refuse_empty(path: Path, tensors: Tensors) -> None:
    """Refuses weights without entries, which ZeRO-3 saves when each process holds a part."""
    for name in tensors.names():
        shape = tensors.shape(name)
        if shape == (0,) and (".lora_" in name or place(name) is not None or "embed" in name):
            raise InputError(
                "tensor.empty",
                f"{path}: {name} is empty (shape (0,)), as DeepSpeed's ZeRO-3 saves it where "
                f"each process holds a part; {_ZERO_TOOL}",
                file=path,
                tensor=name,
            )


def refuse_known_folder(path: Path) -> None:
    """Refuses a folder without weights if it has a known format that is not read.

    Raises:
        InputError: names the format and what to give instead.
    """
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir())
    for folder in folders:
        if any(folder.glob("*.distcp")):
            raise _distributed(path, folder)
    steps = [
        folder for folder in folders if any(_STATES.search(file.name) for file in folder.iterdir())
    ]
    if steps:
        pointer, latest = path / "latest", steps[-1]
        if pointer.is_file():
            named = path / pointer.read_text(encoding="utf-8").strip()
            latest = named if named in steps else latest
        _refuse_parts(latest, path)
        raise InputError(
            "checkpoint.deepspeed-steps",
            f"{path}: a DeepSpeed checkpoint; give {latest}",
            file=path,
            expected=latest,
        )
    if gguf := sorted(path.glob("*.gguf")):
        raise refusal(gguf[0], f"{path}: holds {gguf[0].name}, a GGUF file, which is not read")


def _refuse_parts(folder: Path, given: Path) -> None:
    """Refuses a folder with parts of a model; the message names the path that was given."""
    names = sorted(entry.name for entry in folder.iterdir())
    if any(_ZERO3.fullmatch(name) for name in names):
        raise _zero3(given)
    if sum(bool(_STATES.fullmatch(name)) for name in names) > 1:
        raise InputError(
            "checkpoint.tensor-parallel-parts",
            f"{given}: the parts of a DeepSpeed checkpoint with tensor parallelism (several "
            "mp_rank files), which is not read; merge them with the tool of the training code",
            file=given,
        )
    if any(name.endswith(".distcp") for name in names):
        raise _distributed(given, folder)


def _zero3(given: Path) -> InputError:
    return InputError(
        "checkpoint.zero3-parts",
        f"{given}: part of a DeepSpeed ZeRO-3 checkpoint; {_ZERO_TOOL}",
        file=given,
    )


def _distributed(given: Path, folder: Path) -> InputError:
    return InputError(
        "checkpoint.fsdp-parts",
        f"{given}: a checkpoint of torch.distributed.checkpoint (FSDP), in parts; merge them "
        "(python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
        f"{folder} model.pt) and give model.pt",
        file=given,
    )
