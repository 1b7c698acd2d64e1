"""Files that are whole or absent, and their digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlocus.errors import InputError

_READ = 1 << 20

CHECKPOINT_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja")
"""The files of a checkpoint that a manifest lists: configuration, tokenizer, weights."""


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
