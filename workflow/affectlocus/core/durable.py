"""Renames that survive a power failure: a file's content reaches the disk before its final name.

A rename is atomic only as other processes see it. The kernel may write the new name to the disk
before the content; after a power failure the file is then empty. Therefore the file is synced
first, then renamed, and then the folder that holds the name is synced.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

# Some network and FUSE file systems cannot sync and return one of these errors. On a read-only file
# system there is nothing to sync.
_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS)
# A folder that the user may write into but not list cannot be opened.
_CANNOT_OPEN = (errno.EACCES, errno.EPERM, errno.EBADF)


def sync(path: Path) -> None:
    """Waits until a file, or a folder with everything below it, is on the disk.

    Targets of symbolic links are not synced.

    Raises:
        OSError: the disk is full or broken.
    """
    if not path.is_dir():
        if path.is_file() and not path.is_symlink():
            _sync(path)
        return
    for at, _, files in os.walk(path, topdown=False):
        for name in files:
            if not (file := Path(at, name)).is_symlink() and file.is_file():
                _sync(file)
        sync_names(Path(at))


def sync_names(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, if the file system supports it."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _CANNOT_OPEN:
            raise


def move(finished: Path, final: Path) -> None:
    """Syncs a finished file or folder, renames it, and syncs the name.

    Raises:
        OSError: from `os.replace`, or because the disk is full or broken.
    """
    sync(finished)
    finished.replace(final)
    sync_names(final.parent)


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents, and syncs the names of the new ones."""
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in new:
        sync_names(one.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _SYNC_UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
