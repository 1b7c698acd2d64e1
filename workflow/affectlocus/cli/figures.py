"""Command figures: one figure as PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectlocus.cli.shared import read_companion, read_frame, settings_of
from affectlocus.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


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

    lines_of = None
    if baselines is not None and (singles or media or dose or trade_off):
        lines_of = read_companion(baselines, "baselines", "baseline")
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
        frame = pd.concat([read_companion(path, "intervals", "cell") for path in trade_off])
        counted = read_companion(ledger, "ledger", "parameters")
        base = frame.loc[frame["kind"] == "base", "cell"].iloc[0].partition("/")[0]
        from affectlocus.reporting.trade_off import points
        from affectlocus.reporting.trade_off import trade_off as against

        # The ledger names one model of a base that each seed has its own of.
        counts = [name == base or name.startswith(f"{base}.seed") for name in counted["model"]]
        cells = points(frame, counted[counts])
        figure = against(cells, str(frame["metric"].iloc[0]), title, lines_of)
    elif grid is not None:
        from affectlocus.reporting.map_figures import delta_maps

        figure = delta_maps(_panels(grid), title, lines=lines)
    elif trajectory:
        from affectlocus.reporting.trajectory_curves import trajectory_curves

        figure = trajectory_curves(_of_seeds(trajectory, "step", "cosine"), title)
    elif dose is not None:
        from affectlocus.reporting.dose_curves import dose_curves

        figure = dose_curves(read_companion(dose, "intervals", "gain"), title, lines_of)
    elif places is not None:
        if draws is None:
            raise InputError(
                "option.missing",
                "--draws is missing; --places needs the scores of its random places",
                option="--draws",
                needed_by="--places",
            )
        from affectlocus.reporting.place_dots import place_dots

        summary = read_companion(places, "percentiles", "percentile")
        figure = place_dots(summary, read_companion(draws, "scores", "draw"), title)
    elif training is not None:
        if not pair or len(pair) != 1:
            raise InputError(
                "option.missing",
                "--pair is missing; --training draws the losses of one pair",
                option="--pair",
                needed_by="--training",
            )
        from affectlocus.reporting.training_curves import training_curves

        figure = training_curves(read_companion(training, "losses", "loss"), pair[0], title)
    elif frontier is not None:
        from affectlocus.reporting.frontier_curves import frontier_curves

        sets = read_companion(frontier, "smallest sets", "gain_kept")
        figure = frontier_curves(sets.astype({"seed": str, "named": str}), title)
    elif bands is not None:
        from affectlocus.reporting.band_map import band_map

        figure = band_map(read_companion(bands, "intervals", "gain"), title)
    elif heat_map:
        from affectlocus.reporting.heat_map import heat_map as map_of_deltas

        figure = map_of_deltas(_of_seeds(heat_map, "projection", "l2"), title)
    elif histogram:
        from affectlocus.reporting.relative_changes import relative_changes

        figure = relative_changes(_of_seeds(histogram, "projection", "count"), title)
    else:
        frame = read_companion(tables[0], "intervals", "gain")
        if media is not None:
            from affectlocus.reporting.media_bars import media_bars

            figure = media_bars(frame, title, lines_of)
        elif singles is not None:
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
