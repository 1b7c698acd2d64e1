"""Section `tasks`: samples, labels or numbers, prompt."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from affectlocus.config.fields import (
    WHOLE,
    Fraction,
    Listed,
    Name,
    Strict,
    labels_map,
    regular_expression,
)
from affectlocus.config.files import (
    EVERY_SPLIT,
    SPLITS,
    Context,
    Delimiter,
    Encoding,
    Files,
    Header,
    Join,
    LinePattern,
    Split,
    SplitBy,
)
from affectlocus.config.media import MediaPattern
from affectlocus.config.messages import ParameterError
from affectlocus.config.presets import PRESETS, PresetName, expanded
from affectlocus.core.metrics import metric_names

ANSWERS = ("yes", "no")
"""The labels of a task with columns.matches."""
SIGNS = ("negative", "neutral", "positive")
"""The labels of a task with columns.score and labels."""


def is_valence(labels: Iterable[str]) -> bool:
    """Whether all labels are labels of valence: positive, negative, neutral."""
    return set(labels) <= set(SIGNS)


Domain = Literal["affective", "control"]
"""Subject of a task: emotions, or something else."""


class Columns(Strict):
    """The columns of the file."""

    text: str = Field("text", description="column of the text")
    label: str | None = Field(None, description="column of the label, for tasks with labels")
    score: str | None = Field(
        None,
        description="column of a number in place of a label. Its sign gives the label negative, "
        "neutral or positive; with the task's key number, it is the answer",
    )
    matches: Annotated[str, AfterValidator(regular_expression)] | None = Field(
        None,
        description="regular expression in place of a label: yes if it is found in the text, else "
        "no",
    )
    target: str | None = Field(
        None, description="column of free text to learn, for tasks without labels"
    )
    id: Listed | None = Field(
        None,
        description="column of the sample id, or columns that form it; by default the row number",
    )
    id_per_split: bool = Field(
        False, description="ids are unique only within a split; the split's name is added in front"
    )

    @property
    def whole_ids(self) -> bool:
        """Whether an id means the same sample in every split."""
        return self.id is not None and not self.id_per_split


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


class Subset(Strict):
    """A fixed part of the test split, in which labels have the shares that they have in the whole.

    Which samples are drawn depends on the seed and their ids alone, not on the order of the rows.
    """

    samples: Annotated[int, Field(ge=1), WHOLE] = Field(description="number of test samples")
    seed: Annotated[int, WHOLE] = Field(0, description="another seed draws other samples")


class Scoring(Strict):
    """The settings of a task that scoring needs in addition to its labels."""

    domain: Domain = "affective"
    positive: str | None = None
    number: NumberAnswer | None = None


class Scorings(RootModel[dict[str, Scoring]]):
    """`Scoring` of several tasks, by name."""

    model_config = ConfigDict(frozen=True)


def _without_list(media: Any) -> Any:
    """Refuses names of media without paths, which only a preset can complete."""
    if isinstance(media, list):
        raise ParameterError(
            "task.media-without-paths",
            "found names of media alone, which need a preset; write medium: path",
            found=media,
        )
    return media


class Task(Strict):
    """A benchmark, text to tune on, or text to read: samples, labels and prompt."""

    domain: Domain = Field(
        "affective", description="cells of pairs with this domain answer the task"
    )
    corpus: bool = Field(False, description="the embedded corpus generator writes the task")
    awaited: bool = Field(
        False,
        description="the files do not exist yet, because a license is needed, for example. A dry "
        "run plans without them; a run reports what is missing",
    )
    preset: PresetName | None = Field(
        None, description="layout of a public data set, which supplies the keys that are left out"
    )
    root: str | None = Field(
        None, description="folder of the preset's files, relative to data_root"
    )
    files: Files | None = None
    split: SplitBy | None = Field(None, description="how files.all is divided into splits")
    join: Join | None = None
    header: Header = None
    delimiter: Delimiter = None
    pattern: LinePattern = None
    encoding: Encoding = "utf-8"
    rename: dict[str, str] = Field(
        {}, description="column name in some of the files → the name that the task uses"
    )
    columns: Columns = Columns()
    context: Context | None = None
    labels: Annotated[dict[str, str], BeforeValidator(labels_map)] | None = Field(
        None,
        description="label in the file → word that the model answers; a list means that both are "
        "equal",
    )
    label_separator: str | None = Field(
        None,
        min_length=1,
        description="separator of several labels in a row; such rows are left out and counted",
    )
    positive: str | None = Field(
        None, description="the positive one of two label words, for binary_f1"
    )
    number: NumberAnswer | None = Field(
        None, description="in place of labels: the answer is the whole number in columns.score"
    )
    fluency: bool = Field(
        False,
        description="in place of labels: general text, whose perplexity is computed for every cell",
    )
    unlisted_labels: Literal["refuse", "drop"] = Field(
        "refuse",
        description="rows with another label: refuse: an error; drop: left out and counted",
    )
    duplicate_ids: Literal["refuse", "first"] = Field(
        "refuse",
        description="duplicate ids in a split: refuse: an error; first: keep the first row, and "
        "count",
    )
    prompt: str = Field(
        "{text}",
        description="text before the answer; {column} inserts a column, {text} the column of the "
        "text, {context} the previous turns",
    )
    media: Annotated[
        dict[Name, MediaPattern],
        BeforeValidator(_without_list, json_schema_input_type=dict[Name, str] | list[Name]),
    ] = Field(
        {},
        description="medium in the section media → the path of a sample's file, relative to "
        "data_root. {column} inserts a column of the sample, {id} its id, {split} its split. With "
        "a preset that has media, their names are enough: [face, audio]",
    )
    absent: Literal["refuse", "drop"] = Field(
        "refuse",
        description="samples without a usable file of each medium (missing, undecodable, silent, "
        "without a face, …): refuse: an error; drop: left out. The data report counts them",
    )
    subset: Subset | None = Field(
        None, description="only a part of the test split is read; by default the whole"
    )
    overlap_limit: Fraction = Field(
        0.25, description="maximum share of test texts that are also in another split"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, keys: Any) -> Any:
        known = isinstance(keys, dict) and keys.get("preset") in PRESETS
        return expanded(keys) if known else keys

    @model_validator(mode="after")
    def _whole(self) -> Task:
        if self.root is not None:
            raise ParameterError(
                "task.root-without-preset", "root needs preset; remove root, or name the preset"
            )
        if self.corpus == (self.files is not None):
            raise ParameterError("task.not-one-source", "expected either corpus: true or files")
        if self.files is not None:
            self._files_are_sound(self.files)
        if self.subset is not None and "test" not in self.splits:
            raise ParameterError(
                "task.subset-without-test",
                "subset is a part of the test split, and the task has none; remove subset",
            )
        if self.absent != "refuse" and not self.media:
            raise ParameterError(
                "task.absent-without-media", "absent needs media; remove it, or name the media"
            )
        if self.pattern is not None and (self.header or self.delimiter):
            raise ParameterError(
                "task.pattern-with-header",
                "pattern cannot be used with header or delimiter; remove those",
            )
        if self.labels is not None and len(set(self.labels.values())) < 2:
            raise ParameterError("task.too-few-labels", "labels needs two different words or more")
        asked = []
        for _, field, spec, conversion in prompt_fields(self.prompt):
            if field is not None and (spec or conversion or not field or not field.isprintable()):
                raise ParameterError(
                    "prompt.not-a-column",
                    f"prompt: {{{field}}} is not a column name in braces; correct it",
                    found=field,
                )
            asked.append(field)
        if self.context is not None and self.preset is None and "context" not in asked:
            raise ParameterError(
                "prompt.no-context", "the prompt has no {context}; add it, or remove context"
            )
        self._answers_are_sound()
        return self

    def _files_are_sound(self, files: Files) -> None:
        names = [key for key, _ in files.items()]
        if not names:
            raise ParameterError(
                "task.no-files", "files names no split; expected train, validation or test"
            )
        if "all" in names and len(names) > 1:
            raise ParameterError(
                "task.overlapping-files",
                f"files.all contains every split; remove files.{names[0]}",
                found=names,
            )
        if self.split is not None and names != ["all"]:
            raise ParameterError(
                "task.split-without-all", "split needs files.all; name the file as files.all"
            )

    def _answers_are_sound(self) -> None:
        columns = self.columns
        answers = {
            "labels": self.labels,
            "number": self.number,
            "fluency": self.fluency or None,
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
        if self.fluency:
            unused = [*used, *(["prompt"] if self.prompt != "{text}" else [])]
            unused += ["media"] if self.media else []
            if self.context is not None:
                unused.append("context")
            if unused:
                raise ParameterError(
                    "task.unused-with-fluency",
                    f"fluency uses only the text; remove {', '.join(unused)}",
                    unused=unused,
                )
        elif self.number is not None and used != ["columns.score"]:
            raise ParameterError(
                "task.number-without-score",
                "number needs columns.score and no other answer; name the column of numbers",
            )
        elif self.label_separator is not None and columns.label is None:
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
        words = self.words if self.labels is not None else []
        if self.positive is not None and (self.positive not in words or len(words) != 2):
            raise ParameterError(
                "task.unknown-positive",
                f"positive: found {self.positive!r}; expected one of exactly two label words, "
                f"found {', '.join(words) or 'none'}",
                found=self.positive,
                expected=words,
            )
        for key, (allowed, what) in _FIXED_LABELS.items():
            for label in (self.labels or {}) if f"columns.{key}" in used else ():
                if label not in allowed:
                    raise ParameterError(
                        "task.unknown-label",
                        f"labels: found {label!r}; with columns.{key} {what} is the label; "
                        f"expected {', '.join(allowed)}",
                        found=label,
                        column=key,
                    )

    @model_serializer(mode="wrap")
    def _without_unused_media(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The keys; those of media only where there are media.

        The settings of a task are parameters of its jobs. So a task of text alone has the ones that
        it had before there were media, and reruns nothing.
        """
        keys: dict[str, Any] = handler(self)
        return keys if self.media else {k: v for k, v in keys.items() if k not in _OF_MEDIA}

    @property
    def words(self) -> list[str]:
        """The possible answers, in the order that decides ties; empty for tasks without labels."""
        if self.number is not None:
            return self.number.words
        return list(dict.fromkeys((self.labels or {}).values()))

    @property
    def scoring(self) -> Scoring:
        """The settings of the task that scoring needs."""
        return Scoring(domain=self.domain, positive=self.positive, number=self.number)

    @property
    def reading(self) -> Task:
        """The task without settings that only scoring uses; they do not change prepared data."""
        number = self.number
        if number is not None:
            number = NumberAnswer(
                lowest=number.lowest, highest=number.highest, ending=number.ending
            )
        changed = {"domain": "affective", "positive": None, "number": number, "awaited": False}
        return self.model_copy(update=changed)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics in percent of the task."""
        if self.number is not None and self.number.cutoff is None:
            return ()
        binary = self.positive is not None or self.number is not None
        return metric_names("labels", "positive") if binary else metric_names("labels")

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits in the files, as far as the settings say."""
        if self.files is None:
            return SPLITS
        names = [key for key, _ in self.files.items()]
        if names == ["all"]:
            names = [split for split, _ in (self.split or EVERY_SPLIT).items()]
        return tuple(split for split in SPLITS if split in names)

    @property
    def scored(self) -> bool:
        """Whether the task is a benchmark: it has labels or a number, and a test split."""
        return bool(self.words) and "test" in self.splits


_OF_MEDIA = ("media", "absent")
# Column that gives fixed labels → the labels, and what decides between them.
_FIXED_LABELS = {"score": (SIGNS, "the sign"), "matches": (ANSWERS, "yes or no")}


def _exclude_each_other(keys: list[str]) -> None:
    if len(keys) > 1:
        raise ParameterError(
            "task.two-answers",
            f"{keys[0]} and {keys[1]} exclude each other; remove one of them",
            found=keys[:2],
        )


def prompt_fields(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError as error:
        raise ParameterError(
            "prompt.not-a-template",
            f"prompt: {error}; write {{column}} for a column, {{{{ for a brace",
            found=prompt,
        ) from None
