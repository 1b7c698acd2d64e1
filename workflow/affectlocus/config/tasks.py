"""Section `tasks`: samples, labels or numbers, prompt."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, RootModel, model_validator

from affectlocus.config.fields import (
    Fraction,
    Listed,
    Pattern,
    Strict,
    codec,
    distinct,
    labels_map,
    regular_expression,
)
from affectlocus.config.files import EVERY_SPLIT, SPLITS, Context, Files, Join, Split, SplitBy
from affectlocus.config.presets import PRESETS, PresetName, expanded
from affectlocus.core.metrics import metric_names

ANSWERS = ("yes", "no")
"""The labels that a regular expression gives."""
SIGNS = ("negative", "neutral", "positive")
"""The labels that a score's sign gives."""


def is_valence(labels: Iterable[str]) -> bool:
    """Whether a task's labels are those of valence: positive, negative, neutral."""
    return set(labels) <= set(SIGNS)


Domain = Literal["affective", "control"]
"""What a task asks for: emotions, or something else."""


class Columns(Strict):
    """Which columns of the file hold what."""

    text: str = Field("text", description="column of the text")
    label: str | None = Field(None, description="the label; tasks with labels")
    score: str | None = Field(
        None,
        description="instead of a label, a number: its sign is negative, neutral or positive; or, "
        "beside the task's key number, the answer itself",
    )
    matches: Annotated[str, AfterValidator(regular_expression)] | None = Field(
        None,
        description="instead of a label, a regular expression: yes where the text has it, else no",
    )
    target: str | None = Field(None, description="free text to learn; tasks without labels")
    id: Listed | None = Field(
        None, description="sample id, or columns that make one; by default the row's number"
    )
    id_per_split: bool = Field(
        False, description="ids start anew in each split, whose name is then put in front"
    )

    @property
    def whole_ids(self) -> bool:
        """Whether an id means the same sample in every split."""
        return self.id is not None and not self.id_per_split


_MOST_NUMBERS = 10_000


class NumberAnswer(Strict):
    """The answer is a whole number: each one in the range is a candidate."""

    lowest: Annotated[int, Field(ge=-(2**31), lt=2**31)] = Field(0, description="lowest number")
    highest: Annotated[int, Field(ge=-(2**31), lt=2**31)] = Field(description="highest number")
    ending: str = Field(
        "\n",
        min_length=1,
        description="what ends an answer; without it, the likelihood of 1 would hold that of 10",
    )
    readout: Literal["mean", "likeliest"] = Field(
        "mean", description="the candidates' mean, weighted by their likelihood, or the likeliest"
    )
    cutoff: int | None = Field(
        None, description="from here on a sample counts as positive: two classes, and their scores"
    )

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} is not below highest {self.highest}")
        if self.highest - self.lowest >= _MOST_NUMBERS:
            raise ValueError(
                f"{self.highest - self.lowest + 1} numbers from lowest to highest, and each is a "
                f"candidate of every sample; expected {_MOST_NUMBERS} at most"
            )
        if self.cutoff is not None and not self.lowest < self.cutoff <= self.highest:
            raise ValueError(
                f"cutoff {self.cutoff} leaves one class empty; expected one of "
                f"{self.lowest + 1} to {self.highest}"
            )
        if self.ending[0].isdigit():
            raise ValueError(f"ending {self.ending!r} starts with a digit, and would lengthen one")
        return self

    @property
    def values(self) -> range:
        """The numbers that can be answered."""
        return range(self.lowest, self.highest + 1)

    @property
    def words(self) -> list[str]:
        """The candidates, as the model is to say them."""
        return [f"{value}{self.ending}" for value in self.values]


class Scoring(Strict):
    """What scoring a task's answers needs to know beyond its labels."""

    domain: Domain = "affective"
    positive: str | None = None
    number: NumberAnswer | None = None


class Scorings(RootModel[dict[str, Scoring]]):
    """The same for several tasks, by name."""

    model_config = ConfigDict(frozen=True)


