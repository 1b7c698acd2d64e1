"""The parameters of an experiment: these models are the one definition of params.yaml.

The JSON schema in `workflow/schemas` is generated from them (`affectlocus schema`). `load`
turns whatever is wrong into one sentence that names the file and the key.
"""

from __future__ import annotations

import codecs
import json
import re
import reprlib
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    model_validator,
)

from affectlocus.config.name_collisions import clashes
from affectlocus.config.presets import PRESETS, PresetName, expanded
from affectlocus.config.yaml_text import LONGEST, parsed
from affectlocus.core.errors import InputError
from affectlocus.core.files import checkpoint_paths, is_weights, matching
from affectlocus.core.projections import ALL, format_modules, parse_modules

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MEAN, MEAN_OF_CONTROL = "mean", "mean (control)"
"""What a mean over tasks is called: over affective ones, and over those of a control."""
ANSWERS = ("yes", "no")
"""The labels that a regular expression gives."""
SIGNS = ("negative", "neutral", "positive")
"""The labels that a score's sign gives."""
CORPUS_TASKS = (
    *("mini-caption", "mini-plot", "mini-sums"),
    *("mini-MER23", "mini-MER24", "mini-MELD", "mini-IEMOCAP"),
    *("mini-MOSI", "mini-MOSEI", "mini-SIMS", "mini-SIMSv2"),
    "mini-text",
    *("mini-place", "mini-doer"),
)
"""The tasks that the embedded corpus generator writes."""
_COLUMNS_OF_TABLES = ("num", "modules", "mode", "mean")
# Query keys of an address whose values open it; Zenodo's download=1 and an id do not.
_SECRET = re.compile(r"token|key|sig|secret|pass|pw|auth|credential|session|jwt", re.IGNORECASE)


def is_valence(labels: Iterable[str]) -> bool:
    """Whether a task's labels are those of valence: positive, negative, neutral."""
    return set(labels) <= set(SIGNS)


_LONGEST_NAME = 80  # two of them stand in a figure's file name, of which a disk allows 255


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ValueError(
            f"the name {text!r} becomes a folder; "
            "expected letters, digits, '.', '_' and '-', a letter or digit first"
        )
    if len(text) > _LONGEST_NAME:
        raise ValueError(
            f"the name {text!r} becomes a folder; expected {_LONGEST_NAME} characters at most, "
            f"found {len(text)}"
        )
    if text.lower() in _NO_TEXT or _NUMBER.fullmatch(text):
        raise ValueError(
            f"the name {text!r} would be read out of a csv as a number or a boolean; put another "
            "letter in front"
        )
    return text


# What pandas and spreadsheets take for a boolean or a number.
_NO_TEXT = ("true", "false", "nan", "inf", "infinity")
_NUMBER = re.compile(r"\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?")


def _modules(text: str) -> str:
    try:
        return format_modules(parse_modules(text))
    except InputError as error:
        raise ValueError(str(error)) from None


def _distinct(values: list[Any]) -> list[Any]:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{value!r} is listed twice; list it once")
    return values


def _draws(number: int) -> int:
    if number == 2:
        raise ValueError(
            "two draws give an interval as wide as the scale (Student's t with one degree of "
            "freedom); expected 1, or 3 or more"
        )
    return number


def _words(value: Any) -> Any:
    """A list of labels is a map of each to itself; YAML's numbers and booleans become text."""
    if isinstance(value, list):
        words = _distinct([_plain(item) for item in value])
        return dict(zip(words, words, strict=True))
    if isinstance(value, dict):
        _distinct([_plain(key) for key in value])
        return {_plain(key): _plain(word) for key, word in value.items()}
    return value


def _plain(value: Any) -> Any:
    if value is None:
        raise ValueError("found null; to mean the word null, put it in quotes")
    # As the reader of tables writes the booleans of jsonl and parquet.
    if isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str | int | float):
        raise ValueError(f"found {_SHORT.repr(value)}; expected text or a number")
    return str(value)


def _public(url: str) -> str:
    """An http(s) address without secrets: what params.yaml holds, logs and ledgers hold too."""
    # What comes from the environment is no secret here.
    try:
        parts = urlsplit(re.sub(r"\$\{\w+\}", "", url))
        whole = parts.scheme in ("http", "https") and parts.hostname is not None
        _ = parts.port
    except ValueError:
        whole = False  # its message could hold a part of a password
    if not whole:
        raise ValueError("expected an address: https://host/path, or http://")
    secrets = [key for key, value in parse_qsl(parts.query) if value and _SECRET.search(key)]
    if parts.netloc.rpartition("@")[0].strip(":"):
        secrets.append("user and password")
    if secrets:
        raise ValueError(
            f"the address holds a secret ({secrets[0]}), which logs would show; "
            "put it into an environment variable NAME, and write ${NAME} in its place"
        )
    return url


def _placed(value: Any) -> Any:
    """A path alone is a source on disk."""
    return {"folder": value} if isinstance(value, str) else value


