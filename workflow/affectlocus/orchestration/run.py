"""A run of an experiment: checks before the first job, and Snakemake as a subprocess."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlocus.config.experiment import Parameters
from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE, write_text
from affectlocus.orchestration.code_digest import PACKAGE
from affectlocus.orchestration.run_lock import HELD, acquire, ended, held

_PLANNED = STATE / "planned"
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""The exit codes of a run that a user or a batch system ended."""
_LEAST = 1 << 16  # bytes of free space that a run needs at least


def snakefile() -> Path:
    """The Snakefile of this package's checkout, of its installation, or in the current folder.

    Raises:
        InputError: there is none.
    """
    installed = Path(sysconfig.get_path("data"), "share/affectlocus/Snakefile")
    for path in (PACKAGE.parents[1] / "Snakefile", installed, Path("Snakefile")):
        if path.is_file():
            return path
    raise InputError(
        "run.no-snakefile",
        "no Snakefile found; run this command in a checkout of affectlocus, which contains the "
        "rules",
    )


def writable(folder: Path) -> None:
    """Refuses a folder in which results cannot be written.

    Raises:
        InputError: `results` or `checkpoints` is a file, is read-only, or is on a full disk.
    """
    for place in (folder / "results", folder / "checkpoints"):
        if place.exists() and not place.is_dir():
            raise InputError(
                "run.not-a-folder",
                f"{place}: is a file; a run needs a folder with this name; move the file",
                file=place,
            )
        probe = (place if place.is_dir() else folder) / f".space.{os.getpid()}.partial"
        try:
            try:
                probe.write_bytes(bytes(_LEAST))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                "run.not-writable",
                f"{place}: cannot be written ({error.strerror}); no job was started. Free space "
                "there, or make it writable, and run again",
                file=place,
                reason=error.strerror,
            ) from None


def planned_by(parameters: Parameters, rules: Path) -> str:
    """A digest of everything that a plan of jobs depends on: parameters, rules and code.

    Args:
        rules: the folder of the Snakefile.
    """
    total = hashlib.sha256(parameters.model_dump_json().encode())
    own = sorted(PACKAGE.rglob("*.py"))
    for path in (rules / "Snakefile", *sorted(rules.glob("rules/*.smk")), *own):
        total.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def begin(folder: Path, planned: str) -> None:
    """Prepares the folder for the first job: locks it, and checks that it can be written.

    Args:
        planned: `planned_by`, which jobs on other hosts compare (`check_planned`).

    Raises:
        InputError: another run uses the folder; there is no space or no permission.
    """
    if HELD not in os.environ:
        acquire(folder)
    writable(folder)
    write_text(folder / _PLANNED, planned + "\n")


def check_planned(folder: Path, planned: str) -> None:
    """Refuses a job on another host whose parameters or code differ from those of its run.

    Such a job reads the Snakefile again. After an edit it would compute with the new parameters,
    and Snakemake would record the old ones.

    Raises:
        InputError: params.yaml, the rules or the code were edited since the run began.
    """
    try:
        known = (folder / _PLANNED).read_text(encoding="utf-8").strip()
    except OSError:
        return
    if known != planned:
        raise InputError(
            "run.edited-meanwhile",
            "params.yaml, the rules or the code of affectlocus changed after the run began; this "
            "job was planned before the change and did not start. Wait until the run ends, or stop "
            "it, and run again",
        )


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Runs Snakemake on an experiment that this process holds (`run_lock.acquire`).

    SIGTERM is forwarded. Ctrl-C reaches both processes, and Snakemake ends its jobs and itself.

    Args:
        arguments: further arguments of Snakemake.

    Returns:
        Snakemake's exit code; 128 and the signal's number if a signal ended the run.
    """
    process = subprocess.Popen(
        [*snakemake(folder), "--rerun-incomplete", *arguments],
        env=os.environ | {HELD: str(os.getpid())},
        # If this process is killed, Snakemake still holds the lock of the folder.
        pass_fds=held(),
    )
    with _forwarding_signals(process) as received:
        code = process.wait()
    ended(folder)
    if received and code:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


def unlock(folder: Path) -> None:
    """Removes the lock that a killed run left (snakemake --unlock).

    Raises:
        InputError: Snakemake failed.
    """
    done = subprocess.run(
        [*snakemake(folder), "--unlock"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        raise InputError(
            "run.unlock-failed",
            f"{folder}: snakemake --unlock failed: {last.strip()}",
            file=folder,
            reason=last.strip(),
        )


def snakemake(folder: Path) -> list[str]:
    """The command line of Snakemake for this workflow on an experiment's folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile().absolute())]
    return [*command, "--directory", str(folder.absolute())]


@contextmanager
def _forwarding_signals(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Forwards signals to a process; yields the list of those that arrive."""
    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        received.append(number)
        if number == signal.SIGTERM:
            process.terminate()

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
