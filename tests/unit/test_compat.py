"""What Snakemake does not document still works: each test fails when a new version changes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SNAKEFILE = """
from affectlocus.core import compat
from affectlocus.orchestration.failure_summary import reasons
from pathlib import Path

print("job", compat.is_job(workflow), "plan", compat.is_dry_run(workflow))
compat.offer(workflow, "gpu", 3)

rule all:
    input: "good", "away"

rule good:
    output: "good"
    resources: gpu=2
    shell: "touch {output}"

rule away:
    input: "good"
    output: "away"
    log: "away.log"
    params: where=lambda wildcards: compat.sends_jobs_away(workflow)
    shell: "echo 'affectlocus: away is {params.where}' > {log}; exit 1"

onstart:
    before = workflow.scheduler.job_rate_limiter
    compat.unlimited_starts(workflow)
    print("limiter", before is not None, "then", workflow.scheduler.job_rate_limiter)
    print("cards", workflow.global_resources["gpu"])

onerror:
    print("said", reasons(log, Path.cwd()))
"""


def snakemake(folder: Path, *arguments: str) -> str:
    """Everything that Snakemake prints."""
    (folder / "Snakefile").write_text(SNAKEFILE)
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout + run.stderr


def test_a_real_run_is_told_all_that_compat_promises(tmp_path: Path) -> None:
    said = snakemake(tmp_path)
    assert "job False plan False" in said
    assert "limiter True then None" in said
    assert 'cards Resource("gpu", 3)' in said
    assert "said ['away: away is False (away.log)']" in said


@pytest.mark.parametrize("flag", ["--dry-run", "-n", "--dryrun", "--dry-r"])
def test_a_plan_is_known_by_any_spelling(tmp_path: Path, flag: str) -> None:
    assert "job False plan True" in snakemake(tmp_path, flag)


def test_limits_that_a_user_has_set_stay(tmp_path: Path) -> None:
    said = snakemake(tmp_path, "--max-jobs-per-timespan", "7/2s", "--resources", "gpu=2")
    assert "limiter True then <" in said
    assert 'cards Resource("gpu", 2)' in said


def test_nothing_else_in_the_project_uses_what_snakemake_keeps_to_itself() -> None:
    words = ("currentframe", "_workdir_handler", ".snakemake/", "is_main_process", "job_rate_")
    words += ("output_settings", "register_resource", "global_resources", "non_local_exec")
    files = [*ROOT.glob("rules/*.smk"), ROOT / "Snakefile", *ROOT.rglob("workflow/**/*.py")]
    files += ROOT.rglob("benchmarks/**/*.py")
    found = {
        path.name: word
        for path in files
        for word in words
        if path.name != "compat.py" and word in path.read_text(encoding="utf-8")
    }
    assert found == {}
