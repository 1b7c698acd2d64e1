"""Check that the bytes of a checkpoint's files are those that its manifest lists.

The SHA-256 of a file is computed once. Size, times and inode then identify the file until one of
them changes. They are stored with Snakemake's records, never outside a run's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from affectlocus.core.durable import sync
from affectlocus.core.files import STATE, sha256, write_json

_SEALS = STATE / "seals"
_READERS = 4  # files at once; hashing releases the interpreter lock


def first_changed(folder: Path, entries: Sequence[Mapping[str, Any]]) -> Path | None:
    """The first of a manifest's files whose SHA-256 differs from the listed one, or None.

    Args:
        entries: entries of the manifest with `file` and `sha256`.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        paths = [folder / entry["file"] for entry in entries]
        unchanged = readers.map(_is_unchanged, paths, [entry["sha256"] for entry in entries])
        return next((path for path, good in zip(paths, unchanged, strict=True) if not good), None)


def _is_unchanged(path: Path, listed: str) -> bool:
    found = path.stat()
    state = [listed, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    seal = _SEALS / f"{name}.json"
    with suppress(OSError, ValueError):
        if json.loads(seal.read_text(encoding="utf-8")) == state:
            return True
    if sha256(path) != listed:
        return False
    if STATE.is_dir():  # in an experiment's folder that a run has held
        with suppress(Exception):  # without a record, the file is hashed again next time
            # The record is about the bytes on disk, so they must be written before it.
            sync(path.resolve())
            write_json(seal, state)
    return True
