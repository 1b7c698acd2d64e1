"""Command compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    first: Annotated[Path, typer.Argument(metavar="RESULTS", help="a folder of results")],
    second: Annotated[Path, typer.Argument(metavar="RESULTS", help="another one")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Compare two results of an experiment: from another machine, other seeds or another commit.

    Prints which parameters, versions and hardware differ, which verdicts differ, which mean scores
    are outside the interval of the other, how many answers of common cells differ, and a sentence.
    Parameters are read from the params.yaml next to each folder.

    Example: affectlocus compare results ../other-machine/results
    """
    from affectlocus.reporting.compare_results import compare_results

    found = compare_results(first, second)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
        return
    from affectlocus.reporting.comparison_text import print_comparison

    print_comparison(found)
