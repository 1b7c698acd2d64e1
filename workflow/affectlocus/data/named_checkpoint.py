"""Finds the checkpoints that a user compares, by a path or a hub id."""

from __future__ import annotations

from pathlib import Path

from affectlocus.core.errors import InputError, shortened
from affectlocus.core.manifests import manifest_folder
from affectlocus.deltas.diff import path_hint


def checkpoint_path(source: str) -> Path:
    """The path of a checkpoint on disk.

    The files of a hub id are downloaded into the hub's cache, and their hashes are verified. A
    branch or tag (by default `main`) is looked up each time; offline, the last look-up counts.

    Args:
        source: a folder or file; if it does not exist, `owner/name` or `owner/name@revision`.

    Raises:
        InputError: neither a path nor a hub id, or a checkpoint that `retrieve` refuses.
    """
    try:
        for path in (Path(source), Path(source).expanduser()):
            if path.exists():
                return path
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such home"
        raise InputError(
            "checkpoint.unreadable",
            f"{shortened(source)}: cannot be read ({reason})",
            file=source,
        ) from None
    if reason := path_hint(source):
        raise InputError(
            "checkpoint.missing",
            f"{shortened(source)}: no such file or folder{reason}",
            file=source,
        )
    from affectlocus.data.hub_commits import current_commit
    from affectlocus.data.retrieve import check_hub_id, retrieve

    hub, _, revision = source.partition("@")
    check_hub_id(hub)
    return manifest_folder(retrieve(hub, current_commit(hub, revision or "main")))
