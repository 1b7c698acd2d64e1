"""How long Snakemake takes to see that an experiment of 5,000 cells has nothing to do.

Usage: python benchmarks/planning/run.py [--folder DIR]     (some minutes: 6,300 jobs are recorded)

It writes an experiment of all 127 module sets in seven seeds, makes every result an empty file,
records them as Snakemake does after a run (--touch), and times `snakemake --dry-run` three times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

from affectlocus.matrix import all_cells  # noqa: E402
from affectlocus.parameters import load  # noqa: E402
from affectlocus.projections import PROJECTIONS, format_modules  # noqa: E402

SETS = [
    format_modules(list(some))
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


def snakemake(folder: Path, *arguments: str, recording: bool = False) -> tuple[str, float]:
    """What Snakemake printed in an experiment's folder, and its seconds."""
    started = time.perf_counter()
    run = subprocess.run(
        [
            *(sys.executable, *(["-c", UNHURRIED] if recording else ["-m", "snakemake"])),
            *("--snakefile", str(ROOT / "Snakefile")),
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


def main() -> None:
    """Prints the number of cells and the seconds of each of three dry runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="an empty folder to be kept")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cells = finished(folder)
        seconds = []
        for _ in range(3):
            said, took = snakemake(folder, "--dry-run")
            if "Nothing to be done" not in said:
                sys.exit(f"something was to be done:\n{said[-2000:]}")
            seconds.append(took)
    sys.stdout.write(f"{cells} cells: {', '.join(f'{s:.1f}' for s in seconds)} s\n")


if __name__ == "__main__":
    main()
