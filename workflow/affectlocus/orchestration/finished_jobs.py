"""The finished jobs of an experiment: their benchmark files, and the recipes that they used.

A folder of results may also hold files of a seed or a cell that params.yaml no longer names. They
do not belong to the experiment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.core.provenance import Difference, differences
from affectlocus.orchestration.artifacts import EXTRACTOR
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.steps.wheels import RELEASED_WHEELS


def benchmarks(jobs: Dag) -> set[str]:
    """The benchmark files of an experiment's jobs, below results/benchmarks.

    A job of several cells, tunings or bases has one benchmark file, named after the first. The
    names of the others are included: another number of cells in a job gives them a file.
    """
    return {f"{step}.tsv" for step in _steps(jobs)}


def _steps(jobs: Dag) -> Iterator[str]:
    drawn = [*jobs.all_figures, *jobs.fluency.files]
    several = {
        "retrieve": jobs.brought,
        "convert": jobs.converted,
        "retrieve_data": jobs.prepare.hub_tables,
        "pretrain": jobs.pretrained,
        "encoders": jobs.encoders.media,
        "encode": [f"{task}/{medium}" for task, medium in jobs.encode.jobs],
        "prepare": jobs.report.tasks,
        "tune": jobs.tuned,
        "deltas": jobs.pair_of,
        "trajectory": map(_stem, jobs.trajectory.files),
        "evaluate": jobs.cells,
        "extract": jobs.cells if jobs.parameters.spoken and EXTRACTOR in jobs.brought else (),
        "openset": jobs.cells if jobs.parameters.spoken else (),
        "tables": jobs.table_rows,
        "figures": [_stem(path) for path in drawn if path.endswith(".png")],
        "neurons": jobs.neurons.bases if jobs.neurons.files else (),
        "directions": map(_stem, jobs.directions.files),
        "activations": jobs.neurons.activated,
    }
    for step, names in several.items():
        yield from (f"{step}/{name}" for name in names)
    for path in jobs.score.files():
        yield path.removeprefix("results/").replace("scores/", "score/").removesuffix(".parquet")
    yield from map(_stem, jobs.ledger.files)
    if jobs.pretrained or any(task.corpus for task in jobs.parameters.tasks.values()):
        yield "corpus"
    if jobs.senses.used:
        yield "senses"
    if jobs.wheels.folder == str(Path(RELEASED_WHEELS[0]).parent):
        yield "wheels"
    if jobs.learning.files:
        yield "learning"
    if jobs.probes.files:
        yield "probes"
    if jobs.fluency.files:
        yield "fluency"
    yield from ("collect", "claims", "revisions")


def _stem(path: str) -> str:
    return Path(path).with_suffix("").name


def recipe_differences(jobs: Dag, results: Path) -> list[Difference]:
    """Differences between the recipe in a checkpoint's manifest and the experiment's recipe.

    Args:
        results: the experiment's folder of results.
    """
    found = []
    for name, (_, recipe) in jobs.tunings.items():
        manifest = results / "checkpoints" / f"{name}.json"
        try:
            record = read_json(manifest).get("recipe")
        except (InputError, AttributeError):
            continue  # not tuned yet, or refused by the run already
        if isinstance(record, dict):
            wanted = json.loads(recipe.model_dump_json())
            same = {key: value for key, value in wanted.items() if key in record}
            recorded = {key: record[key] for key in same}
            found += [difference.below(name) for difference in differences(recorded, same)]
    return found
