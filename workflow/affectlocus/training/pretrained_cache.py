"""Pre-trained bases, kept by content, so that two experiments train one and the same base once.

An entry is a folder below `cache`, named by a digest of all that decides its bytes: recipe, text,
code, versions, and the machine's kind. It appears whole or not at all, and every file is verified
by its SHA-256 when it is taken. The cache may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affectlocus.core.durable import make_folder, move
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.core.manifests import manifest_entry
from affectlocus.core.output_files import MARKER

CACHE = "AFFECTLOCUS_CACHE"
"""Environment variable: the cache's folder; empty, and nothing is kept."""

_RECORD = "kept.json"

Measured = dict[str, float]
Say = Callable[[str], None]


def cache() -> Path | None:
    """AFFECTLOCUS_CACHE, or affectlocus in the user's cache folder; None if switched off."""
    given = os.environ.get(CACHE)
    if given is not None:
        return Path(given) if given else None
    user = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(user) / "affectlocus"


def key(**parts: Any) -> str:
    """A digest of what decides the result; each part is JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def kept(name: str, folder: Path, train: Callable[[Path], Measured], say: Say) -> Measured:
    """What `train(folder)` returns and writes, from an earlier time if there was one.

    Args:
        name: the entry's `key`.
        folder: does not exist yet.
        train: makes the folder; the same bytes each time.
        say: is told in a sentence where the result came from, or why it could not be kept.
    """
    home = cache()
    entry = home / "pretrained" / name if home else None
    if entry is not None and (found := _taken(entry, folder, say)) is not None:
        say(f"found in {entry}: trained before by the same recipe, text and code")
        return found
    measured = train(folder)
    if entry is not None:
        try:
            _publish(entry, folder, measured)
        except OSError as error:
            say(f"not kept for other experiments: {entry} cannot be written ({error.strerror})")
    return measured


def _taken(entry: Path, folder: Path, say: Say) -> Measured | None:
    """Copies an entry's files; None where there is none, or one of them is not what it was."""
    if not entry.is_dir():
        return None
    try:
        record = read_json(entry / _RECORD)
        folder.mkdir(parents=True)
        for listed in record["files"]:
            copy = folder / Path(listed["file"]).name
            shutil.copyfile(entry / copy.name, copy)
            if manifest_entry(copy) != listed:
                raise InputError(f"{listed['file']} is not what was kept")
        return dict(record["measured"])
    except (InputError, OSError, KeyError, TypeError, ValueError) as error:
        say(f"{entry}: damaged ({error}); training anew")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _publish(entry: Path, folder: Path, measured: Measured) -> None:
    make_folder(entry.parent)
    names = sorted(path.name for path in folder.iterdir() if path.name != MARKER)
    with tempfile.TemporaryDirectory(prefix=f".{entry.name}.", dir=entry.parent) as room:
        temporary = Path(room, "whole")
        temporary.mkdir()
        for name in names:
            shutil.copyfile(folder / name, temporary / name)
        files = [manifest_entry(temporary / name) for name in names]
        text = json.dumps({"measured": measured, "files": files}, indent=2)
        (temporary / _RECORD).write_text(text + "\n", encoding="utf-8")
        try:
            move(temporary, entry)
        except OSError:
            # Another run was there first, with the same bytes.
            if not entry.is_dir():
                raise
