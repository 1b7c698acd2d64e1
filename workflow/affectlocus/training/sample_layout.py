"""What a training sample learns: its answer, and what is around prompt and answer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Self

import pandas as pd

from affectlocus.config.tuning import Tuning
from affectlocus.lm.prompts import Prompter


@dataclass(frozen=True)
class SampleLayout:
    """What is around prompt and answer of a training sample (`config.tuning.Recipe`).

    Attributes:
        start: the start token, if it is not the tokenizer's.
        separate: whether an answer is encoded as a text of its own.
        end: text after each answer.
    """

    start: str | None = None
    separate: bool = False
    end: str = ""

    @classmethod
    def of(cls, recipe: Tuning) -> Self:
        """The layout of a recipe."""
        return cls(recipe.start, recipe.answers == "separate", recipe.end)


SAMPLE_LAYOUT = SampleLayout()


def train_rows(frame: pd.DataFrame, seed: int, shuffled: bool) -> tuple[pd.DataFrame, list[str]]:
    """The train split of a prepared task, and the answer of each row.

    Args:
        shuffled: whether the answers are permuted among the rows, by the seed.
    """
    rows = frame[frame["split"] == "train"]
    answers = rows["answer"].tolist()
    if shuffled:
        random.Random(f"{seed}/answers").shuffle(answers)
    return rows, answers


def learned_tokens(prompter: Prompter, answer: str, layout: SampleLayout) -> list[int]:
    """The tokens of an answer, with the end token."""
    said = f"{answer}{layout.end}"
    return [
        *(prompter.separate(said) if layout.separate else prompter.answer(said)),
        *prompter.end(),
    ]
