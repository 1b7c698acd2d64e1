"""Saved states of an unfinished training. A state is written atomically and belongs to one job.

States are in the folder `.NAME.unfinished/step-N` next to the checkpoint, which is removed when the
job succeeds.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from affectlocus.core.durable import make_folder, move
from affectlocus.core.errors import InputError, one_line
from affectlocus.core.files import read_json, sha256, write_json

ABOUT = "about.json"
"""File in a state: its job, and the SHA-256 of every other file."""

# A state may be as large as the model, so saving may take at most 1/20 of the time.
_SHARE = 20


def states_folder(folder: Path) -> Path:
    """The folder of the states of a checkpoint; no name of a checkpoint starts with a dot."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.unfinished")


def say(text: str) -> None:
    """Writes a line to standard error, which is in the job's log."""
    sys.stderr.write(f"affectlocus: {text}\n")
    sys.stderr.flush()


@dataclass
class TrainingStates:
    """Saves the state of a training, and finds the state to resume from.

    Args:
        place: a folder that holds only states.
        job: topic → value that identifies the job; a state with another value is removed.
        minutes: time between two saves; 0 saves after every step.
    """

    place: Path
    job: Mapping[str, str]
    minutes: float = 10.0
    _last: float = field(default_factory=lambda: time.monotonic(), init=False)
    _took: float = field(default=0.0, init=False)

    def due(self) -> bool:
        """Whether to save now: after `minutes`, but at least 20 times the duration of a save."""
        wait = max(60 * self.minutes, _SHARE * self._took) if self.minutes else 0.0
        return time.monotonic() - self._last >= wait

    def find(self) -> Path | None:
        """The state to resume from; a damaged state or that of another job is removed."""
        states = sorted(self.place.glob("step-*"))
        if not states:
            return None
        try:
            why = self._problem(states[-1])
        except (InputError, OSError) as error:
            why = f"damaged ({error})"
        if why is None:
            return states[-1]
        say(f"{states[-1]}: {why}; the saved state is removed, and the training starts again")
        self.remove()
        return None

    def _problem(self, state: Path) -> str | None:
        about = read_json(state / ABOUT)
        files, job = (
            about.get(key) if isinstance(about, dict) else None for key in ("files", "job")
        )
        if not isinstance(files, dict) or not isinstance(job, dict):
            return f"damaged (no job and files in {ABOUT})"
        other = [topic for topic, value in self.job.items() if job.get(topic) != value]
        if other:
            return f"of another job (not the same {', '.join(other)})"
        wrong = (name for name, digest in files.items() if sha256(state / name) != digest)
        name = next(wrong, None)
        return None if name is None else f"damaged ({name} has another SHA-256)"

    def save(self, step: int, fill: Callable[[Path], None]) -> bool:
        """Saves the state after a step, and then removes earlier states.

        If saving fails, a line is written and the training continues.

        Args:
            fill: writes the files of the state into a folder.

        Returns:
            Whether the state is saved.

        Raises:
            InputError: `fill` refused to save the state.
        """
        begun = time.monotonic()
        state = self.place / f"step-{step:08d}"
        temporary = self.place / f".{state.name}.{os.getpid()}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            make_folder(temporary)
            fill(temporary)
            files = {
                path.relative_to(temporary).as_posix(): sha256(path) for path in _files(temporary)
            }
            write_json(temporary / ABOUT, {"job": dict(self.job), "files": files})
            move(temporary, state)
            saved = True
        except InputError:
            raise
        except Exception as error:
            # Libraries raise different errors for a full disk.
            say(one_line(f"{state}: not saved ({error}); the training continues"))
            saved = False
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            self._last = time.monotonic()
            self._took = self._last - begun
        if saved:
            for path in self.place.iterdir():
                if path != state:
                    shutil.rmtree(path, ignore_errors=True)
        return saved

    def remove(self) -> None:
        """Removes all states."""
        shutil.rmtree(self.place, ignore_errors=True)

    def step(self) -> int | None:
        """The step of the newest saved state; None without one."""
        found = [re.fullmatch(r"step-(\d+)", path.name) for path in self.place.glob("step-*")]
        return max((int(match[1]) for match in found if match), default=None)


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def copy_or_link(source: Path, target: Path) -> None:
    """Copies a folder by hard links, or by copies if the disk does not support links.

    The files must not be written again.
    """
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
