"""The cost of an experiment before it runs: jobs by kind, GPU hours, downloads and disk.

The costs of single jobs are estimated (job_resources, cost_model) and added up. If the experiment
has finished jobs of a kind, their median time in Snakemake's benchmark files replaces the estimate.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from affectlocus.core.cells import Cell
from affectlocus.orchestration import cost_model as costs
from affectlocus.orchestration.artifacts import EXTRACTOR
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.job_resources import Needs
from affectlocus.orchestration.rule_values import checkpoint
from affectlocus.orchestration.steps.encode import features
from affectlocus.orchestration.steps.wheels import RELEASED_WHEELS

FOUND = "answers are of an earlier job"
"""What a job writes to its log if it found answers in the prediction cache."""

TUNED = "already tuned by the same recipe, data and code"
"""What a job writes to its log if a checkpoint was complete before."""

_SMALL = 15.0  # seconds of a job without a model; most of it is the start
_ROW = 12  # bytes of an answer's row on disk
_MEASURED = (
    *("pretrain", "encode", "tune", "forecast", "evaluate", "places", "smallest", "extract"),
    *("activations", "deltas", "directions"),
)


@dataclass
class JobKind:
    """The jobs of one kind.

    Attributes:
        jobs: their number; `done` of them have their results already.
        gpu_hours, cpu_hours: of the other jobs; GPUs times hours, and cores times hours.
        download_gb, disk_gb: GB that the other jobs download, and that they write to disk.
        from_: `measured` if finished jobs of this kind give the time, otherwise `estimated`.
    """

    kind: str
    jobs: int = 0
    done: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    download_gb: float = 0.0
    disk_gb: float = 0.0
    from_: str = "estimated"


@dataclass(frozen=True)
class PlannedJob:
    """One job of a plan."""

    kind: str
    output: str
    seconds: float = _SMALL
    cards: int = 0
    threads: int = 1
    download: float = 0.0  # bytes
    disk: float = 0.0  # bytes


@dataclass(frozen=True)
class Plan:
    """The kinds of jobs, in the order in which they run, and the assumptions of the estimates."""

    kinds: list[JobKind]
    assumptions: list[str] = field(default_factory=list)

    @property
    def total(self) -> JobKind:
        """The sum of all kinds."""
        sums: dict[str, Any] = {
            name: sum(getattr(kind, name) for kind in self.kinds)
            for name in ("jobs", "done", "gpu_hours", "cpu_hours", "download_gb", "disk_gb")
        }
        return JobKind("total", **sums, from_="")

    def report(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "kinds": [_row(kind) for kind in self.kinds],
            "total": {k: v for k, v in _row(self.total).items() if k not in ("kind", "from")},
            "assumptions": self.assumptions,
        }


def _row(kind: JobKind) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in asdict(kind).items()}


def plan(jobs: Dag, cards: int | None = None) -> Plan:
    """The plan of the experiment in the current folder.

    Args:
        cards: number of GPUs of this host, 0 without a GPU; None for a cluster.
    """
    needs = Needs(jobs, lambda: cards)
    kinds: dict[str, JobKind] = {}
    times = {step: _measured(step) for step in _MEASURED}
    for job in _jobs(needs):
        kind = kinds.setdefault(job.kind, JobKind(job.kind))
        kind.jobs += 1
        if Path(job.output).exists():
            kind.done += 1
            continue
        measured = times.get(job.kind)
        seconds = job.seconds if measured is None else measured
        kind.from_ = "estimated" if measured is None else "measured"
        kind.gpu_hours += job.cards * seconds / 3600
        kind.cpu_hours += job.threads * seconds / 3600
        kind.download_gb += job.download / 1e9
        kind.disk_gb += job.disk / 1e9
    return Plan(list(kinds.values()), list(_assumptions(needs, times)))


def _measured(step: str) -> float | None:
    """Median seconds of the finished jobs of a step; None without finished jobs.

    Jobs that found answers in the prediction cache are left out.
    """
    seconds = []
    place = Path("results/benchmarks", step)
    for file in place.rglob("*.tsv"):
        log = Path("results/logs", step, file.relative_to(place)).with_suffix(".log")
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        if FOUND in text or TUNED in text:
            continue
        try:
            with file.open(encoding="utf-8", newline="") as stream:
                seconds += [float(row["s"]) for row in csv.DictReader(stream, delimiter="\t")]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # incomplete: a running job writes it
    return median(seconds) if seconds else None


def _jobs(needs: Needs) -> Iterator[PlannedJob]:
    """Every job, in the order in which they can run."""
    yield from _sources(needs)
    yield from _models(needs)
    yield from _cells(needs)
    yield from _rest(needs.jobs)


def _sources(needs: Needs) -> Iterator[PlannedJob]:
    jobs = needs.jobs
    for name in jobs.brought:
        weight = float(needs.sizes.of(name).bytes)
        source = jobs.source(name)
        far = source.hub is not None or source.url is not None
        yield PlannedJob(
            "retrieve",
            checkpoint(name),
            _SMALL + weight / 1e8,
            download=weight if far else 0.0,
            disk=weight if far else 0.0,
        )
    for name in jobs.converted:
        work = needs.work("convert", SimpleNamespace(name=name))
        yield _job(needs, "convert", checkpoint(name), work, disk=work.size.bytes)
    for name in jobs.prepare.hub_tables:
        yield PlannedJob(
            "retrieve_data", f"results/data/sources/{name}.json", download=1e7, disk=1e7
        )
    if RELEASED_WHEELS[0] in jobs.wheels.files:
        yield PlannedJob("wheels", RELEASED_WHEELS[0], download=1e6, disk=1e6)
    if jobs.pretrained or any(task.corpus for task in jobs.parameters.tasks.values()):
        yield PlannedJob("corpus", "results/corpus/pretraining.txt")
    if jobs.senses.used:
        yield PlannedJob("senses", jobs.senses.tasks[0], disk=1e8)
    for name in jobs.encoders.media:
        yield PlannedJob("encoders", f"results/encoders/{name}.json", disk=1e6)
    for task, medium in jobs.encode.jobs:
        work = needs.work("encode", SimpleNamespace(task=task, medium=medium))
        yield _job(needs, "encode", features(task, medium), work, disk=needs.samples(task) * 3e4)
    for task in jobs.parameters.tasks:
        yield PlannedJob("prepare", f"results/data/{task}.parquet", disk=1e6)


def _models(needs: Needs) -> Iterator[PlannedJob]:
    jobs = needs.jobs
    for names in [[name] for name in jobs.pretrain.single] + jobs.pretrain.groups:
        work = needs.work("pretrain", group=names)
        disk = len(names) * work.size.bytes
        yield _job(needs, "pretrain", checkpoint(names[-1]), work, disk=disk)
    for names in [[name] for name in jobs.tune.single] + jobs.tune.groups:
        work = needs.work("tune", group=names)
        recipes = [jobs.tunings[name][1] for name in names]
        # A trajectory keeps its states; the last one is the checkpoint itself.
        disk = sum(
            max(1, recipe.trajectory) * costs.tuned_bytes(work.size, recipe, recipe.modules)
            for recipe in recipes
        )
        yield _job(needs, "tune", checkpoint(names[-1]), work, disk=disk)
    for path in jobs.forecast.files:
        work = needs.work("forecast", SimpleNamespace(tuned=Path(path).stem))
        yield _job(needs, "forecast", path, work, disk=1e5)
    for step in ("deltas", "trajectory"):
        own = getattr(jobs, step)
        for names in [[name] for name in own.single] + own.groups:
            work = needs.work("deltas", group=names)
            output = f"results/{step}/{names[-1]}.parquet"
            yield _job(needs, "deltas", output, work, disk=len(names) * 1e6)


def _cells(needs: Needs) -> Iterator[PlannedJob]:
    jobs, parameters = needs.jobs, needs.jobs.parameters
    groups: list[list[Cell]] = [
        [jobs.cells[name]] for name in jobs.evaluate.single
    ] + jobs.evaluate.groups
    rows = sum(
        needs.samples(task) * max(1, len(parameters.tasks[task].words))
        for task in [*parameters.benchmarks, *parameters.texts]
    )
    for group in groups:
        work = needs.work("evaluate", group=group)
        output = f"results/cells/{group[-1].id}/predictions.parquet"
        yield _job(needs, "evaluate", output, work, disk=len(group) * rows * _ROW)
    for cell in jobs.cells.values() if parameters.spoken else ():
        if EXTRACTOR in jobs.brought:
            output = f"results/cells/{cell.id}/extracted.parquet"
            yield _job(needs, "extract", output, needs.work("extract"), disk=1e5)
        yield PlannedJob("openset", f"results/cells/{cell.id}/openset.parquet", disk=1e5)
    for name in jobs.places.tuned:
        work = needs.work("places", SimpleNamespace(tuned=name))
        most = parameters.matrix.random_places.samples
        few = sum(
            min(most, needs.samples(task)) * len(parameters.tasks[task].words)
            for task in jobs.places.tasks(name)
        )
        disk = jobs.places.cells() * few * _ROW
        yield _job(needs, "places", f"results/places/{name}.parquet", work, disk=disk)
    for name in jobs.smallest.tuned:
        work = needs.work("smallest", SimpleNamespace(tuned=name))
        yield _job(needs, "smallest", f"results/smallest/{name}.parquet", work, disk=1e6)
    for name in jobs.neurons.activated:
        work = needs.work("activations", SimpleNamespace(tuned=name))
        yield _job(needs, "activations", f"results/activations/{name}.parquet", work)


def _rest(jobs: Dag) -> Iterator[PlannedJob]:
    """The jobs that need no model, or a small one."""
    for base in jobs.neurons.bases if jobs.neurons.files else ():
        yield PlannedJob("neurons", f"results/neurons/{base}.parquet")
    for path in jobs.directions.files:
        yield PlannedJob("directions", path)
    for path in jobs.learning.files:
        yield PlannedJob("collect", path)
    for path in jobs.ledger.files:
        yield PlannedJob("ledger", path)
    for path in jobs.score.files():
        yield PlannedJob("score", path, disk=1e6)
    for pair in jobs.places.pairs:
        yield PlannedJob("percentiles", f"results/random_places.{pair}.csv", disk=1e5)
    for path in jobs.smallest.files:
        yield PlannedJob("frontier", path, disk=1e5)
    for path in jobs.probes.files:
        yield PlannedJob("probes", path)
    for name in jobs.table_rows:
        yield PlannedJob("tables", f"results/{name}.csv")
    for path in [*jobs.all_figures, *jobs.fluency.files]:
        if path.endswith(".png"):
            yield PlannedJob("figures", path, disk=3e5)
    fluency = ["results/fluency.csv"] if jobs.fluency.files else []
    last = ["results/report.html", "results/revisions/verdicts.json"]
    for path in ["results/scores.parquet", "results/claims.csv", *fluency, *last]:
        yield PlannedJob("collect", path)


def _job(needs: Needs, kind: str, output: str, work: Any, disk: float = 0.0) -> PlannedJob:
    found = needs.cards_of(work)
    return PlannedJob(kind, output, needs.seconds(work), found, work.threads, disk=disk)


def _amount(number: float) -> str:
    """A number of parameters with its unit: billions, millions or thousands."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number / 1e3:.3g}k"


