"""The bridge of a checkpoint on disk: its tensors, and a JSON file that describes them.

A bridge is what turns the features of media into soft tokens. Its files are in the folder of the
checkpoint: `bridge.safetensors` and `bridge.json`, and, under the name `bridge_initial`, the bridge
before the tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from affectlocus.checkpoints.stored import same_bits
from affectlocus.checkpoints.tensor_files import EPS, Tensors
from affectlocus.core.checkpoint_files import BRIDGES
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_object, sha256, write_json

BRIDGE, INITIAL = BRIDGES
"""The names of a checkpoint's bridges, without suffix."""


@dataclass(frozen=True)
class Description:
    """What a bridge is, without its weights.

    Attributes:
        kind: the name of a kind of bridge, such as `linear` or `affectgpt`.
        hidden: the width of the language model's embeddings.
        widths: medium → the width of its features.
        tokens: placeholder → the number of its soft tokens.
        settings: other sizes and choices of the kind.
    """

    kind: str
    hidden: int
    widths: Mapping[str, int]
    tokens: Mapping[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredBridge:
    """A bridge on disk.

    Attributes:
        path: the file of its tensors.
        names: its tensors; the file may hold others.
    """

    path: Path
    description: Description
    tensors: Tensors
    names: Sequence[str]

    def read(self) -> dict[str, np.ndarray]:
        """The tensors of the bridge, in their stored dtypes."""
        return {name: self.tensors.stored(name) for name in self.names}


def write_bridge(
    folder: Path, description: Description, tensors: Mapping[str, np.ndarray], stem: str = BRIDGE
) -> None:
    """Writes a bridge into an existing folder: `STEM.safetensors` and `STEM.json`.

    The caller makes sure that the folder is replaced as a whole (`output_files.replacing`).

    Args:
        stem: `bridge`, or `bridge_initial` for the bridge before the tuning.
    """
    file = folder / f"{stem}.safetensors"
    plain = {name: np.ascontiguousarray(one) for name, one in tensors.items()}
    save_file(plain, file, metadata={"format": "pt"})
    content = {**asdict(description), "file": file.name, "sha256": sha256(file)}
    write_json(folder / f"{stem}.json", content)


def read_bridge(folder: Path, stem: str = BRIDGE) -> StoredBridge:
    """The bridge in a folder, after a check of its SHA-256.

    Raises:
        InputError: a file is missing, is not what this project writes, or was changed.
    """
    described, file = folder / f"{stem}.json", folder / f"{stem}.safetensors"
    for path in (described, file):
        if not path.is_file():
            raise InputError(
                "bridge.no-file",
                f"{path}: no such file; expected the bridge of the checkpoint, as affectlocus "
                "convert or tune writes it",
                file=path,
            )
    content = read_object(described, "the description of a bridge")
    found = sha256(file)
    if content.get("sha256") != found:
        raise InputError(
            "bridge.other-bytes",
            f"{file}: its SHA-256 is {found[:12]}…, and {described.name} says "
            f"{str(content.get('sha256'))[:12]}…; the file was changed or belongs to another "
            "bridge: restore both files",
            file=file,
            found=found,
            expected=content.get("sha256"),
        )
    tensors = Tensors([file])
    for name in tensors.names():
        check_float(file, tensors, name)
    return StoredBridge(file, _description(described, content), tensors, tensors.names())


def has_bridge(folder: Path, stem: str = BRIDGE) -> bool:
    """Whether a folder holds a bridge."""
    return (folder / f"{stem}.safetensors").is_file() or (folder / f"{stem}.json").is_file()


def compare_bridges(reference: Path, changed: Path, may_differ: bool) -> dict[str, int]:
    """Compares the bridges of two checkpoints bit for bit.

    A reference without a bridge, such as a base, is replaced by the bridge before the tuning, from
    which the changed one may differ.

    Args:
        may_differ: whether the bridges of both checkpoints may differ.

    Returns:
        The number of its tensors, `bridge_tensors`, and of these the ones that differ,
        `bridge_changed`; empty if the changed checkpoint has no bridge, or nothing to compare it
        with.

    Raises:
        InputError: the bridges differ and must not, or have other tensors.
    """
    if not has_bridge(changed):
        return {}
    after = read_bridge(changed)
    if has_bridge(reference):
        before = read_bridge(reference)
    elif has_bridge(changed, INITIAL):
        before, may_differ = read_bridge(changed, INITIAL), True
    else:
        return {}
    if sorted(before.names) != sorted(after.names):
        other = min(set(before.names) ^ set(after.names))
        raise InputError(
            "bridge.not-comparable",
            f"{after.path} and {before.path}: only one of them has {other}; expected two bridges "
            "of one kind and size",
            file=after.path,
            tensor=other,
        )
    different = [
        name
        for name in after.names
        if not same_bits(before.tensors.stored(name), after.tensors.stored(name))
    ]
    if different and not may_differ:
        raise InputError(
            "bridge.changed",
            f"{after.path}: {different[0]} differs from {before.path}; the two checkpoints would "
            "not differ in the module set alone (--modules bridge allows it)",
            file=after.path,
            tensor=different[0],
        )
    return {"bridge_tensors": len(after.names), "bridge_changed": len(different)}


def check_float(file: Path, tensors: Tensors, name: str) -> None:
    """Refuses a tensor of a bridge that does not hold floats."""
    if tensors.dtype(name) not in EPS:
        raise InputError(
            "tensor.not-float",
            f"{file}: {name} is stored as {tensors.dtype(name)}; expected float64, float32, "
            "float16 or bfloat16",
            file=file,
            tensor=name,
            found=tensors.dtype(name),
        )


def _description(file: Path, content: Mapping[str, Any]) -> Description:
    kind: Any = content.get("kind")
    hidden: Any = content.get("hidden")
    settings = content.get("settings", {})
    if not isinstance(kind, str) or not kind:
        raise _wrong(file, "kind", kind, "the name of a kind of bridge")
    if not _is_count(hidden):
        raise _wrong(file, "hidden", hidden, "a whole number above 0")
    for key in ("widths", "tokens"):
        sizes = content.get(key)
        if not isinstance(sizes, dict) or not sizes or not all(map(_is_count, sizes.values())):
            raise _wrong(file, key, sizes, "names with whole numbers above 0")
    if not isinstance(settings, dict):
        raise _wrong(file, "settings", settings, "an object")
    return Description(kind, hidden, content["widths"], content["tokens"], settings)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _wrong(file: Path, key: str, found: object, expected: str) -> InputError:
    return InputError(
        "bridge.not-a-description",
        f"{file}: {key} is {found!r}; expected {expected}; restore the file",
        file=file,
        key=key,
        found=found,
        expected=expected,
    )
