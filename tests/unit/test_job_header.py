"""The head of a job's log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from affectlocus.core.job_header import header_lines, redacted
from affectlocus.core.provenance import revision
from affectlocus.core.version import __version__


def topic(found: list[str], name: str) -> str:
    (line,) = (line for line in found if line.startswith(f"# {name}: "))
    return line.removeprefix(f"# {name}: ")


def test_it_names_versions_hardware_revision_seed_and_parameters() -> None:
    arguments = ["tune", "--settings", '{"rank": 8, "seed": 7}', "--folder", "a b"]
    found = header_lines(
        "tune", arguments, environment={"SLURM_JOB_ID": "12", "OMP_NUM_THREADS": "3"}
    )
    assert topic(found, "step").startswith("tune, 20")
    assert topic(found, "code") == f"affectlocus {__version__}, git {revision() or 'none'}"
    assert "torch 2." in topic(found, "versions")
    assert f"Python {sys.version.split()[0]}" in topic(found, "versions")
    assert "slurm job 12" in topic(found, "hardware")
    assert "threads 3" in topic(found, "hardware")
    assert topic(found, "seed") == "7"
    assert topic(found, "parameters").endswith("--folder 'a b'")


@pytest.mark.parametrize(
    ("arguments", "seeds"),
    [
        (["evaluate", "cells/x/tune/q/seed3/predictions.parquet"], "3"),
        (["evaluate", "--cells", '[{"kind": "tuned", "seed": 3}, {"draw": 1}]'], "3, 1"),
        (["score", "--settings", '{"generation": {"seed": 5}}', "x.tune.q.seed2.json"], "5, 2"),
        (["tables", "--settings", "{not json"], "none is drawn"),
    ],
)
def test_seeds_stand_in_settings_and_names(arguments: list[str], seeds: str) -> None:
    assert topic(header_lines("x", arguments, environment={}), "seed") == seeds


def test_no_token_reaches_it() -> None:
    environment = {"HF_TOKEN": "hunter2hunter2", "MY_API_KEY": "opensesame", "KEYBOARD": "german"}
    text = "--url https://h/a?k=opensesame --x hunter2hunter2 hf_abcdefghijklmnop german"
    shown = redacted(text, environment)
    assert shown == "--url https://h/a?k=${MY_API_KEY} --x ${HF_TOKEN} hf_… german"
    found = "\n".join(header_lines("x", ["x", "--a", "hunter2hunter2"], environment=environment))
    assert "hunter2" not in found


def test_only_a_jobs_command_writes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from affectlocus.cli import main; main()", "corpus"]
    command += ["--settings", '{"documents": 5, "benchmark_samples": 2, "seed": 4}']
    command += ["--out", str(tmp_path / "corpus")]
    quiet, loud = (
        subprocess.run(
            command,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for more in ({}, {"AFFECTLOCUS_JOB": "1"})
    )
    assert quiet == ""
    assert "# seed: 4" in loud.splitlines()
