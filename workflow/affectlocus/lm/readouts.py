"""The readouts of a task: candidate log-likelihoods, free text, and the likelihood of general text.

A readout holds the test split of a task as token ids, encoded once for any number of cells. Its
`answer` returns the rows of a model (`evaluate.evaluate`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from affectlocus.config.evaluation import Generation, Samples
from affectlocus.core.errors import InputError
from affectlocus.lm.candidates import log_likelihoods
from affectlocus.lm.chat_templates import column, stops, template_ids
from affectlocus.lm.generate import generate_texts, prompt_limit
from affectlocus.lm.native_samples import NativeSamples
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.soft_tokens import Soft
from affectlocus.lm.text_loss import text_nats


class Readout(Protocol):
    """A task in the form in which models answer it."""

    @property
    def task(self) -> str:
        """The name of the task."""

    @property
    def prompts(self) -> list[list[int]]:
        """Token ids of each prompt; `progress` counts these prompts."""

    def answer(
        self,
        model: PreTrainedModel,
        batch_tokens: int,
        progress: Callable[[int], None],
        soft: Soft | NativeSamples | None = None,
    ) -> pd.DataFrame:
        """The answers of a model, a row each.

        Args:
            soft: the soft tokens of the prompts, if they have negative ids; or the samples as a
                multimodal model reads them itself.
        """


def _test(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["split"] == "test"]


def _names(task: str, samples: pd.Series) -> list[str]:
    return [f"task {task}, sample {sample!r}" for sample in samples]


def _check_finite(task: str, finite: bool) -> None:
    if not finite:
        raise InputError(
            "model.scores-not-finite",
            f"task {task}: the model's log-likelihoods are not finite; its weights contain NaN or "
            "overflow in their dtype",
            task=task,
        )


def _generate(
    model: PreTrainedModel,
    prompter: Prompter,
    task: str,
    samples: pd.Series,
    prompts: Sequence[Sequence[int]],
    settings: Generation,
    progress: Callable[[int], None],
    soft: Soft | None = None,
) -> tuple[list[str], list[int]]:
    """The text after each prompt and its number of tokens. Sampling is seeded by (task, sample)."""
    keys = [f"{task}\0{sample}" for sample in samples]
    return generate_texts(
        model,
        prompter.tokenizer,
        prompts,
        keys,
        settings,
        settings.batch_tokens,
        stops(settings),
        progress,
        _names(task, samples),
        soft,
    )


@dataclass(frozen=True)
class CandidateReadout:
    """A benchmark whose label words are the candidate answers."""

    task: str
    samples: pd.DataFrame  # the prepared task's test rows
    labels: list[str]
    prompts: list[list[int]]
    candidates: list[list[int]]

    @staticmethod
    def of(
        task: str,
        frame: pd.DataFrame,
        labels: list[str],
        prompter: Prompter,
        max_length: int,
        tokens: Mapping[str, int] | None = None,
    ) -> CandidateReadout:
        """The readout of a prepared task with columns `id`, `split`, `prompt`, `answer`.

        Args:
            labels: the label words, in the order of params.yaml.
            max_length: tokens of a prompt at most.
            tokens: placeholder → the number of its soft tokens.
        """
        test = _test(frame)
        return CandidateReadout(
            task,
            test,
            labels,
            prompter.prompts(test["prompt"].tolist(), max_length, tokens),
            [prompter.answer(word) for word in labels],
        )

    def answer(
        self,
        model: PreTrainedModel,
        batch_tokens: int,
        progress: Callable[[int], None],
        soft: Soft | NativeSamples | None = None,
    ) -> pd.DataFrame:
        """The log-likelihood of every label after every prompt, a row each."""
        words, test = self.labels, self.samples
        if isinstance(soft, NativeSamples):
            values = soft.log_likelihoods(model, self.candidates, progress)
        else:
            values = log_likelihoods(
                model,
                self.prompts,
                self.candidates,
                batch_tokens,
                progress,
                _names(self.task, test["id"]),
                soft,
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
class TextReadout:
    """General text whose likelihood is measured; optionally the model continues some openings."""

    task: str
    samples: pd.DataFrame
    prompts: list[list[int]]  # whole documents, after the start token if the tokenizer has one
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
    ) -> TextReadout:
        """The readout of a prepared task with columns `id`, `split`, `prompt`.

        Args:
            max_length: tokens that the model reads at once.
            settings: how many openings are continued, and how; none by default.
        """
        test = _test(frame)
        ids = prompter.prompts(test["prompt"].tolist(), sys.maxsize)
        return TextReadout(task, test, ids, max_length, prompter, settings or Samples(count=0))

    @property
    def openings(self) -> list[list[int]]:
        """The first tokens of the first documents, after the start token, which is not counted."""
        few = self.settings
        front = int(self.prompter.tokenizer.bos_token_id is not None)
        return [ids[: front + few.opening] for ids in self.prompts[: few.count]]

    def answer(
        self,
        model: PreTrainedModel,
        batch_tokens: int,
        progress: Callable[[int], None],
        soft: Soft | NativeSamples | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """The log-likelihood of every document, a row each, and the openings' continuations."""
        names, openings = self.samples["id"], self.openings
        nats, tokens = text_nats(
            model, self.prompts, batch_tokens, self.window, progress, _names(self.task, names)
        )
        _check_finite(self.task, bool(np.isfinite(nats).all()))
        if not tokens.sum():
            raise InputError(
                "task.documents-too-short",
                f"task {self.task}: no document has two tokens, and the first token is never "
                "predicted; give longer texts",
                task=self.task,
            )
        columns: dict[str, Any] = {"task": self.task, "sample": names.to_numpy()}
        columns |= {"label": "", "candidate": "", "loglik": -nats, "tokens": tokens}
        rows = pd.DataFrame(columns).astype({"loglik": "float32", "tokens": "int32"})
        if openings:
            settings = self.settings.generation
            limit = prompt_limit(model, sys.maxsize, settings.max_new_tokens)
            found, _ = _generate(
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
class FreeTextReadout:
    """A benchmark that the model answers in free text."""

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
        tokens: Mapping[str, int] | None = None,
    ) -> FreeTextReadout:
        """The readout of a prepared task with columns `id`, `split`, `prompt`, `text`, `answer`.

        Args:
            max_length: tokens of a prompt at most; fewer if the model's positions do not suffice
                for prompt and text.
            model: the model of any cell.
            tokens: placeholder → the number of its soft tokens.
        """
        test = _test(frame)
        limit = prompt_limit(model, max_length, settings.max_new_tokens)
        texts = test[column(settings.template)].tolist()
        if settings.template == "task":
            prompts = prompter.prompts(texts, limit, tokens)
        else:
            prompts = template_ids(prompter.tokenizer, texts, settings, limit, tokens)
        return FreeTextReadout(task, test, prompts, prompter, settings)

    def answer(
        self,
        model: PreTrainedModel,
        batch_tokens: int,  # noqa: ARG002
        progress: Callable[[int], None],
        soft: Soft | NativeSamples | None = None,
    ) -> pd.DataFrame:
        """The text that the model generates after every prompt; `settings` has the batch size."""
        assert not isinstance(soft, NativeSamples)  # refused by the session
        test = self.samples
        found, tokens = _generate(
            model, self.prompter, self.task, test["id"], self.prompts, self.settings, progress, soft
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
