"""The lowest Snakemake that pyproject.toml allows works; all other tests run with the newest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


def lowest() -> str:
    """The lower bound of Snakemake in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["optional-dependencies"]["workflow"]
    (bound,) = [found[1] for one in listed if (found := re.match(r"snakemake>=([\d.]+)", one))]
    return bound


@pytest.fixture(scope="module")
def with_lowest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs `python ARGUMENTS` where that Snakemake replaces the installed one."""
    folder = tmp_path_factory.mktemp("lowest")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder))
    pip += (f"snakemake=={lowest()}",)
    done = subprocess.run([sys.executable, *pip], capture_output=True, text=True, check=False)
    if "from versions: none" in done.stderr:
        pytest.skip("no package registry can be reached, so Snakemake cannot be installed")
    assert done.returncode == 0, done.stderr
    places = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(places)}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )

    return run


def test_the_lowest_version_is_the_one_that_runs(with_lowest: Run) -> None:
    found = with_lowest("-m", "snakemake", "--version").stdout.strip().split(".")
    wanted = lowest().split(".")
    assert found[: len(wanted)] == wanted
    assert set(found[len(wanted) :]) <= {"0"}


def test_the_interfaces_in_compat_work(with_lowest: Run) -> None:
    tests = ROOT / "tests/unit/test_compat.py"
    done = with_lowest("-m", "pytest", "--quiet", "-p", "no:xdist", "-p", "no:cacheprovider", tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_default_is_planned(with_lowest: Run, tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    flags = ("--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "1")
    done = with_lowest("-m", "snakemake", *flags, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^tune_group_1 +1$", done.stdout, re.M)
