"""The benchmark of the delta engine, start to end: `python benchmarks/deltas/run.py --help`.

Every arm is a process of its own, so that imports and peak memory are its own too. This process
stays small: a child's peak is never below what its parent held when it was started.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from timing import TIMES, Times, child, machine, put_tables, span, write_results  # noqa: E402

FULL = [
    *("cat", "from_pretrained", "from_pretrained_scores", "lazy"),
    *("basic", "scores", "whole", "first_use"),
]
LORA = ["lora_norms", "lora_spectra", "lora_product", "diff"]
SPECTRA = ["spectrum", "svdvals"]
GROWTH = ["cat", "basic"]
ALL = [*FULL, "accuracy", *LORA, *SPECTRA, "growth"]
WORDS = {
    "cat": "`cat` of both files",
    "from_pretrained": "two `from_pretrained` in float32, `torch.norm` of each difference",
    "from_pretrained_scores": "the same, and the base's norm and cosine: the basic scores",
    "lazy": "a tensor at a time through safetensors, the basic scores in float32",
    "basic": "**affectlocus**, basic scores: L2, relative, RMS, cosine",
    "scores": "**affectlocus**, and mean, deviation, largest entry, dtype floor",
    "whole": "**affectlocus**, whole contract: and histograms, norms of FFN neurons",
    "first_use": "**affectlocus**, one small tensor and the compiling: the first use on a machine",
    "lora_norms": "**affectlocus**, L2 norms from Gram matrices",
    "lora_spectra": "**affectlocus**, L2 norms and whole spectra",
    "diff": "`affectlocus diff ADAPTER --json`, from start to its figures",
    "spectrum": "**affectlocus**, from the eigenvalues of the Gram matrix",
    "svdvals": "`torch.linalg.svdvals` of the delta in float64",
    "lora_product": "B·A multiplied out in float32, `torch.norm`",
}


@dataclass
class Result:
    """One arm on one material."""

    part: str
    material: str
    gigabytes: float
    arm: str
    times: Times = field(default_factory=Times)
    found: dict[str, Any] = field(default_factory=dict)

    def row(self) -> list[Any]:
        return [self.part, self.material, f"{self.gigabytes:.3f}", self.arm, *self.times.row()]


def once(result: Result, folder: Path) -> None:
    """Runs an arm, its files warm in the page cache, and adds what was measured."""
    files = sorted(str(path) for path in folder.rglob("*.safetensors"))
    subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True)
    if result.arm == "cat":
        _, seconds, peak = child(["sh", "-c", 'exec cat "$@" > /dev/null', "cat", *files])
        engine = seconds
    elif result.arm == "diff":
        start = "from affectlocus.cli import main; main()"
        command = [sys.executable, "-c", start, "diff", str(folder), "--json"]
        _, seconds, peak = child(command)
        engine = seconds
    else:
        output, seconds, peak = child(
            [sys.executable, str(HERE / "arms.py"), result.arm, str(folder)]
        )
        result.found = json.loads(output)
        engine = result.found["engine"]
    result.times.add(engine, seconds, peak)
    typer.echo(
        f"{result.material:10} {result.arm:22} engine {engine:7.3f} s   process {seconds:7.3f} s   "
        f"peak {peak:6.0f} MB",
        err=True,
    )


@contextmanager
def material(kind: str, model: str, parent: Path) -> Iterator[Path]:
    """A generated pair or adapter, removed at the end."""
    typer.echo(f"{model:10} generating the {kind}", err=True)
    folder = Path(tempfile.mkdtemp(prefix="affectlocus-", dir=parent))
    try:
        child([sys.executable, str(HERE / "material.py"), kind, model, str(folder)])
        yield folder
    finally:
        shutil.rmtree(folder)


def part(
    name: str, kind: str, model: str, arms: list[str], repetitions: int, parent: Path
) -> list[Result]:
    """All arms on one material; each repetition goes through all, so a drift meets all alike."""
    if not arms:
        return []
    with material(kind, model, parent) as folder:
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e9
        results = [Result(name, model, size, arm) for arm in arms]
        for repetition in range(repetitions):
            for result in results:
                if result.arm != "accuracy" or repetition == 0:
                    once(result, folder)
    return results


def report(results: list[Result], words: str) -> str:
    """The tables in markdown."""
    lines = [f"{words}.", ""]
    by = {(result.part, result.material, result.arm): result for result in results}

    def median(result: Result) -> float:
        return statistics.median(result.times.engine)

    for name, title, unit, against in (
        ("full", "Full deltas", "`cat`", "cat"),
        ("lora", "LoRA deltas", "the norms", "lora_norms"),
        ("spectra", "Spectra of a full delta: q and gate of a layer", "`svdvals`", "svdvals"),
    ):
        chosen = [r for r in results if r.part == name and r.arm != "accuracy"]
        if not chosen:
            continue
        first = chosen[0]
        lines += [
            f"### {title}: {first.material.upper()} shapes, {first.gigabytes:.2f} GB",
            "",
            f"| way | engine, s | whole process, s | peak, MB | times {unit} |",
            "|---|--:|--:|--:|--:|",
        ]
        one = by.get((name, first.material, against))
        for result in chosen:
            ratio = f"{median(result) / median(one):.2f}" if one else ""
            lines.append(
                f"| {WORDS[result.arm]} | {span(result.times.engine)} "
                f"| {span(result.times.process)} | {max(result.times.peak):.0f} | {ratio} |"
            )
        lines.append("")
        if name == "spectra" and one and first is not one:
            lines += spectra(first, one)
    lines += aims({(r.part, r.arm): r for r in results if r.part in ("full", "lora")})
    growth = [r for r in results if r.part == "growth" and r.arm == "basic"]
    if growth:
        lines += [
            "### Growth: basic scores",
            "",
            "| shapes | both sides, GB | engine, s | GB/s | peak, MB | times `cat` |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for result in growth:
            cat = by.get(("growth", result.material, "cat"))
            ratio = f"{median(result) / median(cat):.2f}" if cat else ""
            lines.append(
                f"| {result.material.upper()} | {result.gigabytes:.2f} "
                f"| {span(result.times.engine)} | {result.gigabytes / median(result):.1f} "
                f"| {max(result.times.peak):.0f} | {ratio} |"
            )
        lines.append("")
    for result in results:
        if result.arm == "accuracy":
            lines += accuracy(result)
    return "\n".join(lines)


def aims(by: dict[tuple[str, str], Result]) -> list[str]:
    """The aims, each with the measured value."""

    def ratio(one: tuple[str, str], other: tuple[str, str]) -> float | None:
        if one not in by or other not in by:
            return None
        engines = (statistics.median(by[key].times.engine) for key in (one, other))
        return next(engines) / next(engines)

    ours, norms = ("full", "basic"), ("lora", "lora_spectra")
    rows: list[tuple[str, float | None, float, str]] = [
        ("basic scores, times `cat` (engine)", ratio(ours, ("full", "cat")), 2.5, "at most"),
        (
            "two `from_pretrained` and `torch.norm`, times ours (engine)",
            ratio(("full", "from_pretrained"), ours),
            15,
            "at least",
        ),
        (
            "B·A multiplied out, times norms and spectra (engine)",
            ratio(("lora", "lora_product"), norms),
            50,
            "at least",
        ),
    ]
    for words, key, limit in (
        ("norms and spectra, s (engine)", norms, 0.5),
        ("`affectlocus diff ADAPTER --json`, s (whole process)", ("lora", "diff"), 2.0),
    ):
        found = statistics.median(by[key].times.engine) if key in by else None
        rows.append((words, found, limit, "at most"))
    peak = max(by[ours].times.peak) if ours in by else None
    rows.append(("basic scores, peak MB", peak, 400, "at most"))
    lines = ["### What was aimed at", "", "| what | aim | measured | |", "|---|--:|--:|---|"]
    for words, found, limit, way in rows:
        if found is not None:
            met = found <= limit if way == "at most" else found >= limit
            lines.append(
                f"| {words} | {way} {limit:g} | {found:.3g} | {'met' if met else '**missed**'} |"
            )
    return [*lines, ""] if len(lines) > 4 else []


def accuracy(result: Result) -> list[str]:
    """Errors against float64, ours by score and torch.norm's by the tensor's size."""
    lines = [
        "### Largest relative error over all tensors, against float64",
        "",
        "| score | affectlocus |",
        "|---|--:|",
    ]
    lines += [f"| {score} | {error:.0e} |" for score, error in result.found["ours"].items()]
    lines += ["", "| entries of the tensor | L2 by `torch.norm` in float32 |", "|--:|--:|"]
    sizes = sorted((int(size), error) for size, error in result.found["torch_norm"].items())
    lines += [f"| {size:,} | {error:.0e} |" for size, error in sizes]
    return [*lines, ""]


def spectra(ours: Result, exact: Result) -> list[str]:
    """Seconds by matrix, and how far what a spectrum says is from the exact one's."""
    said = ("spectral_norm", "stable_rank", "effective_rank")
    names = " | ".join(f"error of the {name.replace('_', ' ')}" for name in said)
    lines = [
        f"| matrix | shape | affectlocus, s | `svdvals`, s | ratio | {names} |",
        f"|---|{'--:|' * (4 + len(said))}",
    ]
    for name, there in exact.found["spectra"].items():
        here = ours.found["spectra"][name]
        errors = (f"{abs(here[one] / there[one] - 1):.0e}" for one in said)
        lines.append(
            f"| {name} | {'×'.join(map(str, there['shape']))} | {here['seconds']:.1f} "
            f"| {there['seconds']:.1f} | {here['seconds'] / there['seconds']:.2f} "
            f"| {' | '.join(errors)} |"
        )
    return [*lines, ""]


