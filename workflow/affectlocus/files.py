"""Files that are whole or absent, and their digests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlocus.errors import InputError

_READ = 1 << 20

CHECKPOINT_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja")
"""The files of a checkpoint that a manifest lists: configuration, tokenizer, weights."""

PICKLED = (".bin", ".pth", ".pt")
"""Weights as PyTorch saves them; read only where there is no safetensors file."""

# What a trainer leaves beside the weights, and second copies of them.
_ASIDE = re.compile(
    r"consolidated|training_args|optimizer|scheduler|scaler|rng_state|random_states"
)
# One set of weights out of several; the first that is there.
_SETS = (r"adapter_model\.", r"adapters\.", r".+-\d+-of-\d+\.", r"(pytorch_)?model\.")


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
                return sorted(small.union(chosen))
        if stored:
            return sorted(small.union(stored))
    return sorted(small)


def checkpoint_paths(folder: Path) -> list[Path]:
    """The same of a folder on disk."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return [folder / name for name in checkpoint_files(names)]


def manifest_entry(path: Path, digest: str | None = None) -> dict[str, Any]:
    """A file as a manifest lists it: name, size in bytes, SHA-256 (read off it, if not known)."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest or sha256(path)}


def is_weights(name: str) -> bool:
    """Whether a file holds tensors, by its name."""
    return name.endswith((".safetensors", *PICKLED))


def matching(path: Path) -> list[Path]:
    """The path itself, or the files that one with * or ? in it stands for, sorted."""
    if not re.search(r"[*?]", str(path)) or path.exists():
        return [path]
    anchor = Path(path.anchor)
    return sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if file.is_file())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file or folder beside `path`, renamed to it if the block ends well.

    A crash leaves `path` as it was: a reader never sees half a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays the last one: writers choose a format, and compression, by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    old = temporary.with_suffix(".old")
    _remove(temporary)
    try:
        yield temporary
        if path.is_dir() and temporary.exists():
            # A folder cannot be renamed onto another: the old one steps aside, and goes last.
            _remove(old)
            path.rename(old)
        temporary.replace(path)
    finally:
        _remove(temporary)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` (UTF-8), whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`; `InputError` where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a JSON file there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}); restore the file or delete it") from None


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ):
            digest.update(block)
    return digest.hexdigest()
