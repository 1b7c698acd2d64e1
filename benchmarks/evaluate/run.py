"""The benchmark of evaluation, start to end: `python benchmarks/evaluate/run.py --help`.

Every arm is a process of its own, so that imports and peak memory are its own too; single cells are
a process each. This process stays small, and leaves comparing what they found to another.
"""

from __future__ import annotations

import compileall
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from arms import SETTINGS  # noqa: E402
from timing import (  # noqa: E402
    TIMES,
    WORKFLOW,
    Times,
    child,
    machine,
    put_tables,
    span,
    write_results,
)

REQUIREMENTS = HERE / "requirements.txt"
TORCH = "torch==2.13.0"
TOLERANCE = 1e-4
"""Of a log-likelihood in nats, in float32."""

PARTS = {
    "passes": ["one_pass", "per_candidate"],
    "harness": ["evaluate", "harness"],
    "cells": ["shared", "single"],
}
ALL = [arm for arms in PARTS.values() for arm in arms]
TITLES = {
    "passes": "Seven labels: one pass per sample, or a pass per label",
    "harness": "The same task through lm-evaluation-harness",
    "cells": "Load cells on one base",
}
WORDS = {
    "one_pass": "**affectlocus**: all labels in one pass",
    "per_candidate": "a pass for each label, batched alike",
    "evaluate": "**affectlocus** evaluate",
    "harness": "lm-eval run: same model and samples, batched alike",
    "shared": "**affectlocus** evaluate, once for all cells",
    "single": "**affectlocus** evaluate, once for each cell",
}


@dataclass
class Result:
    """One arm, repetition by repetition."""

    part: str
    arm: str
    times: Times = field(default_factory=Times)


def load_sets() -> list[str]:
    """The module sets of the embedded default's load cells."""
    default = yaml.safe_load((HERE.parents[1] / "params.yaml").read_text(encoding="utf-8"))
    return list(default["matrix"]["load"])