class Task(Strict):
    """A benchmark, a text to tune on, or a text to read: samples, labels, prompt."""

    domain: Domain = Field(
        "affective", description="which pairs' cells answer it: those of this domain"
    )
    corpus: bool = Field(False, description="made by the embedded corpus generator")
    awaited: bool = Field(
        False,
        description="files that are still to be brought, from an owner who licenses them, say: a "
        "dry run plans without them, a run says what is missing",
    )
    preset: PresetName | None = Field(
        None, description="a public data set's layout; fills in the keys that are left out"
    )
    root: str | None = Field(None, description="the preset's folder, below data_root")
    files: Files | None = None
    split: SplitBy | None = Field(None, description="how files.all is taken apart")
    join: Join | None = None
    header: Annotated[list[str], AfterValidator(distinct)] | None = Field(
        None, description="column names of a file that has none"
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="what separates columns; by default ',' in a csv and a tab in a tsv"
    )
    pattern: Pattern | None = Field(
        None, description="regular expression: each line it finds is a row, its groups the columns"
    )
    encoding: Annotated[str, AfterValidator(codec)] = Field(
        "utf-8", description="how characters are stored, as Python names it"
    )
    rename: dict[str, str] = Field(
        {}, description="a column's name in some of the files → the name that is meant here"
    )
    columns: Columns = Columns()
    context: Context | None = None
    labels: Annotated[dict[str, str], BeforeValidator(labels_map)] | None = Field(
        None,
        description="label in the file → word that the model is to say; a list says both are one",
    )
    label_separator: str | None = Field(
        None,
        min_length=1,
        description="what stands between the labels of a row that has several; such rows are left "
        "out and counted",
    )
    positive: str | None = Field(
        None, description="of two labels, the word that binary_f1 is the F1 of"
    )
    number: NumberAnswer | None = Field(
        None, description="instead of labels: columns.score is a whole number to be answered"
    )
    fluency: bool = Field(
        False, description="instead of labels: general text, whose perplexity every cell is asked"
    )
    unlisted_labels: Literal["refuse", "drop"] = Field(
        "refuse", description="rows with another label: an error, or left out and counted"
    )
    duplicate_ids: Literal["refuse", "first"] = Field(
        "refuse", description="an id twice in a split: an error, or the first row kept, and counted"
    )
    prompt: str = Field(
        "{text}",
        description="text before the answer; {column} inserts a column, {text} the text's, "
        "{context} the previous turns",
    )
    overlap_limit: Fraction = Field(
        0.25, description="share of test texts that may also stand in another split"
    )

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        known = isinstance(given, dict) and given.get("preset") in PRESETS
        return expanded(given) if known else given

    @model_validator(mode="after")
    def _whole(self) -> Task:
        if self.root is not None:
            raise ValueError("root goes with preset only; remove it, or name the preset")
        if self.corpus == (self.files is not None):
            raise ValueError("expected either corpus: true or files")
        if self.files is not None:
            self._files_are_sound(self.files)
        if self.pattern is not None and (self.header or self.delimiter):
            raise ValueError("pattern goes without header and delimiter; remove those")
        if self.labels is not None and len(set(self.labels.values())) < 2:
            raise ValueError("labels needs at least two different words")
        asked = []
        for _, field, spec, conversion in prompt_fields(self.prompt):
            if field is not None and (spec or conversion or not field or not field.isprintable()):
                raise ValueError(f"prompt: {{{field}}} is not a column's name in braces")
            asked.append(field)
        if self.context is not None and self.preset is None and "context" not in asked:
            raise ValueError("context is given, but the prompt has no {context}; write it there")
        self._answers_are_sound()
        return self

    def _files_are_sound(self, files: Files) -> None:
        names = [key for key, _ in files.items()]
        if not names:
            raise ValueError("files names no split; expected train, validation or test")
        if "all" in names and len(names) > 1:
            raise ValueError(f"files.all holds every split; remove files.{names[0]}")
        if self.split is not None and names != ["all"]:
            raise ValueError("split takes files.all apart; name the file as files.all")

    def _answers_are_sound(self) -> None:
        columns = self.columns
        kinds = {
            "labels": self.labels is not None,
            "number": self.number is not None,
            "fluency": self.fluency,
            "columns.target": columns.target is not None,
        }
        given = [key for key in ("label", "score", "matches", "target") if getattr(columns, key)]
        for key, there in (("score", SIGNS), ("matches", ANSWERS)):
            if sum(kinds.values()) == 0 and getattr(columns, key) is not None:
                raise ValueError(f"labels is missing; columns.{key} needs {', '.join(there)}")
        if sum(kinds.values()) == 0 or (self.labels is not None and columns.target is not None):
            raise ValueError("expected either labels or columns.target")
        if sum(kinds.values()) > 1:
            one, two = [key for key, there in kinds.items() if there][:2]
            raise ValueError(f"{one} and {two} exclude each other; remove one")
        if self.fluency:
            if given:
                raise ValueError(f"fluency reads the text alone; remove columns.{given[0]}")
            if self.prompt != "{text}" or self.context is not None:
                raise ValueError("fluency reads the text alone; remove prompt and context")
        elif self.number is not None and given != ["score"]:
            raise ValueError("number needs columns.score, and no label; name the column of numbers")
        elif self.label_separator is not None and columns.label is None:
            raise ValueError("label_separator goes with columns.label only; remove it")
        elif not given:
            raise ValueError("columns.label is missing; name the column that holds the label")
        elif len(given) > 1:
            raise ValueError(f"columns.{given[0]} and columns.{given[1]} exclude each other")
        if self.positive is not None:
            words = self.words
            if self.labels is None or self.positive not in words or len(words) != 2:
                raise ValueError(
                    f"positive: found {self.positive!r}; expected one of two labels' words, here "
                    + (", ".join(words) if self.labels else "none")
                )
        for key, there, what in (("score", SIGNS, "the sign"), ("matches", ANSWERS, "yes or no")):
            for label in (self.labels or {}) if getattr(columns, key) else ():
                if label not in there:
                    raise ValueError(
                        f"labels: found {label!r}; of columns.{key} {what} is the label: "
                        f"{', '.join(there)}"
                    )

    @property
    def words(self) -> list[str]:
        """What the model can answer, in the order that decides ties; none where it only reads."""
        if self.number is not None:
            return self.number.words
        return list(dict.fromkeys((self.labels or {}).values()))

    @property
    def scoring(self) -> Scoring:
        """What scoring needs to know of it."""
        return Scoring(domain=self.domain, positive=self.positive, number=self.number)

    @property
    def reading(self) -> Task:
        """The task without what scoring alone needs, a change of which prepares nothing anew."""
        number = self.number
        if number is not None:
            number = NumberAnswer(
                lowest=number.lowest, highest=number.highest, ending=number.ending
            )
        changed = {"domain": "affective", "positive": None, "number": number, "awaited": False}
        return self.model_copy(update=changed)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores in percent that its answers have."""
        if self.number is not None and self.number.cutoff is None:
            return ()
        binary = self.positive is not None or self.number is not None
        return metric_names("labels", "positive") if binary else metric_names("labels")

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that the files are said to hold."""
        if self.files is None:
            return SPLITS
        names = [key for key, _ in self.files.items()]
        if names == ["all"]:
            names = [split for split, _ in (self.split or EVERY_SPLIT).items()]
        return tuple(split for split in SPLITS if split in names)

    @property
    def scored(self) -> bool:
        """Whether the task is a benchmark: it has labels, or a number, and a test split."""
        return bool(self.words) and "test" in self.splits


def prompt_fields(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError as error:
        raise ValueError(
            f"prompt: {error}; write {{column}} for a column, {{{{ for a brace"
        ) from None
