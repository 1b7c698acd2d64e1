"""A copy of the project with an experiment of its own, for what would disturb the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

ASIDE = {
    "results/logs": "when and where each job ran",
    "results/benchmarks": "measured times and memory",
    "results/step_times.csv": "measured times",
    "results/report.html": "shows measured times",
}
"""What differs between two runs that ended well, and why."""


def copied(folder: Path, parameters: Path) -> Path:
    """Copies the project's code and a params.yaml into a folder, whose package jobs import."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("rules", "workflow", "profiles", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copy(parameters, folder / "params.yaml")
    return folder


def environment(folder: Path, *places: Path) -> dict[str, str]:
    """The variables with which snakemake and affectlocus run on a copy.

    Args:
        places: folders of programs that come before the installed ones.
    """
    # With compiled bytecode each of the many starts takes a tenth less.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PATH": os.pathsep.join(map(str, [*places, BIN, os.environ["PATH"]])),
        "PYTHONPATH": str(folder / "workflow"),
    }


def snakemake(
    folder: Path, *arguments: str, cores: int = 2, places: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs snakemake in a copy; standard output holds both of its streams.

    Args:
        places: folders of programs that come before the installed ones.
    """
    return subprocess.run(
        [str(BIN / "snakemake"), "--cores", str(cores), *arguments],
        cwd=folder,
        env=environment(folder, *places),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def run(folder: Path, *arguments: str, cores: int = 2) -> subprocess.CompletedProcess[str]:
    """The same through `affectlocus run`."""
    return subprocess.run(
        [str(BIN / "affectlocus"), "run", "--", "--cores", str(cores), *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each result and each file of weights, but for `ASIDE` and hidden files."""
    found = {}
    for top in ("results", "checkpoints"):
        for path in sorted((folder / top).rglob("*")):
            name = path.relative_to(folder).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            aside = any(name == one or name.startswith(f"{one}/") for one in ASIDE)
            if path.is_file() and not hidden and not aside:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def hidden(folder: Path) -> list[str]:
    """What a killed job was writing, under names that only it knew."""
    return sorted(
        path.relative_to(folder).as_posix()
        for top in ("results", "checkpoints")
        for path in (folder / top).rglob(".*.partial*")
    )
