"""A loaded base that is changed into one cell after another, and answers the tasks as each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.bridge_files import has_bridge
from affectlocus.checkpoints.native_models import stored_native_model
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.core.cells import NONE, Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.cell_bridge import CellBridge, cell_bridge
from affectlocus.evaluation.evaluate import CellModel, evaluate
from affectlocus.evaluation.prediction_cache import PredictionCache
from affectlocus.evaluation.predictions import Predictions
from affectlocus.lm.native_samples import NativeSamples, load_processor
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.readouts import CandidateReadout, FreeTextReadout, Readout, TextReadout
from affectlocus.lm.sample_media import (
    SampleMedia,
    TaskMedia,
    media_of,
    placeholders_of,
    with_placeholders,
)
from affectlocus.lm.soft_tokens import Soft


class Session:
    """The model of a base, and the tasks that its cells answer.

    Args:
        chain: the base's folder, and the adapters that are applied to it.
        tasks: the tasks that are answered; one without labels is general text.
        settings: how tasks are answered.
        hardware: the settings for GPUs.
        media: task → the features of its media. Cells without a bridge read no media: their prompts
            have no placeholders.
    """

    def __init__(
        self,
        chain: Sequence[Path],
        tasks: Sequence[PreparedTask],
        settings: Evaluate,
        hardware: Hardware,
        media: Mapping[str, TaskMedia] | None = None,
    ) -> None:
        self._tasks, self._settings, self._hardware = tasks, settings, hardware
        self._media = media or {}
        self._model = CellModel(chain, hardware)
        self._native = stored_native_model(chain[0])
        self._folder = chain[0]
        self._processors: dict[Path, Any] = {}
        self._prompter = Prompter(chain[0])
        self._prompters: dict[Path, Prompter] = {}
        self._readouts: dict[tuple[Prompter, tuple[tuple[str, int], ...]], list[Readout]] = {}

    @property
    def prompts(self) -> int:
        """The number of prompts that a cell answers."""
        return sum(len(each.prompts) for each in self._asked(self._prompter))

    def answer(
        self,
        cell: Cell,
        tuned: Path | None,
        reading: Mapping[str, Any],
        cache: PredictionCache,
        progress: Callable[[int], None],
        initial: Path | None = None,
    ) -> tuple[Predictions, dict[str, Any]]:
        """The predictions of a cell (`evaluate.evaluate`), and how its model was verified.

        Args:
            tuned: the folder of the tuned checkpoint; None for a base.
            reading: how the tuned checkpoint is read (`checkpoints.Pair`).
            progress: called with the number of prompts done since the last call.
            initial: a checkpoint with the bridge before the tuning (`cell_bridge`).

        Raises:
            InputError: the checkpoints do not fit the cell, or the tokenizer does not fit its
                model.
        """
        counts = self._model.become(tuned, cell, **reading)
        if self._native is not None and tuned is not None and _has_own_bridge(cell, tuned):
            return self._answer_natively(cell, tuned, reading, counts, cache, progress)
        bridge = None if tuned is None else cell_bridge(cell, tuned, initial)
        tokens = {} if bridge is None else bridge.description.tokens
        asked = self._asked(self._prompter_of(cell, tuned), tokens)
        model = self._model.model
        _check_tokens(cell, asked, model.get_input_embeddings().weight.shape[0])
        soft = {} if bridge is None else self._soft(cell, bridge)
        rows = evaluate(
            model, asked, self._settings.batch_tokens, progress, self._hardware, cache, soft
        )
        labels = {task.name: task.labels for task in self._tasks}
        verified = {**counts, **self._model.outside}
        if cell.modules == BRIDGE and cell.kind != "ablate":
            verified |= {"outside_is": "base", "outside_tuned": []}
        return Predictions(cell, labels, rows), verified | (bridge.counts if bridge else {})

    def _answer_natively(
        self,
        cell: Cell,
        tuned: Path,
        reading: Mapping[str, Any],
        counts: dict[str, int],
        cache: PredictionCache,
        progress: Callable[[int], None],
    ) -> tuple[Predictions, dict[str, Any]]:
        """`answer`, by a multimodal model that reads media itself.

        Raises:
            InputError: a task is answered with free text.
        """
        bridge = self._model.take_bridge(tuned, cell, **reading)
        asked = self._asked(self._prompter_of(cell, tuned))
        samples = {
            task.name: self._native_samples(cell, task, tuned)
            for task in self._tasks
            if task.labels and placeholders_of(task.test)
        }
        rows = evaluate(
            *(self._model.model, asked, self._settings.batch_tokens, progress),
            *(self._hardware, cache, samples),
        )
        labels = {task.name: task.labels for task in self._tasks}
        verified = {**counts, **self._model.outside, **bridge}
        if cell.modules == BRIDGE and cell.kind != "ablate":
            verified |= {"outside_is": "base", "outside_tuned": []}
        return Predictions(cell, labels, rows), verified

    def _processor_of(self, cell: Cell, tuned: Path) -> Any:
        """The processor of the tuned checkpoint if its vocabulary differs; else the base's."""
        own = self._prompter_of(cell, tuned) is not self._prompter
        folder = tuned if own else self._folder
        if folder not in self._processors:
            self._processors[folder] = load_processor(folder)
        return self._processors[folder]

    def _native_samples(self, cell: Cell, task: PreparedTask, tuned: Path) -> NativeSamples:
        """The samples of a task with media."""
        if self._settings.of(task.name) == "generation":
            raise InputError(
                "native.no-free-text",
                f"cell {cell.id}: task {task.name} is answered with free text, and a multimodal "
                "model of transformers is asked by candidates alone; set evaluate.readouts",
                cell=cell.id,
                task=task.name,
            )
        assert self._native is not None
        given = self._media.get(task.name, {})
        test = with_placeholders(task.test, given)
        media = SampleMedia(given, test["id"].tolist()).controlled(cell, task.name)
        names = [name for name in media_of(test) if name in given]
        processor = self._processor_of(cell, tuned)
        return NativeSamples(processor, self._native, test["prompt"].tolist(), names, media)

    def _soft(self, cell: Cell, bridge: CellBridge) -> dict[str, Soft]:
        """Task with media → the soft tokens of its samples."""
        table = self._model.model.get_input_embeddings().weight
        if bridge.description.hidden != table.shape[1]:
            raise InputError(
                "bridge.other-width",
                f"cell {cell.id}: its bridge makes soft tokens of width "
                f"{bridge.description.hidden}, and the embeddings of the model have width "
                f"{table.shape[1]}; the bridge belongs to another model",
                cell=cell.id,
                found=bridge.description.hidden,
                expected=table.shape[1],
            )
        media = list(bridge.description.widths)
        module = bridge.module.to(table.device)
        found = {}
        for task in self._tasks:
            if not placeholders_of(task.test):
                continue
            features = self._media.get(task.name, {})
            for name, width in bridge.description.widths.items():
                if name in features and features[name].width != width:
                    raise InputError(
                        "bridge.other-features",
                        f"cell {cell.id}: the features of {name} of task {task.name} have width "
                        f"{features[name].width}, and its bridge was tuned with width {width}; "
                        "use the encoder that it was tuned with",
                        cell=cell.id,
                        task=task.name,
                        found=features[name].width,
                        expected=width,
                    )
            samples = SampleMedia(features, task.test["id"].tolist())
            given = samples.controlled(cell, task.name)
            found[task.name] = given.soft(module, media, table.device)
        return found

    def _prompter_of(self, cell: Cell, tuned: Path | None) -> Prompter:
        """The tokenizer of the tuned checkpoint if its vocabulary differs; else the base's."""
        if tuned is None or cell.kind not in ("tuned", "ablate"):
            return self._prompter
        if tuned not in self._prompters:
            self._prompters[tuned] = self._prompter.for_checkpoint(tuned)
        return self._prompters[tuned]

    def _asked(self, prompter: Prompter, tokens: Mapping[str, int] | None = None) -> list[Readout]:
        key = prompter, tuple((tokens or {}).items())
        if key not in self._readouts:
            self._readouts[key] = [
                self._readout(task, prompter, tokens or {}) for task in self._tasks
            ]
        return self._readouts[key]

    def _readout(
        self, task: PreparedTask, prompter: Prompter, tokens: Mapping[str, int]
    ) -> Readout:
        settings = self._settings
        samples = with_placeholders(task.samples, tokens)
        asked = task.name, samples
        if not placeholders_of(samples):
            tokens = {}
        length = settings.max_length
        if not task.labels:
            return TextReadout.of(*asked, prompter, length, settings.samples)
        if settings.of(task.name) == "generation":
            model = self._model.model
            return FreeTextReadout.of(*asked, prompter, length, settings.generation, model, tokens)
        return CandidateReadout.of(*asked, task.labels, prompter, length, tokens)


def _has_own_bridge(cell: Cell, tuned: Path) -> bool:
    """Whether a cell's bridge is a part of the multimodal model, and not a file beside it."""
    return cell.bridge not in ("", NONE) and tuned.is_dir() and not has_bridge(tuned)


def _check_tokens(cell: Cell, asked: Sequence[Readout], rows: int) -> None:
    """Refuses token ids that have no embedding in the model."""
    for each in asked:
        largest = max((max(ids, default=0) for ids in each.prompts), default=0)
        if largest >= rows:
            raise InputError(
                "tokenizer.token-outside-model",
                f"cell {cell.id}: its tokenizer gives token {largest} for a prompt of {each.task}, "
                f"and the model has embeddings of {rows} tokens; the tokenizer belongs to another "
                "model: restore the checkpoint's own",
                cell=cell.id,
                task=each.task,
                found=largest,
                expected=rows,
            )
