"""Checks across sections: names are defined, and combinations of keys are possible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from affectlocus.config.bridge_references import media_of_pairs
from affectlocus.config.claim_kinds import OnScores, statements_of
from affectlocus.config.corpus import CORPUS_TASKS, SENSES_TASKS
from affectlocus.config.fields import unknown_name
from affectlocus.config.scoring import FREE_METRICS
from affectlocus.config.task_answers import is_valence
from affectlocus.config.tuning import Recipe
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE

if TYPE_CHECKING:
    from affectlocus.config.experiment import Parameters


_COLUMNS_OF_TABLES = ("num", "modules", "mode", "mean")


def unwritable_texts(value: Any, key: str = "") -> Iterator[InputError]:
    """A problem for texts that no file name, command line or table can contain."""
    if isinstance(value, str):
        if odd := _UNWRITABLE.search(value):
            yield InputError(
                "params.unwritable-character",
                f"found {odd[0]!r} in {value!r}, which no file can contain; remove it",
                key=key,
                found=odd[0],
            )
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from unwritable_texts(name, key)
            yield from unwritable_texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from unwritable_texts(inner, key)


# NUL ends a file name; a surrogate, half a character of UTF-16, has no encoding.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def broken_references(parameters: Parameters) -> Iterator[InputError]:
    """A problem for every name that is not defined and every impossible combination."""
    checks = (
        *(_pairs, _recipes, _bases, _claims, _matrix, media_of_pairs, _module_sets),
        *(_benchmarks, _tasks, _protocols, _plan, _without_corpus),
    )
    for check in checks:
        yield from check(parameters)


def _known(key: str, name: str, group: Mapping[str, Any], what: str) -> Iterator[InputError]:
    if name not in group:
        yield unknown_name(what, name, group, key=key)


def _pairs(parameters: Parameters) -> Iterator[InputError]:
    """A problem for the names of pairs, and those that pairs use."""
    for name, pair in parameters.pairs.items():
        yield from _known(f"pairs.{name}.base", pair.base, parameters.bases, "base")
        if pair.bridge is not None:
            yield from _known(f"pairs.{name}.bridge", pair.bridge, parameters.bridges, "bridge")
        if name in parameters.bases:
            yield InputError(
                "pair.named-like-a-base",
                "a base has the same name; rename one of them",
                key=f"pairs.{name}",
                found=name,
            )


def _recipes(parameters: Parameters) -> Iterator[InputError]:
    """A problem for the tasks of tunings."""
    recipes: list[tuple[str, Recipe]] = [
        (f"pairs.{name}.tuning", pair.tuning)
        for name, pair in parameters.pairs.items()
        if pair.tuning is not None
    ]
    if parameters.tune is not None:
        recipes.append(("tune", parameters.tune))
        if parameters.tune.shuffled:
            yield InputError(
                "params.shuffled-tune-cells",
                "tune cells are not a null; remove it here, and set it in the tuning of a separate "
                "pair",
                key="tune.shuffled",
            )
    for key, recipe in recipes:
        for name in recipe.data:
            yield from _known(f"{key}.data", name, parameters.tasks, "task")
            task = parameters.tasks.get(name)
            if task is not None and task.fluency:
                yield InputError(
                    "task.no-answers",
                    f"task {name!r} has fluency, and so no answers to tune on; remove it",
                    key=f"{key}.data",
                    task=name,
                )
            elif task is not None and "train" not in task.splits:
                yield InputError(
                    "task.no-train-split",
                    f"task {name!r} has no train split; name a file for it, or remove the task",
                    key=f"{key}.data",
                    task=name,
                )


def _bases(parameters: Parameters) -> Iterator[InputError]:
    """A problem for pairs whose base cannot be tuned, or is another model for each seed."""
    chained = {name for name, base in parameters.bases.items() if base.then}
    for name, pair in parameters.pairs.items():
        if pair.base in chained and (
            pair.tuning is not None or (parameters.matrix.tune and name in parameters.matrix.pairs)
        ):
            yield InputError(
                "base.chain-is-tuned",
                f"pair {name!r} is tuned here, which needs a single model; merge the chain into "
                "one folder (affectlocus graft --kind tuned) and use that as the base",
                key=f"bases.{pair.base}.then",
                pair=name,
            )
    for name, pair in parameters.pairs.items():
        base = parameters.bases.get(pair.base)
        if pair.tuned is not None and base is not None and base.replicated:
            yield InputError(
                "pair.base-for-each-seed",
                f"base {pair.base!r} is a model of its own for each seed, and {name!r} is one "
                "tuned checkpoint; name the base that it was tuned from",
                key=f"pairs.{name}.base",
                found=pair.base,
            )


def _claims(parameters: Parameters) -> Iterator[InputError]:
    """A problem for the names in claims."""
    for name, claim in parameters.claims.own.items():
        for one in statements_of(claim):
            for pair_name in one.pairs:
                yield from _known(f"claims.own.{name}.pairs", pair_name, parameters.pairs, "pair")
            for task_name in one.tasks if isinstance(one, OnScores) else ():
                tasks = dict.fromkeys(parameters.benchmarks)
                yield from _known(f"claims.own.{name}.tasks", task_name, tasks, "benchmark")


def _matrix(parameters: Parameters) -> Iterator[InputError]:
    """A problem for the pairs of the matrix, and its cells of equal parameters."""
    for name in parameters.matrix.pairs:
        yield from _known("matrix.pairs", name, parameters.pairs, "pair")
    for name in parameters.matrix.beside:
        yield from _known("matrix.beside", name, parameters.pairs, "pair")
        if name in parameters.matrix.pairs:
            yield InputError(
                "matrix.pair-listed-twice",
                f"{name} is also in matrix.pairs, which have these cells already; remove it here",
                key="matrix.beside",
                found=name,
            )
    if parameters.matrix.fair and (parameters.tune is None or parameters.tune.method != "lora"):
        yield InputError(
            "matrix.fair-without-lora",
            "needs tune with method lora, because it scales the rank",
            key="matrix.fair",
        )


def _module_sets(parameters: Parameters) -> Iterator[InputError]:
    """A problem for module sets of the matrix whose cells are impossible."""
    for key, sets in parameters.matrix.listed.items():
        if BRIDGE in sets:
            yield InputError(
                "matrix.bridge-listed",
                f"found {BRIDGE}; every pair with a bridge has the cells of the bridge alone: "
                "remove it here",
                key=f"matrix.{key}",
                found=BRIDGE,
            )
    if parameters.matrix.random_places.modules:
        for name in parameters.matrix.pairs:
            if name in parameters.pairs and not set(parameters.columns_of(name)) - set(
                parameters.spoken
            ):
                yield InputError(
                    "matrix.random-places-without-candidates",
                    f"every benchmark of pair {name!r} is answered with free text; random places "
                    "need one whose answers are candidates (evaluate.readouts)",
                    key="matrix.random_places",
                    pair=name,
                )
    if parameters.matrix.tune and parameters.tune is None:
        yield InputError(
            "matrix.tune-without-recipe",
            "missing; matrix.tune lists module sets, which need a recipe",
            key="tune",
        )


def _benchmarks(parameters: Parameters) -> Iterator[InputError]:
    """A problem for benchmarks without the scores of the tables, and texts."""
    if not parameters.benchmarks:
        yield InputError(
            "params.no-benchmark",
            "no task has labels and a test split; the tables need at least one",
            key="tasks",
        )
    for name in parameters.benchmarks:
        task, metric = parameters.tasks[name], parameters.score.metric
        if metric not in (*task.metrics, *FREE_METRICS):
            if task.number is not None:
                yield InputError(
                    "task.no-cutoff",
                    f"missing; the tables show {metric}, which numbers have only with a cutoff",
                    key=f"tasks.{name}.number.cutoff",
                    metric=metric,
                )
            else:
                yield InputError(
                    "task.no-positive",
                    f"missing; the tables show {metric}, which needs the positive one of two "
                    "labels",
                    key=f"tasks.{name}.positive",
                    metric=metric,
                )
    for name in parameters.texts:
        if "test" not in parameters.tasks[name].splits:
            yield InputError(
                "task.no-test-split",
                "fluency reads the test split; name a file for it",
                key=f"tasks.{name}.files",
            )


def _tasks(parameters: Parameters) -> Iterator[InputError]:
    """A problem for the names, readouts and media of tasks."""
    for name, task in parameters.tasks.items():
        if name in _COLUMNS_OF_TABLES:
            yield InputError(
                "task.named-like-a-column",
                "tables have a column with this name; rename the task",
                key=f"tasks.{name}",
                found=name,
            )
        if task.corpus:
            yield from _corpus_task(parameters, name)
    for name in parameters.evaluate.readouts:
        yield from _known("evaluate.readouts", name, dict.fromkeys(parameters.benchmarks), "task")
    for name in parameters.spoken:
        if parameters.tasks[name].labels is None:
            yield InputError(
                "task.number-needs-candidates",
                f"task {name!r} has number, which needs candidates; set it to candidates",
                key="evaluate.readouts",
                task=name,
            )
    for name, task in parameters.tasks.items():
        for medium in task.media:
            yield from _known(f"tasks.{name}.media.{medium}", medium, parameters.media, "medium")
        if task.media and any(file.hub for _, file in (task.files.items() if task.files else ())):
            yield InputError(
                "task.media-of-a-hub-table",
                "the media are files on disk, and the table is on the hub; download the table and "
                "name it as a file",
                key=f"tasks.{name}.media",
            )


def _plan(parameters: Parameters) -> Iterator[InputError]:
    """A problem for the names in plan."""
    for name in parameters.plan.sizes:
        models = {**parameters.bases, **parameters.pairs}
        yield from _known(f"plan.sizes.{name}", name, models, "base or pair")
    for name in parameters.plan.samples:
        yield from _known(f"plan.samples.{name}", name, parameters.tasks, "task")


def _without_corpus(parameters: Parameters) -> Iterator[InputError]:
    """A problem for what needs the corpus section, if that is missing."""
    if parameters.corpus is None:
        for name, base in parameters.bases.items():
            if base.pretrain is not None:
                yield InputError(
                    "params.no-corpus",
                    "needs the corpus section, which is missing",
                    key=f"bases.{name}.pretrain",
                )
        for name, task in parameters.tasks.items():
            if task.corpus:
                yield InputError(
                    "params.no-corpus",
                    "needs the corpus section, which is missing",
                    key=f"tasks.{name}.corpus",
                )


def _corpus_task(parameters: Parameters, name: str) -> Iterator[InputError]:
    """A problem for a generated task that the corpus does not have, or not with these settings."""
    known = (*CORPUS_TASKS, *SENSES_TASKS)
    if name not in known:
        yield InputError(
            "task.not-in-corpus",
            f"the corpus has no such task; expected one of {', '.join(known)}",
            key=f"tasks.{name}.corpus",
            found=name,
            expected=list(known),
        )
    elif name in SENSES_TASKS and parameters.senses is None:
        yield InputError(
            "task.senses-not-generated",
            "the task has faces and voices, and the section senses that generates them is missing; "
            "add it (senses: {} takes the defaults)",
            key=f"tasks.{name}.corpus",
            found=name,
        )


def _protocols(parameters: Parameters) -> Iterator[InputError]:
    """A problem for settings that scores of free text need and do not have."""
    score, spoken = parameters.score, parameters.spoken
    for name in score.protocols:
        if name not in spoken:
            yield InputError(
                "score.no-free-text",
                "mer-unibench scores free text of a benchmark; set evaluate.readouts to "
                "generation for it, or remove it here",
                key=f"score.protocols.{name}",
            )
        labels = (parameters.tasks[name].labels or {}) if name in parameters.tasks else {}
        if score.wheels is None and not is_valence(labels.values()):
            yield InputError(
                "score.no-wheels",
                f"missing; task {name!r} is scored with emotion wheels; name the folder of "
                "AffectGPT's files, or write released to download them",
                key="score.wheels",
                task=name,
            )
    if score.metric in FREE_METRICS:
        for name in parameters.benchmarks:
            if name not in score.protocols:
                yield InputError(
                    "score.no-metric",
                    f"task {name!r} does not have {score.metric}; list the task under "
                    "score.protocols, or choose another metric",
                    key="score.metric",
                    task=name,
                    metric=score.metric,
                )
