"""Commands places and percentiles: module sets among random places of the same size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectlocus.cli.scores import Tasks
from affectlocus.cli.shared import (
    Base,
    EvaluateText,
    Features,
    HardwareText,
    Initial,
    LabelledTasks,
    Out,
    PairName,
    Reading,
    Then,
    Tuned,
    device,
    features_by_task,
    importing,
    read_features,
    read_frame,
    settings_of,
    settings_option,
    write_csv,
)
from affectlocus.core.errors import InputError


def places(
    base: Base,
    tuned: Tuned,
    data: LabelledTasks,
    settings: Annotated[str, settings_option("modules, draws, kinds, samples")],
    out: Out,
    pair: PairName = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="seed of the tuning, for other random places")
    ] = None,
    evaluate: EvaluateText = "{}",
    reading: Reading = "{}",
    then: Then = None,
    hardware: HardwareText = "{}",
    features: Features = None,
    initial: Initial = None,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="folder in which the finished answers of each cell are stored, so that a killed "
            "job resumes; made if missing"
        ),
    ] = None,
) -> None:
    """Evaluate module sets, and random places in the whole delta that are as large.

    A random place is the base with the delta's entries in a random mask over all seven projections:
    as many entries as the module set has (kind entries), or as much squared change (kind change).
    With --features, every cell has the tuned bridge, and the base is base and bridge. Answers are
    stored as in evaluate, with the columns kind, modules, mode and draw in front. The
    base, the tuned model and each module set answer the same samples. `percentiles` reads the
    output.

    Example: affectlocus places --base qwen2.json --tuned mine.json --data a.parquet
    --settings '{"modules": ["gate"], "draws": 50}' --out places.parquet
    """
    from affectlocus.config.evaluation import Evaluate
    from affectlocus.config.hardware import Hardware
    from affectlocus.config.matrix import RandomPlaces
    from affectlocus.config.pairs import Reading

    chosen = settings_of(RandomPlaces, settings)
    asked = settings_of(Evaluate, evaluate, "--evaluate")
    devices = settings_of(Hardware, hardware, "--hardware")
    how = settings_of(Reading, reading, "--reading").model_dump()
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.core.cells import TUNED, Cell
    from affectlocus.core.output_files import check_output
    from affectlocus.core.step_tables import write_step_table
    from affectlocus.data.prepared_task import PreparedTask

    if not chosen.modules:
        raise InputError(
            "place.no-module-set",
            "--settings: modules lists no module set; name the sets that are compared with "
            "random places",
            option="--settings",
            key="modules",
        )
    check_output(out)
    tasks = [PreparedTask.read(path) for path in data]
    chain, folder = [checkpoint_folder(base), *(then or [])], checkpoint_folder(tuned)
    with importing():
        from rich.progress import Progress

        from affectlocus.checkpoints.model_pairs import ModelPair
        from affectlocus.evaluation import place_draws
        from affectlocus.evaluation.cell_caches import CellCaches, base_key, task_keys
        from affectlocus.evaluation.evaluate import NO_CACHE
        from affectlocus.evaluation.random_places import place_size
        from affectlocus.evaluation.session import Session
        from affectlocus.orchestration.code_digest import digest
    if other := next((one.name for one in tasks if not place_draws.answered(one, asked)), None):
        raise InputError(
            "place.no-candidates",
            f"--data: task {other} is not answered by candidates; leave it out",
            option="--data",
            task=other,
        )
    bridge = TUNED if features else ""
    whole = Cell("tuned", base.stem, pair or tuned.stem, seed=seed, bridge=bridge)
    sizes, live = {}, ModelPair(chain, folder, **how)
    for modules in chosen.modules:
        size = place_size(live, modules)
        sizes[modules] = {
            "share_of_entries": size.share_of_entries,
            "share_of_change": size.share_of_change,
        }
    tasks = [place_draws.thinned(task, chosen.samples) for task in tasks]
    media_files = features_by_task(features)
    media = {task: read_features(files, "test") for task, files in media_files.items()}
    start = initial and (initial if initial.is_dir() else checkpoint_folder(initial))
    session = Session(chain, tasks, asked, devices, media)
    cells = list(place_draws.place_cells(whole, chosen))
    caches = None
    if kept is not None:
        alike = base_key([base, *(then or [])], devices, digest("places"), device())
        caches = CellCaches(kept, task_keys(tasks, asked, media_files), alike, how, initial)
    answers = []
    with Progress() as progress:
        bar = progress.add_task("", total=len(cells) * session.prompts)
        for cell in cells:
            progress.update(bar, description=cell.id)
            of = None if cell.kind == "base" else tuned
            cache = caches.of(cell, of) if caches else NO_CACHE
            found, _ = session.answer(
                cell, of and folder, how, cache, lambda done: progress.advance(bar, done), start
            )
            answers.append(found)
    labels = {task.name: task.labels for task in tasks}
    facts = {"pair": whole.pair, "seed": seed, "labels": labels, "sizes": sizes}
    write_step_table(out, place_draws.joined(answers), facts)


def percentiles(
    places: Annotated[list[Path], typer.Argument(help="output of places, one for each replicate")],
    settings: Annotated[str, settings_option("metric, confidence")],
    out: Out,
    draws: Annotated[Path, typer.Option(help="csv to write: the score of every cell")],
    tasks: Tasks = "{}",
) -> None:
    """Find the percentile of each module set among random places of the same size.

    Writes a row per module set, kind of random place and replicate, with the exact interval
    (Clopper and Pearson) of the percentile over draws; the row `all` compares means over
    replicates. No locus is claimed below the 95th percentile: the column locus is true if at most
    5 % of the places, the set included, score as high as the set.

    Example: affectlocus percentiles results/places/mine.parquet --settings '{}' --out places.csv
    --draws draws.csv
    """
    from affectlocus.config.scoring import Score
    from affectlocus.config.task_answers import Scorings
    from affectlocus.core.step_tables import read_facts
    from affectlocus.evaluation.place_draws import separated
    from affectlocus.scoring.percentiles import (
        PlaceScores,
        draws_of,
        mean_scores,
        sentence,
    )
    from affectlocus.scoring.percentiles import percentiles as run

    chosen = settings_of(Score, settings)
    about = settings_of(Scorings, tasks, "--tasks").root
    scores = []
    for path in places:
        rows = read_frame(path, "modules", "mode", "draw", "loglik")
        facts = read_facts(
            path,
            seed=int | None,
            labels=dict[str, list[str]],
            sizes=dict[str, dict[str, float]],
        )
        values = mean_scores(separated(rows, facts["labels"]), chosen.metric, about)
        scores.append(PlaceScores(facts["seed"], facts["sizes"], values))
    found = run(scores, chosen.metric, chosen.confidence)
    write_csv(found, out)
    write_csv(draws_of(scores), draws)
    for row in found[found["seed"] == "all"].to_dict("records"):
        typer.echo(sentence(row))
