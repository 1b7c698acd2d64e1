"""Small, full and read-only disks, mounted over a folder where the kernel lets us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OWN = "AFFECTLOCUS_OWN_MOUNTS"


def mountable() -> bool:
    """Whether this process may mount in a namespace of its own."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


def own_mounts() -> None:
    """Starts this program anew where its mounts are seen by nobody else, and end with it."""
    if _OWN not in os.environ:
        os.environ[_OWN] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])


@contextmanager
def small_disk(folder: Path, free: int) -> Iterator[Path]:
    """A disk (tmpfs) over a folder, with the folder's files on it and so many bytes left.

    Yields:
        A file that fills it: once it is deleted, there is room.
    """
    held = folder.with_name(f"{folder.name}-held")
    folder.rename(held)
    folder.mkdir()
    size = 32 << 20
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        shutil.copytree(held, folder, dirs_exist_ok=True)
        filler = folder / ".filler"
        with filler.open("wb") as stream:
            while (left := shutil.disk_usage(folder).free - free) > 0:
                stream.write(bytes(min(left, 1 << 20)))
                stream.flush()
        yield filler
        shutil.rmtree(held)
        shutil.copytree(folder, held)
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()
        held.rename(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that can be read and not written, whoever tries."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
