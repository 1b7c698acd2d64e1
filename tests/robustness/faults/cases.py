"""Faults of a whole run: what is done to a finished experiment, and what must be said of it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from disks import read_only, small_disk
from project import BIN, environment

Cause = Callable[[Path], AbstractContextManager[object]]

PAIR = "tiny-affective.seed0"
MANIFEST = f"results/checkpoints/{PAIR}.json"
DELTAS = f"results/deltas/{PAIR}.parquet"
FIGURE = "results/figures/deltas.tiny-affective.svg"
TARGETS = [FIGURE, DELTAS, "results/cells/tiny/base/predictions.parquet"]
TUNED = (MANIFEST, DELTAS, FIGURE)
"""The pair's tuning and what is made from it; without them, their jobs run."""

ADAPTER = f"checkpoints/{PAIR}/adapter_model.safetensors"
ANSWERS = "results/cells/tiny/base/predictions.parquet"
DOCTOR = "affectlocus doctor --fix"
"""A cure: and then the command that it prints."""
AHEAD = 400 * 86_400  # seconds


@dataclass(frozen=True)
class Fault:
    """One fault of a run.

    Attributes:
        kind: what is wrong.
        done: what was done to the finished experiment, in words.
        cause: does it; on leaving, its cause is removed.
        says: parts of the lines that must be printed.
        code: exit code of the run that meets it.
        cure: what a person does before the next run.
        mounts: whether it needs a disk of its own.
    """

    kind: str
    done: str
    cause: Cause
    says: tuple[str, ...] = ()
    code: int = 1
    cure: str = "nothing"
    mounts: bool = False


def lost(folder: Path, *names: str) -> None:
    """Deletes results, so that their jobs have to run."""
    for name in names:
        (folder / name).unlink()


def changed(change: Callable[[Path], object]) -> Cause:
    """A cause that nobody has to take away."""

    def cause(folder: Path) -> AbstractContextManager[None]:
        change(folder)
        return nullcontext()

    return cause


def cut(name: str, share: float) -> Cause:
    """A file of which only the first part is left."""
    return changed(
        lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * share))
    )


def flipped(path: Path) -> None:
    """One bit in the middle of a file."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))


def _bit_in_weights(folder: Path) -> None:
    flipped(folder / ADAPTER)
    lost(folder, DELTAS)


def _no_weights(folder: Path) -> None:
    (folder / ADAPTER).parent.rename(folder / "elsewhere")
    lost(folder, DELTAS)


def _emptied(folder: Path) -> None:
    for path in (folder / ADAPTER).parent.rglob("*"):
        if path.is_file():
            path.unlink()
    lost(folder, DELTAS)


def _no_json(folder: Path) -> None:
    (folder / MANIFEST).write_text("{'folder': 'checkpoints'}\n")


def _by_hand(folder: Path) -> None:
    path = folder / DELTAS
    import pandas as pd

    frame = pd.read_parquet(path)
    frame.loc[0, "l2"] = 99.9
    frame.to_parquet(path)


def _ahead(folder: Path) -> None:
    for path in (folder / "results").rglob("*"):
        found = path.stat()
        os.utime(path, (found.st_atime + AHEAD, found.st_mtime + AHEAD))
    lost(folder, FIGURE)


@contextmanager
def _full(folder: Path, name: str, free: int, *gone: str) -> Iterator[None]:
    lost(folder, *gone)
    with small_disk(folder / name, free) as filler:
        yield
        filler.unlink(missing_ok=True)


def full(name: str, free: int, *gone: str) -> Cause:
    """A disk with so many bytes left, over a folder, and results that have to be made again."""
    return lambda folder: _full(folder, name, free, *gone)


def _replaced(name: str, text: str) -> Cause:
    @contextmanager
    def cause(folder: Path) -> Iterator[None]:
        held = folder / "held"
        (folder / name).rename(held)
        (folder / name).write_text(text)
        yield
        (folder / name).unlink()
        held.rename(folder / name)

    return cause


def _edited(old: str, new: str, *gone: str) -> Cause:
    @contextmanager
    def cause(folder: Path) -> Iterator[None]:
        path = folder / "params.yaml"
        text, times = path.read_text(), path.stat()
        assert old in text
        lost(folder, *gone)
        path.write_text(text.replace(old, new, 1))
        yield
        path.write_text(text)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    return cause


def _started(folder: Path) -> subprocess.Popen[bytes]:
    lost(folder, *TUNED)
    run = subprocess.Popen(
        [str(BIN / "snakemake"), "--cores", "2", *TARGETS],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not _jobs(folder):
        assert run.poll() is None, "snakemake ended before any job was seen"
        time.sleep(0.05)
    return run


def _jobs(folder: Path, step: str = "affectlocus") -> list[int]:
    """The processes of this folder with a word in their command line, or a program so named."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (entry / "cwd").resolve() == folder.resolve()
        except OSError:
            continue
        named = step in (Path(word).name for word in words)
        if entry.name.isdigit() and here and named and "--folder" in words:
            found.append(int(entry.name))
    return found