def _filed(value: Any) -> Any:
    """A path alone is a file on disk."""
    return {"file": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    """One value alone is a list of one; numbers become the text that a file holds."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None else [_plain(value)]


def _groups(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if not groups:
        raise ValueError("it names no column; write (?P<column>...) around what becomes one")
    return pattern


def _regular(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def _one_group(pattern: str) -> str:
    groups = re.compile(_regular(pattern)).groups
    if groups != 1:
        raise ValueError(f"{groups} groups in {pattern!r}; expected one, around the id")
    return pattern


def _codec(name: str) -> str:
    try:
        "".encode(name)
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        found = ""
    # Transformations of text, of which some take hours for a long one.
    if not found or found in ("idna", "punycode", "unicode_escape", "raw_unicode_escape"):
        raise ValueError(f"unknown encoding {name!r}; expected utf-8, gb18030, cp1252, …")
    return found


Name = Annotated[str, AfterValidator(_name)]
Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Pattern = Annotated[str, AfterValidator(_groups)]
Listed = Annotated[
    list[str],
    AfterValidator(_distinct),
    BeforeValidator(_listed, json_schema_input_type=str | int | list[str | int]),
]
ModuleSet = Annotated[
    str, AfterValidator(_modules), Field(examples=["gate", "q+k+v+o+gate", "all"])
]
ModuleSets = Annotated[list[ModuleSet], AfterValidator(_distinct)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """A group of keys: unknown ones are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Corpus(Strict):
    """The embedded corpus: generated text and benchmarks, so that nothing is downloaded."""

    seed: Seed = Field(0, description="seed of the generator")
    documents: Count = Field(30000, description="pre-training documents")
    tuning_samples: Count = Field(6000, description="affective training samples")
    control_samples: Count = Field(6000, description="non-affective training samples")
    benchmark_samples: Count = Field(
        200, description="test samples of each benchmark; as many again for train and validation"
    )


class Pretraining(Strict):
    """A tiny base of our own, trained on the embedded corpus."""

    architecture: Literal["qwen2", "llama", "mistral"]
    hidden_size: Count = 64
    intermediate_size: Count = 176
    layers: Count = 3
    heads: Count = 4
    kv_heads: Count = 2
    sliding_window: Count | None = Field(
        None, description="tokens that a position sees back; none: all (Mistral's first had one)"
    )
    steps: Count = 1200
    batch_size: Count = 32
    learning_rate: Positive = 5e-3
    seed: Seed = 0

    @model_validator(mode="after")
    def _divides(self) -> Pretraining:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return self


# A first dash would be an option of the command line.
_HUB_ID = r"^[\w][\w.-]*(/[\w.-]+)?$"


class Source(Strict):
    """Where a checkpoint comes from: the disk, a model hub, or a URL."""

    folder: str | None = Field(
        None, description="config, tokenizer and weights, as saved; or a file of weights"
    )
    hub: str | None = Field(None, pattern=_HUB_ID, description="owner/name on the model hub")
    revision: str | None = Field(
        None,
        min_length=1,
        description="commit of the hub id, 40 hex digits; a branch or tag is pinned once",
    )
    url: Annotated[str, AfterValidator(_public)] | None = Field(
        None, description="address of a file of weights; ${NAME} is an environment variable"
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the file at the URL"
    )
    awaited: bool = Field(
        False, description="folder: still to be brought; a dry run plans without it, a run refuses"
    )

    _places: ClassVar[tuple[str, ...]] = ("folder", "hub", "url")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, place) is not None for place in self._places) != 1:
            raise ValueError(f"expected one of {', '.join(self._places)}")
        for key, of, what in (
            ("revision", "hub", "a commit's 40 hex digits, or a branch or tag to be pinned"),
            ("sha256", "url", "the SHA-256 of the file, 64 hex digits"),
        ):
            if getattr(self, of) is not None and getattr(self, key) is None:
                raise ValueError(f"{key} is missing beside {of}; write {what}")
            if getattr(self, of) is None and getattr(self, key) is not None:
                raise ValueError(f"{key} goes with {of} only; remove it")
        return self


class Base(Source):
    """A base checkpoint: a Hugging Face model, or one to pre-train."""

    pretrain: Pretraining | None = None
    then: list[str] = Field(
        [], description="adapters on disk that make it the base in question: a chain"
    )

    _places: ClassVar[tuple[str, ...]] = (*Source._places, "pretrain")


Domain = Literal["affective", "control"]
"""What a task asks for: emotions, or something else."""


class Recipe(Strict):
    """How a model is tuned: the budget, the same for every arm that is compared."""

    method: Literal["lora", "sft"] = Field(
        "lora", description="LoRA adapters, or full tuning of the chosen projections"
    )
    data: Annotated[list[str], AfterValidator(_distinct), Field(min_length=1)] = Field(
        description="tasks whose train splits are mixed, each sample once per pass"
    )
    rank: Count = Field(8, description="LoRA rank r")
    alpha: Positive = Field(16, description="LoRA alpha: the delta is alpha / r · B·A")
    dropout: Fraction = 0.0
    steps: Count = 300
    batch_size: Count = 32
    learning_rate: Positive = 3e-3
    warmup: Fraction = Field(0.05, description="share of the steps in which the rate rises")
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Count = Field(256, description="tokens of prompt and target together")
    group_by_length: bool = Field(
        False, description="samples of like length share a batch: less padding, batches less mixed"
    )
    shuffled: bool = Field(
        False,
        description="the answers of each task are shuffled among its samples; the pair is a null, "
        "whatever its domain",
    )


