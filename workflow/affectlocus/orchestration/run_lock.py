"""One run at a time in a folder: a lock that the kernel takes back, however the run ends.

Snakemake's own lock is a list of files that a killed run leaves behind, and the next run would ask
for `--unlock`. Whoever holds this lock knows that no other run lives, and clears that list away.
Each job holds a shared lock too, so that jobs that outlive a killed run are seen.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE

_RUN = STATE / "run.lock"
_JOBS = STATE / "jobs.lock"
_LOCKS = Path(".snakemake/locks")
# Snakemake reads the rules for these too, and neither runs nor removes anything.
_READERS = frozenset(
    """
    --archive --cleanup-metadata --cleanup-shadow --containerize --d3dag --dag --delete-all-output
    --delete-temp-output --detailed-summary -D --filegraph --generate-unit-tests --lint
    --list-changes --list-input-changes --list-params-changes --list-rules -l --list-target-rules
    --lt --list-untracked --report --rulegraph --summary -S --touch -t --unlock
    """.split()  # noqa: SIM905
)
# A lock lasts as long as its descriptor, and that as long as the process.
_held: list[int] = []


def only_reads(arguments: list[str]) -> bool:
    """Whether a command line of Snakemake makes no results."""
    return any(argument.partition("=")[0] in _READERS for argument in arguments)


def hold(folder: Path) -> None:
    """Makes a folder this process's own, until it ends, and removes a dead run's locks.

    On a disk without locks nothing is held, and Snakemake's own lock stands alone.

    Raises:
        InputError: another run works there, or jobs of one that was killed; it cannot be written.
    """
    try:
        (folder / STATE).mkdir(parents=True, exist_ok=True)
        run = os.open(folder / _RUN, os.O_RDWR | os.O_CREAT, 0o666)
        jobs = os.open(folder / _JOBS, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"{folder / STATE}: cannot be written ({error.strerror}), and a run keeps its records "
            "there; nothing was started: make room, or make it writable, and run again"
        ) from None
    try:
        _refuse_living(folder, run, jobs)
    except (InputError, OSError) as error:
        os.close(run)
        if isinstance(error, InputError):
            raise
        return  # no locks on this disk
    finally:
        os.close(jobs)
    _held.append(run)
    host = platform.node()
    # Some network disks keep locks to the host: another host's run may live all the same.
    if _who(run).endswith(f" on {host}"):
        shutil.rmtree(folder / _LOCKS, ignore_errors=True)
    try:
        os.ftruncate(run, 0)
        os.pwrite(run, f"process {os.getpid()} on {host}\n".encode(), 0)
    except OSError as error:
        raise InputError(f"{folder / _RUN}: cannot be written ({error.strerror})") from None


def held() -> tuple[int, ...]:
    """The locks that this process holds, as descriptors: a process that inherits them holds too."""
    return tuple(_held)


def _refuse_living(folder: Path, run: int, jobs: int) -> None:
    if not _locked(run):
        who = _who(run) or "its number is not known"
        raise InputError(
            f"{folder}: another run works here ({who}); wait until it has ended, or end it, and "
            "run again"
        )
    if not _locked(jobs):
        numbers = ", ".join(map(str, _holders(jobs)))
        those = f"processes {numbers}" if numbers else "on another host"
        raise InputError(
            f"{folder}: jobs of a run that was killed still work here ({those}); wait until they "
            "have ended, or end them, and run again"
        )


def _who(run: int) -> str:
    return os.pread(run, 200, 0).decode(errors="replace").strip()


def working(folder: Path = Path()) -> None:
    """Says that a job works in a folder, until the process ends; nothing where no run holds it."""
    try:
        descriptor = os.open(folder / _JOBS, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
    else:
        _held.append(descriptor)


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