def harness_python(folder: Path) -> Path:
    """Python of the harness's own environment, made where it is missing or out of date.

    Raises:
        typer.BadParameter: the folder holds something else.
    """
    stamp = folder / "made-for-affectlocus.txt"
    python = folder / "bin" / "python"
    wanted = f"{TORCH}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    if folder.exists() and any(folder.iterdir()) and not stamp.is_file():
        raise typer.BadParameter(
            f"{folder} was not made here; name an empty or a new folder as --environment"
        )
    typer.echo(f"{folder}: installing lm-evaluation-harness (some minutes, 2 GB)", err=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    stamp.write_text("unfinished\n", encoding="utf-8")
    # torch first and by itself: which build pip takes is the machine's choice, made once.
    pip = [str(python), "-m", "pip", "install", "--quiet", "--compile"]
    for packages in ([TORCH], ["--requirement", str(REQUIREMENTS)]):
        subprocess.run([*pip, *packages], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


@dataclass(frozen=True)
class Bench:
    """Where the material is, where arms write, and the harness's interpreter."""

    material: Path
    out: Path
    harness: Path | None

    def once(self, arm: str) -> tuple[float, float, float]:
        """Seconds of the scoring alone and of the process, and peak memory (MB).

        For cells, the scoring is not measured separately. The seconds of processes are added; their
        peak is the largest.
        """
        out = self.out / arm
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        if arm == "shared":
            seconds, peak = self._cells(load_sets(), out)
            return seconds, seconds, peak
        if arm == "single":
            each = [self._cells([modules], out) for modules in load_sets()]
            seconds = sum(time for time, _ in each)
            return seconds, seconds, max(peak for _, peak in each)
        command = [sys.executable, str(HERE / "arms.py"), arm, str(self.material), str(out)]
        home = {"HF_HOME": str(self.out / "hub"), "HF_DATASETS_OFFLINE": "1"}
        if arm == "harness":
            command = [str(self.harness), str(HERE / "harness.py"), str(self.material), str(out)]
        output, seconds, peak = child(command, home)
        return json.loads(output.splitlines()[-1])["engine"], seconds, peak

    def _cells(self, sets: list[str], out: Path) -> tuple[float, float]:
        """Seconds and peak memory (MB) of one command that answers for these load cells."""
        tables = [str(out / "tuned" / "load" / modules / "predictions.parquet") for modules in sets]
        command = [sys.executable, "-c", "from affectlocus.cli import main; main()", "evaluate"]
        cells = [{"kind": "load", "pair": "tuned", "modules": modules} for modules in sets]
        command += [*tables, "--cells", json.dumps(cells), "--settings", SETTINGS]
        for option, file in (("base", "base.json"), ("tuned", "tuned.json")):
            command += [f"--{option}", str(self.material / file)]
        command += ["--data", str(self.material / "task.parquet")]
        _, seconds, peak = child(command, {"PYTHONPATH": str(WORKFLOW)})
        return seconds, peak

    def agreement(self) -> dict[str, Any]:
        """What `agreement.py` finds in the arms' files."""
        output, _, _ = child([sys.executable, str(HERE / "agreement.py"), str(self.out)])
        return json.loads(output)


def measured(bench: Bench, arms: list[str], repetitions: int) -> list[Result]:
    """All arms; each repetition goes through all of a part, so that a drift meets all alike."""
    results = []
    for part, members in PARTS.items():
        chosen = [Result(part, arm) for arm in members if arm in arms]
        for _ in range(repetitions):
            for result in chosen:
                engine, process, peak = bench.once(result.arm)
                result.times.add(engine, process, peak)
                typer.echo(
                    f"{part:8} {result.arm:14} engine {engine:7.3f} s   process {process:7.3f} s   "
                    f"peak {peak:6.0f} MB",
                    err=True,
                )
        results += chosen
    return results


def report(results: list[Result], agreed: dict[str, Any], words: str) -> str:
    """The tables in markdown; ratios are to the part's first way."""
    lines = [f"{words}.", ""]
    for part, title in TITLES.items():
        chosen = [result for result in results if result.part == part]
        if not chosen:
            continue
        first = chosen[0].times
        lines += [f"### {title}", ""]
        if part == "cells":
            lines += ["| way | all cells, s | peak, MB | times |", "|---|--:|--:|--:|"]
        else:
            lines += [
                "| way | scoring, s | whole process, s | peak, MB | times: scoring | process |",
                "|---|--:|--:|--:|--:|--:|",
            ]
        for result in chosen:
            times = result.times
            process = f"{span(times.process)} | {max(times.peak):.0f}"
            whole = f"{ratio(times.process, first.process):.2f}"
            if part == "cells":
                lines.append(f"| {WORDS[result.arm]} | {process} | {whole} |")
            else:
                scoring = f"{ratio(times.engine, first.engine):.2f}"
                lines.append(
                    f"| {WORDS[result.arm]} | {span(times.engine)} | {process} "
                    f"| {scoring} | {whole} |"
                )
        lines.append("")
    return "\n".join([*lines, *agreement_lines(agreed)])


def ratio(times: list[float], first: list[float]) -> float:
    """Of the medians."""
    return statistics.median(times) / statistics.median(first)


def agreement_lines(agreed: dict[str, Any]) -> list[str]:
    """A line for each comparison of what the arms found."""
    lines = ["### Same answers", ""]
    for arm, found in agreed["scores"].items():
        same = found["samples"] - found["chosen_otherwise"]
        lines.append(
            f"- {WORDS[arm]}: log-likelihoods within {found['largest']:.0e} of the first way's, "
            f"the same label chosen for {same} of {found['samples']} samples."
        )
    if "cells" in agreed:
        cells = agreed["cells"]
        same = cells["cells"] - cells["different"]
        lines.append(
            f"- Shared and single cells: predictions equal bit for bit in {same} of "
            f"{cells['cells']}."
        )
    return [*lines, ""]


def disagreements(agreed: dict[str, Any]) -> list[str]:
    """What must not be: ways that score or choose otherwise, cells that differ in a bit."""
    found = [
        f"{arm}: off by {one['largest']:.1e}, {one['chosen_otherwise']} labels chosen otherwise"
        for arm, one in agreed["scores"].items()
        if not one["largest"] <= TOLERANCE or one["chosen_otherwise"]
    ]
    cells = agreed.get("cells", {})
    if cells.get("different"):
        found.append(f"{cells['different']} of {cells['cells']} cells differ when shared")
    return found


def main(
    out: Annotated[
        Path, typer.Option(help="folder for results.csv; a README.md there gets the tables")
    ] = HERE,
    quick: Annotated[bool, typer.Option("--quick", help="tiny material, one repetition")] = False,
    repetitions: Annotated[int, typer.Option(min=1, help="of every arm")] = 2,
    arm: Annotated[
        list[str] | None, typer.Option(help=f"only these; repeatable: {', '.join(ALL)}")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="where material is generated (default: the temp folder)")
    ] = None,
    environment: Annotated[
        Path, typer.Option(help="lm-evaluation-harness's own environment; made where missing")
    ] = HERE / ".venv",
) -> None:
    """One pass against many, against lm-evaluation-harness, and cells that share a base.

    Takes some 6 minutes on 2 cores, and some 3 more and 2 GB of disk when it first installs the
    harness; --quick takes some 2 minutes. Nothing else should run at the same time. Ends with exit
    code 1 where the ways disagree.
    """
    arms = arm or ALL
    unknown = sorted(set(arms) - set(ALL))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no arm; expected {', '.join(ALL)}")
    python = harness_python(environment.resolve()) if "harness" in arms else None
    compileall.compile_dir(WORKFLOW / "affectlocus", quiet=1)
    folder = Path(tempfile.mkdtemp(prefix="affectlocus-", dir=scratch))
    try:
        bench = Bench(folder / "material", folder / "out", python)
        bench.material.mkdir()
        bench.out.mkdir()
        size = "tiny" if quick else "small"
        child([sys.executable, str(HERE / "material.py"), size, str(bench.material)])
        if python:
            # As warm in the page cache as what has just made the material.
            child([str(python), "-c", "import lm_eval.evaluator, lm_eval.models.huggingface"])
        results = measured(bench, arms, 1 if quick else repetitions)
        agreed = bench.agreement()
    finally:
        shutil.rmtree(folder)
    words = machine()
    if python:
        words += f"; {lm_eval_version()} in an environment of its own"
    rows = ([result.part, result.arm, *result.times.row(), words] for result in results)
    write_results(out / "results.csv", ["part", "arm", *TIMES, "machine"], rows)
    text = report(results, agreed, words)
    if (out / "README.md").is_file() and not quick:
        put_tables(out / "README.md", text)
    typer.echo(text)
    wrong = disagreements(agreed)
    if wrong:
        typer.echo("the ways disagree: " + "; ".join(wrong), err=True)
        raise typer.Exit(1)


def lm_eval_version() -> str:
    """The harness's version, as pinned."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("lm_eval==")).replace("==", " ")


if __name__ == "__main__":
    typer.run(main)