class PairRecipe(Recipe):
    """A recipe and where it may act; it is followed once for each of `seeds`."""

    modules: ModuleSet = ALL
    trajectory: int = Field(
        0,
        ge=0,
        le=10_000,
        description="deltas are measured at so many steps, evenly spaced; the last is the end",
    )

    @model_validator(mode="after")
    def _enough_steps(self) -> Self:
        if self.trajectory == 1 or self.trajectory > self.steps:
            raise ValueError(
                f"trajectory is {self.trajectory}; expected 2 to {self.steps} steps to measure at "
                "(one would be the end, which is measured anyway), or 0"
            )
        return self


class Tuning(PairRecipe):
    """A recipe and its seed: what one tuning is."""

    seed: Seed = 0
    fair: bool = Field(
        False, description="another rank: as many parameters as all seven have at this one"
    )


class Reading(Strict):
    """How a tuned checkpoint is read, where its files do not tell."""

    alpha: Positive | None = Field(None, description="LoRA alpha of a .pth that has none")
    prefix: str = Field("", description="what a multimodal model's names begin with")
    any_base: bool = Field(False, description="read an adapter that names another base")


class Pair(Strict):
    """A base and a tuned checkpoint: one to read, or one to tune."""

    base: str
    # YAML's bare null is the word, not an absence.
    domain: Annotated[
        Literal["affective", "control", "null"],
        BeforeValidator(lambda value: "null" if value is None else value),
    ] = Field(
        "affective",
        description="subject of the training data, which decides the benchmarks; null for a pair "
        "that learned nothing about either",
    )
    tuned: (
        Annotated[Source, BeforeValidator(_placed, json_schema_input_type=str | Source)] | None
    ) = Field(None, description="a tuned model or an adapter: its path, or where it comes from")
    tuning: PairRecipe | None = None
    reading: Reading = Reading()

    @model_validator(mode="after")
    def _one_source(self) -> Pair:
        if (self.tuned is None) == (self.tuning is None):
            raise ValueError("expected either tuned (a checkpoint) or tuning (a recipe)")
        return self

    @property
    def evidence(self) -> Literal["affective", "control", "null"]:
        """What the pair's results are evidence of: a null if its answers were shuffled."""
        return "null" if self.tuning is not None and self.tuning.shuffled else self.domain


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


Table = Annotated[DataFile, BeforeValidator(_filed, json_schema_input_type=str | DataFile)]


class Files(Strict):
    """A file for each split, or one for all: csv, tsv or jsonl, plain or .gz, or parquet."""

    train: Table | None = None
    validation: Table | None = None
    test: Table | None = None
    all: Table | None = Field(None, description="one file of every split; see split")

    def items(self) -> Iterator[tuple[str, DataFile]]:
        for key in (*SPLITS, "all"):
            file = getattr(self, key)
            if file is not None:
                yield key, file


class SplitBy(Strict):
    """Which values of a column make which split; rows with others are left out and counted."""

    column: str = "split"
    train: Listed = []
    validation: Listed = []
    test: Listed = []

    @model_validator(mode="after")
    def _whole(self) -> Self:
        values = [value for _, values in self.items() for value in values]
        if not values:
            raise ValueError("names no split; give the values that mean train, validation or test")
        try:
            _distinct(values)
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
    part: Annotated[str, AfterValidator(_one_group)] | None = Field(
        None, description="regular expression with one group: the part of that column that is it"
    )
    columns: list[str] | None = Field(None, description="which columns are taken; by default all")
    gather: Gather | None = Field(None, description="where an id has many rows: how they are one")
    header: Annotated[list[str], AfterValidator(_distinct)] | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    pattern: Pattern | None = None
    encoding: Annotated[str, AfterValidator(_codec)] = "utf-8"

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


