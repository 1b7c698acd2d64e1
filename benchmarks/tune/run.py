"""The benchmark of tuning: one process for each tuning, or one for all of a base.

    python benchmarks/tune/run.py               48 tunings: 16 module sets, three seeds
    python benchmarks/tune/run.py --count 6     the first of them

Each arm runs in processes of its own, so that imports count. Times are CPU seconds of the
processes, which depend less on other work on the machine than seconds of the clock do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from timing import WORKFLOW, machine, put_tables, write_results  # noqa: E402

from affectlocus.config.matrix import COMBINATIONS, SINGLES  # noqa: E402

ROOT = HERE.parents[1]
COLUMNS = ["arm", "tunings", "steps", "processes", "cpu_s", "wall_s", "peak_mb", "times"]
TITLES = {
    "plain": "transformers' Trainer and peft, a process each",
    "single": "`affectlocus tune`, a process each",
    "group": "`affectlocus tune --tunings`, one process",
    "stack": "the same, four adapters at once",
}


def measured(commands: Sequence[Sequence[str | Path]]) -> dict[str, float]:
    """CPU seconds, seconds and peak memory (MB) of processes that run one after another.

    They see no GPU, have one thread, and keep compiled bytecode, as an installed program does.
    """
    own = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    own |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(WORKFLOW)}
    own |= {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    cpu = wall = peak = 0.0
    for command in commands:
        begun = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            running = subprocess.Popen(
                list(map(str, command)), env=own, stdout=said, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
            if running.returncode:
                said.seek(0)
                raise SystemExit(said.read().decode(errors="replace")[-4000:])
        cpu += usage.ru_utime + usage.ru_stime
        wall += time.perf_counter() - begun
        peak = max(peak, usage.ru_maxrss / 1024)
    return {"cpu_s": cpu, "wall_s": wall, "peak_mb": peak}


def affectlocus(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-c", "from affectlocus.cli import main; main()", *words]


def material(folder: Path, parameters: dict[str, Any]) -> tuple[Path, Path]:
    """The embedded default's first base and training set: a manifest, and a prepared task."""
    name, source = next(iter(parameters["bases"].items()))
    recipe = source["pretrain"] | {"seed": parameters["seeds"][0]}
    task = parameters["tune"]["data"][0]
    settings = parameters["tasks"][task] | {"corpus": True}
    base, data = folder / f"{name}.json", folder / f"{task}.parquet"
    measured(
        [
            affectlocus(
                *("corpus", "--settings", json.dumps(parameters["corpus"])),
                *("--out", folder / "corpus"),
            ),
            affectlocus(
                *("pretrain", "--text", folder / "corpus/pretraining.txt"),
                *("--settings", json.dumps(recipe), "--folder", folder / name, "--out", base),
            ),
            affectlocus(
                *("prepare", "--name", task, "--settings", json.dumps(settings)),
                *("--all", folder / f"corpus/{task}.csv", "--out", data),
                *("--report", folder / f"{task}.json"),
            ),
        ]
    )
    return base, data


def largest_difference(folders: Sequence[Path], others: Sequence[Path]) -> float:
    """The largest ‖a − b‖ / ‖b‖ of two adapters' deltas, over all modules and tunings."""
    from safetensors.torch import load_file

    worst = 0.0
    for one, other in zip(folders, others, strict=True):
        left, right = (load_file(path / "adapter_model.safetensors") for path in (one, other))
        for name in (name for name in right if ".lora_A." in name):
            up = name.replace(".lora_A.", ".lora_B.")
            a, b = (side[up].double() @ side[name].double() for side in (left, right))
            worst = max(worst, float((a - b).norm() / b.norm()))
    return worst


def main(
    count: Annotated[int, typer.Option(min=1, max=48, help="number of tunings")] = 48,
    steps: Annotated[int, typer.Option(min=1, help="steps of each")] = 250,
    arms: Annotated[str, typer.Option(help=f"some of {', '.join(TITLES)}")] = "plain,group,stack",
    write: Annotated[bool, typer.Option(help="write results.csv and the README's table")] = False,
) -> None:
    """Tune module sets of the embedded default in several ways, and compare the CPU seconds."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = parameters["tune"] | {"steps": steps}
    seeds = parameters["seeds"][:3]
    sets = [(modules, seed) for seed in seeds for modules in (*SINGLES, *COMBINATIONS)]
    chosen = [sets[number * len(sets) // count] for number in range(count)]
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base, data = material(folder, parameters)
        places = {arm: [folder / arm / str(number) for number in range(count)] for arm in TITLES}
        keys = [recipe | {"modules": modules, "seed": seed} for modules, seed in chosen]
        common = ("tune", "--base", base, "--data", data)

        def together(arm: str, at_once: int) -> list[str | Path]:
            tunings = [
                key | {"folder": str(place), "out": f"{place}.json"}
                for key, place in zip(keys, places[arm], strict=True)
            ]
            hardware = json.dumps({"adapters_at_once": at_once})
            return affectlocus(*common, "--tunings", json.dumps(tunings), "--hardware", hardware)

        commands = {
            "plain": [
                [sys.executable, HERE / "plain.py", base.with_suffix(""), data, place,
                 json.dumps(key)]
                for key, place in zip(keys, places["plain"], strict=True)
            ],
            "single": [
                affectlocus(
                    *common, "--settings", json.dumps(key), "--folder", place,
                    "--out", f"{place}.json",
                )
                for key, place in zip(keys, places["single"], strict=True)
            ],
            "group": [together("group", 1)],
            "stack": [together("stack", 4)],
        }  # fmt: skip
        for arm in arms.split(","):
            found[arm] = measured(commands[arm]) | {"processes": len(commands[arm])}
            typer.echo(f"{TITLES[arm]}: {found[arm]['cpu_s']:.1f} CPU seconds")
        first = next(iter(found))
        for arm in list(found)[1:]:
            worst = largest_difference(places[arm], places[first])
            typer.echo(f"{arm}: deltas within {worst:.1e} of {first}'s")
    whole = found[first]["cpu_s"]
    rows = [
        [arm, count, steps, int(one["processes"]), f"{one['cpu_s']:.1f}", f"{one['wall_s']:.1f}",
         f"{one['peak_mb']:.0f}", f"{whole / one['cpu_s']:.2f}"]
        for arm, one in found.items()
    ]  # fmt: skip
    table = "| way | CPU, s | CPU a tuning, s | peak, MB | times faster |\n|---|--:|--:|--:|--:|\n"
    for arm, one in found.items():
        table += f"| {TITLES[arm]} | {one['cpu_s']:.1f} | {one['cpu_s'] / count:.2f} "
        table += f"| {one['peak_mb']:.0f} | {whole / one['cpu_s']:.2f} |\n"
    typer.echo(table)
    if write:
        write_results(HERE / "results.csv", COLUMNS, rows)
        put_tables(
            HERE / "README.md", f"{machine()}\n\n{count} tunings of {steps} steps:\n\n{table}"
        )


if __name__ == "__main__":
    typer.run(main)
