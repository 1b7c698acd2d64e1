"""A run of an experiment: what is checked before its first job, and Snakemake as its subprocess."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlocus.config.experiment import Parameters
from affectlocus.core.errors import InputError
from affectlocus.core.files import STATE, write_text
from affectlocus.orchestration.code_digest import PACKAGE
from affectlocus.orchestration.run_lock import HELD, ended, held, hold

_PLANNED = STATE / "planned"
_LEAST = 1 << 16  # bytes: with less, nothing can be written that matters


def snakefile() -> Path:
    """The workflow of this package: in its checkout, or else in this folder.

    Raises:
        InputError: there is none.
    """
    for path in (PACKAGE.parents[1] / "Snakefile", Path("Snakefile")):
        if path.is_file():
            return path
    raise InputError(
        "no Snakefile here; run this command in a checkout of affectlocus, which holds the rules"
    )


def writable(folder: Path) -> None:
    """Refuses a folder in which results cannot be written.

    Raises:
        InputError: `results` or `checkpoints` is no folder, is read-only, or is on a full disk.
    """
    for place in (folder / "results", folder / "checkpoints"):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: a file; a run needs a folder of that name")
        probe = (place if place.is_dir() else folder) / f".space.{os.getpid()}.partial"
        try:
            try:
                probe.write_bytes(bytes(_LEAST))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{place}: cannot be written ({error.strerror}); no job was started. Make room "
                "there, or make it writable, and run again"
            ) from None


def planned_by(parameters: Parameters, rules: Path) -> str:
    """A digest of what a run's jobs are planned by: parameters, rules and the package's code.

    Args:
        rules: the folder of the Snakefile.
    """
    total = hashlib.sha256(parameters.model_dump_json().encode())
    for path in (rules / "Snakefile", *sorted(rules.glob("rules/*.smk")), *_code()):
        total.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def _code() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def begin(folder: Path, planned: str) -> None:
    """Before the first job of a run: the folder is this run's alone, and can be written.

    Args:
        planned: `planned_by`, which jobs on other hosts compare (`check_planned`).

    Raises:
        InputError: another run works there; no space; no permission.
    """
    if HELD not in os.environ:
        hold(folder)
    writable(folder)
    write_text(folder / _PLANNED, planned + "\n")


def check_planned(folder: Path, planned: str) -> None:
    """Refuses a job on another host that would work by other parameters or code than its run.

    Such a job reads the Snakefile again. After an edit it would write results of the new
    parameters, which the run records as made by the old ones.

    Raises:
        InputError: params.yaml, the rules or the code were edited since the run began.
    """
    try:
        known = (folder / _PLANNED).read_text(encoding="utf-8").strip()
    except OSError:
        return
    if known != planned:
        raise InputError(
            "params.yaml, the rules or the code of affectlocus were edited after this run had "
            "begun; this job was planned before, and was not started. Let the run end, or end it, "
            "and run again"
        )


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Runs Snakemake on an experiment that this process holds (`run_lock.hold`).

    SIGTERM is handed on; after Ctrl-C, which both processes get, Snakemake ends by itself.

    Args:
        arguments: for Snakemake, behind those that name the workflow and the folder.

    Returns:
        Snakemake's exit code; 128 and the signal's number if it died of a signal.
    """
    process = subprocess.Popen(
        [*snakemake(folder), "--rerun-incomplete", *arguments],
        env=os.environ | {HELD: str(os.getpid())},
        # Should this process be killed, the folder stays held as long as Snakemake lives.
        pass_fds=held(),
    )
    with _handing_on(process):
        code = process.wait()
    ended(folder)
    return code if code >= 0 else 128 - code


def unlock(folder: Path) -> None:
    """Takes away Snakemake's lock of a killed run, by its own command.

    Raises:
        InputError: Snakemake could not.
    """
    done = subprocess.run(
        [*snakemake(folder), "--unlock"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        raise InputError(f"{folder}: snakemake --unlock failed: {last.strip()}")


def snakemake(folder: Path) -> list[str]:
    """The command line of Snakemake for this workflow on an experiment's folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile().absolute())]
    return [*command, "--directory", str(folder.absolute())]


@contextmanager
def _handing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    def stop(number: int, _: Any) -> None:
        if number == signal.SIGTERM:
            process.terminate()

    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