class Columns(Strict):
    """Which columns of the file hold what."""

    text: str = "text"
    label: str | None = Field(None, description="the label; tasks with labels")
    score: str | None = Field(
        None,
        description="instead of a label, a number: its sign is negative, neutral or positive; or, "
        "beside the task's key number, the answer itself",
    )
    matches: Annotated[str, AfterValidator(_regular)] | None = Field(
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


class Number(Strict):
    """The answer is a whole number: each one in the range is a candidate."""

    lowest: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    highest: Annotated[int, Field(ge=-(2**31), lt=2**31)]
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
    number: Number | None = None


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
    header: Annotated[list[str], AfterValidator(_distinct)] | None = Field(
        None, description="column names of a file that has none"
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="what separates columns; by default ',' in a csv and a tab in a tsv"
    )
    pattern: Pattern | None = Field(
        None, description="regular expression: each line it finds is a row, its groups the columns"
    )
    encoding: Annotated[str, AfterValidator(_codec)] = Field(
        "utf-8", description="how characters are stored, as Python names it"
    )
    rename: dict[str, str] = Field(
        {}, description="a column's name in some of the files → the name that is meant here"
    )
    columns: Columns = Columns()
    context: Context | None = None
    labels: Annotated[dict[str, str], BeforeValidator(_words)] | None = Field(
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
    number: Number | None = Field(
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
        for _, field, spec, conversion in _fields(self.prompt):
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
            number = Number(lowest=number.lowest, highest=number.highest, ending=number.ending)
        changed = {"domain": "affective", "positive": None, "number": number, "awaited": False}
        return self.model_copy(update=changed)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores in percent that its answers have."""
        if self.number is not None and self.number.cutoff is None:
            return ()
        binary = self.positive is not None or self.number is not None
        return ("weighted_f1", "accuracy", "macro_f1", *(["binary_f1"] if binary else []))

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


def _fields(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError as error:
        raise ValueError(
            f"prompt: {error}; write {{column}} for a column, {{{{ for a brace"
        ) from None


SINGLES: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")
COMBINATIONS: tuple[str, ...] = (
    "q+k+v+o",
    "q+k+v+o+down",
    "q+k+v+o+up",
    "q+k+v+o+gate",
    "q+k+v+o+up+down",
    "q+k+v+o+gate+down",
    "q+k+v+o+gate+up",
    "o+gate",
    "all",
)


class Dose(Strict):
    """Loads of a part of the delta, or of more than it: how the score answers to the dose."""

    modules: ModuleSets = []
    times: Annotated[
        list[Annotated[float, Field(ge=0, le=10)]], AfterValidator(_distinct), Field(min_length=1)
    ] = Field([0.25, 0.5, 0.75, 1.25, 1.5], description="times the delta; 0 and 1 are there anyway")


class Matrix(Strict):
    """The cells: which module sets are loaded, tuned and ablated, in which pairs."""

    pairs: Annotated[list[str], AfterValidator(_distinct), Field(min_length=1)] = Field(
        description="pairs that get the whole matrix; the first gives tables 1 to 3"
    )
    beside: Annotated[list[str], AfterValidator(_distinct)] = Field(
        [], description="further pairs (controls, nulls) of which single modules are loaded alone"
    )
    load: ModuleSets = [*SINGLES, *COMBINATIONS]
    dose: Dose = Dose()
    even: ModuleSets = Field(
        [], description="a null: sets that get noise of the whole delta's mean size instead"
    )
    tune: ModuleSets = [*SINGLES, *COMBINATIONS]
    fair: ModuleSets = Field(
        [],
        description="LoRA alone: sets tuned with as many parameters as all seven have at the rank",
    )
    ablate: ModuleSets = [*SINGLES, "gate+up+down", "q+k+v+o"]
    modes: Annotated[
        list[Literal["revert", "zero", "shuffle", "noise"]],
        AfterValidator(_distinct),
        Field(min_length=1),
    ] = Field(
        ["revert", "zero", "shuffle", "noise"],
        description="what is put in the place of an ablated module",
    )
    draws: Annotated[int, Field(ge=1, le=1000), AfterValidator(_draws)] = Field(
        5,
        description="random draws of each cell of mode shuffle or noise, and of each even cell, of "
        "a checkpoint that was brought; each is one more evaluation. 3 or more give an interval "
        "over draws (Student's t), 1 gives one over samples alone. Pairs that are tuned here have "
        "one draw for each seed instead",
    )

    def sets(self, arm: Arm) -> list[str]:
        """The module sets that an arm is of."""
        found: list[str] = self.dose.modules if arm == "dose" else getattr(self, arm)
        return found

    cells_per_job: Count = Field(
        1,
        description="load or ablate cells that a job answers one after the other with one loaded "
        "base: fewer starts, the same results; 1 spreads a matrix over most machines",
    )


Arm = Literal["load", "even", "dose", "tune", "fair", "ablate"]
"""What is done to a pair's checkpoints, with a table of its own."""
Readout = Literal["candidates", "generation"]


class Generation(Strict):
    """How a cell writes free text."""

    sampling: Literal["greedy", "nucleus"] = Field(
        "greedy", description="the likeliest token each time, or drawn from the likeliest ones"
    )
    temperature: Positive = Field(1.0, description="nucleus: divides the logits")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="nucleus: share of the probability that a token is drawn from"
    )
    seed: Seed = Field(0, description="nucleus: with task and sample id, decides every draw")
    max_new_tokens: Count = Field(
        128, description="tokens at most; the paper's evaluation allows 1200"
    )
    template: Literal["task", "affectgpt", "chat"] = Field(
        "task",
        description="what the model reads: the task's prompt, AffectGPT's around the bare text, or "
        "the chat template of the base's tokenizer around the task's prompt",
    )
    question: str = Field(
        "Please recognize all possible emotional states of the character.",
        min_length=1,
        description="affectgpt: what is asked",
    )
    stop: Listed = Field(
        [], description="texts before which an answer ends; affectgpt has ### beside them"
    )
    batch_tokens: Count = Field(
        32768,
        description="tokens of the prompts and of the longest possible answers in one batch; "
        "halved where memory runs out",
    )

    @model_validator(mode="after")
    def _stops(self) -> Self:
        if "" in self.stop:
            raise ValueError("stop holds an empty text, before which every answer would end")
        return self


class Samples(Strict):
    """How a cell goes on from the openings of general text: what distinct-n is counted in."""

    count: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        64, description="documents gone on from, the first of the test split; 0: none"
    )
    opening: Count = Field(8, description="tokens of a document that the model is given")
    max_new_tokens: Count = Field(48, description="tokens at most")
    temperature: Positive = Field(1.0, description="divides the logits")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="share of the probability that a token is drawn from"
    )
    seed: Seed = Field(0, description="with task and sample id, decides every draw")

    @property
    def generation(self) -> Generation:
        """The same as settings of a text that is drawn."""
        drawn = self.model_dump(exclude={"count", "opening"})
        return Generation(sampling="nucleus", **drawn)


