"""What is checked before the first job of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from refusal import refused
from test_preflight import PARAMETERS

from affectlocus.config.experiment import Parameters
from affectlocus.orchestration import run_lock
from affectlocus.orchestration.run import begin, check_planned, planned_by, snakefile, writable

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    while run_lock._open:
        os.close(run_lock._open.pop())


def parameters(**more: object) -> Parameters:
    return Parameters.model_validate(yaml.safe_load(PARAMETERS) | more)


def test_a_file_in_the_place_of_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine\n")
    with refused("run.not-a-folder", file=tmp_path / "results"):
        writable(tmp_path)


def test_a_folder_that_can_be_written_keeps_no_trace_of_the_trial(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    writable(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["results"]


def test_a_run_that_is_started_by_affectlocus_run_does_not_ask_for_the_lock_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_lock.acquire(tmp_path)
    with refused("run.folder-in-use", file=tmp_path):
        begin(tmp_path, "x")
    monkeypatch.setenv(run_lock.HELD, "1")
    begin(tmp_path, "x")


def test_a_job_on_another_host_is_refused_after_an_edit_and_not_before(tmp_path: Path) -> None:
    planned = planned_by(parameters(), ROOT)
    check_planned(tmp_path, planned)  # no run has begun here
    begin(tmp_path, planned)
    check_planned(tmp_path, planned_by(parameters(), ROOT))
    edited = planned_by(parameters(seeds=[0, 1]), ROOT)
    with refused("run.edited-meanwhile"):
        check_planned(tmp_path, edited)


def test_the_workflow_is_that_of_the_package() -> None:
    assert snakefile().samefile(ROOT / "Snakefile")
