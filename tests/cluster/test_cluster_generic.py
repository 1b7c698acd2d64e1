"""profiles/cluster-generic with PBS's three commands, of which scripts of ours play the parts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

COMMANDS = {
    # Of a job script: runs it, and keeps how it ended.
    "qsub": """
for script; do :; done
id=$$.host
echo "$@" >>"$PBS/asked"
( sh "$script"; echo $? >"$PBS/$id" ) >"$PBS/$id.out" 2>&1 &
echo $id
""",
    "qstat": """
[ "$1 $2" = "-x -f" ] || exit 2
echo "Job Id: $3"
if [ -s "$PBS/$3" ]; then
  echo "    job_state = F"
  echo "    Exit_status = $(cat "$PBS/$3")"
else
  echo "    job_state = R"
fi
""",
    "qdel": "exit 0",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
        reason="no snakemake-executor-plugin-cluster-generic (pip install '.[cluster-generic]')",
    ),
]


def test_jobs_go_through_the_three_commands_whatever_folder_the_experiment_is_in(
    tmp_path: Path,
) -> None:
    folder, commands = tmp_path / "an experiment", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    shutil.copy(Path(__file__).with_name("params.yaml"), folder)
    for name, text in COMMANDS.items():
        (commands / name).write_text(f"#!/bin/sh{text if text[0] == chr(10) else chr(10) + text}")
        (commands / name).chmod(0o755)
    table = "results/data/mini-MOSI.parquet"
    run = subprocess.run(
        [
            # As README has it: the profile by its place in the checkout.
            *(str(BIN / "snakemake"), "--profile", "profiles/cluster-generic"),
            *("--directory", str(folder), "--latency-wait", "10"),
            *("--seconds-between-status-checks", "1", table),
        ],
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PATH": os.pathsep.join([str(commands), str(BIN), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT / "workflow"),
            "PBS": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert (folder / table).is_file()
    # A job for the corpus, and one for the table; each with what the profile asks for.
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[1] for line in asked] == ["affectlocus.corpus", "affectlocus.prepare"]
    assert all("ngpus=0 -l walltime=" in line for line in asked)