class Evaluate(Strict):
    """How a cell answers: every label's log-likelihood behind the prompt, or free text."""

    readout: Readout = Field(
        "candidates",
        description="candidates: the labels' log-likelihoods; generation: free text, from which "
        "labels are read afterwards",
    )
    readouts: dict[Name, Readout] = Field({}, description="tasks with another readout")
    generation: Generation = Generation()
    samples: Samples = Field(
        Samples(), description="tasks with fluency: text that a cell writes, for distinct-n"
    )
    batch_tokens: Count = Field(
        8192,
        description="candidates: tokens in one forward pass, padding included; halved where memory "
        "runs out",
    )
    max_length: Count = Field(512, description="tokens of a prompt; a longer one loses its start")

    def of(self, task: str) -> Readout:
        """A task's readout."""
        return self.readouts.get(task, self.readout)


LABEL_METRICS = ("weighted_f1", "accuracy", "macro_f1")
"""In percent, of every task with labels."""
PERCENT = (*LABEL_METRICS, "binary_f1")
"""`binary_f1` beside them where one of two labels is the positive."""
FREE_METRICS = ("mer_unibench", "corrected_f1", "corrected_macro_f1")
"""Scores in percent of free text under the protocol mer-unibench."""


class Score(Strict):
    """How answers become scores and intervals."""

    metric: Literal[
        "weighted_f1",
        "accuracy",
        "macro_f1",
        "binary_f1",
        "mer_unibench",
        "corrected_f1",
        "corrected_macro_f1",
    ] = Field(
        "weighted_f1",
        description="the one that the tables show; scores.parquet holds all. binary_f1 wants tasks "
        "with positive, or with a number and its cutoff; the last three want every benchmark in "
        "protocols",
    )
    protocols: dict[Name, Literal["mer-unibench"]] = Field(
        {},
        description="tasks answered in free text that are also scored as MER-UniBench does (hit "
        "rate over wheels, WAF of valence), with the corrected scores beside",
    )
    wheels: str | None = Field(
        None,
        description="folder of AffectGPT's emotion_wheel files, or `released` to download them; "
        "for protocols of emotions",
    )
    own_wheels: bool = Field(
        False, description="the folder's wheels are your own: not compared with the released files"
    )
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = Field(
        2000, description="bootstrap draws"
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Seed = 0


class Extraction(Strict):
    """How labels are read out of free text; without a model, by fixed rules."""

    model: (
        Annotated[Source, BeforeValidator(_placed, json_schema_input_type=str | Source)] | None
    ) = Field(
        None,
        description="a causal language model that lists the emotions in a text: its path, or where "
        "it comes from (AffectGPT's is Qwen/Qwen2.5-7B-Instruct)",
    )
    batch_tokens: Count = Field(
        8192,
        description="tokens of the prompts and of the longest possible replies in one batch; "
        "halved where memory runs out",
    )
    max_new_tokens: Count = Field(64, description="tokens of its reply")


class Deltas(Strict):
    """What is measured of each pair."""

    spectra: bool = Field(
        True, description="spectra of full deltas too (a low-rank delta's cost nothing)"
    )
    companions: bool = Field(
        True, description="histograms of the relative change, and norms of FFN neurons"
    )


class Neurons(Strict):
    """Which feed-forward neurons are looked at."""

    share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.01, description="share of a layer's neurons, the most changed, that are called moved"
    )
    neutral: str = Field(
        "neutral", description="the label word of texts without emotion; all others are emotional"
    )


class Directions(Strict):
    """How the deltas of two pairs on one base are compared."""

    rank: Count = Field(8, description="leading singular directions of each delta")


class Hardware(Strict):
    """How a job uses its device; on a CPU models stay in their stored dtype, and alone."""

    precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16",
        description="on a GPU, what evaluation computes float32 models in, and what tuning "
        "multiplies in; half precision stays as it is stored",
    )
    attention: Literal["sdpa", "eager"] = Field(
        "sdpa", description="sdpa: PyTorch's fused attention"
    )
    placement: Literal["balanced", "auto", "sequential"] = Field(
        "balanced",
        description="how accelerate spreads the layers of a model over the cards of its job, where "
        "there are several; for evaluation and for tuning",
    )
    checkpointing: bool = Field(
        False,
        description="tuning: activations are computed again in the backward pass: less memory, a "
        "third more time",
    )
    # It changes no result, and is in no job's parameters: rules/common.smk hands it over.
    save_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        10,
        exclude=True,
        description="tuning and pre-training: minutes between two saves of the state, which the "
        "next run goes on from if this one is killed; 0 saves after every step; changed, it reruns "
        "nothing",
    )


