"""What the load matrix costs: one job for all cells, a job for each, and a plain script for each.

python benchmarks/matrix/run.py            about 6 minutes; writes results.csv and the table below
python benchmarks/matrix/run.py --quick    three cells, to see that it runs
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from timing import put_results  # noqa: E402

BIN = Path(sys.executable).parent
PAIR = "qwen2-affective"


def material(folder: Path) -> tuple[str, list[str], list[str], list[str]]:
    """Makes base, adapter and tasks by the workflow.

    Returns:
        The seed, the module sets of Table 1, the benchmarks, and the texts.
    """
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    config = yaml.safe_load(text)
    seed = str(config["seeds"][0])
    labels = [name for name, task in config["tasks"].items() if task.get("labels")]
    tasks = [name for name in labels if config["tasks"][name].get("domain") != "control"]
    texts = [name for name, task in config["tasks"].items() if task.get("fluency")]
    targets = [f"results/data/{task}.parquet" for task in (*tasks, *texts)]
    targets.append(f"results/checkpoints/{PAIR}.seed{seed}.json")
    command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    subprocess.run([*command, "--cores", "all", "--quiet", "all", "--", *targets], check=True)
    return seed, config["matrix"]["load"], tasks, texts


def timed(command: list[str | Path], folder: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of a process, which computes with one thread."""
    before, start = os.times(), time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    seconds, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system
    return seconds, cpu - before.children_user - before.children_system


def evaluate(seed: str, sets: list[str], tasks: list[str], out: str) -> list[str | Path]:
    """The command that evaluates load cells in one process."""
    cells = [{"kind": "load", "pair": PAIR, "modules": one, "seed": int(seed)} for one in sets]
    data = [part for task in tasks for part in ("--data", f"results/data/{task}.parquet")]
    return [
        *(BIN / "affectlocus", "evaluate"),
        *(f"{out}/{one}/predictions.parquet" for one in sets),
        *("--cells", json.dumps([cell | {"base": "qwen2"} for cell in cells])),
        *("--base", f"results/checkpoints/qwen2.seed{seed}.json"),
        *("--tuned", f"results/checkpoints/{PAIR}.seed{seed}.json"),
        *(*data, "--settings", "{}"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three cells; writes no page")
    quick = parser.parse_args().quick
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        seed, sets, tasks, texts = material(folder)
        sets = sets[-3:] if quick else sets
        base, adapter = f"checkpoints/qwen2.seed{seed}", f"checkpoints/{PAIR}.seed{seed}"
        data = [f"results/data/{task}.parquet" for task in tasks]
        plain = [[sys.executable, HERE / "plain.py", base, adapter, one, *data] for one in sets]
        arms = {
            "benchmarks: one job": [evaluate(seed, sets, tasks, "a")],
            "benchmarks: a job for each cell": [evaluate(seed, [s], tasks, "b") for s in sets],
            "benchmarks: transformers and peft, a process for each cell": plain,
            "with general text: one job": [evaluate(seed, sets, [*tasks, *texts], "c")],
            "with general text: a job for each cell": [
                evaluate(seed, [one], [*tasks, *texts], "d") for one in sets
            ],
        }
        first: dict[str, float] = {}
        for name, commands in arms.items():
            spent = [timed(command, folder) for command in commands]
            seconds, cpu = (sum(each) for each in zip(*spent, strict=True))
            ratio = cpu / first.setdefault(name.split(":")[0], cpu)
            rows.append([name, str(len(sets)), f"{seconds:.1f}", f"{cpu:.1f}", f"{ratio:.2f}"])
            print(*rows[-1], sep="\t", flush=True)  # noqa: T201
    if not quick:
        head = ["arm", "cells", "seconds", "cpu_seconds", "ratio"]
        put_results(HERE, head, rows, "|---|--:|--:|--:|--:|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
