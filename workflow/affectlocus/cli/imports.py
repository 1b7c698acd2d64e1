"""Command import-task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectlocus.core.errors import InputError, check_choice


def import_task(
    task: Annotated[str, typer.Argument(help="its YAML file, or its name")],
    file: Annotated[
        list[str] | None,
        typer.Option(help="SPLIT=PATH: the data of a split, test or train; repeat for both"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="where a name is looked up: the folder lm_eval/tasks; by default that of the "
            "installed package lm_eval"
        ),
    ] = None,
    domain: Annotated[
        str, typer.Option(help="affective or control: which pairs' cells answer the task")
    ] = "affective",
) -> None:
    """Print a task of lm-evaluation-harness as a section of params.yaml.

    Imports tasks of the type multiple_choice with the same answers for every sample and a prompt
    that inserts columns. Others are refused by what they need: generated answers, filters, Python
    functions, other jinja. The data must be local files: those that the task names, or --file.

    Example: affectlocus import-task sst2.yaml --file test=data/sst2.jsonl --domain control
    """
    from affectlocus.data.harness_tasks import import_task as imported
    from affectlocus.data.harness_tasks import task_file

    check_choice("--domain", domain, ("affective", "control"))
    files = {}
    for given in file or []:
        split, equals, path = given.partition("=")
        if not equals or split not in ("train", "test"):
            raise InputError(
                "option.not-a-split",
                f"--file {given}: expected train=PATH or test=PATH",
                option="--file",
                found=given,
            )
        files[split] = Path(path)
    found = imported(task_file(task, folder), files, domain)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(found.text, nl=False)