class StatedSize(Strict):
    """A model's size, stated."""

    parameters: Positive = Field(examples=[7.6e9])
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class Plan(Strict):
    """What is assumed where nothing is known yet: it sizes jobs, and changes no result."""

    sizes: dict[Name, StatedSize] = Field(
        {}, description="base or pair → its size, until its config.json is here"
    )
    samples: dict[Name, Count] = Field(
        {}, description="task → its test samples, until it is prepared"
    )
    unknown_samples: Count = Field(1000, description="of a task that is not listed")
    prompt_tokens: Count = Field(96, description="tokens of a prompt, in the mean")
    card_gb: Positive = Field(80, description="memory of a card; a model that needs more gets more")
    card_tflops: Positive = Field(
        300, description="peak of a card in bfloat16, without sparsity: A100 312, H100 and H200 989"
    )
    share_of_peak: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of that peak which tuning and evaluation reach"
    )
    card_gb_per_second: Positive = Field(
        1500, description="memory bandwidth of a card: a token of free text reads every weight"
    )
    core_gflops: Positive = Field(40, description="what a CPU core reaches in float32")
    cards_from: Positive = Field(
        5e7, description="parameters from which a cluster's job asks for a card"
    )


class Parameters(Strict):
    """One experiment."""

    data_root: str = Field(
        ".", description="folder that relative paths start from, itself relative to params.yaml"
    )
    corpus: Corpus | None = None
    bases: Annotated[dict[Name, Base], Field(min_length=1)]
    pairs: Annotated[dict[Name, Pair], Field(min_length=1)]
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    matrix: Matrix
    tune: Recipe | None = Field(None, description="the recipe of the matrix's tune cells")
    seeds: Annotated[list[Seed], AfterValidator(_distinct), Field(min_length=1)] = Field(
        [0],
        description="whatever is tuned here is tuned once for each, and its random ablations draw "
        "with it; see matrix.draws for a checkpoint that was brought",
    )
    deltas: Deltas = Deltas()
    neurons: Neurons = Neurons()
    directions: Directions = Directions()
    evaluate: Evaluate = Evaluate()
    extraction: Extraction = Extraction()
    score: Score = Score()
    hardware: Hardware = Hardware()
    plan: Plan = Plan()

    @property
    def benchmarks(self) -> list[str]:
        """The tasks that cells are scored on, in the order of params.yaml."""
        return [name for name, task in self.tasks.items() if task.scored]

    @property
    def scorings(self) -> Scorings:
        """What scoring needs to know of the benchmarks beyond their labels."""
        known = {name: self.tasks[name].scoring for name in self.benchmarks}
        return Scorings({name: one for name, one in known.items() if one != Scoring()})

    @property
    def texts(self) -> list[str]:
        """The tasks that are general text to read."""
        return [name for name, task in self.tasks.items() if task.fluency]

    @property
    def spoken(self) -> list[str]:
        """The benchmarks that are answered in free text."""
        return [name for name in self.benchmarks if self.evaluate.of(name) == "generation"]

    def columns_of(self, pair: str) -> list[str]:
        """The benchmarks that a pair's cells answer: those of its domain.

        A null has the affective ones, and so has a control without benchmarks of its own. A pair
        on shuffled answers has those of the pair that it is the null of.
        """
        domain = "control" if self.pairs[pair].domain == "control" else "affective"
        own = [name for name in self.benchmarks if self.tasks[name].domain == domain]
        return own or [name for name in self.benchmarks if self.tasks[name].domain == "affective"]


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, complaint) for texts that no file name, command line or table can hold."""
    if isinstance(value, str):
        if odd := _UNWRITABLE.search(value):
            yield key, f"{odd[0]!r} in {value!r}: no file can be named or written so; remove it"
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name, key)
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)


# NUL ends a name for the system; half a character of UTF-16 has no bytes.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _references(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """(key, complaint) for every name or combination that does not hold together."""

    def known(key: str, name: str, group: dict[str, Any], what: str) -> Iterator[tuple[str, str]]:
        if name not in group:
            yield key, f"no {what} named {name!r}; expected one of {', '.join(group)}"

    for name, pair in parameters.pairs.items():
        yield from known(f"pairs.{name}.base", pair.base, parameters.bases, "base")
        if name in parameters.bases:
            yield f"pairs.{name}", "a base has the same name; give each a name of its own"
    recipes: list[tuple[str, Recipe]] = [
        (f"pairs.{name}.tuning", pair.tuning)
        for name, pair in parameters.pairs.items()
        if pair.tuning is not None
    ]
    if parameters.tune is not None:
        recipes.append(("tune", parameters.tune))
        if parameters.tune.shuffled:
            yield (
                "tune.shuffled",
                "tuning on shuffled answers is a null, and the tune tables are of whole pairs; "
                "remove it here, and set it in the tuning of a pair of its own",
            )
    for key, recipe in recipes:
        for name in recipe.data:
            yield from known(f"{key}.data", name, parameters.tasks, "task")
            task = parameters.tasks.get(name)
            if task is not None and task.fluency:
                yield f"{key}.data", f"task {name!r} is text to read, and has no answers to tune on"
            elif task is not None and "train" not in task.splits:
                yield f"{key}.data", f"task {name!r} has no train split to tune on"
    chained = {name for name, base in parameters.bases.items() if base.then}
    for name, pair in parameters.pairs.items():
        if pair.base in chained and (
            pair.tuning is not None or (parameters.matrix.tune and name in parameters.matrix.pairs)
        ):
            yield (
                f"bases.{pair.base}.then",
                f"pair {name!r} is to be tuned here, which needs one model: merge the chain into "
                "a folder first (affectlocus graft --kind tuned), and give that",
            )
    for name in parameters.matrix.pairs:
        yield from known("matrix.pairs", name, parameters.pairs, "pair")
    for name in parameters.matrix.beside:
        yield from known("matrix.beside", name, parameters.pairs, "pair")
        if name in parameters.matrix.pairs:
            yield "matrix.beside", f"{name} is among matrix.pairs, which have these cells anyway"
    if parameters.matrix.fair and (parameters.tune is None or parameters.tune.method != "lora"):
        yield "matrix.fair", "ranks are scaled, so it needs tune, and its method lora"
    if parameters.matrix.tune and parameters.tune is None:
        yield "tune", "missing; matrix.tune lists module sets, so say how they are tuned"
    if not parameters.benchmarks:
        yield "tasks", "no task has labels and a test split; the tables need at least one"
    for name in parameters.benchmarks:
        task, metric = parameters.tasks[name], parameters.score.metric
        if metric not in (*task.metrics, *FREE_METRICS):
            if task.number is not None:
                yield (
                    f"tasks.{name}.number.cutoff",
                    f"missing; the tables show {metric}, which a number has only with a cutoff",
                )
            else:
                yield (
                    f"tasks.{name}.positive",
                    f"missing; the tables show {metric}: say which of two labels is the positive",
                )
    for name in parameters.texts:
        if "test" not in parameters.tasks[name].splits:
            yield f"tasks.{name}.files", "fluency reads the test split; name a file for it"
    for name, task in parameters.tasks.items():
        if name in _COLUMNS_OF_TABLES:
            yield f"tasks.{name}", "a table has a column of this name; give the task another"
        if task.corpus and name not in CORPUS_TASKS:
            yield (
                f"tasks.{name}.corpus",
                f"the corpus holds no such task; expected one of {', '.join(CORPUS_TASKS)}",
            )
    for name in parameters.evaluate.readouts:
        yield from known("evaluate.readouts", name, dict.fromkeys(parameters.benchmarks), "task")
    for name in parameters.spoken:
        if parameters.tasks[name].labels is None:
            yield (
                "evaluate.readouts",
                f"task {name!r} is a number, which is read off candidates; set it to candidates",
            )
    yield from _protocols(parameters)
    for name in parameters.plan.sizes:
        models = {**parameters.bases, **parameters.pairs}
        yield from known(f"plan.sizes.{name}", name, models, "base or pair")
    for name in parameters.plan.samples:
        yield from known(f"plan.samples.{name}", name, parameters.tasks, "task")
    if parameters.corpus is None:
        for name, base in parameters.bases.items():
            if base.pretrain is not None:
                yield f"bases.{name}.pretrain", "needs the corpus section, which is missing"
        for name, task in parameters.tasks.items():
            if task.corpus:
                yield f"tasks.{name}.corpus", "needs the corpus section, which is missing"


def _protocols(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """(key, complaint) for what the scores of free text want and have not."""
    score, spoken = parameters.score, parameters.spoken
    for name in score.protocols:
        if name not in spoken:
            yield (
                f"score.protocols.{name}",
                "mer-unibench scores free text of a benchmark; set evaluate.readouts to "
                "generation for it, or remove it here",
            )
        labels = (parameters.tasks[name].labels or {}) if name in parameters.tasks else {}
        if score.wheels is None and not is_valence(labels.values()):
            yield (
                "score.wheels",
                f"missing; task {name!r} is scored over emotion wheels: name the folder of "
                "AffectGPT's files, or `released` to download them",
            )
    if score.metric in FREE_METRICS:
        for name in parameters.benchmarks:
            if name not in score.protocols:
                yield (
                    "score.metric",
                    f"{score.metric} is no score of task {name!r}; list it under score.protocols, "
                    "or show another metric",
                )


def _paths(
    parameters: Parameters, folder: Path, planning: bool = False
) -> Iterator[tuple[str, str]]:
    """(key, complaint) for every file or folder that is named and not there.

    Args:
        planning: what is awaited may be missing.
    """
    for key, named in _named_paths(parameters):
        if complaint := _unusable(named):
            yield key, complaint
    root = folder / parameters.data_root
    for name, task in parameters.tasks.items():
        if task.files is None or (planning and task.awaited):
            continue
        hint = f" (preset {task.preset}: {PRESETS[task.preset].about})" if task.preset else ""
        seen: dict[Path, str] = {}
        tables: list[tuple[str, DataFile]] = [(f"files.{key}", f) for key, f in task.files.items()]
        for part, table in [*tables, *([("join", task.join)] if task.join else [])]:
            if table.hub is not None:
                continue
            path = root / table.file
            key = f"tasks.{name}.{part}"
            if not all(file.is_file() for file in matching(path)) or not matching(path):
                yield key, f"no such file: {path}; correct it, or data_root{hint}"
            elif part != "join" and path.resolve() in seen:
                other = seen[path.resolve()]
                yield key, f"the same file as {other}: {path}; a split must not overlap another"
            seen[path.resolve()] = part.removeprefix("files.")
    for name, base in parameters.bases.items():
        if planning and base.awaited:
            continue
        if base.folder is not None and not (root / base.folder / "config.json").is_file():
            path = root / base.folder
            yield (
                f"bases.{name}.folder",
                f"no config.json in {path}; expected a Hugging Face model with its configuration "
                "and tokenizer, as the base is run too (affectlocus diff takes weights alone)",
            )
        for file in base.then:
            if not (root / file).exists():
                yield f"bases.{name}.then", f"no such file or folder: {root / file}; correct it"
    asked = parameters.extraction.model
    if asked is not None and asked.folder is not None:
        path = root / asked.folder
        if not (path / "config.json").is_file():
            yield "extraction.model", f"no config.json in {path}; expected a Hugging Face model"
    wheels = parameters.score.wheels
    if parameters.score.own_wheels and wheels in (None, "released"):
        yield "score.own_wheels", "goes with a folder of wheels; name it as score.wheels"
    if wheels not in (None, "released") and not (root / str(wheels)).is_dir():
        yield (
            "score.wheels",
            f"no such folder: {root / str(wheels)}; correct it, or write released to download them",
        )
    for name, pair in parameters.pairs.items():
        if pair.tuned is not None and pair.tuned.folder is not None:
            path = root / pair.tuned.folder
            if planning and pair.tuned.awaited:
                continue
            if path.is_file() and is_weights(path.name):
                continue
            if not any(map(_tells_a_checkpoint, checkpoint_paths(path) if path.is_dir() else [])):
                yield (
                    f"pairs.{name}.tuned",
                    f"neither a model's weights nor adapter_config.json in {path}; "
                    "expected a Hugging Face model, a PEFT adapter, or a .pth or .bin file",
                )


def _named_paths(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """(key, path) of every path in params.yaml."""
    yield "data_root", parameters.data_root
    sources = {f"bases.{name}.folder": base.folder for name, base in parameters.bases.items()}
    for name, pair in parameters.pairs.items():
        sources[f"pairs.{name}.tuned"] = pair.tuned.folder if pair.tuned is not None else None
    asked = parameters.extraction.model
    sources["extraction.model"] = asked.folder if asked is not None else None
    sources["score.wheels"] = parameters.score.wheels
    yield from ((key, path) for key, path in sources.items() if path is not None)
    for name, base in parameters.bases.items():
        yield from ((f"bases.{name}.then", path) for path in base.then)
    for name, task in parameters.tasks.items():
        files = dict(task.files.items()) if task.files is not None else {}
        yield from ((f"tasks.{name}.files.{key}", one.file) for key, one in files.items())
        if task.join is not None:
            yield f"tasks.{name}.join", task.join.file


def _unusable(path: str) -> str | None:
    """Why Snakemake could not take a path for what it says."""
    if re.search(r"[{}]", path):
        return f"braces in {path!r}, which Snakemake would fill in; rename it"
    if not path.isprintable():
        return f"the path {path!r} holds a character that does not print; rename it"
    try:
        Path(path).is_file()
    except OSError as error:
        return f"the path {path!r} is none: {error.strerror}"
    return None


def _tells_a_checkpoint(file: Path) -> bool:
    """Whether a folder with this file is a model, which needs its weights alone, or an adapter."""
    if file.name in ("config.json", "adapter_config.json"):
        return True
    # An adapter's weights without its configuration are no checkpoint.
    return is_weights(file.name) and not file.name.startswith(("adapter_model.", "adapters."))


def sentence(error: ValidationError) -> tuple[str, str]:
    """The key and one sentence for the first of pydantic's complaints."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return key, "unknown key; remove it or correct its spelling"
    if first["type"] == "missing":
        return key, "missing; expected a value"
    if first["type"] == "value_error":
        return key, message
    return key, f"found {_SHORT.repr(first['input'])}; {message[0].lower()}{message[1:]}"


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 300, 300, 40
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 12


