"""Renames that survive a power cut: the content is on the disk before the final name is.

A rename alone is atomic for other processes only. The kernel may write the new name to the disk
before the bytes behind it, and after a power cut the file is empty under its final name. So every
file is synced, then the name is changed, then the folder that holds the name is synced.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

# Some network and FUSE disks cannot sync a file or a folder, and say so by one of these; on a
# read-only disk nothing waits to be written.
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS)
# A folder that this user may write into but not list cannot be opened.
_CLOSED = (errno.EACCES, errno.EPERM, errno.EBADF)


def sync(path: Path) -> None:
    """Waits until a file, or a folder with all files and folders below it, is on the disk.

    What a link leads to is not synced.

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
    """Waits until the names in a folder are on the disk, where the disk can do that."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _CLOSED:
            raise


def move(finished: Path, final: Path) -> None:
    """Syncs a finished file or folder, renames it, and syncs the name.

    Raises:
        OSError: as `os.replace`; a disk that is full or broken.
    """
    sync(finished)
    finished.replace(final)
    sync_names(final.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents, and syncs the names of those that are new."""
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in new:
        sync_names(one.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(descriptor)
