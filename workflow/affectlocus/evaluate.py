"""Step `evaluate`: cells answer every benchmark; their answers are kept, not yet scored.

One loaded base serves any number of cells: each writes the tensors in which it differs, and puts
back those of the cell before it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from affectlocus.candidates import log_likelihoods
from affectlocus.cells import Cell
from affectlocus.checkpoints import Pair, Weights
from affectlocus.errors import InputError
from affectlocus.fluency import text_nats
from affectlocus.generate import room, texts
from affectlocus.interventions import intervened, touched, verify
from affectlocus.parameters import Generation
from affectlocus.prompts import Prompter
from affectlocus.templates import column, stops, wrapped


class Shared:
    """A base's model on the device at hand, which becomes one cell after another.

    Args:
        base: a model's folder; or a chain, with the adapters that made it the base in question.

    Attributes:
        model: the model, in evaluation mode.
    """

    def __init__(self, base: Path | Sequence[Path]) -> None:
        self._chain = [base] if isinstance(base, Path) else list(base)
        model, loading = AutoModelForCausalLM.from_pretrained(
            self._chain[0], local_files_only=True, dtype="auto", output_loading_info=True
        )
        # transformers would draw these at random, and the cell would answer with them.
        if loading["missing_keys"]:
            name = min(loading["missing_keys"])
            raise InputError(
                f"{self._chain[0]}: the model needs {name}, which no file of the checkpoint holds"
            )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: PreTrainedModel = model.to(device).eval()
        # Shares the model's memory: writing here edits the model.
        self._tensors: dict[str, torch.Tensor] = model.state_dict()
        self._changed: set[str] | None = None  # by the cell before; None: not known
        self._last: tuple[tuple[Any, ...], Pair] | None = None

    def become(self, tuned: Path | None, cell: Cell, **reading: Any) -> dict[str, int]:
        """Makes the model this cell's, bit for bit as if the base had just been loaded.

        Args:
            reading: how the tuned checkpoint is read (`checkpoints.Pair`).

        Returns:
            What `interventions.verify` counted.

        Raises:
            InputError: checkpoints that do not fit the cell, or each other.
        """
        if (cell.kind == "base") != (tuned is None):
            expected = "no tuned checkpoint" if cell.kind == "base" else "a tuned checkpoint"
            raise InputError(f"cell {cell.id}: expected {expected} for kind {cell.kind!r}")
        chain = self._chain
        if tuned is None and len(chain) > 1:
            # The base in question is what the chain's last adapter made of the others.
            *chain, tuned = chain
            cell = Cell("tuned", cell.base)
        if tuned is None:
            stored = Weights(chain[0])
            for name in sorted(self._changed or ()):
                self._write(name, stored.tensor(name), chain[0], cell)
            self._changed = set()
            return {}
        pair = self._opened(chain, tuned, reading)
        wanted = {name for name in pair.names if touched(pair, name, cell)}
        # At first every tensor: a chain's base is not what was loaded, and all are checked.
        before = set(pair.names) if self._changed is None else self._changed
        for name in sorted((wanted | before) & set(self._tensors)):
            value = intervened(pair, name, cell) if name in wanted else pair.base_tensor(name)
            self._write(name, value, tuned, cell)
        self._changed = wanted
        return verify(self._tensors, pair, cell)

    def _opened(self, chain: list[Path], tuned: Path, reading: dict[str, Any]) -> Pair:
        key = (*chain, tuned, *sorted(reading.items()))
        if self._last is None or self._last[0] != key:
            self._last = key, Pair(chain, tuned, **reading)
        return self._last[1]

    def _write(self, name: str, value: torch.Tensor, tuned: Path, cell: Cell) -> None:
        held = self._tensors[name]
        if value.shape != held.shape:
            raise InputError(
                f"{tuned}: {name} has shape {tuple(value.shape)}, the base's model "
                f"{tuple(held.shape)}; a {cell.kind} cell cannot hold it"
            )
        if value.dtype != held.dtype:
            raise InputError(
                f"{tuned}: {name} is stored as {value.dtype}, in the base {self._chain[0]} as "
                f"{held.dtype}; save both in one dtype"
            )
        held.copy_(value)


def build(
    base: Path | Sequence[Path], tuned: Path | None, cell: Cell, **reading: Any
) -> tuple[PreTrainedModel, dict[str, int]]:
    """One cell's model, and what `Shared.become` counted."""
    shared = Shared(base)
    counts = shared.become(tuned, cell, **reading)
    return shared.model, counts


@dataclass(frozen=True)
class Questions:
    """A benchmark's test split as token ids, made once for any number of cells."""

    task: str
    samples: pd.DataFrame  # the prepared task's test rows
    labels: list[str]
    prompts: list[list[int]]
    candidates: list[list[int]]

    @staticmethod
    def of(
        task: str, frame: pd.DataFrame, labels: list[str], prompter: Prompter, max_length: int
    ) -> Questions:
        """The questions of a prepared task, columns `id`, `split`, `prompt`, `answer`.

        Args:
            labels: the label words, in the order of params.yaml.
            max_length: tokens of a prompt.
        """
        test = frame[frame["split"] == "test"]
        return Questions(
            task,
            test,
            labels,
            prompter.prompts(test["prompt"].tolist(), max_length),
            [prompter.answer(word) for word in labels],
        )


