"""Section `tasks`: samples, labels or numbers, prompt."""

from __future__ import annotations

import string
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
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
from affectlocus.config.task_answers import Domain, NumberAnswer, Scoring, check_answers
from affectlocus.core.metrics import metric_names


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


class Subset(Strict):
    """A fixed part of the test split, in which labels have the shares that they have in the whole.

    Which samples are drawn depends on the seed and their ids alone, not on the order of the rows.
    """

    samples: Annotated[int, Field(ge=1), WHOLE] = Field(description="number of test samples")
    seed: Annotated[int, WHOLE] = Field(0, description="another seed draws other samples")


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
        preset = keys.get("preset") if isinstance(keys, dict) else None
        return expanded(keys) if isinstance(preset, str) and preset in PRESETS else keys

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
        check_answers(self)
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


def prompt_fields(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError as error:
        raise ParameterError(
            "prompt.not-a-template",
            f"prompt: {error}; write {{column}} for a column, {{{{ for a brace",
            found=prompt,
        ) from None
