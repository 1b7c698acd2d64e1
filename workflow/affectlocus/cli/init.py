"""The command `init`: a new experiment from two checkpoints and a table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

PROMPT = "{text}\nLabel:"


def init(
    base: Annotated[
        str, typer.Argument(help="the base: a folder, a GGUF file, or owner/name[@revision]")
    ],
    tuned: Annotated[
        str, typer.Argument(help="the tuned model or adapter: a folder, a file, or owner/name")
    ],
    data: Annotated[Path, typer.Argument(help="table of texts and labels: csv, tsv, jsonl, …")],
    out: Annotated[
        Path | None,
        typer.Option(help="folder to make; by default named after the tuned checkpoint"),
    ] = None,
    text: Annotated[str, typer.Option(help="column of the texts")] = "",
    label: Annotated[str, typer.Option(help="column of the labels")] = "",
    word: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=WORD: the word that the model has to answer; repeat for several"),
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="what the model reads before the word; {text} is the text")
    ] = PROMPT,
    accept: Annotated[
        bool, typer.Option("--yes", help="ask nothing; take what was found in the table")
    ] = False,
) -> None:
    """Write a params.yaml for a base, a tuned checkpoint and a table of texts and labels.

    Reads the headers of the checkpoints, and the table. Asks at most three questions: the column of
    the texts, that of the labels, and the words for labels that are numbers; without a terminal,
    options answer them. The file has comments and passes `affectlocus check`. Nothing is ever
    overwritten.

    Example: affectlocus init my-model my-adapter comments.csv
    """
    from affectlocus.config.messages import ParameterError
    from affectlocus.core.errors import InputError
    from affectlocus.orchestration.new_experiment import (
        checkpoint,
        refuse_existing,
        samples,
        text_of,
        write_experiment,
    )

    experiments = Path("experiments")
    parent = experiments if experiments.is_dir() else Path()
    place = out or parent / f"{checkpoint(tuned, 'TUNED', parent).name}-experiment"
    try:
        refuse_existing(place)
    except ParameterError as error:
        raise InputError(error.code, f"--out: {error}", option="--out") from None
    asks = None if accept or not sys.stdin.isatty() else _ask
    first, second = checkpoint(base, "BASE", place), checkpoint(tuned, "TUNED", place)
    found = samples(data, asks, text, label, word or ())
    parameters = write_experiment(place, text_of(first, second, found, prompt, place))
    typer.echo(
        f"{place / 'params.yaml'}: written; {len(found.rows)} rows of {data}, texts in "
        f"{found.text!r}, labels in {found.label!r}: {', '.join(found.words.values())}"
    )
    for name, pair in parameters.pairs.items():
        typer.echo(f"pair {name}: {pair.base} and {tuned}")
    typer.echo("edit the prompt and the labels there if you like; next:")
    folder = shlex.quote(str(place))
    typer.echo(f"  affectlocus check {folder}\n  affectlocus run {folder}")


def _ask(question: str, proposed: str) -> str:
    return str(typer.prompt(question, default=proposed or None))
