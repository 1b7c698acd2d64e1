"""Commands revisions, report, show and compare."""

from __future__ import annotations

import json
import os
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import Out, read_companion, read_frame, settings_of, write_csv
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from affectlocus.reporting.report import ReportedExperiment


def revisions(
    deltas: Annotated[list[Path], typer.Argument(help="deltas of each pair, PAIR.parquet")],
    claims: Annotated[Path, typer.Option(help="claims.csv")],
    out: Annotated[Path, typer.Option(help="folder for verdicts.json and l2/PAIR.csv")],
    means: Annotated[
        Path | None,
        typer.Option(help="metrics.json of collect; also writes summary.json, which has few keys"),
    ] = None,
    metric: Annotated[str, typer.Option(help="metric of the tables, for --means")] = "weighted_f1",
) -> None:
    """Write the files by which `dvc metrics diff` and `dvc plots diff` compare two revisions.

    Example: affectlocus revisions results/deltas/mine.parquet --claims results/claims.csv
    --out results/revisions
    """
    from affectlocus.core.files import read_json, write_json
    from affectlocus.reporting.revisions import by_layer, summary, verdicts

    judged = read_companion(claims, "verdicts", "verdict")
    judged["effect"] = judged["effect"].replace("", None).astype(float)
    for path in deltas:
        frame = by_layer(read_frame(path, "projection", "l2"))
        write_csv(frame, out / "l2" / f"{path.stem}.csv")
    write_json(out / "verdicts.json", verdicts(judged))
    if means is not None:
        write_json(out / "summary.json", summary(read_json(means).get(metric, {}), judged))


def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="tables and figures that are shown; by default all below --results"),
    ] = None,
    results: Annotated[Path, typer.Option(help="an experiment's results")] = Path("results"),
    parameters: Annotated[Path, typer.Option(help="its params.yaml")] = Path("params.yaml"),
    out: Out = Path("results/report.html"),
    name: Annotated[
        str, typer.Option(help="name of the experiment; by default its folder's name")
    ] = "",
    overrides: Annotated[
        str, typer.Option(help="JSON of parameters that override the file, nested as in the file")
    ] = "{}",
    made_with: Annotated[
        str,
        typer.Option(
            help="JSON of the parameters that the results were made with; by default --parameters "
            "with --overrides"
        ),
    ] = "",
    folder: Annotated[
        str,
        typer.Option(
            help="the folder of results as the commands on the page name it; by default --results"
        ),
    ] = "",
    captions: Annotated[
        Path | None,
        typer.Option(help="write the captions of Snakemake's own report into this folder instead"),
    ] = None,
) -> None:
    """Put a whole experiment on one page of HTML: verdicts, exhibits, data, parameters, time.

    The page contains everything that it shows, so it opens offline and can be sent as one file.

    Example: affectlocus report --results results --out report.html
    """
    from affectlocus.core.files import write_text

    if captions is not None:
        from affectlocus.reporting.exhibits import captions as texts

        for rule, text in texts().items():
            write_text(captions / f"{rule}.rst", text)
        return
    from affectlocus.reporting.report import report as page

    experiment = _experiment(parameters, _object(overrides, "--overrides"), made_with, results)
    experiment = replace(experiment, name=name or parameters.resolve().parent.name, folder=folder)
    write_text(out, page(experiment, results, files))


def _experiment(
    parameters: Path, overrides: dict[str, Any], made_with: str, results: Path
) -> ReportedExperiment:
    """The parameters on the page, and the results that belong to the experiment."""
    import yaml

    from affectlocus.config.experiment import Parameters, read
    from affectlocus.core.provenance import Difference, differences, merged, unpacked
    from affectlocus.core.redaction import redacted
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.finished_jobs import benchmarks, recipe_differences
    from affectlocus.reporting.report import ReportedExperiment

    def checked(values: dict[str, Any], source: str) -> Parameters:
        return settings_of(Parameters, json.dumps(values, default=str), source)

    now, unreadable = None, ""
    try:
        values = merged(read(parameters), overrides)
        now = checked(values, str(parameters))
    except InputError as error:
        # A run reads the file once, at its start. Somebody may be editing it now.
        if not made_with:
            raise
        unreadable = str(error)
    used, text = now, ""
    if made_with:
        try:
            values = unpacked(made_with)
        except ValueError as error:
            raise InputError(
                "option.not-json",
                f"--made-with: not JSON of parameters: {error}",
                option="--made-with",
            ) from None
        used = checked(values, "--made-with")
    assert used is not None
    changed = differences(_plain(used), _plain(now)) if now is not None else []
    if now is not None and not changed:
        text = parameters.read_text(encoding="utf-8-sig")
    text = text or yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    jobs = Dag(used)
    shown = json.dumps({"changed": [astuple(one) for one in changed], "overrides": overrides})
    safe = json.loads(redacted(shown, os.environ))
    return ReportedExperiment(
        name="",
        text=redacted(text, os.environ),
        parameters=used,
        overrides=safe["overrides"],
        changed=[Difference(*one) for one in safe["changed"]],
        unreadable=redacted(unreadable, os.environ),
        otherwise=recipe_differences(jobs, results),
        benchmarks=benchmarks(jobs),
        tasks=set(jobs.report.tasks),
        cells=jobs.cells,
    )


def _plain(model: BaseModel) -> dict[str, Any]:
    return dict(json.loads(model.model_dump_json()))


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError("option.not-json", f"{option}: not JSON: {error}", option=option) from None
    if not isinstance(value, dict):
        raise InputError(
            "option.not-a-mapping",
            f"{option}: expected keys and values, found {type(value).__name__}",
            option=option,
            found=value,
        )
    return value


def show(
    table: Annotated[Path, typer.Argument(help="a csv or parquet file of results")],
    results: Annotated[Path | None, typer.Option(help="folder whose files are listed")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE: show only these rows; repeat for several"),
    ] = None,
    rows: Annotated[int, typer.Option(help="maximum number of rows of a parquet file", min=1)] = 40,
    everything: Annotated[
        bool, typer.Option("--all", help="every row and column, with all digits")
    ] = False,
) -> None:
    """Print a table with the paths of all results, or chosen rows of any result.

    Numbers are rounded. Columns that do not fit the terminal are left out and named below the
    table.

    Example: affectlocus show results/table1.csv --results results

    Example: affectlocus show results/scores.parquet --where cell=mine/load/gate --where task=mean
    """
    from affectlocus.reporting.terminal import print_results, print_rows, print_table

    if where or table.suffix == ".parquet":
        print_rows(table, where or [], rows, everything)
    else:
        print_table(table, everything)
    if results is not None:
        print_results(results)


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