@dataclass(frozen=True)
class Text:
    """General text to read as token ids, made once for any number of cells."""

    task: str
    samples: pd.DataFrame
    prompts: list[list[int]]  # whole documents, a start token in front where there is one
    window: int

    @staticmethod
    def of(task: str, frame: pd.DataFrame, prompter: Prompter, max_length: int) -> Text:
        """The documents of a prepared task, columns `id`, `split`, `prompt`.

        Args:
            max_length: tokens that the model reads at once.
        """
        test = frame[frame["split"] == "test"]
        return Text(task, test, prompter.prompts(test["prompt"].tolist(), sys.maxsize), max_length)


@dataclass(frozen=True)
class Openings:
    """A benchmark's test split as token ids that free text goes on from."""

    task: str
    samples: pd.DataFrame  # the prepared task's test rows
    prompts: list[list[int]]
    prompter: Prompter
    settings: Generation

    @staticmethod
    def of(
        task: str,
        frame: pd.DataFrame,
        prompter: Prompter,
        max_length: int,
        settings: Generation,
        model: PreTrainedModel,
    ) -> Openings:
        """The prompts of a prepared task, columns `id`, `split`, `prompt`, `text`, `answer`.

        Args:
            max_length: tokens of a prompt; fewer, where the model has no positions for more and
                the text behind it.
            model: any cell's.
        """
        test = frame[frame["split"] == "test"]
        limit = room(model, max_length, settings.max_new_tokens)
        told = test[column(settings.template)].tolist()
        if settings.template == "task":
            prompts = prompter.prompts(told, limit)
        else:
            prompts = wrapped(prompter.tokenizer, told, settings, limit)
        return Openings(task, test, prompts, prompter, settings)


def evaluate(
    model: PreTrainedModel,
    asked: Sequence[Questions | Text | Openings],
    batch_tokens: int,
    progress: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """The log-likelihood of every label behind every test prompt, or free text; and of every text.

    Args:
        batch_tokens: tokens in one forward pass at most (`candidates.log_likelihoods`).
        progress: called with the number of samples done since the last call.

    Returns:
        A row per (task, sample, candidate): `task`, `sample`, `label` (the true one), `candidate`,
        `loglik` (nats, float32), `tokens` of the candidate. Of a text, a row per document, without
        label and candidate: its log-likelihood and the number of tokens that were predicted. Of
        free text, a row per (task, sample) without candidate and loglik, with a column `text`
        that is empty in the other rows; every cell draws from one and the same stream for a sample.
    """
    frames = []
    for questions in asked:
        if isinstance(questions, Text):
            frames.append(_read(model, questions, batch_tokens, progress))
            continue
        if isinstance(questions, Openings):
            frames.append(_written(model, questions, progress))
            continue
        values = log_likelihoods(
            model, questions.prompts, questions.candidates, batch_tokens, progress
        )
        _check_finite(questions.task, bool(torch.isfinite(values).all()))
        frames.append(_tidy(questions, values))
    return pd.concat(frames, ignore_index=True)


def _check_finite(task: str, finite: bool) -> None:
    if not finite:
        raise InputError(
            f"task {task}: the model's log-likelihoods are not finite; "
            "its weights hold NaN or overflow in their dtype"
        )


def _read(
    model: PreTrainedModel, text: Text, batch_tokens: int, progress: Callable[[int], None]
) -> pd.DataFrame:
    nats, tokens = text_nats(model, text.prompts, batch_tokens, text.window, progress)
    _check_finite(text.task, bool(np.isfinite(nats).all()))
    if not tokens.sum():
        raise InputError(
            f"task {text.task}: no document has two tokens, and the first is never predicted; "
            "give longer texts"
        )
    columns = {"task": text.task, "sample": text.samples["id"].to_numpy()}
    columns |= {"label": "", "candidate": "", "loglik": -nats, "tokens": tokens}
    return pd.DataFrame(columns).astype({"loglik": "float32", "tokens": "int32"})


def _written(
    model: PreTrainedModel, openings: Openings, progress: Callable[[int], None]
) -> pd.DataFrame:
    test, settings = openings.samples, openings.settings
    found, tokens = texts(
        model,
        openings.prompter.tokenizer,
        openings.prompts,
        [f"{openings.task}\0{sample}" for sample in test["id"]],
        settings,
        settings.batch_size,
        stops(settings),
        progress,
    )
    columns: dict[str, Any] = {
        "task": openings.task,
        "sample": test["id"].to_numpy(),
        "label": test["answer"].to_numpy(),
        "candidate": pd.Series([None] * len(test), dtype="str"),
        "loglik": torch.full((len(test),), torch.nan).numpy(),
        "tokens": tokens,
        "text": found,
    }
    return pd.DataFrame(columns).astype({"tokens": "int16"})


def _tidy(questions: Questions, values: torch.Tensor) -> pd.DataFrame:
    words, test = questions.labels, questions.samples
    columns: dict[str, Any] = {
        "task": questions.task,
        "sample": test["id"].repeat(len(words)).to_numpy(),
        "label": test["answer"].repeat(len(words)).to_numpy(),
        "candidate": words * len(test),
        "loglik": values.flatten().numpy(),
        "tokens": [len(ids) for ids in questions.candidates] * len(test),
    }
    return pd.DataFrame(columns).astype({"tokens": "int16"})
