"""Commands check, plan, pin and schema, which read params.yaml before a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from affectlocus.cli.shared import Out
from affectlocus.core.phrases import counted


def check(
    parameters: Annotated[Path, typer.Argument(help="an experiment's params.yaml")] = Path(
        "params.yaml"
    ),
) -> None:
    """Check a params.yaml without running anything, and summarize its data and cells.

    Lists everything that is wrong, with the file and the key. Of labels that are candidates it
    prints the number of tokens: labels of different lengths are not equally likely from the start.

    Example: affectlocus check experiments/stories/params.yaml
    """
    from collections import Counter

    from affectlocus.config.experiment import examine, read
    from affectlocus.data.audit import report_lines
    from affectlocus.orchestration.matrix import all_cells
    from affectlocus.orchestration.preflight import (
        check_data,
        check_gguf,
        check_pairs,
        check_wheels,
    )
    from affectlocus.orchestration.prompt_limit import check_prompts, label_lines
    from affectlocus.reporting.brief import warnings_of

    if parameters.is_dir():
        parameters /= "params.yaml"
    folder, source = parameters.parent, str(parameters)
    loaded, problems = examine(read(parameters), folder, source)
    if any(one.code != "params.unknown-key" for one in problems.found):
        problems.raise_any()  # data cannot be read by references that lead nowhere
    root = folder / loaded.data_root
    reports, notes = {}, []
    with problems.collected():
        reports = check_data(loaded, folder, source, download=True)
    if not problems.found:  # it counts the labels of the data
        with problems.collected():
            notes += check_wheels(loaded, folder, reports, source, download=True)
    with problems.collected():
        check_prompts(loaded, root, source)
    with problems.collected():
        notes += check_pairs(loaded, folder, source)
    with problems.collected():
        notes += check_gguf(loaded, folder, source)
    with problems.collected():
        notes += label_lines(loaded, root)
    problems.raise_any()
    for report in reports.values():
        typer.echo("\n".join(report_lines(report)))
    for line in notes:
        typer.echo(line)
    for warning in warnings_of(folder / "results", loaded):
        typer.echo(warning)
    kinds = Counter(cell.kind for cell in all_cells(loaded))
    cells = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    number = len(loaded.benchmarks)
    typer.echo(f"{parameters}: good. {counted(number, 'benchmark')}; cells: {cells}.")


def plan(
    parameters: Annotated[
        Path, typer.Argument(help="an experiment's folder, or its params.yaml")
    ] = Path("params.yaml"),
    cards: Annotated[
        int | None,
        typer.Option(
            min=0, help="plan for one host with this number of GPUs; by default for a cluster"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one object instead of a table")
    ] = False,
) -> None:
    """Estimate the cost of an experiment: jobs by kind, GPU hours, downloads, disk; nothing runs.

    Hours and bytes leave out finished jobs. The formulas are in orchestration/cost_model.py, and
    their parameters under `plan` in params.yaml; the lines below the table state each of them.
    Measured times of finished jobs replace the estimate of their kind.

    Example: affectlocus plan experiments/paper
    """
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.plan import plan as run

    loaded = load(parameters, planning=True)
    folder = parameters if parameters.is_dir() else parameters.parent
    # Paths in an experiment are relative to its folder, as for Snakemake.
    os.chdir(folder)
    found = run(Dag(loaded), cards)
    if as_json:
        typer.echo(json.dumps(found.report(), indent=2))
        return
    from affectlocus.orchestration.plan_table import print_plan

    print_plan(found, str(parameters))


def pin(
    parameters: Annotated[
        Path, typer.Argument(help="an experiment's folder, or its params.yaml")
    ] = Path("params.yaml"),
) -> None:
    """Look up the commit of every branch or tag in params.yaml, and write it to a lock file.

    The file is checkpoints.lock.json next to params.yaml. Later runs use its commits. Nothing else
    is downloaded. Keep the file under version control.

    Example: affectlocus pin experiments/paper
    """
    from affectlocus.config.experiment import load
    from affectlocus.data.sources import pin as run

    loaded = load(parameters, planning=True)
    folder = parameters if parameters.is_dir() else parameters.parent
    for name, commit in run(loaded, folder / "checkpoints.lock.json").items():
        typer.echo(f"{name}: {commit}")


def schema(out: Out = Path("workflow/schemas/params.schema.json")) -> None:
    """Write the JSON schema of params.yaml, for editors and for reading.

    Example: affectlocus schema
    """
    from affectlocus.config.experiment import schema_text
    from affectlocus.core.files import write_text

    write_text(out, schema_text())
