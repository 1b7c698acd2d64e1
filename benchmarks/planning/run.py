"""How long Snakemake takes to see that an experiment of 5,000 cells has nothing to do.

Usage: python benchmarks/planning/run.py [--folder DIR]     (some minutes: 6,300 jobs are recorded)

It writes an experiment of all 127 module sets in seven seeds, makes every result an empty file,
records them as Snakemake does after a run (--touch), and times three dry runs, in
turn with that of a Snakefile that has as many jobs and nothing else, which is the floor.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from affectlocus.config.experiment import load  # noqa: E402
from affectlocus.core.projections import PROJECTIONS, ModuleSet  # noqa: E402
from affectlocus.orchestration.matrix import all_cells  # noqa: E402

SETS = [
    str(ModuleSet.of(some))
    for count in range(1, len(PROJECTIONS) + 1)
    for some in combinations(PROJECTIONS, count)
]
SEEDS = 7
RECIPE = {"data": ["mini-caption"], "steps": 10}
TASKS = {
    "mini-caption": {"corpus": True, "columns": {"target": "target"}},
    "mini-MOSI": {
        "corpus": True,
        "columns": {"label": "label"},
        "labels": ["positive", "negative"],
    },
}
EXPERIMENT = {
    "corpus": {},
    "bases": {"tiny": {"pretrain": {"architecture": "qwen2"}}},
    "pairs": {"tiny-affective": {"base": "tiny", "tuning": RECIPE}},
    "tune": RECIPE,
    "tasks": TASKS,
    "seeds": list(range(SEEDS)),
    "matrix": {
        "pairs": ["tiny-affective"],
        "load": SETS,
        "tune": SETS,
        "ablate": SETS,
    },
}


# Snakemake waits a tenth of a second for each job that it records without running it.
UNHURRIED = "import time; time.sleep = lambda _: None; from snakemake.cli import main; main()"


# As many jobs, each with an input, an output, a log and a parameter.
TRIVIAL = """
rule all:
    input: expand("out/{number}", number=range(JOBS - 1))

rule one:
    input: "in"
    output: "out/{number}"
    log: "logs/{number}"
    params: code="the same"
    shell: "cp {input} {output}"
"""


def snakemake(
    folder: Path, *arguments: str, recording: bool = False, snakefile: Path = ROOT / "Snakefile"
) -> tuple[str, float]:
    """What Snakemake printed in an experiment's folder, and its seconds."""
    started = time.perf_counter()
    run = subprocess.run(
        [
            *(sys.executable, *(["-c", UNHURRIED] if recording else ["-m", "snakemake"])),
            *("--snakefile", str(snakefile)),
            *("--directory", str(folder), "--cores", "2", *arguments),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        sys.exit(run.stdout[-2000:] + run.stderr[-2000:])
    return run.stdout + run.stderr, time.perf_counter() - started


def finished(folder: Path) -> int:
    """Makes every output of every job an empty file, recorded as made; the number of cells."""
    (folder / "params.yaml").write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    listed, seconds = snakemake(folder, "--summary")
    for line in listed.splitlines():
        name = line.partition("\t")[0]
        if name.startswith("results/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    sys.stdout.write(f"listed in {seconds:.1f} s\n")
    _, seconds = snakemake(folder, "--touch", "--forceall", "--quiet", "all", recording=True)
    sys.stdout.write(f"recorded in {seconds:.1f} s\n")
    return len(all_cells(load(folder)))


def trivial(folder: Path, jobs: int) -> Path:
    """Makes a folder of as many finished trivial jobs; its Snakefile."""
    snakefile = folder / "Snakefile"
    (folder / "out").mkdir(parents=True)
    snakefile.write_text(TRIVIAL.replace("JOBS", str(jobs)))
    (folder / "in").touch()
    for number in range(jobs - 1):
        (folder / f"out/{number}").touch()
    touching = ("--touch", "--forceall", "--quiet", "all")
    snakemake(folder, *touching, recording=True, snakefile=snakefile)
    return snakefile


def jobs_of(folder: Path) -> int:
    """The jobs of a finished experiment, by the records of what each has made first."""
    said, _ = snakemake(folder, "--dry-run", "--forceall", "--quiet", "rules")
    total = re.search(r"^total +(\d+)$", said, re.M)
    assert total is not None
    return int(total[1])


def idle(folder: Path, **options: Any) -> float:
    """Seconds of a dry run that finds nothing to do."""
    said, seconds = snakemake(folder, "--dry-run", **options)
    if "Nothing to be done" not in said:
        sys.exit(f"something was to be done:\n{said[-2000:]}")
    return seconds


def main() -> None:
    """Prints the number of cells and jobs, and the seconds of each of three dry runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="an empty folder to be kept")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or Path(temporary)
        experiment, floor = folder / "experiment", folder / "floor"
        experiment.mkdir(parents=True)
        cells = finished(experiment)
        jobs = jobs_of(experiment)
        snakefile = trivial(floor, jobs)
        seconds: dict[str, list[float]] = {f"{cells} cells": [], "trivial": []}
        for _ in range(3):
            for times, took in zip(
                seconds.values(),
                (idle(experiment), idle(floor, snakefile=snakefile)),
                strict=True,
            ):
                times.append(took)
    sys.stdout.write(f"{jobs} jobs; load {os.getloadavg()[0]:.1f}\n")
    for name, times in seconds.items():
        sys.stdout.write(f"{name}: {', '.join(f'{took:.1f}' for took in times)} s\n")


if __name__ == "__main__":
    main()
