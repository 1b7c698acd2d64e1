"""Saved states of a training: whole or absent, the newest, and for the same job alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from refusal import refused

import affectlocus.training.training_state as module
from affectlocus.core.errors import InputError
from affectlocus.training.training_state import ABOUT, TrainingStates, copy_or_link, states_folder

JOB = {"recipe": "a", "data": "b"}


def fill(text: str) -> Callable[[Path], None]:
    """Writes two files, one of them in a folder."""

    def write(folder: Path) -> None:
        (folder / "weights").write_text(text)
        (folder / "kept").mkdir()
        (folder / "kept/snapshot").write_text("s")

    return write


@pytest.fixture
def states(tmp_path: Path) -> TrainingStates:
    """With the state after step 9."""
    made = TrainingStates(states_folder(tmp_path / "mine"), JOB)
    assert made.save(9, fill("nine"))
    return made


def test_nothing_is_found_where_nothing_was_saved(tmp_path: Path, capsys) -> None:
    none = TrainingStates(states_folder(tmp_path / "mine"), JOB)
    assert none.find() is None
    assert none.step() is None
    none.remove()
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""


def test_states_are_next_to_the_checkpoint_in_a_folder_with_a_leading_dot(tmp_path) -> None:
    assert states_folder(tmp_path / "mine.seed0") == tmp_path / ".mine.seed0.unfinished"
    assert states_folder(tmp_path / "a/..") == tmp_path.parent / f".{tmp_path.name}.unfinished"


def test_the_newest_state_is_found_and_those_before_it_are_gone(states) -> None:
    assert states.save(10, fill("ten"))
    state = TrainingStates(states.place, dict(JOB)).find()
    assert state is not None
    assert state.name == "step-00000010"
    assert (state / "weights").read_text() == "ten"
    assert (state / "kept/snapshot").read_text() == "s"
    assert states.step() == 10
    assert list(states.place.iterdir()) == [state]
    states.remove()
    assert not states.place.exists()


@pytest.mark.parametrize("topic", list(JOB))
def test_another_jobs_state_is_dropped_with_a_line_that_says_what_differs(
    states, topic, capsys
) -> None:
    other = TrainingStates(states.place, JOB | {topic: "c"})
    assert other.find() is None
    assert not states.place.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"affectlocus: {states.place}/step-00000009: of another job (not the same {topic}); the "
        "saved state is removed, and the training starts again"
    )


def flipped(state: Path) -> None:
    path = state / "weights"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def without_files(state: Path) -> None:
    about = json.loads((state / ABOUT).read_text())
    (state / ABOUT).write_text(json.dumps({"job": about["job"]}))


DAMAGE = {
    "a flipped bit": flipped,
    "a zero-byte file": lambda state: (state / "kept/snapshot").write_bytes(b""),
    "a missing file": lambda state: (state / "kept/snapshot").unlink(),
    "half of what it says of itself": lambda state: (state / ABOUT).write_text('{"job'),
    "no such text": lambda state: (state / ABOUT).unlink(),
    "a list instead": lambda state: (state / ABOUT).write_text("[]"),
    "no list of files": without_files,
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_state_is_dropped_with_a_line(states, damage, capsys) -> None:
    DAMAGE[damage](states.place / "step-00000009")
    assert states.find() is None
    assert not states.place.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert "damaged (" in line
    assert line.endswith("the saved state is removed, and the training starts again")
    assert states.save(1, fill("one"))
    assert states.find() is not None


def test_a_kill_in_the_middle_of_saving_leaves_the_state_before(states) -> None:
    def half(folder: Path) -> None:
        (folder / "weights").write_text("hal")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        states.save(10, half)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(states.place.iterdir())) == 2
    state = states.find()
    assert state is not None
    assert (state / "weights").read_text() == "nine"
    # The next save clears away what the killed one left.
    assert states.save(11, fill("eleven"))
    assert [path.name for path in states.place.iterdir()] == ["step-00000011"]


def test_a_state_that_cannot_be_written_is_reported_and_the_earlier_one_is_kept(
    states, capsys
) -> None:
    def full(folder: Path) -> None:
        (folder / "weights").write_text("te")
        with Path("/dev/full").open("w") as device:
            device.write("x" * 10)

    assert not states.save(10, full)
    assert "not saved ([Errno 28] No space left on device)" in capsys.readouterr().err
    assert [path.name for path in states.place.iterdir()] == ["step-00000009"]
    assert states.find() is not None


def test_what_must_not_be_saved_is_refused_and_nothing_of_it_stays(states) -> None:
    def refuse(folder: Path) -> None:
        (folder / "weights").write_text("nan")
        raise InputError("test.diverged", "diverged")

    with refused("test.diverged"):
        states.save(10, refuse)
    assert [path.name for path in states.place.iterdir()] == ["step-00000009"]


def test_it_is_time_when_the_minutes_are_over_and_saving_takes_a_twentieth_at_most(
    tmp_path, monkeypatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    states = TrainingStates(tmp_path / "place", JOB, minutes=2)
    now = 119.0
    assert not states.due()
    now = 120.0
    assert states.due()

    def slow(_: Path) -> None:
        nonlocal now
        now += 30

    states.save(1, slow)
    now = 150.0 + 599
    assert not states.due()
    now = 150.0 + 600
    assert states.due()
    always = TrainingStates(tmp_path / "place", JOB, minutes=0)
    always.save(2, slow)
    assert always.due()


def test_files_are_linked_where_they_can_be(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "from/step").mkdir(parents=True)
    source = tmp_path / "from/step/weights"
    source.write_text("w")
    copy_or_link(tmp_path / "from", tmp_path / "linked")
    assert (tmp_path / "linked/step/weights").samefile(source)

    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(module.os, "link", refused)
    copy_or_link(tmp_path / "from", tmp_path / "apart")
    assert (tmp_path / "apart/step/weights").read_text() == "w"
    assert not (tmp_path / "apart/step/weights").samefile(source)
