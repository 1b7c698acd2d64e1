"""Snakemake's logger plugin: a quiet run says what is done and what runs, and keeps errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SNAKEFILE = """
rule all:
    input: "a.txt", "b.txt"

rule copy:
    output: "{name}.txt"
    shell: "WHAT"
"""


def quiet(folder: Path, what: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "Snakefile").write_text(SNAKEFILE.replace("WHAT", what))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *more, "--logger", "affectlocus"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_run_says_how_many_jobs_are_done_in_short_lines(tmp_path: Path) -> None:
    done = quiet(tmp_path, "touch {output}")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("3 of 3 jobs")
    assert max(map(len, lines)) < 200
    assert len(set(lines)) == len(lines)
    assert "output:" not in done.stderr
    # Snakemake's own log has everything.
    (log,) = (tmp_path / ".snakemake/log").iterdir()
    assert "output: a.txt" in log.read_text()
    again = quiet(tmp_path, "touch {output}")
    (line,) = again.stderr.splitlines()
    assert line.startswith("Nothing to be done")


def test_a_failed_job_is_named(tmp_path: Path) -> None:
    done = quiet(tmp_path, "exit 1", "a.txt")
    assert done.returncode == 1
    assert "failed: copy" in done.stderr
    assert "exit 1" not in done.stderr  # its shell command


def test_an_unknown_target_is_an_error_that_is_seen(tmp_path: Path) -> None:
    done = quiet(tmp_path, "touch {output}", "x.csv")
    assert done.returncode == 1
    assert "x.csv" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="script(1) of util-linux")
def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("WHAT", "sleep 0.5; touch {output}"))
    command = f"{sys.executable} -m snakemake --cores 1 --logger affectlocus"
    done = subprocess.run(
        ["script", "-qec", f"stty cols 80; TERM=xterm {command}", "/dev/null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "3/3" in done.stdout
    assert "now copy" in done.stdout
