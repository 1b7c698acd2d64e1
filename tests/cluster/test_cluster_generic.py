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

TABLE = "results/data/mini-MOSI.parquet"

pytestmark = [
    pytest.mark.full,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
        reason="no snakemake-executor-plugin-cluster-generic (pip install '.[cluster-generic]')",
    ),
]


def cluster(tmp_path: Path, edit: str = "") -> tuple[Path, dict[str, str]]:
    """An experiment's folder, and the variables in which PBS's commands are found.

    Args:
        edit: a command that runs in the experiment's folder before the second job begins.
    """
    folder, commands = tmp_path / "an experiment", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    shutil.copy(Path(__file__).with_name("params.yaml"), folder)
    for name, text in COMMANDS.items():
        if name == "qsub" and edit:
            once = f'[ "$(wc -l <"$PBS/asked")" = 2 ] && ( cd "{folder}"; {edit} )\n( sh'
            text = text.replace("( sh", once, 1)
        (commands / name).write_text(f"#!/bin/sh{text if text[0] == chr(10) else chr(10) + text}")
        (commands / name).chmod(0o755)
    return folder, {
        **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        "PATH": os.pathsep.join([str(commands), str(BIN), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "workflow"), os.environ.get("PYTHONPATH", "")]),
        "PBS": str(tmp_path),
    }


def snakemake(folder: Path, variables: dict[str, str], *more: str) -> subprocess.CompletedProcess:
    """As README has it: the profile by its place in the checkout."""
    return subprocess.run(
        [
            *(str(BIN / "snakemake"), "--profile", "profiles/cluster-generic"),
            *("--directory", str(folder), "--latency-wait", "10"),
            *("--seconds-between-status-checks", "1", *more, TABLE),
        ],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_jobs_go_through_the_three_commands_whatever_folder_the_experiment_is_in(
    tmp_path: Path,
) -> None:
    folder, variables = cluster(tmp_path)
    run = snakemake(folder, variables)
    assert run.returncode == 0, run.stderr[-4000:]
    assert (folder / TABLE).is_file()
    # A job for the corpus, and one for the table; each with what the profile asks for.
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[1] for line in asked] == ["affectlocus.corpus", "affectlocus.prepare"]
    assert all("ngpus=0 -l walltime=" in line for line in asked)


def test_a_job_that_reads_the_rules_after_an_edit_refuses_and_reruns_no_other(
    tmp_path: Path,
) -> None:
    # snakemake/snakemake#3234: such a job plans by what it reads now, and may overwrite others'
    # results, or write its own by parameters that its run records otherwise.
    folder, variables = cluster(
        tmp_path, "sed -i s/tuning_samples:.10/tuning_samples:\\ 11/ params.yaml"
    )
    before = (folder / "params.yaml").read_text()
    run = snakemake(folder, variables, "--retries", "0")
    assert run.returncode == 1, run.stderr[-4000:]
    assert (folder / "params.yaml").read_text() != before
    logs = "".join(path.read_text() for path in tmp_path.glob("*.out"))
    assert "[run.edited-meanwhile]" in logs
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[1] for line in asked] == ["affectlocus.corpus", "affectlocus.prepare"]
    corpus = (folder / "results/corpus/mini-MOSI.csv").read_bytes()
    assert not (folder / TABLE).exists()
    # As the run had it, it goes on, and what had finished stays.
    (folder / "params.yaml").write_text(before)
    (tmp_path / "asked").write_text("")
    run = snakemake(folder, variables, "--retries", "0")
    assert (folder / "results/corpus/mini-MOSI.csv").read_bytes() == corpus
    assert run.returncode == 0, run.stderr[-4000:]