def validate(
    config: dict[str, Any], folder: Path, source: str = "params.yaml", planning: bool = False
) -> Parameters:
    """The parameters in `config`, checked against each other and against the files they name.

    Args:
        config: the parsed params.yaml.
        folder: the experiment's folder, where `data_root` starts from.
        source: how error messages name the file.
        planning: nothing will run, so that what is awaited may be missing.

    Raises:
        InputError: one sentence with the file and the key.
    """
    for key, complaint in _texts(config):
        raise InputError(f"{source}: {key}: {complaint}")
    try:
        parameters = Parameters.model_validate(config)
    except ValidationError as error:
        key, complaint = sentence(error)
        raise InputError(f"{source}: {key}: {complaint}") from None
    for problems in (
        _references(parameters),
        clashes(parameters.bases, parameters.pairs, parameters.tasks),
        _paths(parameters, folder, planning),
    ):
        for key, complaint in problems:
            raise InputError(f"{source}: {key}: {complaint}")
    return parameters


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a params.yaml, unchecked; `InputError` where it is no YAML."""
    try:
        with path.open("rb") as stream:
            # One byte more than is read tells a longer file.
            content = stream.read(LONGEST + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an experiment's params.yaml") from None
    except OSError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    config = parsed(text, str(path))
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected keys and values, found {type(config).__name__}")
    return config


def load(path: Path, planning: bool = False) -> Parameters:
    """The parameters in a params.yaml, or in a folder's; `InputError` names file and key."""
    if path.is_dir():
        path = path / "params.yaml"
    return validate(read(path), path.parent, str(path), planning)


def schema_text() -> str:
    """The JSON schema of params.yaml, generated from these models."""
    schema = Parameters.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
