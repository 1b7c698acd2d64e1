"""Commands figures, claims, revisions, report and show."""

from __future__ import annotations

import json
import os
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import Out, read_frame, settings_of, settings_option, write_csv
from affectlocus.core.errors import InputError, check_choice

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

    from affectlocus.reporting.report import ReportedExperiment


def _read_companion(path: Path, what: str, column: str) -> pd.DataFrame:
    """Reads a csv that belongs to a table, which must have a certain column."""
    import pandas as pd

    from affectlocus.core.files import check_whole

    check_whole(path)
    try:
        frame = pd.read_csv(path, keep_default_na=False)
        frame[column]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "table.not-a-companion",
            f"{path}: not a csv of {what} with the column {column!r} ({error})",
            file=path,
            column=column,
        ) from None
    return frame


def figures(
    out: Annotated[Path, typer.Option(help="file name without suffix; .png and .svg are written")],
    heat_map: Annotated[
        list[Path] | None,
        typer.Option(help="deltas.parquet of a pair; repeat for the mean of seeds"),
    ] = None,
    histogram: Annotated[
        list[Path] | None,
        typer.Option(help="deltas.histogram.parquet of a pair; repeat to pool seeds"),
    ] = None,
    singles: Annotated[Path | None, typer.Option(help="intervals of a load or tune table")] = None,
    gains: Annotated[
        bool, typer.Option("--gains", help="for --singles: paired gains over the base")
    ] = False,
    ablation: Annotated[Path | None, typer.Option(help="intervals of an ablation table")] = None,
    media: Annotated[
        Path | None, typer.Option(help="intervals of a table of controls of media")
    ] = None,
    baselines: Annotated[
        Path | None,
        typer.Option(
            help="baselines of a table, drawn as lines: with --singles, --media, --dose, "
            "--trade-off"
        ),
    ] = None,
    trade_off: Annotated[
        list[Path] | None,
        typer.Option(help="intervals of a tune table; repeat for each budget; needs --ledger"),
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="ledger.csv, for --trade-off")] = None,
    neurons: Annotated[
        Path | None,
        typer.Option(help="neurons.parquet of a base, with its other files in the folder"),
    ] = None,
    directions: Annotated[
        Path | None, typer.Option(help="directions.parquet of a base; needs two --pair")
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="name of a pair, for --directions, --training")
    ] = None,
    activations: Annotated[
        Path | None, typer.Option(help="activations.parquet of a pair, with .summary in the folder")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="JSON of panels: row → column → deltas.parquet of each seed"),
    ] = None,
    lines: Annotated[
        bool, typer.Option(help="for --grid: add curves of gate and up by layer")
    ] = False,
    trajectory: Annotated[
        list[Path] | None, typer.Option(help="trajectory.parquet of a pair; repeat for its seeds")
    ] = None,
    dose: Annotated[Path | None, typer.Option(help="intervals of a dose table")] = None,
    bands: Annotated[
        Path | None, typer.Option(help="intervals of a load table with cells of layer bands")
    ] = None,
    places: Annotated[
        Path | None, typer.Option(help="percentiles of module sets; needs --draws")
    ] = None,
    draws: Annotated[
        Path | None, typer.Option(help="scores of random places, for --places")
    ] = None,
    frontier: Annotated[
        Path | None, typer.Option(help="output of the command frontier: size against score")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="training.csv: losses; needs --pair")
    ] = None,
    title: Annotated[str, typer.Option(help="title of the figure")] = "",
) -> None:
    """Draw one figure as PNG and SVG.

    One option selects the figure: deltas of a pair (--heat-map), of several pairs (--grid) or along
    the tuning (--trajectory), relative changes (--histogram), scores of single modules (--singles),
    drops of ablations (--ablation), scores with other media (--media), gains by layer band
    (--bands), module sets among random places (--places), small sets of blocks (--frontier), losses
    (--training), scores by dose (--dose) or by trained parameters (--trade-off), neurons,
    directions of two pairs, or activations of the gate.

    Example: affectlocus figures --heat-map results/deltas/mine.parquet --out mine
    """
    closer = (neurons, directions, activations)
    tables = [path for path in (singles, ablation, media) if path is not None]
    compared = (grid, trajectory, dose, bands, places, frontier, training)
    if sum(map(bool, (heat_map, histogram, trade_off, *tables, *closer, *compared))) != 1:
        raise InputError(
            "option.not-one-figure",
            "expected one of --heat-map, --grid, --trajectory, --histogram, --singles, --ablation, "
            "--media, --dose, --bands, --places, --frontier, --training, --trade-off, --neurons, "
            "--directions and --activations",
        )
    import pandas as pd

    from affectlocus.reporting.figure_style import save

    if neurons is not None:
        spread = read_frame(neurons.with_suffix(".concentration.parquet"), "pair", "top_share")
        met = read_frame(neurons.with_suffix(".overlaps.parquet"), "first", "shared")
        from affectlocus.reporting.neuron_figure import neurons as neuron_figure

        figure = neuron_figure(spread, met, title)
    elif directions is not None:
        frame = read_frame(directions, "first", "second", "cosine")
        first, second = pair if pair and len(pair) == 2 else ("", "")
        chosen = frame[(frame["first"] == first) & (frame["second"] == second)]
        if chosen.empty:
            known = frame[["first", "second"]].drop_duplicates().to_numpy().tolist()
            raise InputError(
                "pair.no-rows",
                f"{directions}: no rows of --pair {first or '?'} --pair {second or '?'}; expected "
                f"one of {', '.join(' and '.join(one) for one in known) or 'none'}",
                file=directions,
                found=pair,
                expected=known,
            )
        from affectlocus.reporting.direction_maps import direction_maps

        figure = direction_maps(chosen, title)
    elif activations is not None:
        found = read_frame(activations.with_suffix(".summary.parquet"), "set", "probability")
        frame = read_frame(activations, "model", "effect", "moved")
        from affectlocus.reporting.activation_shifts import shifts

        figure = shifts(frame, found, title)
    elif trade_off:
        if ledger is None:
            raise InputError(
                "option.missing",
                "--ledger is missing; --trade-off needs its counts of parameters",
                option="--ledger",
                needed_by="--trade-off",
            )
        frame = pd.concat([_read_companion(path, "intervals", "cell") for path in trade_off])
        counted = _read_companion(ledger, "ledger", "parameters")
        base = frame.loc[frame["kind"] == "base", "cell"].iloc[0].partition("/")[0]
        from affectlocus.reporting.trade_off import points
        from affectlocus.reporting.trade_off import trade_off as against

        # The ledger names one model of a base that each seed has its own of.
        counts = [name == base or name.startswith(f"{base}.seed") for name in counted["model"]]
        cells = points(frame, counted[counts])
        lines_of = _read_companion(baselines, "baselines", "baseline") if baselines else None
        figure = against(cells, str(frame["metric"].iloc[0]), title, lines_of)
    elif grid is not None:
        from affectlocus.reporting.map_figures import delta_maps

        figure = delta_maps(_panels(grid), title, lines=lines)
    elif trajectory:
        from affectlocus.reporting.trajectory_curves import trajectory_curves

        figure = trajectory_curves(_of_seeds(trajectory, "step", "cosine"), title)
    elif dose is not None:
        from affectlocus.reporting.dose_curves import dose_curves

        lines_of = _read_companion(baselines, "baselines", "baseline") if baselines else None
        figure = dose_curves(_read_companion(dose, "intervals", "gain"), title, lines_of)
    elif places is not None:
        if draws is None:
            raise InputError(
                "option.missing",
                "--draws is missing; --places needs the scores of its random places",
                option="--draws",
                needed_by="--places",
            )
        from affectlocus.reporting.place_dots import place_dots

        summary = _read_companion(places, "percentiles", "percentile")
        figure = place_dots(summary, _read_companion(draws, "scores", "draw"), title)
    elif training is not None:
        if not pair or len(pair) != 1:
            raise InputError(
                "option.missing",
                "--pair is missing; --training draws the losses of one pair",
                option="--pair",
                needed_by="--training",
            )
        from affectlocus.reporting.training_curves import training_curves

        figure = training_curves(_read_companion(training, "losses", "loss"), pair[0], title)
    elif frontier is not None:
        from affectlocus.reporting.frontier_curves import frontier_curves

        sets = _read_companion(frontier, "smallest sets", "gain_kept")
        figure = frontier_curves(sets.astype({"seed": str, "named": str}), title)
    elif bands is not None:
        from affectlocus.reporting.band_map import band_map

        figure = band_map(_read_companion(bands, "intervals", "gain"), title)
    elif heat_map:
        from affectlocus.reporting.heat_map import heat_map as map_of_deltas

        figure = map_of_deltas(_of_seeds(heat_map, "projection", "l2"), title)
    elif histogram:
        from affectlocus.reporting.relative_changes import relative_changes

        figure = relative_changes(_of_seeds(histogram, "projection", "count"), title)
    else:
        frame = _read_companion(tables[0], "intervals", "gain")
        if media is not None:
            lines_of = _read_companion(baselines, "baselines", "baseline") if baselines else None
            from affectlocus.reporting.media_bars import media_bars

            figure = media_bars(frame, title, lines_of)
        elif singles is not None:
            lines_of = _read_companion(baselines, "baselines", "baseline") if baselines else None
            from affectlocus.reporting.score_bars import singles as bars

            figure = bars(frame, title, lines_of, gains)
        else:
            from affectlocus.reporting.ablation_drops import ablation as drops

            figure = drops(frame, title)
    save(figure, out)


def _of_seeds(paths: list[Path], *columns: str) -> pd.DataFrame:
    """The files of one pair's seeds as one frame; column `tuned` has the name of each."""
    import pandas as pd

    return pd.concat([read_frame(path, *columns).assign(tuned=path.stem) for path in paths])


def _panels(grid: str) -> dict[str, dict[str, pd.DataFrame]]:
    """The panels of `--grid`."""
    from pydantic import RootModel

    paths = settings_of(RootModel[dict[str, dict[str, list[Path]]]], grid, "--grid").root
    return {
        row: {column: _of_seeds(files, "numel", "rms") for column, files in members.items()}
        for row, members in paths.items()
    }


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

    judged = _read_companion(claims, "verdicts", "verdict")
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
