"""An experiment before it runs: its params.yaml, and what it would do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from affectlocus.cli.shared import Out


def check(
    parameters: Annotated[Path, typer.Argument(help="an experiment's params.yaml")] = Path(
        "params.yaml"
    ),
) -> None:
    """Check a params.yaml without running anything, and say what it would run on which data.

    Example: affectlocus check experiments/stories/params.yaml
    """
    from collections import Counter

    from affectlocus.config.experiment import load
    from affectlocus.data.audit import report_lines
    from affectlocus.orchestration.matrix import all_cells
    from affectlocus.orchestration.preflight import precheck, precheck_pairs, precheck_wheels
    from affectlocus.orchestration.prompt_room import check_room

    loaded = load(parameters)
    if parameters.is_dir():
        parameters /= "params.yaml"
    reports = precheck(loaded, parameters.parent, str(parameters), download=True)
    unscored = precheck_wheels(loaded, parameters.parent, reports, str(parameters), download=True)
    check_room(loaded, parameters.parent / loaded.data_root, str(parameters))
    outside = precheck_pairs(loaded, parameters.parent, str(parameters))
    for report in reports.values():
        typer.echo("\n".join(report_lines(report)))
    for line in [*unscored, *outside]:
        typer.echo(line)
    kinds = Counter(cell.kind for cell in all_cells(loaded))
    cells = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    typer.echo(f"{parameters}: good. {len(loaded.benchmarks)} benchmarks; cells: {cells}.")


def plan(
    parameters: Annotated[
        Path, typer.Argument(help="an experiment's folder, or its params.yaml")
    ] = Path("params.yaml"),
    cards: Annotated[
        int | None,
        typer.Option(
            min=0, help="plan for one host with so many cards; by default for a cluster's jobs"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one object instead of a table")
    ] = False,
) -> None:
    """Say what an experiment will take: jobs by kind, GPU hours, downloads, disk; nothing runs.

    What is done already is left out of hours and bytes. The formulas stand in the package's module
    costs, the figures that they start from under `plan` in params.yaml; the lines below the table
    name each. Finished jobs of the experiment replace the estimate of their kind.

    Example: affectlocus plan experiments/paper
    """
    from affectlocus.config.experiment import load
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.plan import plan as run

    loaded = load(parameters, planning=True)
    folder = parameters if parameters.is_dir() else parameters.parent
    # Paths of an experiment start from its folder, as they do for Snakemake.
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
    """Look up the commit of every branch or tag in params.yaml, once, and write it down.

    Into checkpoints.lock.json beside params.yaml, which runs go by from then on; nothing else is
    downloaded. Keep the file under version control.

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
