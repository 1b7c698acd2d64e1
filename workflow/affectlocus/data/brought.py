"""A checkpoint as a user names it, for two of them to be compared: a path, or a hub id."""

from __future__ import annotations

from pathlib import Path

from affectlocus.core.errors import InputError, shortened
from affectlocus.core.manifests import manifest_folder
from affectlocus.deltas.diff import mistyped


def checkpoint_path(source: str) -> Path:
    """Where a checkpoint's files are on disk.

    A hub id's files are downloaded into the hub's cache, each verified by its hash. A branch or tag
    (by default `main`) is looked up each time; without network it is what it was last.

    Args:
        source: a folder or file, which is taken first; or `owner/name`, `owner/name@revision`.

    Raises:
        InputError: no such path and no hub id, or what `retrieve` refuses.
    """
    try:
        for path in (Path(source), Path(source).expanduser()):
            if path.exists():
                return path
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such home"
        raise InputError(f"{shortened(source)}: cannot be read ({reason})") from None
    if reason := mistyped(source):
        raise InputError(f"{shortened(source)}: no such file or folder{reason}")
    from affectlocus.data.hub import current_commit
    from affectlocus.data.retrieve import check_hub_id, retrieve

    hub, _, revision = source.partition("@")
    check_hub_id(hub)
    return manifest_folder(retrieve(hub, current_commit(hub, revision or "main")))
