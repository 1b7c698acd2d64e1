"""The profiles: each choice has its line, and a state of a job its word."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))
EXECUTORS = {"slurm": "slurm", "cluster-generic": "cluster-generic"}


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.parent.name)
def test_every_choice_of_a_profile_is_explained_by_the_line_above_it(profile: Path) -> None:
    before = ""
    for line in profile.read_text().splitlines():
        if line and not line.startswith((" ", "#", "-")):
            assert before.startswith("# "), f"{profile}: {line}"
        before = line


def test_the_default_profile_does_not_replace_the_resources_of_a_clusters_profile() -> None:
    # Snakemake: "all default-resources: entries from other profiles will be ignored".
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert "default-resources" not in profile


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_clusters_profile_retries_and_its_plugin_is_pinned_in_an_extra(name: str) -> None:
    profile = yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
    assert profile["executor"] == name
    assert profile["retries"] >= 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plugin = f"snakemake-executor-plugin-{name}"
    workflow, pinned = project["optional-dependencies"][name]
    assert workflow == "affectlocus[workflow]"
    assert pinned.startswith(f"{plugin}==")
    assert not any(plugin in dependency for dependency in project["dependencies"])


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("    job_state = F\n    Exit_status = 0", "success"),
        ("    job_state = F\n    Exit_status = 271", "failed"),
        ("    job_state = F", "failed"),
        ("    job_state = R", "running"),
        ("    job_state = Q", "running"),
        ("", "running"),
    ],
)
def test_a_jobs_state_becomes_one_word(answer: str, word: str, tmp_path: Path) -> None:
    program = tmp_path / "qstat"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = '-x -f 12.host' ] && cat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    profile = yaml.safe_load((ROOT / "profiles/cluster-generic/config.yaml").read_text())
    run = subprocess.run(
        f"{profile['cluster-generic-status-cmd']} '12.host'",
        shell=True,
        # Wherever snakemake was told to work.
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"{word}\n"
