"""The command `learning`: the losses of tunings in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectlocus.cli.shared import Out, settings_of, write_csv
from affectlocus.core.errors import InputError


def learning(
    manifests: Annotated[
        list[Path], typer.Argument(help="manifests of tuned checkpoints, PAIR.seedN.json")
    ],
    out: Out,
    nulls: Annotated[
        str, typer.Option(help="JSON: pair → its null, the same recipe with shuffled answers")
    ] = "{}",
) -> None:
    """Collect the losses of tunings, and say which learned more than their nulls.

    The rule: the final loss is the mean over the last quarter of the logged steps. A tuning learned
    more if the 95 % interval over seeds of its reduction against the null's loss is above 2 %.

    Example: affectlocus learning results/checkpoints/mine.seed0.json --out training.csv
    """
    from pydantic import RootModel

    from affectlocus.core.files import read_json
    from affectlocus.training.learning import curves, judged

    named = settings_of(RootModel[dict[str, str]], nulls, "--nulls").root
    read = []
    for path in manifests:
        pair, dot, seed = path.stem.rpartition(".seed")
        record = read_json(path)
        if not dot or not seed.isdecimal() or not isinstance(record, dict) or "log" not in record:
            raise InputError(
                "learning.no-losses",
                f"{path}: no losses; expected the manifest of a tuned checkpoint, PAIR.seedN.json",
                file=path,
            )
        read.append((pair, int(seed), record))
    rows = curves(read, named)
    write_csv(rows, out, "%.6f")
    for one in judged(rows):
        typer.echo(one.sentence)
