"""Commands `run`, `decide` and `doctor`: run an experiment, and find damage in its folder."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from affectlocus.core.errors import InputError

_EXPERIMENT = typer.Argument(help="an experiment's folder, or its params.yaml")


# Arguments of Snakemake whose output a bar would hide.
_TALKING = (
    *("-n", "--dry-run", "--dryrun", "-q", "--quiet", "--verbose", "--logger", "-p", "--list"),
    *("--printshellcmds", "--list-rules", "--list-targets", "-l", "-S", "--summary", "-D", "--dag"),
    *("--detailed-summary", "--rulegraph", "--filegraph", "--lint", "--unlock", "--debug-dag"),
    *("-h", "--help", "-v", "--version", "--report", "--stats", "--preview-remote"),
)

# Number of findings that `run` prints; `doctor` prints all.
_SHOWN = 5


def _folder(experiment: Path, hint: str = "") -> Path:
    """The folder of an experiment that is named by its folder, its params.yaml or its name.

    A name is looked up in `experiments` of the current folder, and of the checkout of affectlocus.
    """
    from affectlocus.core.errors import nearest
    from affectlocus.orchestration.run import snakefile

    folder = experiment if experiment.is_dir() else experiment.parent
    if (folder / "params.yaml").is_file() and experiment.exists():
        return folder
    known: dict[str, Path] = {}
    if len(experiment.parts) == 1:
        places = [Path("experiments")]
        with suppress(InputError):
            places.append(snakefile().parent / "experiments")
        for place in places:
            for file in sorted(place.glob("*/params.yaml")):
                known.setdefault(file.parent.name, file.parent)
    if str(experiment) in known:
        return known[str(experiment)]
    near = nearest(str(experiment), known)
    advice = f"{near}? expected" if near else "expected"
    raise InputError(
        "params.no-file",
        f"{folder / 'params.yaml' if experiment.exists() else experiment}: no such experiment; "
        f"{advice} a folder with a params.yaml, which affectlocus init makes{hint}",
        file=folder / "params.yaml",
        near=near,
    )


def run(
    context: typer.Context,
    experiment: Annotated[Path, _EXPERIMENT] = Path(),
    cores: Annotated[
        str | None,
        typer.Option(
            help="number of cores for jobs on this machine, or all; by default all, unless "
            "arguments for Snakemake are given"
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="print Snakemake's whole log in place of a bar")
    ] = False,
) -> None:
    """Check an experiment, and run it with Snakemake.

    An experiment is named by its folder, its params.yaml, or, below experiments, by its name alone.
    Prints a bar over jobs and what runs now; Snakemake's own log file has everything.

    Arguments after -- are passed to Snakemake. Before it starts Snakemake, this command refuses a
    folder that another run uses, downloads and checks the users' own files, removes the lock of a
    killed run (snakemake --unlock), moves incomplete files of killed jobs aside, and refuses to
    start while results are truncated. It returns Snakemake's exit code.

    Example: affectlocus run experiments/stories --cores 2

    Example: affectlocus run -- --cores 2 results/table1.csv
    """
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.doctor import ASIDE, at_a_glance, leftovers, move
    from affectlocus.orchestration.preflight import (
        check_wheels,
        examined,
        examined_pairs,
        remember,
        reports,
    )
    from affectlocus.orchestration.prompt_limit import check_prompts
    from affectlocus.orchestration.run import STOPPED, snakefile, unlock, writable
    from affectlocus.orchestration.run import run as start
    from affectlocus.orchestration.run_lock import acquire

    folder = _folder(experiment, " (arguments of Snakemake go after --)")
    snakefile()
    parameters, source = load(folder), str(folder / "params.yaml")
    killed = acquire(folder)
    writable(folder)
    data = examined(parameters, folder, source, download=True)
    check_wheels(parameters, folder, reports(data), source, download=True)
    check_prompts(parameters, folder / parameters.data_root, source)
    remember(folder, data | examined_pairs(parameters, folder, source))
    if killed:
        unlock(folder)
    place = ASIDE / time.strftime("%Y-%m-%dT%H-%M-%S")
    for finding in leftovers(folder):
        move(folder, finding.path, place)
        typer.echo(f"affectlocus: {finding.message}; moved to {place}", err=True)
    found = at_a_glance(folder)
    cure = f"affectlocus doctor --fix {folder}"
    for finding in found[:_SHOWN]:
        typer.echo(f"affectlocus: {finding.message}; run {cure}", err=True)
    if more := found[_SHOWN:]:
        typer.echo(f"affectlocus: and {len(more)} more; affectlocus doctor lists them", err=True)
    if truncated := [finding.path for finding in found if finding.cure == "aside"]:
        raise InputError(
            "run.truncated-results",
            f"{folder}: no job was started, because Snakemake considers these truncated files "
            f"finished. Run {cure}, and then run this command again",
            file=folder,
            found=truncated,
        )
    words: list[str] = context.obj or []
    given = [*(["--cores", cores or "all"] if cores or not words else []), *words]
    quiet = not verbose and not any(word.partition("=")[0] in _TALKING for word in words)
    code = start(folder, [*given, *(["--logger", "affectlocus"] if quiet else [])])
    if not code and quiet and not words:
        for line in _results(folder):
            typer.echo(line)
    if code in STOPPED:
        typer.echo(
            "affectlocus: interrupted; finished jobs are kept. Run the same command again to go on",
            err=True,
        )
    elif code and words:
        from affectlocus.orchestration.targets import unknown_targets

        for sentence in unknown_targets(words, Dag(parameters), folder):
            typer.echo(f"affectlocus: {sentence}", err=True)
    raise typer.Exit(code)


def _results(folder: Path) -> list[str]:
    """Where a reader finds what a whole run has made."""
    results = folder / "results"
    lines = []
    if (results / "report.html").is_file():
        lines.append(f"report: {results / 'report.html'}")
    if tables := sorted(results.glob("table[123].csv")):
        lines.append(f"tables: affectlocus show {shlex.quote(str(tables[0]))}")
    return lines


def targets(experiment: Annotated[Path, _EXPERIMENT] = Path()) -> None:
    """List the files that Snakemake can make of an experiment, in groups.

    Each is an argument of `affectlocus run EXPERIMENT -- TARGET` and of snakemake. The file of a
    figure with another suffix (.svg), and those of a table's intervals and baselines
    (TABLE_intervals.csv, TABLE_baselines.csv), are targets too.

    Example: affectlocus targets experiments/stories
    """
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.targets import targets as groups

    for title, files in groups(Dag(load(_folder(experiment), planning=True))).items():
        typer.echo(f"{title}:")
        for file in files:
            typer.echo(f"  {file}")


def decide(
    claim: Annotated[str, typer.Argument(help="a claim that the experiment judges, such as C7")],
    experiment: Annotated[Path, _EXPERIMENT] = Path(),
    most: Annotated[int, typer.Option(help="the largest number of replicates to use")] = 12,
    step: Annotated[int, typer.Option(min=1, help="replicates to add before each look")] = 2,
    cores: Annotated[str, typer.Option(help="number of cores for jobs, or all")] = "all",
) -> None:
    """Add replicates until a claim is decided, or the largest number is reached.

    Runs the experiment with its seeds, looks at the claim, and runs it with more seeds. Each look
    has a level of its own, so that the error of all looks together is 5 %. The plan and what each
    look saw are in results/decide/CLAIM.json; a plan cannot be changed later. params.yaml is not
    changed: the seeds are given to Snakemake on its command line. For a claim on the change of the
    weights, pairs with fewer replicates (pairs.NAME.replicates) get all of them. The exit code is 3
    if the claim is still undecided.

    The levels are those of the claim alone, without a correction over the other claims.

    Example: affectlocus decide C13 --most 12 --cores 2
    """
    from affectlocus.claims.verdict import UNDECIDED
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.decide import (
        looked,
        more_seeds,
        numbers_of_looks,
        plan_of,
        unlimited_pairs,
    )

    folder = _folder(experiment)
    parameters = load(folder)
    seeds = list(parameters.seeds)
    numbers = numbers_of_looks(len(seeds), most, step)
    record = folder / "results/decide" / f"{claim}.json"
    looks = plan_of(record, claim, numbers, parameters.claims.digests(parameters.score.margin))

    given = unlimited_pairs(parameters, claim)

    def judge(number: int) -> Path:
        chosen = [f"seeds={json.dumps(more_seeds(seeds, number))}"]
        if given:
            chosen.append(f"pairs={json.dumps(given)}")
        words = ["results/claims.csv", "--cores", cores, "--config", *chosen]
        code = "from affectlocus.cli import main; main()"
        run = [sys.executable, "-c", code, "run", str(folder), "--", *words]
        if failed := subprocess.run(run, check=False).returncode:
            raise typer.Exit(failed)
        return folder / "results/claims.csv"

    for seen in looked(record, claim, looks, judge):
        typer.echo(f"affectlocus: {claim}, {seen}")
    used = more_seeds(seeds, seen.look.replicates)
    if used != seeds:
        typer.echo(f"affectlocus: to keep these results, set seeds: {used} in params.yaml")
        if given:
            names = ", ".join(given)
            typer.echo(f"affectlocus: and remove replicates from the pairs {names}")
    if seen.verdict == UNDECIDED:
        raise typer.Exit(3)


def doctor(
    experiment: Annotated[Path, _EXPERIMENT] = Path(),
    fix: Annotated[
        bool, typer.Option("--fix", help="move damaged files aside, and repeat damaged downloads")
    ] = False,
) -> None:
    """Look for damage in an experiment's folder, and repair it without deleting anything.

    Finds missing or changed weights and downloads (by the SHA-256 of every file), truncated
    results, incomplete files of killed jobs, and files dated in the future. With --fix, it moves
    damaged files to .affectlocus/aside, repeats damaged downloads, and sets dates in the future to
    the current time. It prints the command that makes the moved files again. The exit code is 1 if
    damage was found and not repaired.

    Example: affectlocus doctor experiments/stories --fix
    """
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.doctor import examine, next_step, repair
    from affectlocus.orchestration.run_lock import acquire, ended, killed

    folder = _folder(experiment)
    typed = Path.cwd()
    parameters = load(folder, planning=True)
    # Paths in an experiment are relative to its folder, as for Snakemake.
    os.chdir(folder)
    here, jobs = Path(), Dag(parameters)
    if fix:
        acquire(here)
    elif who := killed(here):
        typer.echo(
            f"the last run was killed ({who}); affectlocus run removes its lock, as snakemake "
            "--unlock does"
        )
    found = examine(here, jobs)
    for finding in found:
        typer.echo(finding.message)
    wrong = [finding for finding in found if finding.cure != "later"]
    if not wrong:
        typer.echo("no damage found")
    if fix:
        for line in repair(here, found, jobs):
            typer.echo(line)
        ended(here)
    whole = Path(os.path.relpath(here.absolute(), typed))
    os.chdir(typed)
    if wrong and not fix:
        typer.echo(f"to repair: affectlocus doctor --fix {whole}")
    elif command := next_step(found, whole):
        typer.echo(f"to make the missing files again: {command}")
    if any(finding.cure == "person" or not fix for finding in wrong):
        raise typer.Exit(1)
