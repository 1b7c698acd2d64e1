"""The whole small experiment on a real SLURM, with a job that the scheduler kills."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import slurm

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LONGEST = 900  # seconds; some 90 where nothing else runs on two cores

# The plugin looks at its jobs ever more seldom, ten seconds each time: right for days, not here.
IMPATIENT = """
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 2, lambda *_: None)
main()
"""

pytestmark = [pytest.mark.full, pytest.mark.slow, pytest.mark.xdist_group("slurm")]


@pytest.fixture
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running SLURM; the test skips, saying why, where there can be none."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("no snakemake-executor-plugin-slurm here (pip install '.[slurm]')")
    try:
        slurm.check()
    except slurm.NoSlurmError as error:
        pytest.skip(f"no SLURM: {error}")
    with slurm.running(tmp_path_factory.mktemp("slurm")):
        yield


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Snakemake in a folder, through profiles/slurm; only how often it looks is another."""
    return subprocess.Popen(
        [
            *(sys.executable, "-c", IMPATIENT, "--snakefile", str(ROOT / "Snakefile")),
            *("--directory", str(folder), "--profile", str(ROOT / "profiles/slurm")),
            *("--slurm-no-account", "--slurm-keep-successful-logs", "--latency-wait", "10"),
            *("--slurm-init-seconds-before-status-checks", "2"),
            *arguments,
        ],
        cwd=folder,
        env={
            # With compiled bytecode each of the many starts takes a third of the time.
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "workflow"),
        },
        stdout=(folder / "said").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_first(process: subprocess.Popen[str], step: str) -> str:
    """Lets the scheduler kill the first job of a step while it runs; its number."""
    killed = ""
    end = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < end:
        for job in slurm.jobs():
            if not killed and job.state == "RUNNING" and job.comment.startswith(f"rule_{step}_"):
                subprocess.run(["scancel", job.id], check=True)
                killed = job.id
        time.sleep(0.5)
    return killed


@pytest.mark.usefixtures("controller")
def test_a_job_that_the_scheduler_kills_runs_again_with_more_and_the_experiment_ends_whole(
    tmp_path: Path,
) -> None:
    shutil.copy(Path(__file__).with_name("params.yaml"), tmp_path)
    started = time.monotonic()
    run = snakemake(tmp_path)
    try:
        killed = kill_first(run, "tune")
    finally:
        # SIGTERM would have it wait for its jobs, which end with the controller.
        run.kill()
    said = (tmp_path / "said").read_text()
    log = "\n".join(map(str, slurm.jobs()))
    sys.stdout.write(f"{time.monotonic() - started:.0f} s\n{log}\n")
    assert run.wait() == 0, said[-5000:] + log

    first, second = (job for job in slurm.jobs() if job.comment.startswith("rule_tune_"))
    assert (first.id, first.state, second.state) == (killed, "CANCELLED", "COMPLETED")
    assert int(second.memory.rstrip("M")) > int(first.memory.rstrip("M"))
    assert int(second.limit.removesuffix(":00")) == 2 * int(first.limit.removesuffix(":00"))
    others = [job for job in slurm.jobs() if job.id != killed]
    assert {job.state for job in others} == {"COMPLETED"}
    assert "Trying to restart job" in said

    table = pd.read_csv(tmp_path / "results/table1.csv")
    assert table["modules"].tolist() == ["base", "gate", "all"]
    head = (tmp_path / "results/logs/tune/tiny-affective.seed0.log").read_text().splitlines()
    assert head[0].startswith("# step: tune, ")
    assert f"slurm job {second.id}" in next(line for line in head if line.startswith("# hardware"))

    again = snakemake(tmp_path)
    assert again.wait(120) == 0
    assert "Nothing to be done" in (tmp_path / "said").read_text()
    assert len(slurm.jobs()) == len(others) + 1
