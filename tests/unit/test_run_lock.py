"""One run at a time in a folder, and a killed one is told from a living one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from refusal import refused

from affectlocus.core.files import STATE
from affectlocus.orchestration import run_lock as module
from affectlocus.orchestration.run_lock import acquire, ended, killed


@contextmanager
def another(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs code of the module in a folder, and then waits."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from affectlocus.orchestration.run_lock import *; {code}; "
            "print('holds', flush=True); input()",
        ],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    while module._open:
        os.close(module._open.pop())


def test_a_second_run_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    with another("acquire(Path())", tmp_path) as first:
        with refused("run.folder-in-use") as caught:
            acquire(tmp_path)
        assert str(caught.value.fields["found"]).startswith(f"process {first.pid} on ")
        assert killed(tmp_path) == ""


def test_a_run_that_was_killed_is_known_by_its_number_and_keeps_nobody_out(tmp_path: Path) -> None:
    with another("acquire(Path())", tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert killed(tmp_path).startswith(f"process {first.pid} on ")
        assert acquire(tmp_path)


def test_a_run_that_came_to_its_end_was_not_killed(tmp_path: Path) -> None:
    with another("acquire(Path()); ended(Path())", tmp_path):
        pass
    assert killed(tmp_path) == ""
    assert not acquire(tmp_path)


def test_of_a_run_of_another_host_nobody_knows_whether_it_lives(tmp_path: Path) -> None:
    (tmp_path / STATE).mkdir()
    (tmp_path / STATE / "run.lock").write_text("process 7 on elsewhere\n")
    assert not acquire(tmp_path)
    ended(tmp_path)


def test_jobs_that_outlive_their_run_keep_the_next_one_out_by_their_numbers(
    tmp_path: Path,
) -> None:
    acquire(tmp_path)
    os.close(module._open.pop())
    with (
        another("working()", tmp_path) as job,
        refused("run.jobs-still-running", found=[job.pid]),
    ):
        acquire(tmp_path)
    acquire(tmp_path)


def test_jobs_of_one_run_work_side_by_side_and_need_no_run(tmp_path: Path) -> None:
    module.working(tmp_path)
    assert not list(tmp_path.iterdir())
    acquire(tmp_path)
    with another("working()", tmp_path), another("working()", tmp_path):
        pass
