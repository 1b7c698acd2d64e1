"""Whether a checkpoint's files still hold the bytes that its manifest lists.

A whole file is read for its SHA-256 once, and again when its size, times or inode change. What was
found is kept in the experiment's folder, and nowhere else.
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
_READERS = 4  # files at once; hashing lets other threads run


def broken(folder: Path, entries: Sequence[Mapping[str, Any]]) -> Path | None:
    """The first of a manifest's files whose SHA-256 is another than listed.

    Args:
        entries: of the manifest, `file` and `sha256`.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        paths = [folder / entry["file"] for entry in entries]
        whole = readers.map(_as_listed, paths, [entry["sha256"] for entry in entries])
        return next((path for path, good in zip(paths, whole, strict=True) if not good), None)


def _as_listed(path: Path, listed: str) -> bool:
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
        with suppress(Exception):  # what cannot be kept is read again
            # A seal vouches for bytes on the disk, not for those in memory.
            sync(path.resolve())
            write_json(seal, state)
    return True