@contextmanager
def _two_runs(folder: Path) -> Iterator[None]:
    run = _started(folder)
    yield
    run.wait()


@contextmanager
def _orphans(folder: Path) -> Iterator[None]:
    run = _started(folder)
    jobs = _jobs(folder)
    time.sleep(1)
    for job in jobs:
        os.kill(job, signal.SIGSTOP)  # as a job of hours: it is still there
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    yield
    for job in jobs:
        os.kill(job, signal.SIGKILL)


@contextmanager
def _killed(folder: Path) -> Iterator[None]:
    run = _started(folder)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    yield


def _signalled(folder: Path, number: int, wait: float) -> Iterator[None]:
    """Sends the first tuning a signal, so many seconds after it was seen."""
    lost(folder, *TUNED)
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for job in _jobs(folder, "tune"):
                time.sleep(wait)
                os.kill(job, number)
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    stop.set()
    watcher.join()


@contextmanager
def _out_of_memory(folder: Path) -> Iterator[None]:
    """Kills the first tuning as the kernel does when memory is short."""
    yield from _signalled(folder, signal.SIGKILL, 0)


@contextmanager
def _preempted(folder: Path) -> Iterator[None]:
    """Stops the first tuning as a scheduler does before it takes the machine away."""
    yield from _signalled(folder, signal.SIGTERM, 0.5)


