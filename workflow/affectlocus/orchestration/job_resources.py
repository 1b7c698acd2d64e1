"""The resources of each job (memory, time, threads, GPUs), estimated from the model's size.

Snakemake calls the functions here with a job's wildcards and the number of the attempt. After a
job was killed for memory or time, its next attempt asks for more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from affectlocus.checkpoints.model_size import Size
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.orchestration import cost_model as costs
from affectlocus.orchestration.artifacts import EXTRACTOR, encoder_checkpoint
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.model_sizes import ModelSizes

Step = Literal[
    "convert",
    "pretrain",
    "encode",
    "tune",
    "forecast",
    "evaluate",
    "places",
    "smallest",
    "extract",
    "activations",
    "deltas",
    "directions",
]
Ask = Callable[..., int]
Group = list[Cell] | list[str]
"""What shares a job: cells that are evaluated, or the names of checkpoints that are tuned."""

# Copies of the weights that a step holds in main memory, those of readers and checks included.
_COPIES: dict[str, float] = {
    "convert": 3,
    "encode": 2,
    "tune": 2,
    "forecast": 4,
    "evaluate": 3,
    "places": 3,
    "smallest": 6,
    "extract": 2,
    "activations": 3,
    "deltas": 0.1,
    "directions": 0.1,
}
# Without a GPU, tuning also holds gradients and moments in main memory.
_COPIES_OF_TUNING = 10
_LABEL_TOKENS = 3
_SMALL = 1e8  # bytes of a model that one thread reads as fast as two
_POSITIONS = 300  # of a picture or a clip
_MASKED = 1e7  # entries a second that one core draws, masks, writes and verifies


@dataclass(frozen=True)
class Work:
    """The work of a job.

    Attributes:
        size: the size of its model.
        card_bytes: bytes of GPU memory; None for a step that uses no GPU.
        copies: copies of the weights in main memory, with a GPU and without.
        seconds: function of the device's rates that returns the duration.
        threads: CPU threads that the job can use.
    """

    size: Size
    card_bytes: float | None
    copies: tuple[float, float]
    seconds: Callable[[costs.Rates], float]
    threads: int = 1


class Needs:
    """The resource functions of an experiment's rules.

    Args:
        jobs: the experiment.
        cards: function that returns the number of GPUs of this host, or None for a cluster, whose
            hosts have as many as a job asks for.
    """

    def __init__(self, jobs: Dag, cards: Callable[[], int | None]) -> None:
        self.jobs = jobs
        self._cards = cards
        self._parameters = jobs.parameters
        self._plan = jobs.parameters.plan
        self.sizes = ModelSizes(jobs)
        self._counts: dict[tuple[str, ...], tuple[float, float]] = {}

    # called by the rules

    def memory(self, step: Step, group: Group | None = None) -> Ask:
        """A resource function: MB of main memory."""

        def ask(wildcards: Any, attempt: int) -> int:
            work = self.work(step, wildcards, group)
            copies = work.copies[0 if self._on_card(work) else 1]
            return costs.megabytes(work.size, copies, attempt)

        return ask

    def minutes(self, step: Step, group: Group | None = None) -> Ask:
        """A resource function: minutes until a scheduler ends the job."""

        def ask(wildcards: Any, attempt: int) -> int:
            return costs.minutes(self.seconds(self.work(step, wildcards, group)), attempt)

        return ask

    def gpus(self, step: Step, group: Group | None = None) -> Ask:
        """A resource function: GPUs that hold the model; each retry asks for half as many more."""

        def ask(wildcards: Any, attempt: int) -> int:
            return self.cards_of(self.work(step, wildcards, group), attempt)

        return ask

    def threads(self, step: Step, group: Group | None = None) -> Ask:
        """CPU threads: four for a large model; one for a small one, whose results depend on it."""

        def ask(wildcards: Any, attempt: int) -> int:  # noqa: ARG001
            return self.work(step, wildcards, group).threads

        return ask

    @property
    def cards(self) -> int | None:
        """The number of GPUs of this host; None for a cluster."""
        return self._cards()

    def any_card(self, wildcards: Any = None, attempt: int = 1) -> int:  # noqa: ARG002
        """A resource function: one GPU if this host has any."""
        return min(1, self.cards or 0)

    # estimates

    def cards_of(self, work: Work, attempt: int = 1) -> int:
        """The number of GPUs that a job asks for; 0 if it uses none or this host has none."""
        if work.card_bytes is None or self.cards == 0:
            return 0
        wanted = costs.cards(work.card_bytes * (1 + attempt) / 2, self._plan)
        if self.cards is not None:
            return min(wanted, self.cards)
        return wanted if work.size.parameters >= self._plan.cards_from else 0

    def _on_card(self, work: Work) -> bool:
        return self.cards_of(work) > 0

    def seconds(self, work: Work) -> float:
        """The estimated seconds of a job."""
        return work.seconds(costs.rates(self._plan, self._on_card(work)))

    def work(self, step: Step, wildcards: Any = None, group: Group | None = None) -> Work:
        """The work of a job, by its step and wildcards, or by its group."""
        if step == "convert":
            size = self.sizes.of(wildcards.name)
            copies = (_COPIES[step],) * 2
            return Work(size, None, copies, lambda _: costs.conversion_seconds(size))
        if step == "pretrain":
            return self._pretraining(cast(list[str], group) or [wildcards.name])
        if step == "encode":
            return self._encoding(wildcards.task, wildcards.medium)
        if step == "tune":
            return self._tuning(cast(list[str], group) or [wildcards.name])
        if step == "evaluate":
            return self._evaluation(cast(list[Cell], group) or [self.jobs.cells[wildcards.cell]])
        if step == "extract":
            return self._extraction()
        if step == "directions":
            return self._reading(wildcards.base, len(self.jobs.siblings[wildcards.base]), step)
        names = cast(list[str], group) or [wildcards.tuned]
        base = self.jobs.base_of(names[0])
        if step == "forecast":
            return self._forecast(names[0], base)
        if step == "places":
            return self._random_places(names[0], base)
        if step == "smallest":
            return self._smallest_sets(names[0], base)
        if step == "deltas":
            return self._reading(base, 2, step, len(names))
        size = self.sizes.of(base)
        tokens = 2 * sum(self.samples(task) for task in self.jobs.neurons.neutral_tasks)
        tokens *= self._plan.prompt_tokens
        return _on_model(
            step,
            size,
            lambda rate: costs.start_seconds(size) + costs.answering_seconds(size, tokens, rate),
        )

    def _pretraining(self, names: list[str]) -> Work:
        """The work of a job that trains these bases, which have one recipe."""
        recipe = self.jobs.bases[names[0]].pretrain
        assert recipe is not None
        size = self.sizes.of(names[0])
        # As full tuning of all weights: 6P operations for each token; about 64 tokens a document.
        tokens = len(names) * recipe.steps * recipe.batch_size * 64
        return Work(
            size,
            16 * size.parameters + 1e9,
            (4, 4),
            lambda rate: costs.start_seconds(size) + tokens * 6 * size.parameters / rate.operations,
        )

    def _encoding(self, task: str, medium: str) -> Work:
        """The work of a job that encodes one medium of a task."""
        settings = self._parameters.media[medium]
        size = self.sizes.of(encoder_checkpoint(medium))
        each = settings.clips or 1 if settings.kind == "audio" else settings.frames
        tokens = self.samples(task) * each * _POSITIONS
        work = _on_model("encode", size, lambda rate: costs.answering_seconds(size, tokens, rate))
        return work if settings.encoder is not None else replace(work, card_bytes=None)

    def _tuning(self, names: list[str]) -> Work:
        """The work of a job that tunes these checkpoints, which start from one base."""
        size = self.sizes.of(self.jobs.tunings[names[0]][0])
        recipes = [self.jobs.tunings[name][1] for name in names]
        hardware = self._parameters.hardware
        again = hardware.checkpointing
        full = any(recipe.method == "sft" for recipe in recipes)

        def seconds(rate: costs.Rates) -> float:
            return sum(
                costs.tuning_seconds(size, recipe, recipe.modules, rate, again)
                for recipe in recipes
            )

        held = max(costs.tuning_bytes(size, one, one.modules, hardware) for one in recipes)
        copies = 6 if full else _COPIES["tune"], _COPIES_OF_TUNING
        return replace(_on_model("tune", size, seconds, held), copies=copies)

    def _evaluation(self, cells: list[Cell]) -> Work:
        size = self.sizes.of(self.jobs.base_checkpoint(cells[0].base, cells[0].seed))
        asked = tuple(Path(file).stem for file in self.jobs.evaluate.data(cells[0]))
        written = self._parameters.evaluate.generation

        def seconds(rate: costs.Rates) -> float:
            read, spoken = self._asked(asked)
            total = costs.answering_seconds(size, read, rate)
            batch = written.batch_tokens // (self._plan.prompt_tokens + written.max_new_tokens)
            total += costs.writing_seconds(size, spoken, batch, written.max_new_tokens, rate)
            return len(cells) * total

        return _on_model("evaluate", size, seconds)

    def _random_places(self, tuned: str, base: str) -> Work:
        """The work of a job that evaluates the random places of a tuned checkpoint."""
        size, cells = self.sizes.of(base), self.jobs.places.cells()
        most = self._parameters.matrix.random_places.samples
        tokens = self._candidate_tokens(self.jobs.places.tasks(tuned), most)
        masking = size.parameters / _MASKED
        return _on_model(
            "places",
            size,
            lambda rate: cells * (costs.answering_seconds(size, tokens, rate) + masking),
        )

    def _smallest_sets(self, tuned: str, base: str) -> Work:
        """The work of a job that searches for small sets, and evaluates them."""
        size, jobs = self.sizes.of(base), self.jobs.smallest
        chosen = self._parameters.matrix.smallest
        tokens = self._candidate_tokens(jobs.tasks(tuned), chosen.samples)
        # Gradients of all weights cost three passes: at three doses of each size on half of
        # the samples, and at each step on 32 of them.
        trained = 3 * 20 * tokens / 2 + chosen.steps * 32 * self._plan.prompt_tokens
        passes = jobs.cells() * tokens + 3 * trained
        return _on_model(
            "smallest",
            size,
            lambda rate: costs.answering_seconds(size, passes, rate),
            costs.evaluation_bytes(size) + 3 * size.bytes,
        )

    def _candidate_tokens(self, tasks: Iterable[str], most: int) -> int:
        """Tokens that a cell reads which answers some samples of each task by candidates."""
        return sum(
            min(most, self.samples(task))
            * (self._plan.prompt_tokens + _LABEL_TOKENS * len(self._parameters.tasks[task].words))
            for task in tasks
        )

    def _forecast(self, tuned: str, base: str) -> Work:
        """The work of a job that measures a base: passes with the gradients of all weights."""
        size, recipe = self.sizes.of(base), self.jobs.tunings[tuned][1]
        samples = self._parameters.matrix.forecast
        # Forward, and backward for activations and weights; a spectrum of every matrix.
        work = samples * recipe.max_length * 6 * size.parameters + 4e3 * size.parameters
        held = costs.tuning_bytes(size, recipe, recipe.modules, self._parameters.hardware)
        return _on_model("forecast", size, lambda rate: work / rate.operations, size.bytes + held)

    def _asked(self, tasks: tuple[str, ...]) -> tuple[float, float]:
        """Tokens that a cell reads, and samples for which it generates text."""
        if tasks not in self._counts:
            parameters, read, spoken = self._parameters, 0.0, 0.0
            for task in tasks:
                samples = self.samples(task)
                if task in parameters.texts:
                    read += samples * parameters.evaluate.max_length
                    continue
                read += samples * self._plan.prompt_tokens
                if task in parameters.spoken:
                    spoken += samples
                else:
                    read += samples * _LABEL_TOKENS * len(parameters.tasks[task].words)
            self._counts[tasks] = read, spoken
        return self._counts[tasks]

    def _extraction(self) -> Work:
        size = self.sizes.of(EXTRACTOR)
        settings = self._parameters.extraction
        batch = settings.batch_tokens // (4 * self._plan.prompt_tokens + settings.max_new_tokens)
        samples = sum(self.samples(task) for task in self._parameters.spoken)
        most = settings.max_new_tokens
        return _on_model(
            "extract", size, lambda rate: costs.writing_seconds(size, samples, batch, most, rate)
        )

    def _reading(self, base: str, sides: int, step: Step, passes: int = 1) -> Work:
        """Passes over stored weights, as fast as the disk reads or as spectra are computed.

        A small model is read by one thread, so that two jobs run on two cores.
        """
        size = self.sizes.of(base)
        slow = step == "directions" or self._parameters.deltas.spectra
        rate = 2e7 if slow else 5e8  # bytes a second
        copies = (_COPIES[step] * sides,) * 2
        seconds = 10 + passes * sides * size.bytes / rate
        return Work(size, None, copies, lambda _: seconds, 2 if size.bytes > _SMALL else 1)

    def samples(self, task: str) -> int:
        """Test samples of a task: counted if it is prepared, otherwise as stated or assumed."""
        report = Path(f"results/data/{task}.json")
        if report.is_file():
            try:
                return int(read_json(report)["splits"]["test"]["kept"])
            except (InputError, KeyError, TypeError, ValueError):
                pass  # of another version or damaged; its job reruns
        corpus = self._parameters.corpus
        if self._parameters.tasks[task].corpus and corpus is not None:
            return corpus.benchmark_samples
        return self._plan.samples.get(task, self._plan.unknown_samples)


def _on_model(
    step: Step,
    size: Size,
    seconds: Callable[[costs.Rates], float],
    card_bytes: float | None = None,
) -> Work:
    """The work of a job that computes with a model.

    Args:
        seconds: without the start.
        card_bytes: by default those of an evaluation.
    """
    return Work(
        size,
        card_bytes or costs.evaluation_bytes(size),
        (_COPIES[step],) * 2,
        lambda rate: costs.start_seconds(size) + seconds(rate),
        4 if size.bytes > 2e9 else 1,
    )