def main(
    out: Annotated[
        Path, typer.Option(help="folder for results.csv; a README.md there gets the tables")
    ] = HERE,
    quick: Annotated[bool, typer.Option("--quick", help="tiny material, one repetition")] = False,
    repetitions: Annotated[
        int, typer.Option(min=1, help="of every arm but accuracy, spectrum and svdvals")
    ] = 3,
    arm: Annotated[
        list[str] | None, typer.Option(help=f"only these; repeatable: {', '.join(ALL)}")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="where material is generated (default: the temp folder)")
    ] = None,
) -> None:
    """Full and low-rank deltas against other ways, with peak memory, growth and accuracy.

    Takes some 12 minutes on 2 cores, 14 GB of disk for a while, and 16 GB of memory for an arm that
    loads both models; --quick takes some 20 seconds. Nothing else should run at the same time.
    """
    chosen = arm or ALL
    unknown = sorted(set(chosen) - set(ALL))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no arm; expected {', '.join(ALL)}")
    parent = scratch or Path(tempfile.gettempdir())
    need, free = (1 << 28 if quick else 14e9), shutil.disk_usage(parent).free
    if free < need:
        raise typer.BadParameter(
            f"{parent} has {free / 1e9:.1f} GB free of {need / 1e9:.0f} needed; choose another "
            "folder with --scratch"
        )
    repetitions = 1 if quick else repetitions
    pair, small, large, lora = (
        ("tiny", "tiny", "tiny-wide", "tiny") if quick else ("1.5b", "0.5b", "3b", "7b")
    )
    results = part(
        "full", "pair", pair, [a for a in [*FULL, "accuracy"] if a in chosen], repetitions, parent
    )
    results += part("lora", "adapter", lora, [a for a in LORA if a in chosen], repetitions, parent)
    results += part("spectra", "matrices", lora, [a for a in SPECTRA if a in chosen], 1, parent)
    for model in (small, large) if "growth" in chosen else ():
        results += part("growth", "pair", model, GROWTH, repetitions, parent)
    words = machine()
    columns = ["part", "material", "gigabytes", "arm", *TIMES, "machine"]
    write_results(out / "results.csv", columns, ([*result.row(), words] for result in results))
    text = report(results, words)
    readme = out / "README.md"
    if readme.is_file() and not quick:
        put_tables(readme, text)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
