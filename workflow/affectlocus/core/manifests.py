"""Manifests: JSON files that list the files of a checkpoint by name, size and SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from affectlocus.core.files import is_there, sha256

# Variables of huggingface_hub for the folders of its downloads, which differ between machines. A
# manifest holds the variable in place of the folder.
_ROOTS = ("HF_HUB_CACHE", "HF_HOME")


def manifest_entry(path: Path, digest: str | None = None) -> dict[str, Any]:
    """A file's entry in a manifest: name, size in bytes, and SHA-256, computed if not given."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest or sha256(path)}


def is_manifest(record: Any) -> bool:
    """Whether a JSON value is a manifest: a folder, and its files with name, size and SHA-256."""
    if not isinstance(record, dict) or not isinstance(record.get("source"), dict | None):
        return False
    files = record.get("files")
    return (
        isinstance(record.get("folder"), str)
        and "\0" not in record["folder"]
        and isinstance(files, list)
        and bool(files)
        and all(isinstance(one, dict) and _inside(one.get("file")) for one in files)
        and all(isinstance(one.get("bytes"), int) for one in files)
        and all(isinstance(one.get("sha256"), str) for one in files)
    )


def portable_path(folder: Path) -> str:
    """A folder as a manifest writes it: `${HF_HUB_CACHE}` replaces the root of downloads."""
    from huggingface_hub import constants

    for root in _ROOTS:
        try:
            inside = folder.absolute().relative_to(Path(getattr(constants, root)).absolute())
        except ValueError:
            continue
        return f"${{{root}}}/{inside.as_posix()}"
    return str(folder)


def manifest_folder(record: Mapping[str, Any]) -> Path:
    """The folder of a manifest's files on this machine."""
    named = str(record["folder"])
    for root in _ROOTS:
        if named.startswith(f"${{{root}}}/"):
            from huggingface_hub import constants

            return Path(getattr(constants, root), named.partition("/")[2])
    return Path(named)


def first_missing_file(record: Mapping[str, Any]) -> tuple[Path, int] | None:
    """The first file of a manifest that is missing or has another size, with the expected size.

    None if all files are complete.
    """
    folder = manifest_folder(record)
    for entry in record["files"]:
        path = folder / entry["file"]
        if not is_there(path) or path.stat().st_size != entry["bytes"]:
            return path, int(entry["bytes"])
    return None


def content_digest(files: Iterable[Mapping[str, Any]]) -> str:
    """The digest of a model: of its files' names and SHA-256, without their folder."""
    listed = sorted((str(one["file"]), str(one["sha256"])) for one in files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _inside(name: Any) -> bool:
    """Whether a file's name is relative and stays in its folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
