"""A lock that allows one run at a time in an experiment's folder.

Snakemake's own lock is a set of files, which a killed run leaves behind. This lock is a flock,
which the kernel releases when the process ends, so a running run differs from a killed one. Each
job holds a second lock, which all jobs share. It shows jobs that still run after their run was
killed.
"""

from __future__ import annotations

import fcntl
import os
import platform
from contextlib import suppress
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE

HELD = "AFFECTLOCUS_HELD"
"""Environment variable: the parent process, `affectlocus run`, holds the lock of the folder."""

_RUN = STATE / "run.lock"
_JOBS = STATE / "jobs.lock"
# A lock is held as long as its descriptor is open in any process.
_open: list[int] = []


def acquire(folder: Path) -> bool:
    """Locks a folder until this process ends.

    On a file system without locks only Snakemake's own lock protects the folder.

    Returns:
        Whether the previous run was on this host and was killed (it did not call `ended`).

    Raises:
        InputError: another run or jobs of a killed run use the folder, or the lock file cannot be
            written.
    """
    try:
        (folder / STATE).mkdir(exist_ok=True)
        run = os.open(folder / _RUN, os.O_RDWR | os.O_CREAT, 0o666)
        jobs = os.open(folder / _JOBS, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            "run.not-writable",
            f"{folder / STATE}: cannot be written ({error.strerror}); no job was started. Free "
            "space there, or make it writable, and run again",
            file=folder / STATE,
            reason=error.strerror,
        ) from None
    try:
        _refuse_living(folder, run, jobs)
    except (InputError, OSError) as error:
        os.close(run)
        if isinstance(error, InputError):
            raise
        return False  # the file system has no locks
    finally:
        os.close(jobs)
    _open.append(run)
    host = platform.node()
    # Some network file systems lock per host, so a run on another host may still be running.
    killed = _who(run).endswith(f" on {host}")
    try:
        os.ftruncate(run, 0)
        os.pwrite(run, f"process {os.getpid()} on {host}\n".encode(), 0)
    except OSError as error:
        raise InputError(
            "run.not-writable",
            f"{folder / _RUN}: cannot be written ({error.strerror})",
            file=folder / _RUN,
            reason=error.strerror,
        ) from None
    return killed


def held() -> tuple[int, ...]:
    """The descriptors of the locks; a child process that inherits them holds the locks too."""
    return tuple(_open)


def ended(folder: Path) -> None:
    """Records that the run ended by itself, with or without an error."""
    # If the file cannot be written, the next run only runs snakemake --unlock without need.
    with suppress(OSError):
        os.truncate(folder / _RUN, 0)


def killed(folder: Path) -> str:
    """The killed process that held the lock last, as text; empty if no run was killed."""
    try:
        run = os.open(folder / _RUN, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return _who(run) if _locked(run) else ""
    except OSError:
        return ""
    finally:
        os.close(run)


def working(folder: Path = Path()) -> None:
    """Marks a folder as used by a job until this process ends, if a run ever locked it."""
    try:
        descriptor = os.open(folder / _JOBS, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
    else:
        _open.append(descriptor)


def _refuse_living(folder: Path, run: int, jobs: int) -> None:
    if not _locked(run):
        who = _who(run) or "process number unknown"
        raise InputError(
            "run.folder-in-use",
            f"{folder}: another run uses this folder ({who}); wait until it ends, or stop it, and "
            "run again",
            file=folder,
            found=who,
        )
    if not _locked(jobs):
        holders = _holders(jobs)
        those = f"processes {', '.join(map(str, holders))}" if holders else "on another host"
        raise InputError(
            "run.jobs-still-running",
            f"{folder}: jobs of a killed run are still running ({those}); wait until they end, or "
            "stop them, and run again",
            file=folder,
            found=holders,
        )


def _who(run: int) -> str:
    return os.pread(run, 200, 0).decode(errors="replace").strip()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(descriptor: int) -> list[int]:
    """The ids of the processes of this host that hold a lock on a file."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines if "->" not in line]
    return sorted({int(field[4]) for field in fields if field[5].rpartition(":")[2] == inode})
