"""A cache of pre-trained bases, so that several experiments train the same base only once.

An entry is a folder below `cache_folder`. Its name is a digest of everything that determines its
bytes: recipe, text, code, versions, kind of machine. Entries are written atomically, and each file
is verified by its SHA-256 when it is read. The cache may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from affectlocus.core.durable import make_folder, move
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.core.manifests import manifest_entry
from affectlocus.core.output_files import MARKER

CACHE = "AFFECTLOCUS_CACHE"
"""Environment variable: the folder of the cache; an empty value disables the cache."""

_RECORD = "kept.json"

Measured = dict[str, float]
Say = Callable[[str], None]


def cache_folder() -> Path | None:
    """AFFECTLOCUS_CACHE, or affectlocus in the user's cache folder; None if it is disabled."""
    value = os.environ.get(CACHE)
    if value is not None:
        return Path(value) if value else None
    user = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(user) / "affectlocus"


def cached(name: str, folder: Path, train: Callable[[Path], Measured], say: Say) -> Measured:
    """The result of `train(folder)` and its files, from the cache if it has the entry.

    Args:
        name: the `cache_key` of the entry.
        folder: the folder that `train` creates; it must not exist.
        train: trains and returns its measurements; it must be deterministic.
        say: receives a line that says whether the cache was used, or why it could not be written.
    """
    home = cache_folder()
    entry = home / "pretrained" / name if home else None
    if entry is not None and (found := _load(entry, folder, say)) is not None:
        say(f"found in the cache ({entry}): trained before with the same recipe, text and code")
        return found
    measured = train(folder)
    if entry is not None:
        try:
            _store(entry, folder, measured)
        except OSError as error:
            say(f"not added to the cache: {entry} cannot be written ({error.strerror})")
    return measured


def _load(entry: Path, folder: Path, say: Say) -> Measured | None:
    """Copies the files of an entry; None if it does not exist or is damaged."""
    if not entry.is_dir():
        return None
    try:
        record = read_json(entry / _RECORD)
        folder.mkdir(parents=True)
        for listed in record["files"]:
            copy = folder / Path(listed["file"]).name
            shutil.copyfile(entry / copy.name, copy)
            if manifest_entry(copy) != listed:
                raise ValueError(f"{listed['file']} has another SHA-256")
        return dict(record["measured"])
    except (InputError, OSError, KeyError, TypeError, ValueError) as error:
        say(f"{entry}: damaged ({error}); the entry is removed, and the base is trained again")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _store(entry: Path, folder: Path, measured: Measured) -> None:
    make_folder(entry.parent)
    names = sorted(path.name for path in folder.iterdir() if path.name != MARKER)
    with tempfile.TemporaryDirectory(prefix=f".{entry.name}.", dir=entry.parent) as scratch:
        temporary = Path(scratch, "entry")
        temporary.mkdir()
        for name in names:
            shutil.copyfile(folder / name, temporary / name)
        files = [manifest_entry(temporary / name) for name in names]
        text = json.dumps({"measured": measured, "files": files}, indent=2)
        (temporary / _RECORD).write_text(text + "\n", encoding="utf-8")
        try:
            move(temporary, entry)
        except OSError:
            # Another run has stored the entry in the meantime, with the same bytes.
            if not entry.is_dir():
                raise
