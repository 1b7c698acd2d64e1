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
from affectlocus.config.sources import _HUB_ID

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DataFile(Strict):
    """A file of samples, on disk or in a data set on the hub; a path alone is one on disk."""

    file: str = Field(min_length=1, description="path; inside the data set, if hub is given")
    hub: str | None = Field(None, pattern=_HUB_ID, description="owner/name of a data set")
    revision: str | None = Field(
        None,
        min_length=1,
        description="commit of the data set, 40 hex digits; a branch or tag is pinned once",
    )

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if (self.hub is None) != (self.revision is None):
            if self.hub is None:
                raise ValueError("hub is missing; hub and revision go together")
            raise ValueError(
                "revision is missing beside hub; write a commit's 40 hex digits, or a branch or "
                "tag to be pinned"
            )
        return self


Table = Annotated[DataFile, BeforeValidator(as_file, json_schema_input_type=str | DataFile)]


class Files(Strict):
    """A file for each split, or one for all: csv, tsv or jsonl, plain or .gz, or parquet."""

    train: Table | None = Field(None, description="file of the train split")
    validation: Table | None = Field(None, description="file of the validation split")
    test: Table | None = Field(None, description="file of the test split")
    all: Table | None = Field(None, description="one file of every split; see split")

    def items(self) -> Iterator[tuple[str, DataFile]]:
        for key in (*SPLITS, "all"):
            file = getattr(self, key)
            if file is not None:
                yield key, file


class SplitBy(Strict):
    """Which values of a column make which split; rows with others are left out and counted."""

    column: str = Field("split", description="column that tells the splits apart")
    train: Listed = Field([], description="values that mean train")
    validation: Listed = Field([], description="values that mean validation")
    test: Listed = Field([], description="values that mean test")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        values = [value for _, values in self.items() for value in values]
        if not values:
            raise ValueError("names no split; give the values that mean train, validation or test")
        try:
            distinct(values)
        except ValueError as error:
            raise ValueError(f"{error}: a value belongs to one split") from None
        return self

    def items(self) -> Iterator[tuple[Split, list[str]]]:
        for split in SPLITS:
            if values := getattr(self, split):
                yield split, values


EVERY_SPLIT = SplitBy(train=["train"], validation=["validation"], test=["test"])


class Gather(Strict):
    """Rows of one id made one: the turns of an interview into its text, a line each, in order."""

    column: str = Field(description="column whose values become the lines, and that holds them")
    where: dict[str, Listed] = Field(
        {}, description="column → values: only rows with one of them are taken"
    )
    speaker: str | None = Field(None, description="column of the name in front of a line")


class Join(DataFile):
    """A second file, whose columns stand beside the first one's: transcripts beside labels."""

    on: str = Field(description="column of the id that both have")
    key: str | None = Field(None, description="the same column's name in this file, if another")
    part: Annotated[str, AfterValidator(one_group)] | None = Field(
        None, description="regular expression with one group: the part of that column that is it"
    )
    columns: list[str] | None = Field(None, description="which columns are taken; by default all")
    gather: Gather | None = Field(None, description="where an id has many rows: how they are one")
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

    @model_validator(mode="after")
    def _gathers(self) -> Self:
        if self.gather is not None and self.columns is not None:
            raise ValueError("gather takes its own column; remove columns")
        return self


class Context(Strict):
    """The previous turns of a dialogue, for {context} in the prompt: a line each, oldest first."""

    dialogue: str = Field(description="column that tells dialogues apart")
    order: str | None = Field(
        None, description="column of numbers that orders the turns; by default the file's order"
    )
    turns: Count = Field(3, description="turns at most; never a later one")
    speaker: str | None = Field(None, description="column of the name in front of a turn")
