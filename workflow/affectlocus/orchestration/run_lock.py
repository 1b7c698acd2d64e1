"""One run at a time in an experiment's folder, by a lock that the kernel releases when a run ends.

Snakemake's own lock is a list of files, which a killed run leaves behind. This one is a flock, so
it tells a living run from a killed one. Each job holds a second lock, shared with the other jobs,
so that jobs that outlive a killed run are found too.
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
"""Environment variable: `affectlocus run` holds the folder for the Snakemake that it started."""

_RUN = STATE / "run.lock"
_JOBS = STATE / "jobs.lock"
# A lock lasts as long as its descriptor is open in any process.
_open: list[int] = []


def hold(folder: Path) -> bool:
    """Makes a folder this process's own until it ends.

    On a disk without locks nothing is held; Snakemake's own lock is then the only one.

    Returns:
        Whether the run before this one was on this host and did not end by itself (`ended`).

    Raises:
        InputError: another run works there, or jobs of a killed one do; the lock cannot be written.
    """
    try:
        (folder / STATE).mkdir(exist_ok=True)
        run = os.open(folder / _RUN, os.O_RDWR | os.O_CREAT, 0o666)
        jobs = os.open(folder / _JOBS, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"{folder / STATE}: cannot be written ({error.strerror}); no job was started. Make "
            "room there, or make it writable, and run again"
        ) from None
    try:
        _refuse_living(folder, run, jobs)
    except (InputError, OSError) as error:
        os.close(run)
        if isinstance(error, InputError):
            raise
        return False  # no locks on this disk
    finally:
        os.close(jobs)
    _open.append(run)
    host = platform.node()
    # Some network disks keep locks to one host: a run of another host may be alive.
    killed = _who(run).endswith(f" on {host}")
    try:
        os.ftruncate(run, 0)
        os.pwrite(run, f"process {os.getpid()} on {host}\n".encode(), 0)
    except OSError as error:
        raise InputError(f"{folder / _RUN}: cannot be written ({error.strerror})") from None
    return killed


def held() -> tuple[int, ...]:
    """Descriptors of the locks that this process holds; a child that inherits them holds too."""
    return tuple(_open)


def ended(folder: Path) -> None:
    """Records that the run that holds the folder came to its end, well or not."""
    # Where it cannot be written, the next run takes it for a killed one, and unlocks in vain.
    with suppress(OSError):
        os.truncate(folder / _RUN, 0)


def killed(folder: Path) -> str:
    """The process that held the folder last and was killed, in words; empty if there is none."""
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
    """Says that a job works in a folder until the process ends; nothing where no run held it."""
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
        who = _who(run) or "its process number is not known"
        raise InputError(
            f"{folder}: another run works here ({who}); wait until it has ended, or end it, and "
            "run again"
        )
    if not _locked(jobs):
        numbers = ", ".join(map(str, _holders(jobs)))
        those = f"processes {numbers}" if numbers else "on another host"
        raise InputError(
            f"{folder}: jobs of a killed run still work here ({those}); wait until they have "
            "ended, or end them, and run again"
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
    """The processes of this host that hold a lock on a file."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines if "->" not in line]
    return sorted({int(one[4]) for one in fields if one[5].rpartition(":")[2] == inode})
