"""Command claims: verdicts on claims, and their list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from affectlocus.cli.shared import read_frame, settings_of, settings_option, write_csv
from affectlocus.core.errors import InputError, check_choice


def claims(
    cells: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PREDICTIONS", help="predictions.parquet of each cell"),
    ] = None,
    delta: Annotated[
        list[Path] | None, typer.Option(help="deltas of a pair, PAIR.parquet; repeat for several")
    ] = None,
    histogram: Annotated[
        list[Path] | None,
        typer.Option(help="PAIR.histogram.parquet of the deltas; repeat for several"),
    ] = None,
    forecast: Annotated[
        list[Path] | None,
        typer.Option(help="output of forecast for a pair, PAIR.parquet; repeat for several"),
    ] = None,
    settings: Annotated[
        str,
        settings_option("metric, draws, confidence, margin, seed, tasks, pairs, claims"),
    ] = "{}",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="csv of the verdicts; replaced as a whole or not at all"),
    ] = None,
    agreement: Annotated[
        Path | None, typer.Option(help="csv to write: agreement of rankings (Kendall's W)")
    ] = None,
    on: Annotated[str | None, typer.Option(help="paper: judge the paper's own tables")] = None,
    shown: Annotated[
        Path | None,
        typer.Option(
            "--list",
            help="list the claims that a params.yaml asks for, with text, source, digest and the "
            "cells that its matrix lacks; judge nothing",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one object instead of a table")
    ] = False,
) -> None:
    """Judge claims: the paper's, those of other papers, or your own, and say why.

    A claim is supported, contradicted, equal within the margin, undecided or untestable. Which
    claims are judged is the key claims of the settings, as in params.yaml; by default the paper's.
    The facts on a pair (domain, base, method,
    family, budget, group, seed, own_base) are read from pairs in the settings; a pair that is not
    named there counts as affective. Method and family that the settings leave out are read from the
    deltas' files.

    Example: affectlocus claims --on paper

    Example: affectlocus claims --list params.yaml

    Example: affectlocus claims $(find results/cells -name predictions.parquet)
    --delta results/deltas/mine.parquet --out claims.csv
    """
    from affectlocus.reporting.terminal import print_claims

    flags: list[str] = []
    for option, value in {"--on": on, "--list": shown}.items():
        if value is not None and (cells or delta or histogram or forecast or agreement):
            raise InputError(
                "option.no-effect", f"{option} reads no results; leave them or {option} out"
            )
    if shown is not None:
        _list_claims(shown, as_json)
        return
    if on is not None:
        check_choice("--on", on, ("paper",))
        from affectlocus.claims.paper import judge_paper

        verdicts, flags = judge_paper()
    else:
        if not cells and not delta:
            raise InputError(
                "claim.nothing-to-judge",
                "no input; give predictions, --delta, --on paper or --list",
            )
        from affectlocus.claims.claims import judge_experiment
        from affectlocus.claims.settings import ClaimsSettings
        from affectlocus.deltas.delta_tables import read_tuning_facts
        from affectlocus.evaluation.predictions import Predictions

        verdicts, ranked = judge_experiment(
            map(Predictions.read, cells) if cells else None,
            {path.stem: read_frame(path, "projection", "l2") for path in delta or []},
            {
                path.name.removesuffix(".histogram.parquet"): read_frame(path, "from", "count")
                for path in histogram or []
            },
            settings_of(ClaimsSettings, settings),
            {path.stem: read_tuning_facts(path) for path in delta or []},
            {path.stem: read_frame(path, "layer", "projection") for path in forecast or []},
        )
        if agreement is not None:
            write_csv(ranked, agreement)
    if out is not None:
        write_csv(verdicts, out)
    if as_json:
        rows = json.loads(verdicts.to_json(orient="records"))
        typer.echo(json.dumps({"claims": rows, "flags": flags}, indent=2, ensure_ascii=False))
    elif out is None:
        print_claims(verdicts)
        for flag in flags:
            typer.echo(flag)


def _list_claims(parameters: Path, as_json: bool) -> None:
    """Prints the claims that an experiment judges."""
    from affectlocus.claims.listing import listed
    from affectlocus.reporting.terminal import print_listed_claims

    rows = listed(parameters)
    if as_json:
        typer.echo(json.dumps({"claims": rows}, indent=2, ensure_ascii=False))
    else:
        print_listed_claims(rows)
