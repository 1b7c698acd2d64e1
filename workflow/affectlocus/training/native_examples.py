"""The training samples of a multimodal model of transformers, which reads media itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from affectlocus.checkpoints.native_models import NativeModel
from affectlocus.core.errors import InputError
from affectlocus.lm.native_samples import NativeSamples, followed
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.sample_media import SampleMedia, TaskMedia, media_of, with_placeholders
from affectlocus.lm.soft_tokens import cut
from affectlocus.training.batches import Example
from affectlocus.training.sample_layout import (
    SAMPLE_LAYOUT,
    SampleLayout,
    learned_tokens,
    train_rows,
)


@dataclass(frozen=True, kw_only=True)
class NativeExample(Example):
    """A sample whose prompt the model's processor makes; `ids` has the answer at its end.

    Attributes:
        samples: the only sample, with its prompt as it is read.
        row: its place among the media of its task.
    """

    samples: NativeSamples
    row: int

    @property
    def answer(self) -> list[int]:
        """The learned tokens."""
        return self.ids[self.prompt_length :]

    def inputs(self) -> dict[str, torch.Tensor]:
        """The model's inputs: the prompt with its media, (1, T), and the answer after it."""
        return followed(self.samples.inputs(self.row), self.answer)


def native_examples(
    prompter: Prompter,
    processor: Any,
    native: NativeModel,
    frames: Sequence[pd.DataFrame],
    media: Sequence[TaskMedia],
    *,
    max_length: int,
    seed: int,
    shuffled: bool = False,
    layout: SampleLayout = SAMPLE_LAYOUT,
) -> list[NativeExample]:
    """The train splits of prepared tasks, shuffled together, as `tune.training_examples` does.

    Args:
        processor: of the base.
        media: the decoded media of each task that the model reads; empty for a task of text. Other
            media are no part of the prompts.
        max_length: tokens of prompt, media and answer at most. In a longer sample, the text of the
            prompt is cut at its start; media are never cut.
        shuffled: whether the answers of each task are permuted among its samples, by the seed.

    Raises:
        InputError: `max_length` leaves no room for the media and the answer of a sample.
    """
    examples = []
    for number, frame in enumerate(frames):
        given = media[number] if media else {}
        rows, answers = train_rows(with_placeholders(frame, given), seed, shuffled)
        names = [name for name in media_of(rows) if name in given]
        own = SampleMedia(given, rows["id"].tolist())
        samples = NativeSamples(processor, native, rows["prompt"].tolist(), names, own)
        for row, word in enumerate(answers):
            answer = learned_tokens(prompter, word, layout)
            kept, prompt = _fitting(samples, row, max_length - len(answer))
            examples.append(NativeExample([*prompt, *answer], len(prompt), samples=kept, row=row))
    random.Random(seed).shuffle(examples)
    return examples


def _fitting(samples: NativeSamples, row: int, room: int) -> tuple[NativeSamples, list[int]]:
    """A sample whose prompt has at most `room` tokens, and their ids."""
    names = dict.fromkeys(samples.names, 1)
    while True:
        ids: list[int] = samples.inputs(row)["input_ids"][0].tolist()
        if len(ids) <= room:
            return samples, ids
        text = samples.texts[row]
        shorter = cut(text, len(ids) - room, names)
        if shorter == text:
            raise InputError(
                "native.no-room-for-media",
                f"sample {samples.media.samples[row]}: its media alone have {len(ids)} tokens, and "
                f"max_length leaves {max(room, 0)} beside the answer; raise max_length",
                sample=samples.media.samples[row],
                found=len(ids),
                expected=room,
                key="max_length",
            )
        texts = [*samples.texts[:row], shorter, *samples.texts[row + 1 :]]
        samples = replace(samples, texts=texts)