FAULTS = [
    Fault(
        "A disk that was full before the start",
        "`results` is on a disk with 20 kB free, and a figure is deleted.",
        full("results", 20_000, FIGURE),
        ("[run.not-writable]", "results: cannot be written (No space left on device)"),
        cure="makes room",
        mounts=True,
    ),
    Fault(
        "A disk that is full in the middle of writing weights",
        "`checkpoints` is on a disk with 80 kB free; the base, of 100 kB, is deleted, and so are "
        "the files made from it.",
        full("checkpoints", 80_000, "results/checkpoints/tiny.json", *TUNED),
        ("[output.not-writable]", "checkpoints/tiny: cannot be written (No space left on device)"),
        cure="makes room",
        mounts=True,
    ),
    Fault(
        "A disk that is full in the middle of writing results",
        "`results` is on a disk with 80 kB free, and a figure of 190 kB is deleted.",
        full("results", 80_000, FIGURE, FIGURE.replace("svg", "png")),
        ("No space left on device",),
        cure="makes room",
        mounts=True,
    ),
    Fault(
        "A results folder that is read-only",
        "`results` is mounted read-only, and a figure is deleted.",
        lambda folder: _read_only(folder, "results", FIGURE),
        ("[run.not-writable]", "results: cannot be written (Read-only file system)"),
        cure="makes it writable",
        mounts=True,
    ),
    Fault(
        "An experiment's folder that is read-only",
        "The whole folder is mounted read-only, and a figure is deleted.",
        lambda folder: _read_only(folder, ".", FIGURE),
        ("Read-only file system",),
        cure="makes it writable",
        mounts=True,
    ),
    Fault(
        "A truncated parquet file",
        f"`{ANSWERS}` has lost its second half.",
        cut(ANSWERS, 0.5),
        (f"{ANSWERS}: truncated after ", "[run.truncated-results]"),
        cure=DOCTOR,
    ),
    Fault(
        "An empty parquet file",
        f"`{DELTAS}` has 0 bytes.",
        cut(DELTAS, 0),
        (f"{DELTAS}: empty", "[run.truncated-results]"),
        cure=DOCTOR,
    ),
    Fault(
        "A truncated figure and a truncated JSON report",
        "The last tenth of each is missing.",
        changed(
            lambda folder: [
                os.truncate(folder / name, int((folder / name).stat().st_size * 0.9))
                for name in (FIGURE, "results/cells/tiny/base/verification.json")
            ]
        ),
        (f"{FIGURE}: truncated", "verification.json: truncated", "[run.truncated-results]"),
        cure=DOCTOR,
    ),
    Fault(
        "A flipped bit in weights",
        f"One bit of `{ADAPTER}` is flipped, and the deltas that are computed from it are deleted.",
        changed(_bit_in_weights),
        (f"{ADAPTER}: as long as {MANIFEST} lists it, but with other bytes",),
        cure=DOCTOR,
    ),
    Fault(
        "Weights that are deleted while their manifest is kept",
        f"The folder `checkpoints/{PAIR}` is deleted, and so are the deltas.",
        changed(_no_weights),
        code=0,
    ),
    Fault(
        "A checkpoint's folder that was emptied",
        f"Every file in `checkpoints/{PAIR}` is deleted, and the deltas are deleted.",
        changed(_emptied),
        code=0,
    ),
    Fault(
        "A manifest that is not JSON",
        f"`{MANIFEST}` is overwritten with something else.",
        changed(_no_json),
        (f"{MANIFEST}: ", "[json.not-json]"),
        cure=DOCTOR,
    ),
    Fault(
        "A result that was changed by hand",
        f"`{DELTAS}` has another norm in its first row.",
        changed(_by_hand),
        code=0,
        cure=f"rm {DELTAS}",
    ),
    Fault(
        "A clock that was set back",
        "All results are dated 400 days ahead, and a figure is deleted.",
        changed(_ahead),
        ("dated in the future",),
        cure=DOCTOR,
    ),
    Fault(
        "Two runs in one folder",
        "The pair's tuning is deleted, and a first run is at work on it.",
        _two_runs,
        ("[run.folder-in-use]", "(process "),
        cure="waits for the first run",
    ),
    Fault(
        "A run that was killed, and its jobs were not",
        "`kill -9` of Snakemake alone, while a tuning runs; the tuning goes on.",
        _orphans,
        ("[run.jobs-still-running]", "(processes "),
        cure="ends them",
    ),
    Fault(
        "A run that was killed with all its jobs",
        "`kill -9` of Snakemake's process group, while a tuning runs.",
        _killed,
        code=0,
    ),
    Fault(
        "A job that the kernel kills, as it does when memory is short",
        "The pair's tuning is deleted, and its job gets `kill -9` as it begins.",
        _out_of_memory,
        ("no error in its log; the process was probably killed",),
    ),
    Fault(
        "A job that a scheduler preempts",
        "The pair's tuning is deleted, and its job gets SIGTERM as it begins.",
        _preempted,
        ("stopped by SIGTERM",),
    ),
    Fault(
        "A params.yaml that is not YAML",
        "`params.yaml` holds `corpus: {` and nothing else.",
        _replaced("params.yaml", "corpus: {\n"),
        ("params.yaml: ", "[params.not-yaml]"),
        cure="puts it back",
    ),
    Fault(
        "A file in place of the results folder",
        "`results` is a file of the user.",
        _replaced("results", "mine\n"),
        ("[run.not-a-folder]",),
        cure="puts it back",
    ),
    Fault(
        "A loss that is not a number",
        "The pair's `learning_rate` is 1.0e+30.",
        _edited("learning_rate: 5.0e-3}\n      traj", "learning_rate: 1.0e+30}\n      traj"),
        ("training has diverged", "[tuning.loss-not-finite]"),
        cure="puts params.yaml back",
    ),
]


@contextmanager
def _read_only(folder: Path, name: str, *gone: str) -> Iterator[None]:
    lost(folder, *gone)
    with read_only(folder / name):
        yield
