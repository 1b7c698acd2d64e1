"""Why a run failed, told by its jobs' own last lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from affectlocus.orchestration.failure_summary import reasons

FAILED = """\
[Sat Nov 28 00:00:00 2026]
Error in rule tune:
    jobid: 3
    input: results/checkpoints/tiny.json
    output: results/checkpoints/{name}.json
    log: results/logs/tune/{name}.log (check log file(s) for error details)
    shell:
        affectlocus tune
        (command exited with non-zero exit code)
Logfile results/logs/tune/{name}.log:
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of which two tunings failed, one of them twice."""
    (tmp_path / "results/logs/tune").mkdir(parents=True)
    (tmp_path / "results/checkpoints").mkdir()
    text = "".join(FAILED.format(name=name) for name in ("a", "b", "a"))
    (tmp_path / "run.log").write_text(f"Building DAG of jobs...\n{text}Exiting.\n")
    return tmp_path


def said(folder: Path, last: str) -> list[str]:
    for name in ("a", "b"):
        (folder / f"results/logs/tune/{name}.log").write_text(f"# step: tune\n{last}\n\n")
    return reasons([str(folder / "run.log")], folder)


def test_each_failed_job_has_its_own_sentence_once(folder: Path) -> None:
    assert said(folder, "affectlocus: the loss is nan; lower learning_rate") == [
        "tune: the loss is nan; lower learning_rate (results/logs/tune/a.log)",
        "tune: the loss is nan; lower learning_rate (results/logs/tune/b.log)",
    ]


def test_what_was_made_at_a_retry_is_not_told(folder: Path) -> None:
    (folder / "results/checkpoints/a.json").touch()
    (sentence,) = said(folder, "affectlocus: no room")
    assert sentence.endswith("b.log)")


def test_the_last_line_of_a_traceback_is_told(folder: Path) -> None:
    error = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert said(folder, error)[0] == f"tune: {error} (results/logs/tune/a.log)"


@pytest.mark.parametrize("last", ["", "tensors 40%"])
def test_a_job_without_a_last_word_was_killed(folder: Path, last: str) -> None:
    assert said(folder, last)[0].startswith(
        "tune: no error in its log; the process was probably killed"
    )


def test_a_run_without_a_log_has_nothing_to_tell(folder: Path) -> None:
    assert reasons([], folder) == []
    assert reasons([str(folder / "nowhere.log")], folder) == []


def test_a_full_disk_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affectlocus.orchestration.failure_summary._FULL", 1 << 80)
    assert reasons([], folder) == ["the disk of the results is full; free space and run again"]
