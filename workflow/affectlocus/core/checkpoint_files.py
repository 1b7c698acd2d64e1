"""Which files of a checkpoint's folder the steps read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json

CHECKPOINT_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja")
"""Suffixes of configuration, tokenizer and weights: the files that a manifest lists."""

PICKLED = (".bin", ".pth", ".pt")
"""Suffixes of weights that PyTorch saves; they are read only if there is no safetensors file."""

# The state of a trainer, and second copies of the weights.
_NOT_WEIGHTS = re.compile(
    r"consolidated|training_args|optimizer|scheduler|scaler|rng_state|random_states|.*optim_states"
)

# Sets of weights. If a folder has several, the first one is read.
_ADAPTER_SETS = (r"adapter_model\.", r"adapters\.")

_SETS = (*_ADAPTER_SETS, r".+-\d+-of-\d+\.", r"(pytorch_)?model\.")

_OF_ADAPTERS = re.compile("|".join((*_ADAPTER_SETS, "non_lora_trainables")))

BRIDGES = ("bridge", "bridge_initial")
"""The names, without suffix, of the files of a bridge; `bridge_initial` is before the tuning."""

_BRIDGE_WEIGHTS = frozenset(f"{name}.safetensors" for name in BRIDGES)

TRAINED_WITH_LORA = "non_lora_trainables.bin"
"""The file in which LLaVA's code saves tensors that were trained together with an adapter."""

TRAJECTORY = "trajectory"
"""The subfolder of a tuned checkpoint that holds its snapshots."""

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def checkpoint_files(names: Iterable[str]) -> list[str]:
    """The names of the files that a step may read, sorted.

    These are configuration, tokenizer and one set of weights: safetensors if there are any, else
    PyTorch's. Weights of an adapter are preferred to those of a model, and shards to a single file.
    The bridge of a multimodal checkpoint is always among them. Subfolders, other formats, other
    copies and the state of an optimizer are left out.

    Args:
        names: the names of all files in the folder.
    """
    flat = {name for name in names if "/" not in name}
    small = {name for name in flat if name.endswith(CHECKPOINT_SUFFIXES)}
    small -= {name for name in flat if name.endswith(".safetensors")} - _BRIDGE_WEIGHTS
    weights = [
        name for name in flat if not _NOT_WEIGHTS.match(name) and name not in _BRIDGE_WEIGHTS
    ]
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
    """The paths of the files in a folder that a step may read, sorted by name."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return [folder / name for name in checkpoint_files(names)]


def whole_weights(folder: Path) -> list[Path]:
    """The weights of a whole model in a folder; those of an adapter are left out."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    names = {name for name in names - _BRIDGE_WEIGHTS if not _OF_ADAPTERS.match(name)}
    return [folder / name for name in checkpoint_files(names) if is_weights(name)]


def is_weights(name: str) -> bool:
    """Whether a file's name is that of weights."""
    return name.endswith((".safetensors", *PICKLED))


def shards(folder: Path) -> dict[str, Path]:
    """Tensor → its shard, from the index in a folder; empty if there is no index.

    Raises:
        InputError: the index has another form, or a shard is missing.
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
                raise InputError(
                    "checkpoint.no-weight-map",
                    f"{index}: no weight_map; expected tensors and their files; restore the file",
                    file=index,
                    key="weight_map",
                )
            for name in sorted(set(placed.values())):
                if name in (".", "..") or re.search(r"[/\\\0]", name):
                    raise InputError(
                        "checkpoint.path-in-weight-map",
                        f"{index}: weight_map names the file {name!r}; expected a file name "
                        "without a path",
                        file=index,
                        key="weight_map",
                        found=name,
                    )
                if not (folder / name).is_file():
                    raise InputError(
                        "checkpoint.no-shard",
                        f"{folder / name}: no such file; the checkpoint is incomplete",
                        file=folder / name,
                    )
            return {tensor: folder / name for tensor, name in placed.items()}
    return {}


def snapshot_folder(folder: Path, step: int) -> Path:
    """The folder of a tuned checkpoint's snapshot after a step."""
    return folder / TRAJECTORY / f"step-{step:06d}"
