"""One run at a time in a folder, and none that a killed one keeps out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from affectlocus.core.errors import InputError
from affectlocus.orchestration import run_lock as module
from affectlocus.orchestration.run_lock import hold, only_reads


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
    while module._held:
        os.close(module._held.pop())


def locked(folder: Path) -> Path:
    """What Snakemake leaves behind when it is killed."""
    lock = folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("results/table1.csv\n")
    return lock


def test_a_second_run_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    with another("hold(Path())", tmp_path) as first:
        lock = locked(tmp_path)
        with pytest.raises(InputError, match=f"another run works here .process {first.pid} on "):
            hold(tmp_path)
        assert lock.exists()


def test_a_killed_runs_lock_is_taken_away(tmp_path: Path) -> None:
    with another("hold(Path())", tmp_path) as first:
        lock = locked(tmp_path)
        first.send_signal(signal.SIGKILL)
        first.wait()
        hold(tmp_path)
    assert not lock.exists()


def test_a_lock_that_a_run_of_another_host_left_stays(tmp_path: Path) -> None:
    lock = locked(tmp_path)
    state = tmp_path / ".snakemake/affectlocus"
    state.mkdir()
    (state / "run.lock").write_text("process 7 on elsewhere\n")
    hold(tmp_path)
    assert lock.exists()


def test_jobs_that_outlive_their_run_keep_the_next_one_out_by_their_numbers(
    tmp_path: Path,
) -> None:
    hold(tmp_path)
    os.close(module._held.pop())
    with (
        another("working()", tmp_path) as job,
        pytest.raises(InputError, match=rf"still work here \(processes {job.pid}\)"),
    ):
        hold(tmp_path)
    hold(tmp_path)


def test_jobs_of_one_run_work_side_by_side_and_need_no_run(tmp_path: Path) -> None:
    module.working(tmp_path)
    assert not list(tmp_path.iterdir())
    hold(tmp_path)
    with another("working()", tmp_path), another("working()", tmp_path):
        pass


@pytest.mark.parametrize("arguments", [["--unlock"], ["--report=page.html"], ["-t", "x"]])
def test_what_makes_no_results_is_told_by_its_option(arguments: list[str]) -> None:
    assert only_reads(["snakemake", *arguments])


def test_what_makes_results_is_no_reader() -> None:
    assert not only_reads(["snakemake", "--cores", "2", "--report-after-run", "results/x.csv"])
