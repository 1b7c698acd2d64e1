"""The files of a checkpoint's folder that the steps read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json

CHECKPOINT_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja")
"""The files of a checkpoint that a manifest lists: configuration, tokenizer, weights."""

PICKLED = (".bin", ".pth", ".pt")
"""Weights as PyTorch saves them; read only where there is no safetensors file."""

# What a trainer leaves beside the weights, and second copies of them.
_ASIDE = re.compile(
    r"consolidated|training_args|optimizer|scheduler|scaler|rng_state|random_states|.*optim_states"
)

# One set of weights out of several; the first that is there.
_ADAPTER_SETS = (r"adapter_model\.", r"adapters\.")

_SETS = (*_ADAPTER_SETS, r".+-\d+-of-\d+\.", r"(pytorch_)?model\.")

_OF_ADAPTERS = re.compile("|".join((*_ADAPTER_SETS, "non_lora_trainables")))

TRAINED_WITH_LORA = "non_lora_trainables.bin"
"""What LLaVA's code saves next to an adapter: the other tensors that were trained with it."""

TRAJECTORY = "trajectory"
"""The folder in a tuned checkpoint's own that holds its snapshots."""

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def checkpoint_files(names: Iterable[str]) -> list[str]:
    """The files of a checkpoint's folder that a step may read, sorted, out of all its files' names.

    Configuration, tokenizer and one set of weights: safetensors, or else PyTorch's. An adapter's
    weights come before whole ones, shards before a single file. Subfolders, other formats, other
    copies and the state of an optimizer are left out.
    """
    flat = {name for name in names if "/" not in name}
    small = {name for name in flat if name.endswith(CHECKPOINT_SUFFIXES)}
    small -= {name for name in flat if name.endswith(".safetensors")}
    weights = [name for name in flat if not _ASIDE.match(name)]
    for suffixes in ((".safetensors",), PICKLED):
        stored = [name for name in weights if name.endswith(suffixes)]
        for first in _SETS:
            chosen = [name for name in stored if re.match(first, name)]
            if chosen:
                if first == _ADAPTER_SETS[0]:
                    chosen += flat & {TRAINED_WITH_LORA}
                return sorted(small.union(chosen))
        if stored:
            return sorted(small.union(stored))
    return sorted(small)


def checkpoint_paths(folder: Path) -> list[Path]:
    """The same of a folder on disk."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return [folder / name for name in checkpoint_files(names)]


def whole_weights(folder: Path) -> list[Path]:
    """The weights of a whole model in a folder, whether or not an adapter is there as well."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    names = {name for name in names if not _OF_ADAPTERS.match(name)}
    return [folder / name for name in checkpoint_files(names) if is_weights(name)]


def is_weights(name: str) -> bool:
    """Whether a file holds tensors, by its name."""
    return name.endswith((".safetensors", *PICKLED))


def shards(folder: Path) -> dict[str, Path]:
    """Tensor → its shard, as a folder's index places them; empty where there is no index.

    Raises:
        InputError: an index of another form, or a shard that is not there.
    """
    for index in (folder / name for name in _INDICES):
        if index.is_file():
            content = read_json(index)
            placed = content.get("weight_map") if isinstance(content, dict) else None
            if (
                not isinstance(placed, dict)
                or not all(isinstance(name, str) for name in placed.values())
                or not placed
            ):
                raise InputError(f"{index}: no weight_map; expected the names of all tensors")
            for name in sorted(set(placed.values())):
                if name in (".", "..") or re.search(r"[/\\\0]", name):
                    raise InputError(
                        f"{index}: it places tensors in {name!r}; expected the name of a file "
                        "beside it"
                    )
                if not (folder / name).is_file():
                    raise InputError(f"{folder / name}: no such file; the checkpoint is incomplete")
            return {tensor: folder / name for tensor, name in placed.items()}
    return {}


def snapshot_folder(folder: Path, step: int) -> Path:
    """Where a tuned checkpoint keeps its state after a step, in its own folder."""
    return folder / TRAJECTORY / f"step-{step:06d}"