def _assumptions(needs: Needs, times: dict[str, float | None]) -> Iterator[str]:
    """The assumptions behind the sums, one line each."""
    parameters = needs.jobs.parameters
    assumed = parameters.plan
    alike: dict[str, list[str]] = {}
    for name in [*needs.jobs.bases, *([EXTRACTOR] if EXTRACTOR in needs.jobs.brought else [])]:
        size = needs.sizes.of(name)
        what = (
            f"{_amount(size.parameters)} parameters, {size.bytes / 1e9:.3g} GB (from {size.origin})"
        )
        alike.setdefault(f"{name.partition('.seed')[0]}: {what}", []).append(name)
    for line, names in alike.items():
        yield line if len(names) == 1 else f"{line}, {len(names)} models, one for each seed"
    if needs.cards == 0:
        yield f"no GPU: a CPU core computes {assumed.core_gflops:g} GFLOP/s (plan.core_gflops)"
    else:
        where = "on a cluster" if needs.cards is None else f"{needs.cards} on this host"
        yield (
            f"GPUs ({where}): {assumed.card_tflops:g} TFLOP/s (plan.card_tflops), of which "
            f"{100 * assumed.share_of_peak:g} % are reached (plan.share_of_peak); "
            f"{assumed.card_gb:g} GB of memory each (plan.card_gb)"
        )
    yield (
        "tune: 4 operations for each parameter and token with LoRA, up to 6 in full; tokens: steps "
        "x batch_size x max_length, which shorter samples do not reach"
    )
    listed = [
        f"{task} {needs.samples(task)}" for task in [*parameters.benchmarks, *parameters.texts]
    ]
    yield (
        f"evaluate: 2 operations for each parameter and token; {assumed.prompt_tokens} tokens a "
        f"prompt (plan.prompt_tokens); test samples: {', '.join(listed)}"
    )
    if parameters.spoken:
        limit = parameters.evaluate.generation.max_new_tokens
        yield (
            f"free text: every answer has the maximum of {limit} tokens; the weights are read once "
            f"for each token of a batch, at {assumed.card_gb_per_second / 2:g} GB/s"
        )
    brought = [name for name in needs.jobs.brought if needs.jobs.source(name).folder is None]
    if brought:
        yield (
            "downloads: the stored weights of a model; a missing tuned checkpoint counts as a "
            "whole model, unless plan.sizes states its size; a file of a data set counts as 10 MB"
        )
    for step, seconds in times.items():
        if seconds is not None:
            yield f"{step}: {seconds:.3g} s, the median of this experiment's finished jobs"
    yield "every job succeeds at its first attempt; waiting in a queue is not counted"
