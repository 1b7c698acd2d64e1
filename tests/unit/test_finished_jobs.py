"""Which files of a folder of results are the experiment's own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from programs import heavy

from affectlocus.config.experiment import load
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.finished_jobs import benchmarks

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("experiment", ["params.yaml", "tests/workflow/params.yaml"])
def test_the_files_are_those_of_the_jobs_that_snakemake_plans(
    tmp_path: Path, experiment: str
) -> None:
    """All of them, and one for each cell, tuning or base of a job of several; no others."""
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copy(ROOT / experiment, folder / "params.yaml")
    command = [heavy() / "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "2", "--dry-run"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    planned = set(re.findall(r"^    benchmark: results/benchmarks/(\S+)$", run.stdout, re.M))
    known = benchmarks(Dag(load(folder, planning=True)))
    assert planned - known == {"report.tsv"}
    shared = ("evaluate/", "tune/", "pretrain/", "deltas/", "trajectory/")
    assert {one for one in known - planned if not one.startswith(shared)} == set()
