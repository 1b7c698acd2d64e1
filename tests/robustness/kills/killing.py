"""Runs of an experiment that are killed at chosen moments, and what is looked at after each kill.

A chain is one experiment from nothing to its end, with a kill -9 of the whole process group between
one start of Snakemake and the next.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from project import BIN, contents, environment, hidden, snakemake  # noqa: E402

# Every kind of step whose loss would hurt: base, tuning, deltas, cells, scores, tables, a figure.
TARGETS = ["results/table1.csv", "results/figures/deltas.tiny-affective.svg"]

_FINISHED = re.compile(r"Finished jobid: (\d+)")
_BEGUN = re.compile(r"^(?:local)?rule (\S+):\n((?:    .*\n)*)", re.MULTILINE)
_OUTPUT = re.compile(r"^    output: (.*)$", re.MULTILINE)
_NUMBER = re.compile(r"^    jobid: (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Moment:
    """When to kill: `delay` seconds after `finished` jobs have finished, over all starts so far.

    `at` is the same in seconds of the undisturbed run, if it was drawn there.
    """

    finished: int
    delay: float
    at: float | None = None


@dataclass(frozen=True)
class Kill:
    """What was found after one kill.

    Attributes:
        moment: when it was to happen.
        running: the rules whose jobs it hit.
        finished: outputs of jobs that Snakemake had called finished.
        files: results and weights that were there.
        broken: those of them that are not what the undisturbed run wrote.
        again: outputs of finished jobs that the next start made once more.
        begun: jobs that the next start ran, until it was killed or had ended.
    """

    moment: Moment
    running: list[str]
    finished: int
    files: int
    broken: list[str]
    again: list[str]
    begun: int


@dataclass(frozen=True)
class Chain:
    """Kills of one experiment, and how it ended.

    Attributes:
        differing: results and weights that are not those of the undisturbed run, or not there.
        left: partial files that were left behind.
        code: exit code of the last start.
        idle: whether one more start has nothing to do.
        seconds: from the first start to the end of the last.
    """

    kills: list[Kill]
    differing: list[str]
    left: list[str]
    code: int
    idle: bool
    seconds: float

    @property
    def good(self) -> bool:
        """Whether nothing was lost, half-written or done twice."""
        after = not (self.differing or self.left or self.code) and self.idle
        return after and not any(kill.broken or kill.again for kill in self.kills)


class Start:
    """One `affectlocus run` in a copy of the project, as a process group of its own."""

    def __init__(
        self, folder: Path, targets: Sequence[str], cores: int, places: Sequence[Path] = ()
    ) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [str(BIN / "affectlocus"), "run", "--verbose", "--cores", str(cores), "--", *targets],
            cwd=folder,
            env=environment(folder, *places),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.finishes: list[float] = []  # seconds after the start
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if _FINISHED.match(line):
                self.finishes.append(time.monotonic() - self.began)

    @property
    def text(self) -> str:
        """What it has printed."""
        return "".join(self.lines)

    def wait(self) -> int:
        """Waits for its end; the exit code."""
        code = self.process.wait()
        self._reader.join()
        return code

    def kill_at(self, moment: Moment, before: int) -> bool:
        """Kills it when the moment has come; False where it ended first.

        Args:
            before: jobs that had finished in earlier starts.
        """
        while before + len(self.finishes) < moment.finished and self.process.poll() is None:
            time.sleep(0.01)
        needed = moment.finished - before
        since = self.finishes[needed - 1] if 0 < needed <= len(self.finishes) else 0.0
        while time.monotonic() - self.began < since + moment.delay and self.process.poll() is None:
            time.sleep(0.01)
        if self.process.poll() is not None:
            self.wait()
            return False
        os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()
        return True

    def begun(self) -> list[tuple[str, list[str]]]:
        """The rule and the outputs of each job that it ran."""
        found = []
        for rule, body in _BEGUN.findall(self.text):
            outputs = _OUTPUT.search(body)
            found.append((rule, outputs[1].split(", ") if outputs else []))
        return found

    def done(self) -> set[str]:
        """The outputs of the jobs that it says have finished."""
        finished = set(_FINISHED.findall(self.text))
        return {
            name
            for _, body in _BEGUN.findall(self.text)
            if (number := _NUMBER.search(body)) and number[1] in finished
            for name in (_OUTPUT.search(body) or ["", ""])[1].split(", ")
            if name
        }


def drawn(
    finishes: Sequence[float], seconds: float, number: int, draw: random.Random
) -> list[Moment]:
    """Moments drawn evenly over an undisturbed run's time, earliest first.

    Args:
        finishes: when its jobs finished, in seconds after its start.
        seconds: its length.
    """
    moments = []
    for at in sorted(draw.uniform(0, seconds) for _ in range(number)):
        done = sum(finish <= at for finish in finishes)
        moments.append(Moment(done, at - (finishes[done - 1] if done else 0.0), at))
    return moments


def chain(
    folder: Path,
    targets: Sequence[str],
    moments: Sequence[Moment],
    reference: dict[str, str],
    cores: int = 2,
    places: Sequence[Path] = (),
) -> Chain:
    """Runs the experiment of a copy to its end, killed at each of the moments on the way.

    Args:
        reference: the undisturbed run's `contents`.
        places: folders of programs that come before the installed ones.
    """
    began = time.monotonic()
    kills: list[Kill] = []
    waiting: list[tuple[Moment, list[str], set[str], int, list[str]]] = []
    before = 0
    finished: set[str] = set()

    def looked_at(start: Start) -> None:
        """Completes what is known of the kill before this start."""
        if not waiting:
            return
        moment, running, done, files, broken = waiting.pop()
        begun = start.begun()
        again = sorted({name for _, outputs in begun for name in outputs} & done)
        kills.append(Kill(moment, running, len(done), files, broken, again, len(begun)))

    for moment in moments:
        start = Start(folder, targets, cores, places)
        killed = start.kill_at(moment, before)
        looked_at(start)
        if not killed:
            break
        before += len(start.finishes)
        finished |= start.done()
        done, there = {name for name in finished if (folder / name).exists()}, contents(folder)
        running = sorted(rule for rule, outputs in start.begun() if not done.issuperset(outputs))
        broken = sorted(name for name, digest in there.items() if reference.get(name) != digest)
        waiting.append((moment, running, done, len(there), broken))
    start = Start(folder, targets, cores, places)
    code = start.wait()
    looked_at(start)
    seconds = time.monotonic() - began
    there = contents(folder)
    names = there.keys() | reference.keys()
    differing = sorted(name for name in names if reference.get(name) != there.get(name))
    idle = "Nothing to be done" in snakemake(folder, "--dry-run", *targets).stdout
    return Chain(kills, differing, hidden(folder), code, idle, seconds)
