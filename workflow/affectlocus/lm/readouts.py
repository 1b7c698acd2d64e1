"""The ways in which a model is asked a task: candidates, free text, general text to read.

Each holds the task's test split as token ids, made once for any number of cells, and has the model
answer in rows of one form (`evaluate.evaluate`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from affectlocus.config.evaluation import Generation, Samples
from affectlocus.core.errors import InputError
from affectlocus.lm.candidates import log_likelihoods
from affectlocus.lm.chat_templates import column, stops, wrapped
from affectlocus.lm.generate import room, texts
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.text_loss import text_nats


class Asked(Protocol):
    """A task as it is put to a model."""

    @property
    def task(self) -> str:
        """Its name."""

    @property
    def prompts(self) -> list[list[int]]:
        """Token ids of each prompt, of which `progress` is told."""

    def answered(
        self, model: PreTrainedModel, batch_tokens: int, progress: Callable[[int], None]
    ) -> pd.DataFrame:
        """The rows of one model's answers."""


def _test(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["split"] == "test"]


def _names(task: str, samples: pd.Series) -> list[str]:
    return [f"task {task}, sample {sample!r}" for sample in samples]


def _check_finite(task: str, finite: bool) -> None:
    if not finite:
        raise InputError(
            f"task {task}: the model's log-likelihoods are not finite; "
            "its weights hold NaN or overflow in their dtype"
        )


def _written(
    model: PreTrainedModel,
    prompter: Prompter,
    task: str,
    samples: pd.Series,
    prompts: Sequence[Sequence[int]],
    settings: Generation,
    progress: Callable[[int], None],
) -> tuple[list[str], list[int]]:
    """The text behind each prompt, whose draws hang from the task's and the sample's name."""
    keys = [f"{task}\0{sample}" for sample in samples]
    return texts(
        model,
        prompter.tokenizer,
        prompts,
        keys,
        settings,
        settings.batch_tokens,
        stops(settings),
        progress,
        _names(task, samples),
    )


@dataclass(frozen=True)
class Questions:
    """A benchmark's samples and its label words, each a candidate."""

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
        test = _test(frame)
        return Questions(
            task,
            test,
            labels,
            prompter.prompts(test["prompt"].tolist(), max_length),
            [prompter.answer(word) for word in labels],
        )

    def answered(
        self, model: PreTrainedModel, batch_tokens: int, progress: Callable[[int], None]
    ) -> pd.DataFrame:
        """The log-likelihood of every label behind every prompt, a row each."""
        words, test = self.labels, self.samples
        values = log_likelihoods(
            model,
            self.prompts,
            self.candidates,
            batch_tokens,
            progress,
            _names(self.task, test["id"]),
        )
        _check_finite(self.task, bool(torch.isfinite(values).all()))
        columns: dict[str, Any] = {
            "task": self.task,
            "sample": test["id"].repeat(len(words)).to_numpy(),
            "label": test["answer"].repeat(len(words)).to_numpy(),
            "candidate": words * len(test),
            "loglik": values.flatten().numpy(),
            "tokens": [len(ids) for ids in self.candidates] * len(test),
        }
        return pd.DataFrame(columns).astype({"tokens": "int16"})


@dataclass(frozen=True)
class Text:
    """General text to read, and the openings of some of it to go on from."""

    task: str
    samples: pd.DataFrame
    prompts: list[list[int]]  # whole documents, a start token in front where there is one
    window: int
    prompter: Prompter
    settings: Samples

    @staticmethod
    def of(
        task: str,
        frame: pd.DataFrame,
        prompter: Prompter,
        max_length: int,
        settings: Samples | None = None,
    ) -> Text:
        """The documents of a prepared task, columns `id`, `split`, `prompt`.

        Args:
            max_length: tokens that the model reads at once.
            settings: how many openings are gone on from, and how; none of them by default.
        """
        test = _test(frame)
        ids = prompter.prompts(test["prompt"].tolist(), sys.maxsize)
        return Text(task, test, ids, max_length, prompter, settings or Samples(count=0))

    @property
    def openings(self) -> list[list[int]]:
        """The first tokens of the first documents; the start token in front is none of them."""
        few = self.settings
        front = int(self.prompter.tokenizer.bos_token_id is not None)
        return [ids[: front + few.opening] for ids in self.prompts[: few.count]]

    def answered(
        self, model: PreTrainedModel, batch_tokens: int, progress: Callable[[int], None]
    ) -> pd.DataFrame:
        """The log-likelihood of every document, and what the openings are gone on with."""
        names, openings = self.samples["id"], self.openings
        nats, tokens = text_nats(
            model, self.prompts, batch_tokens, self.window, progress, _names(self.task, names)
        )
        _check_finite(self.task, bool(np.isfinite(nats).all()))
        if not tokens.sum():
            raise InputError(
                f"task {self.task}: no document has two tokens, and the first is never predicted; "
                "give longer texts"
            )
        columns: dict[str, Any] = {"task": self.task, "sample": names.to_numpy()}
        columns |= {"label": "", "candidate": "", "loglik": -nats, "tokens": tokens}
        rows = pd.DataFrame(columns).astype({"loglik": "float32", "tokens": "int32"})
        if openings:
            settings = self.settings.generation
            limit = room(model, sys.maxsize, settings.max_new_tokens)
            found, _ = _written(
                model,
                self.prompter,
                self.task,
                names[: len(openings)],
                [ids[:limit] for ids in openings],
                settings,
                lambda _: None,
            )
            rows["text"] = pd.Series(found, dtype="str").reindex(rows.index)
        return rows


@dataclass(frozen=True)
class Openings:
    """A benchmark's samples as the beginning of free text."""

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
        test = _test(frame)
        limit = room(model, max_length, settings.max_new_tokens)
        told = test[column(settings.template)].tolist()
        if settings.template == "task":
            prompts = prompter.prompts(told, limit)
        else:
            prompts = wrapped(prompter.tokenizer, told, settings, limit)
        return Openings(task, test, prompts, prompter, settings)

    def answered(
        self,
        model: PreTrainedModel,
        batch_tokens: int,  # noqa: ARG002
        progress: Callable[[int], None],
    ) -> pd.DataFrame:
        """What the model writes behind every prompt, in batches of the settings' own size."""
        test = self.samples
        found, tokens = _written(
            model, self.prompter, self.task, test["id"], self.prompts, self.settings, progress
        )
        columns: dict[str, Any] = {
            "task": self.task,
            "sample": test["id"].to_numpy(),
            "label": test["answer"].to_numpy(),
            "candidate": pd.Series([None] * len(test), dtype="str"),
            "loglik": torch.full((len(test),), torch.nan).numpy(),
            "tokens": tokens,
            "text": found,
        }
        return pd.DataFrame(columns).astype({"tokens": "int16"})
