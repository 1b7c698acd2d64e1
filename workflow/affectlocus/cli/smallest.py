"""Commands smallest and frontier: small sets of blocks that keep most of a tuning's gain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from affectlocus.cli.scores import Tasks
from affectlocus.cli.shared import (
    Base,
    EvaluateText,
    HardwareText,
    LabelledTasks,
    Out,
    PairName,
    Reading,
    Then,
    Tuned,
    importing,
    read_frame,
    settings_of,
    settings_option,
    write_csv,
)


def smallest(
    base: Base,
    tuned: Tuned,
    data: LabelledTasks,
    out: Out,
    settings: Annotated[str, settings_option("samples, keep, steps")] = "{}",
    named: Annotated[
        list[str] | None,
        typer.Option(help="module set that is evaluated as well; repeat for several"),
    ] = None,
    pair: PairName = None,
    seed: Annotated[int | None, typer.Option(min=0, help="seed of the tuning")] = None,
    evaluate: EvaluateText = "{}",
    reading: Reading = "{}",
    then: Then = None,
    hardware: HardwareText = "{}",
) -> None:
    """Search for small sets of blocks of a delta that keep most of what the tuning gained.

    A block is a projection of a layer. Two searches, greedy and learned, order the blocks on every
    other test sample; sets of falling size are evaluated on all. pruned is the smallest of these
    sets that keeps enough, without the blocks that it does not need. `frontier` reads the output.

    Example: affectlocus smallest --base qwen2.json --tuned mine.json --data a.parquet
    --settings '{"samples": 100}' --named gate --out smallest.parquet
    """
    from affectlocus.config.evaluation import Evaluate
    from affectlocus.config.hardware import Hardware
    from affectlocus.config.matrix import SmallestSets
    from affectlocus.config.pairs import Reading

    chosen = settings_of(SmallestSets, settings)
    asked = settings_of(Evaluate, evaluate, "--evaluate")
    devices = settings_of(Hardware, hardware, "--hardware")
    how = settings_of(Reading, reading, "--reading").model_dump()
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.core.cells import Cell
    from affectlocus.core.output_files import check_output
    from affectlocus.core.step_tables import write_step_table
    from affectlocus.data.prepared_task import PreparedTask

    check_output(out)
    tasks = [PreparedTask.read(path) for path in data]
    chain, folder = [checkpoint_folder(base), *(then or [])], checkpoint_folder(tuned)
    with importing():
        from rich.progress import Progress

        from affectlocus.checkpoints.model_pairs import ModelPair
        from affectlocus.evaluation.place_draws import joined, thinned
        from affectlocus.evaluation.set_search import search

    whole = Cell("tuned", base.stem, pair or tuned.stem, seed=seed)
    few = [thinned(task, chosen.samples or 100) for task in tasks]
    with Progress() as progress:
        bar = progress.add_task("", total=None)
        found = search(
            chain,
            ModelPair(chain, folder, **how),
            whole,
            few,
            named or [],
            chosen,
            asked,
            devices,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    facts: dict[str, Any] = {
        "pair": whole.pair,
        "seed": seed,
        "labels": {task.name: task.labels for task in tasks},
        "sets": found.sets,
        "chosen_by": found.chosen_by,
    }
    write_step_table(out, joined(found.answers), facts)


def frontier(
    smallest: Annotated[list[Path], typer.Argument(help="output of smallest, one per replicate")],
    settings: Annotated[str, settings_option("metric, confidence")],
    out: Out,
    keep: Annotated[float, typer.Option(help="share of the gain that a set has to keep")] = 0.95,
    tasks: Tasks = "{}",
) -> None:
    """Score small sets of blocks, and name the smallest that keeps a share of the gain.

    Writes a row per set and replicate, with its size and its score on the samples that did not
    choose it. If the tuned model gains nothing (exact sign test), no set is claimed.

    Example: affectlocus frontier results/smallest/mine.parquet --settings '{}' --out smallest.csv
    """
    import pandas as pd

    from affectlocus.config.scoring import Score
    from affectlocus.config.task_answers import Scorings
    from affectlocus.core.step_tables import read_facts
    from affectlocus.scoring.frontiers import frontier_table, sentences

    chosen = settings_of(Score, settings)
    about = settings_of(Scorings, tasks, "--tasks").root
    parts = []
    for path in smallest:
        rows = read_frame(path, "modules", "mode", "draw", "loglik")
        facts = read_facts(
            path,
            seed=int | None,
            labels=dict[str, list[str]],
            sets=list[dict[str, Any]],
            chosen_by=dict[str, list[str]],
        )
        found = frontier_table(
            rows, facts["sets"], facts["chosen_by"], facts["labels"], chosen.metric, about, keep
        )
        seed = "" if facts["seed"] is None else str(facts["seed"])
        parts.append(found.assign(seed=seed))
        for sentence in sentences(found, keep):
            typer.echo(f"seed {seed}: {sentence}" if seed else sentence)
    write_csv(pd.concat(parts, ignore_index=True), out)
