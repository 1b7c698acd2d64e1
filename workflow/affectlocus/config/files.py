"""A task's files: tables, splits, joins, dialogue context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from affectlocus.config.fields import (
    Count,
    Listed,
    Pattern,
    Strict,
    as_file,
    codec,
    distinct,
    one_group,
)
from affectlocus.config.messages import ParameterError
from affectlocus.config.sources import HUB_ID

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DataFile(Strict):
    """A file of samples, on disk or in a data set on the hub; a plain path means a file on disk."""

    file: str = Field(min_length=1, description="path on disk; with hub, the path in the data set")
    hub: str | None = Field(None, pattern=HUB_ID, description="owner/name of a data set")
    revision: str | None = Field(
        None,
        min_length=1,
        description="commit of the data set, 40 hex digits; the commit of a branch or tag is "
        "looked up once",
    )

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if (self.hub is None) != (self.revision is None):
            if self.hub is None:
                raise ParameterError(
                    "data.no-hub", "hub is missing; revision needs hub; add hub or remove revision"
                )
            raise ParameterError(
                "data.no-revision",
                "revision is missing; hub needs the 40 hex digits of a commit, or a branch or tag",
            )
        return self


Table = Annotated[DataFile, BeforeValidator(as_file, json_schema_input_type=str | DataFile)]


class Files(Strict):
    """A file for each split or one for all splits: csv, tsv or jsonl, also .gz, or parquet."""

    train: Table | None = Field(None, description="file of the train split")
    validation: Table | None = Field(None, description="file of the validation split")
    test: Table | None = Field(None, description="file of the test split")
    all: Table | None = Field(None, description="one file for all splits; see split")

    def items(self) -> Iterator[tuple[str, DataFile]]:
        for key in (*SPLITS, "all"):
            file = getattr(self, key)
            if file is not None:
                yield key, file


class SplitBy(Strict):
    """Which values of a column mean which split; other rows are left out and counted."""

    column: str = Field("split", description="column that names the split of a row")
    train: Listed = Field([], description="values that mean train")
    validation: Listed = Field([], description="values that mean validation")
    test: Listed = Field([], description="values that mean test")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        values = [value for _, values in self.items() for value in values]
        if not values:
            raise ParameterError(
                "task.no-split-values",
                "found no values; list those that mean train, validation or test",
            )
        distinct(values)
        return self

    def items(self) -> Iterator[tuple[Split, list[str]]]:
        for split in SPLITS:
            if values := getattr(self, split):
                yield split, values


EVERY_SPLIT = SplitBy(train=["train"], validation=["validation"], test=["test"])


class Gather(Strict):
    """Joins all rows of an id into one text, a line for each row, as the turns of an interview."""

    column: str = Field(description="column whose values become the lines; it then holds the text")
    where: dict[str, Listed] = Field(
        {}, description="column → values: only rows with one of these values are taken"
    )
    speaker: str | None = Field(
        None, description="column of the name that is written in front of a line"
    )


Header = Annotated[
    Annotated[list[str], AfterValidator(distinct)] | None,
    Field(description="column names, if the file has no header"),
]
Delimiter = Annotated[
    Annotated[str, Field(min_length=1, max_length=1)] | None,
    Field(description="column separator; by default ',' in a csv and a tab in a tsv"),
]
LinePattern = Annotated[
    Pattern | None,
    Field(
        description="regular expression: each matching line is a row, its named groups are the "
        "columns"
    ),
]
Encoding = Annotated[
    str, AfterValidator(codec), Field(description="text encoding, by its name in Python")
]


class Join(DataFile):
    """A second file, whose columns are joined to the first: transcripts to labels, for example."""

    on: str = Field(description="id column in both files")
    key: str | None = Field(None, description="name of the id column in this file, if different")
    part: Annotated[str, AfterValidator(one_group)] | None = Field(
        None,
        description="regular expression with one group: the part of the id column that is the id",
    )
    columns: list[str] | None = Field(None, description="columns to take; by default all")
    gather: Gather | None = Field(None, description="how several rows with one id are joined")
    header: Header = None
    delimiter: Delimiter = None
    pattern: LinePattern = None
    encoding: Encoding = "utf-8"

    @model_validator(mode="after")
    def _gathers(self) -> Self:
        if self.gather is not None and self.columns is not None:
            raise ParameterError(
                "task.columns-with-gather",
                "columns cannot be used with gather, which takes one column; remove columns",
            )
        return self


class Context(Strict):
    """Previous turns of a dialogue for {context} in the prompt: a line each, oldest first."""

    dialogue: str = Field(description="column with the id of the dialogue")
    order: str | None = Field(
        None, description="column of numbers that order the turns; by default the order of the file"
    )
    turns: Count = Field(3, description="maximum number of previous turns")
    speaker: str | None = Field(
        None, description="column of the name that is written in front of a turn"
    )
