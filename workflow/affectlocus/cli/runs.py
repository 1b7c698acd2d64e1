"""An experiment's run, and what is wrong with its folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from affectlocus.core.errors import InputError

_EXPERIMENT = typer.Argument(help="an experiment's folder, or its params.yaml")


# Findings that a run prints; the doctor prints all.
_SHOWN = 5


def _folder(experiment: Path) -> Path:
    """The experiment's folder, by itself or by its params.yaml."""
    folder = experiment if experiment.is_dir() else experiment.parent
    if not (folder / "params.yaml").is_file():
        raise InputError(
            f"{folder / 'params.yaml'}: no such file; expected an experiment's folder (behind -- "
            "stand Snakemake's own arguments)"
        )
    return folder


def run(
    context: typer.Context,
    experiment: Annotated[Path, _EXPERIMENT] = Path(),
    cores: Annotated[
        str | None,
        typer.Option(
            help="jobs at once on this machine, a number or all; all where no argument for "
            "Snakemake is given"
        ),
    ] = None,
) -> None:
    """Run an experiment: check it, make sure that no other run works there, then start Snakemake.

    Behind -- stand arguments for Snakemake. Compared with snakemake alone, this downloads and
    checks the users' own files first, clears away the lock of a killed run (snakemake --unlock),
    moves what killed jobs left half-written aside, and names results that were cut. Snakemake's
    exit code is returned.

    Example: affectlocus run experiments/stories --cores 2

    Example: affectlocus run -- --cores 2 results/table1.csv
    """
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.doctor import ASIDE, at_a_glance, leftovers, move
    from affectlocus.orchestration.preflight import (
        examined,
        examined_pairs,
        precheck_wheels,
        remember,
        reports,
    )
    from affectlocus.orchestration.prompt_room import check_room
    from affectlocus.orchestration.run import run as start
    from affectlocus.orchestration.run import snakefile, unlock, writable
    from affectlocus.orchestration.run_lock import hold

    folder = _folder(experiment)
    snakefile()
    parameters, source = load(folder), str(folder / "params.yaml")
    killed = hold(folder)
    writable(folder)
    data = examined(parameters, folder, source, download=True)
    precheck_wheels(parameters, folder, reports(data), source, download=True)
    check_room(parameters, folder / parameters.data_root, source)
    remember(folder, data | examined_pairs(parameters, folder, source))
    if killed:
        unlock(folder)
    place = ASIDE / time.strftime("%Y-%m-%dT%H-%M-%S")
    for one in leftovers(folder):
        move(folder, one.path, place)
        typer.echo(f"affectlocus: {one.said}; moved to {place}", err=True)
    found = at_a_glance(folder)
    cure = f"affectlocus doctor --fix {folder}"
    for one in found[:_SHOWN]:
        typer.echo(f"affectlocus: {one.said}; {cure}", err=True)
    if more := found[_SHOWN:]:
        typer.echo(f"affectlocus: and {len(more)} more; affectlocus doctor names them", err=True)
    words: list[str] = context.obj or []
    given = [*(["--cores", cores or "all"] if cores or not words else []), *words]
    raise typer.Exit(start(folder, given))


def doctor(
    experiment: Annotated[Path, _EXPERIMENT] = Path(),
    fix: Annotated[
        bool, typer.Option("--fix", help="move what is damaged aside, and download again")
    ] = False,
) -> None:
    """Look for damage in an experiment's folder, and put it right without deleting anything.

    Finds weights and downloads that are gone or were changed (every file is read for its SHA-256),
    results that were cut, what killed jobs left half-written, and files dated in the future. With
    --fix, damaged files are moved to .affectlocus/aside, damaged downloads are fetched again, and
    dates in the future become now. Prints the command that makes again what was moved. Exit code 1
    if something was found and is not put right.

    Example: affectlocus doctor experiments/stories --fix
    """
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.doctor import examine, next_step, put_right
    from affectlocus.orchestration.run_lock import ended, hold, killed

    folder = _folder(experiment)
    typed = Path.cwd()
    parameters = load(folder, planning=True)
    # Paths of an experiment start from its folder, as they do for Snakemake.
    os.chdir(folder)
    here, jobs = Path(), Dag(parameters)
    if fix:
        hold(here)
    elif who := killed(here):
        typer.echo(
            f"a run was killed ({who}); affectlocus run clears its lock away, or snakemake --unlock"
        )
    found = examine(here, jobs)
    for one in found:
        typer.echo(one.said)
    wrong = [one for one in found if one.cure != "later"]
    if not wrong:
        typer.echo("nothing is damaged")
    if fix:
        for line in put_right(here, found, jobs):
            typer.echo(line)
        ended(here)
    whole = Path(os.path.relpath(here.absolute(), typed))
    os.chdir(typed)
    if wrong and not fix:
        typer.echo(f"to put it right: affectlocus doctor --fix {whole}")
    elif command := next_step(found, whole):
        typer.echo(f"to make again what is missing: {command}")
    if any(one.cure == "person" or not fix for one in wrong):
        raise typer.Exit(1)
