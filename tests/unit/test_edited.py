"""Results that no job wrote as they are now."""

from __future__ import annotations

import hashlib
import json
import os
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from affectlocus.orchestration.edited import edited

NAME = "results/scores.parquet"
AN_HOUR = 3600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A result, made an hour ago, with the record of the job that read it."""
    (tmp_path / "results").mkdir()
    (tmp_path / NAME).write_text("scores")
    record(tmp_path, "metadata", "results/table1.csv", {NAME: digest("scores")})
    dated(tmp_path / NAME, -AN_HOUR)
    return tmp_path


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def record(folder: Path, kind: str, name: str, checksums: dict[str, str]) -> None:
    path = folder / ".snakemake" / kind / urlsafe_b64encode(name.encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"input_checksums": checksums}))
    dated(path, -AN_HOUR)


def dated(path: Path, seconds: int) -> None:
    os.utime(path, (time.time() + seconds,) * 2)


def found(folder: Path) -> list[str]:
    return edited(folder, {NAME: (folder / NAME).stat().st_mtime_ns})


def test_what_its_readers_know_is_a_jobs_work_whatever_its_time(folder: Path) -> None:
    assert found(folder) == []
    dated(folder / NAME, 0)
    assert found(folder) == []


def test_what_was_written_since_with_other_bytes_is_named(folder: Path) -> None:
    (folder / NAME).write_text("better scores")
    assert found(folder) == [NAME]


def test_what_a_job_of_a_later_run_wrote_is_not(folder: Path) -> None:
    (folder / NAME).write_text("new scores")
    record(folder, "metadata", NAME, {})
    dated(next((folder / ".snakemake/metadata").iterdir()), 0)
    for path in (folder / ".snakemake/metadata").iterdir():
        dated(path, 0)
    assert found(folder) == []


def test_what_a_killed_job_had_just_written_is_not(folder: Path) -> None:
    (folder / NAME).write_text("new scores")
    record(folder, "incomplete", NAME, {})
    assert found(folder) == []


def test_without_records_nothing_is_said(folder: Path) -> None:
    (folder / NAME).write_text("new scores")
    for path in (folder / ".snakemake/metadata").iterdir():
        path.write_text("cut")
    assert found(folder) == []
    assert edited(folder / "results", {NAME: time.time_ns()}) == []
