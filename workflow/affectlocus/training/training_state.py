"""The saved state of a training that has not ended: whole or absent, and for the same job alone.

States lie in a folder of their own beside the checkpoint, `.NAME.unfinished/step-N`, and are gone
once the job has ended well.
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
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, sha256, write_json

ABOUT = "about.json"
"""In a state: what job it is of, and the SHA-256 of every other file."""

# A state may be as large as the model: the time spent on saving stays below a twentieth.
_SHARE = 20


def place_of(folder: Path) -> Path:
    """Where the states of a checkpoint lie until it is whole; no checkpoint's name begins so."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.unfinished")


def say(text: str) -> None:
    """A line on standard error, which a job's log holds."""
    sys.stderr.write(f"affectlocus: {text}\n")
    sys.stderr.flush()


@dataclass
class Unfinished:
    """Where a training saves its state, and takes it up again.

    Args:
        place: a folder for states and nothing else.
        job: topic → what makes it this job; a state of which any is another is dropped.
        minutes: between two saves; 0 saves after every step.
    """

    place: Path
    job: Mapping[str, str]
    minutes: float = 10.0
    _last: float = field(default_factory=lambda: time.monotonic(), init=False)
    _took: float = field(default=0.0, init=False)

    def due(self) -> bool:
        """Whether to save now: the minutes are over, and 20 times what the last save took."""
        wait = max(60 * self.minutes, _SHARE * self._took) if self.minutes else 0.0
        return time.monotonic() - self._last >= wait

    def find(self) -> Path | None:
        """The state to go on from; a damaged one, or another job's, is dropped with a line."""
        states = sorted(self.place.glob("step-*"))
        if not states:
            return None
        try:
            why = self._unfit(states[-1])
        except (InputError, OSError) as error:
            why = f"damaged ({error})"
        if why is None:
            return states[-1]
        say(f"{states[-1]}: {why}; this saved state is dropped, and the training starts anew")
        self.remove()
        return None

    def _unfit(self, state: Path) -> str | None:
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
        return None if name is None else f"damaged ({name} is not what was written)"

    def save(self, step: int, fill: Callable[[Path], None]) -> bool:
        """Saves the state after a step; the one before it goes only when this one is whole.

        A state is an insurance: whatever prevents one is told in a line, and the training goes on.

        Args:
            fill: writes the files of the state into a folder.

        Returns:
            Whether it is saved.

        Raises:
            InputError: from `fill`: the state must not be saved.
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
            # Each library has an error of its own for a full disk.
            say(str(InputError(f"{state}: not saved ({error}); the training goes on")))
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
        """Removes every state: the job has ended well, or none of them is of use."""
        shutil.rmtree(self.place, ignore_errors=True)

    def step(self) -> int | None:
        """The step of the newest state that is there."""
        found = [re.fullmatch(r"step-(\d+)", path.name) for path in self.place.glob("step-*")]
        return max((int(match[1]) for match in found if match), default=None)


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def copied(source: Path, target: Path) -> None:
    """A folder's files in another place: linked, where the disk has links, and else copied.

    For files that are never written into again.
    """
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
