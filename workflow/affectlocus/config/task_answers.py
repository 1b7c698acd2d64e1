"""The answers of tasks: labels, numbers, and which columns of a file give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import ConfigDict, Field, RootModel, model_validator

from affectlocus.config.fields import WHOLE, Strict
from affectlocus.config.messages import ParameterError

if TYPE_CHECKING:
    from affectlocus.config.tasks import Task

ANSWERS = ("yes", "no")
"""The labels of a task with columns.matches."""
SIGNS = ("negative", "neutral", "positive")
"""The labels of a task with columns.score and labels."""


def is_valence(labels: Iterable[str]) -> bool:
    """Whether all labels are labels of valence: positive, negative, neutral."""
    return set(labels) <= set(SIGNS)


Domain = Literal["affective", "control"]
"""Subject of a task: emotions, or something else."""
# Column that gives fixed labels → the labels, and what decides between them.
_FIXED_LABELS = {"score": (SIGNS, "the sign"), "matches": (ANSWERS, "yes or no")}


_MOST_NUMBERS = 10_000


class NumberAnswer(Strict):
    """The answer is a whole number; every number in the range is a candidate."""

    lowest: Annotated[int, Field(ge=-(2**31), lt=2**31), WHOLE] = Field(
        0, description="lowest number"
    )
    highest: Annotated[int, Field(ge=-(2**31), lt=2**31), WHOLE] = Field(
        description="highest number"
    )
    ending: str = Field(
        "\n",
        min_length=1,
        description="text that ends an answer; without it, the likelihood of 1 would include that "
        "of 10",
    )
    readout: Literal["mean", "likeliest"] = Field(
        "mean",
        description="mean: of the candidates, weighted by likelihood; likeliest: the most likely "
        "one",
    )
    cutoff: Annotated[int, WHOLE] | None = Field(
        None,
        description="samples with this number or a higher one are positive; adds scores of two "
        "classes",
    )

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.lowest >= self.highest:
            raise ParameterError(
                "task.empty-range",
                f"lowest {self.lowest} is not below highest {self.highest}",
                found=[self.lowest, self.highest],
            )
        if self.highest - self.lowest >= _MOST_NUMBERS:
            raise ParameterError(
                "task.too-many-numbers",
                f"found {self.highest - self.lowest + 1} numbers from lowest to highest; expected "
                f"at most {_MOST_NUMBERS}, because each is a candidate of every sample",
                found=self.highest - self.lowest + 1,
                expected=_MOST_NUMBERS,
            )
        if self.cutoff is not None and not self.lowest < self.cutoff <= self.highest:
            raise ParameterError(
                "task.cutoff-outside-range",
                f"cutoff {self.cutoff} leaves one class empty; expected a number from "
                f"{self.lowest + 1} to {self.highest}",
                found=self.cutoff,
                expected=[self.lowest + 1, self.highest],
            )
        if self.ending[0].isdigit():
            raise ParameterError(
                "task.ending-starts-with-digit",
                f"ending {self.ending!r} starts with a digit, which would be read as part of the "
                "number",
                found=self.ending,
            )
        return self

    @property
    def values(self) -> range:
        """The numbers that are possible answers."""
        return range(self.lowest, self.highest + 1)

    @property
    def words(self) -> list[str]:
        """The candidates, as texts that the model scores."""
        return [f"{value}{self.ending}" for value in self.values]


class Scoring(Strict):
    """The settings of a task that scoring needs in addition to its labels."""

    domain: Domain = "affective"
    positive: str | None = None
    number: NumberAnswer | None = None


class Scorings(RootModel[dict[str, Scoring]]):
    """`Scoring` of several tasks, by name."""

    model_config = ConfigDict(frozen=True)


def check_answers(task: Task) -> None:
    """Refuses a task whose answers are missing, given twice, or do not fit its columns."""
    columns = task.columns
    answers = {
        "labels": task.labels,
        "number": task.number,
        "fluency": task.fluency or None,
        "columns.target": columns.target,
    }
    given = [key for key, value in answers.items() if value is not None]
    keys = ("label", "score", "matches", "target")
    used = [f"columns.{key}" for key in keys if getattr(columns, key) is not None]
    if not given:
        for key, (allowed, _) in _FIXED_LABELS.items():
            if f"columns.{key}" in used:
                raise ParameterError(
                    "task.no-labels",
                    f"labels is missing; columns.{key} needs {', '.join(allowed)}",
                    column=key,
                )
        raise ParameterError("task.not-one-answer", "expected either labels or columns.target")
    _exclude_each_other(given)
    if task.fluency:
        unused = [*used, *(["prompt"] if task.prompt != "{text}" else [])]
        unused += ["media"] if task.media else []
        if task.context is not None:
            unused.append("context")
        if unused:
            raise ParameterError(
                "task.unused-with-fluency",
                f"fluency uses only the text; remove {', '.join(unused)}",
                unused=unused,
            )
    elif task.number is not None and used != ["columns.score"]:
        raise ParameterError(
            "task.number-without-score",
            "number needs columns.score and no other answer; name the column of numbers",
        )
    elif task.label_separator is not None and columns.label is None:
        raise ParameterError(
            "task.separator-without-label", "label_separator needs columns.label; remove it"
        )
    elif not used:
        raise ParameterError(
            "task.no-label-column",
            "columns.label is missing; name the column that holds the label",
        )
    else:
        _exclude_each_other(used)
    words = task.words if task.labels is not None else []
    if task.positive is not None and (task.positive not in words or len(words) != 2):
        raise ParameterError(
            "task.unknown-positive",
            f"positive: found {task.positive!r}; expected one of exactly two label words, "
            f"found {', '.join(words) or 'none'}",
            found=task.positive,
            expected=words,
        )
    for key, (allowed, what) in _FIXED_LABELS.items():
        for label in (task.labels or {}) if f"columns.{key}" in used else ():
            if label not in allowed:
                raise ParameterError(
                    "task.unknown-label",
                    f"labels: found {label!r}; with columns.{key} {what} is the label; "
                    f"expected {', '.join(allowed)}",
                    found=label,
                    column=key,
                )


def _exclude_each_other(keys: list[str]) -> None:
    if len(keys) > 1:
        raise ParameterError(
            "task.two-answers",
            f"{keys[0]} and {keys[1]} exclude each other; remove one of them",
            found=keys[:2],
        )
