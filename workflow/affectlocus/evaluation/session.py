"""A loaded base that is changed into one cell after another, and answers the tasks as each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.evaluate import CellModel, evaluate
from affectlocus.evaluation.prediction_cache import PredictionCache
from affectlocus.evaluation.predictions import Predictions
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.readouts import CandidateReadout, FreeTextReadout, Readout, TextReadout


class Session:
    """The model of a base, and the tasks that its cells answer.

    Args:
        chain: the base's folder, and the adapters that are applied to it.
        tasks: the tasks that are answered; one without labels is general text.
        settings: how tasks are answered.
        hardware: the settings for GPUs.
    """

    def __init__(
        self,
        chain: Sequence[Path],
        tasks: Sequence[PreparedTask],
        settings: Evaluate,
        hardware: Hardware,
    ) -> None:
        self._tasks, self._settings, self._hardware = tasks, settings, hardware
        self._model = CellModel(chain, hardware)
        self._prompter = Prompter(chain[0])
        self._prompters: dict[Path, Prompter] = {}
        self._readouts: dict[Prompter, list[Readout]] = {}

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
    ) -> tuple[Predictions, dict[str, Any]]:
        """The predictions of a cell (`evaluate.evaluate`), and how its model was verified.

        Args:
            tuned: the folder of the tuned checkpoint; None for a base.
            reading: how the tuned checkpoint is read (`checkpoints.Pair`).
            progress: called with the number of prompts done since the last call.

        Raises:
            InputError: the checkpoints do not fit the cell, or the tokenizer does not fit its
                model.
        """
        counts = self._model.become(tuned, cell, **reading)
        asked = self._asked(self._prompter_of(cell, tuned))
        model = self._model.model
        _check_tokens(cell, asked, model.get_input_embeddings().weight.shape[0])
        rows = evaluate(model, asked, self._settings.batch_tokens, progress, self._hardware, cache)
        labels = {task.name: task.labels for task in self._tasks}
        return Predictions(cell, labels, rows), {**counts, **self._model.outside}

    def _prompter_of(self, cell: Cell, tuned: Path | None) -> Prompter:
        """The tokenizer of the tuned checkpoint if its vocabulary differs; else the base's."""
        if tuned is None or cell.kind not in ("tuned", "ablate"):
            return self._prompter
        if tuned not in self._prompters:
            self._prompters[tuned] = self._prompter.for_checkpoint(tuned)
        return self._prompters[tuned]

    def _asked(self, prompter: Prompter) -> list[Readout]:
        if prompter not in self._readouts:
            self._readouts[prompter] = [self._readout(task, prompter) for task in self._tasks]
        return self._readouts[prompter]

    def _readout(self, task: PreparedTask, prompter: Prompter) -> Readout:
        settings = self._settings
        asked = task.name, task.samples
        length = settings.max_length
        if not task.labels:
            return TextReadout.of(*asked, prompter, length, settings.samples)
        if settings.of(task.name) == "generation":
            model = self._model.model
            return FreeTextReadout.of(*asked, prompter, length, settings.generation, model)
        return CandidateReadout.of(*asked, task.labels, prompter, length)


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
