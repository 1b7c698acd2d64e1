"""Manifests of checkpoints: write them, and check that the listed files are unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affectlocus.checkpoints.checksums import first_changed
from affectlocus.core.checkpoint_files import checkpoint_paths
from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE, is_there, read_json
from affectlocus.core.manifests import (
    content_digest,
    first_missing_file,
    is_manifest,
    manifest_entry,
    manifest_folder,
)


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Name, size in bytes and SHA-256 of every file of a checkpoint. Jobs depend on these."""
    return [manifest_entry(path) for path in checkpoint_paths(folder)]


def weights_digest(checkpoint: Path) -> str:
    """A digest of a checkpoint's weights; of a manifest, the digest of the files that it lists."""
    if checkpoint.is_dir():
        return content_digest(manifest(checkpoint))
    record = read_json(checkpoint) if checkpoint.suffix == ".json" else {}
    return content_digest(record["files"] if is_manifest(record) else [manifest_entry(checkpoint)])


def checkpoint_folder(manifest_file: Path) -> Path:
    """The folder of a manifest's checkpoint, after a check of every file's size and SHA-256.

    For a checkpoint that is a single file (kind "file"), the path of the file.

    Raises:
        InputError: not a manifest; or listed weights are missing or were changed.
    """
    try:
        record = _checked(manifest_file)
    except InputError as error:
        if not manifest_file.is_file():
            raise
        advice = ""
        if STATE.is_dir():
            advice = "; affectlocus doctor --fix repairs it; then run again"
        elif is_listed(manifest_file):
            advice = f"; bring it back with the command that wrote {manifest_file}"
        raise InputError(error.code, f"{error}{advice}", **error.fields) from None
    folder = manifest_folder(record)
    return folder / record["files"][0]["file"] if record.get("kind") == "file" else folder


def is_listed(manifest_file: Path) -> bool:
    """Whether a file is a manifest, even if the files that it lists are missing."""
    try:
        return is_manifest(read_json(manifest_file))
    except InputError:
        return False


def manifest_problem(manifest_file: Path) -> str:
    """The problem with a manifest or its listed files; an empty string if there is no problem."""
    try:
        _checked(manifest_file)
    except InputError as error:
        return str(error)
    return ""


def _checked(manifest_file: Path) -> dict[str, Any]:
    """The content of a manifest whose files are unchanged."""
    written = "written by affectlocus retrieve CHECKPOINT --out FILE.json"
    if manifest_file.is_dir():
        raise InputError(
            "manifest.folder",
            f"{manifest_file}: a folder; expected the manifest of a checkpoint, a JSON file",
            file=manifest_file,
        )
    if not manifest_file.exists():
        raise InputError(
            "manifest.missing",
            f"{manifest_file}: no such file; expected the manifest of a checkpoint, {written}",
            file=manifest_file,
        )
    record: dict[str, Any] = read_json(manifest_file)
    if not is_manifest(record):
        raise InputError(
            "manifest.other-content",
            f"{manifest_file}: no manifest of a checkpoint; expected one {written}",
            file=manifest_file,
        )
    if lost := first_missing_file(record):
        path, size = lost
        state = "changed" if is_there(path) else "missing"
        raise InputError(
            "manifest.file-missing",
            f"{path}: {state}, though {manifest_file} lists it with {size} bytes",
            file=path,
            found=state,
            expected=size,
        )
    changed = first_changed(manifest_folder(record), record["files"])
    if changed is not None:
        raise InputError(
            "manifest.file-changed",
            f"{changed}: as long as {manifest_file} lists it, but with other bytes (their SHA-256 "
            "differs)",
            file=changed,
        )
    return record
