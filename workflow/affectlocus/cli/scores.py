"""Commands score, tables, fluency and collect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectlocus.cli.shared import (
    Out,
    read_frame,
    settings_of,
    settings_option,
    without_effect,
    write_csv,
    write_frame,
)
from affectlocus.core.errors import InputError, check_choice

if TYPE_CHECKING:
    from affectlocus.scoring.wheels import Wheels


Tasks = Annotated[
    str,
    typer.Option(
        help='JSON of settings that scoring needs: {"TASK": {"positive": "yes"}} for binary_f1, '
        '{"TASK": {"number": {"highest": 24, "cutoff": 10}}} for the errors of numbers'
    ),
]


def score(
    context: typer.Context,
    cells: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PREDICTIONS",
            help="predictions.parquet of each cell, or openset.parquet if it answered with free "
            "text",
        ),
    ] = None,
    settings: Annotated[
        str | None,
        settings_option(
            "metric, protocols, wheels, own_wheels, resamples, confidence, margin, seed"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="file to write; replaced as a whole or not at all"),
    ] = None,
    tasks: Tasks = "{}",
    protocol: Annotated[
        str,
        typer.Option(help="label: cells of this workflow; mer-unibench: csv files of any system"),
    ] = "label",
    kind: Annotated[
        str | None, typer.Option(help="mer-unibench: hit-rate (emotions) or waf (valence)")
    ] = None,
    wheels: Annotated[
        str | None,
        typer.Option(
            help="for hit-rate and for protocols of cells: folder of AffectGPT's emotion_wheel "
            "files, or `released` to download them; for cells, overrides wheels of the settings"
        ),
    ] = None,
    own_wheels: Annotated[
        bool,
        typer.Option(
            "--own-wheels",
            help="the wheels in the folder are your own; without this option, files that differ "
            "from AffectGPT's release (by SHA-256) are refused",
        ),
    ] = False,
    gold: Annotated[
        Path | None, typer.Option(help="mer-unibench: csv of sample and emotion, or value (waf)")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="mer-unibench: csv of checkpoint, sample and openset (labels joined by |), or "
            "prediction (waf)"
        ),
    ] = None,
    choose: Annotated[
        str | None,
        typer.Option(
            help="mer-unibench: the checkpoint whose scores count: last (default; the last by "
            "name, with numbers in numerical order), validation (the best on the validation files) "
            "or test (the best on the test files, as in published results)"
        ),
    ] = None,
    validation_gold: Annotated[
        Path | None, typer.Option(help="for --choose validation; as --gold")
    ] = None,
    validation_predictions: Annotated[
        Path | None, typer.Option(help="for --choose validation; as --predictions")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="mer-unibench: print one object instead of a table")
    ] = False,
) -> None:
    """Compute scores of answers, each with n, a bootstrap interval, and a paired gain.

    Gains are relative to the base, and those of ablations to the tuned model. So the base must be
    among the cells, and the tuned model if there are ablations. Writes a row per (cell, task,
    metric). Free text has the metric coverage too: the share of samples in which a label was found;
    a sample without a label counts as wrong. Tasks that the settings list under protocols also have
    MER-UniBench's score (mer_unibench) and corrected scores.

    With --protocol mer-unibench, scores the answers of any system in csv files as MER-UniBench
    does, and for comparison by a corrected protocol and for constant answers. Scores are fractions
    in JSON, and percent in the table.

    Example: affectlocus score results/cells/*/*/predictions.parquet --settings '{}' --out s.parquet

    Example: affectlocus score --protocol mer-unibench --kind hit-rate --wheels released
    --gold gold.csv --predictions openset.csv --choose test
    """
    csv_options = {
        "kind": kind,
        "gold": gold,
        "predictions": predictions,
        "choose": choose,
        "validation_gold": validation_gold,
        "validation_predictions": validation_predictions,
    }
    check_choice("--protocol", protocol, ("label", "mer-unibench"))
    if protocol == "mer-unibench":
        cells_options = {"settings": settings, "tasks": None if tasks == "{}" else tasks}
        without_effect(cells_options, "--protocol mer-unibench scores csv files")
        if cells:
            raise InputError(
                "option.no-effect",
                "--protocol mer-unibench scores csv files; leave PREDICTIONS out",
                option="PREDICTIONS",
            )
        wheel_options = {"wheels": wheels, "own_wheels": own_wheels}
        _score_outputs(csv_options | wheel_options, out, as_json)
        return
    without_effect(csv_options | {"json": as_json}, "it is for --protocol mer-unibench")
    if not cells:
        context.fail("Missing argument 'PREDICTIONS...'.")
    if settings is None:
        context.fail("Missing option '--settings'.")
    if out is None:
        context.fail("Missing option '--out'.")
    from affectlocus.config.scoring import Score
    from affectlocus.config.task_answers import Scorings
    from affectlocus.evaluation.predictions import Predictions
    from affectlocus.scoring.score import score as run

    chosen = settings_of(Score, settings)
    predictions_of_cells = [Predictions.read(path) for path in cells]
    protocols = None
    if chosen.protocols:
        from affectlocus.scoring.protocols import task_protocols

        labels = {task: words for own in predictions_of_cells for task, words in own.labels.items()}
        place, own = wheels or chosen.wheels, own_wheels or chosen.own_wheels
        protocols = task_protocols(chosen.protocols, labels, _wheels(place, own) if place else None)
    about = settings_of(Scorings, tasks, "--tasks").root
    write_frame(run(predictions_of_cells, chosen, about, protocols), out)


def _wheels(place: str, own: bool) -> Wheels:
    from affectlocus.scoring.wheels import load

    return load(place, own)


def _score_outputs(options: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """`score --protocol mer-unibench`: reads, scores, writes and prints."""
    from affectlocus.core.files import write_json
    from affectlocus.scoring.score_files import score_files

    answer = score_files(options, lambda name: f"--{name.replace('_', '-')}")
    if out is not None:
        write_json(out, answer)
    if as_json:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    from affectlocus.reporting.terminal_outputs import print_outputs

    print_outputs(answer)


def tables(
    scores: Annotated[
        Path, typer.Option(help="scores of the cells of one table, in the order of rows")
    ],
    metric: Annotated[str, typer.Option(help="a metric in percent, by its name in params.yaml")],
    out: Out,
    intervals: Annotated[
        Path, typer.Option(help="csv to write: n, interval and gain of each number")
    ],
    baselines: Annotated[
        Path | None, typer.Option(help="csv to write: scores of answers that ignore the input")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="prepared task, for --baselines; repeat for several")
    ] = None,
    settings: Annotated[
        str, settings_option("protocols, wheels, own_wheels, resamples, confidence, seed")
    ] = "{}",
    tasks: Tasks = "{}",
    wheels: Annotated[
        str | None,
        typer.Option(help="for --baselines, as in score; overrides wheels of the settings"),
    ] = None,
) -> None:
    """Write scores in percent as a table of the paper: num, modules, a column per task, mean.

    With --baselines, also writes the scores of the majority answer and of a uniform guess on the
    same test samples, and for tasks under protocols those of the best pair of words and of all
    labels at once.

    Example: affectlocus tables --scores results/scores/mine/load.parquet --metric weighted_f1
    --out table1.csv --intervals table1_intervals.csv
    """
    from affectlocus.config.scoring import Score
    from affectlocus.config.task_answers import Scorings
    from affectlocus.scoring.tables import intervals as companion
    from affectlocus.scoring.tables import table, table_tasks

    if (baselines is None) != (not data):
        missing = "--data" if baselines is not None else "--baselines"
        raise InputError(
            "option.missing",
            f"{missing} is missing; --baselines and --data need each other",
            option=missing,
        )
    frame = read_frame(scores, "metric", "task")
    written = [
        (intervals, companion(frame, metric), 6),
        (out, table(frame, metric, table_tasks(frame, metric)), 2),
    ]
    if baselines is not None:
        from affectlocus.data.prepared_task import PreparedTask
        from affectlocus.scoring.baselines import baseline_table

        chosen = settings_of(Score, settings)
        place = wheels or chosen.wheels
        found = baseline_table(
            [PreparedTask.read(path) for path in data or []],
            settings_of(Scorings, tasks, "--tasks").root,
            chosen,
            _wheels(place, chosen.own_wheels) if place and chosen.protocols else None,
            set(frame.loc[frame["metric"] == "coverage", "task"]),
        )
        written.insert(0, (baselines, found, 6))
    for path, content, digits in written:
        write_csv(content, path, f"%.{digits}f")


def fluency(
    scores: Annotated[list[Path], typer.Argument(help="scores of the tables")],
    out: Annotated[Path | None, typer.Option(help="csv to write: a row per task and cell")] = None,
    intervals: Annotated[
        Path | None, typer.Option(help="csv to write: n, interval and gain of each number")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="file name without suffix; .png and .svg are written")
    ] = None,
    title: Annotated[str, typer.Option(help="title of the figure")] = "",
) -> None:
    """Write the fluency of each cell: perplexity of general text, distinct-n of generated text.

    Both are computed for tasks with fluency. The generated text continues the openings of documents
    (samples of evaluate). Gains are relative to the base, and those of ablations to the tuned
    model.

    Example: affectlocus fluency results/scores/mine/load.parquet --out fluency.csv --figure fluency
    """
    if out is None and intervals is None and figure is None:
        raise InputError(
            "option.nothing-to-write", "nothing to write; give --out, --intervals or --figure"
        )
    import pandas as pd

    from affectlocus.scoring import fluency as step

    frame = pd.concat([read_frame(path, "cell", "metric", "task") for path in scores])
    for path, content in ((out, step.table), (intervals, step.intervals)):
        if path is not None:
            write_csv(content(frame), path)
    if figure is not None:
        from affectlocus.reporting.figure_style import save
        from affectlocus.reporting.fluency_figure import figure as draw

        save(draw(frame, title), figure)


def collect(
    scores: Annotated[list[Path], typer.Argument(help="scores of the tables")],
    metric: Annotated[str, typer.Option(help="the metric of the summary")],
    out: Out,
    summary: Annotated[Path, typer.Option(help="json of each cell's mean score, for dvc metrics")],
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="manifest of a base with its perplexity")
    ] = None,
) -> None:
    """Join all scores into one tidy table, and summarize them for `dvc metrics`.

    Example: affectlocus collect results/scores/mine/*.parquet --metric weighted_f1
    --out results/scores.parquet --summary results/metrics.json
    """
    import pandas as pd

    from affectlocus.core.files import read_object, write_json
    from affectlocus.scoring.collect import join_scores, summarise

    frame = join_scores([read_frame(path, "cell", "metric") for path in scores])
    bases = {
        path.stem: read_object(path, "the manifest of a checkpoint") for path in checkpoint or []
    }
    write_frame(pd.DataFrame(frame), out)
    write_json(summary, summarise(frame, metric, bases))


def probes(
    tasks: Annotated[
        list[Path], typer.Argument(metavar="TASKS", help="prepared tasks, TASK.parquet")
    ],
    features: Annotated[
        list[Path],
        typer.Option(help="features of a medium, TASK/MEDIUM.safetensors; repeat for each"),
    ],
    out: Out,
) -> None:
    """Write what a linear probe reads from the text and the media of tasks.

    A logistic regression is fitted to the split train and scored on the split test: for the text,
    for each medium, and for all together. Tasks without one of these splits have no rows.

    Example: affectlocus probes mini-face.parquet --features mini-face/face.safetensors
    --features mini-face/voice.safetensors --out probes.csv
    """
    import pandas as pd

    from affectlocus.core.output_files import check_output
    from affectlocus.data.prepared_task import PreparedTask
    from affectlocus.scoring.probes import COLUMNS, media_of, probe

    check_output(out)
    found = [pd.DataFrame(columns=COLUMNS)]
    for path in tasks:
        task = PreparedTask.read(path)
        samples = task.samples[task.samples["split"].isin(("train", "test"))]
        files = {one.stem: one for one in features if one.parent.name == task.name}
        if not files:
            raise InputError(
                "probes.no-features",
                f"{path}: no features of task {task.name}; expected --features "
                f"{task.name}/MEDIUM.safetensors",
                file=path,
                task=task.name,
            )
        found.append(probe(task.name, samples, media_of(samples, files)))
    write_csv(pd.concat([one for one in found if len(one)] or found), out)
