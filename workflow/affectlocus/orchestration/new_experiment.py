"""Command `init`: an experiment's folder, written from two checkpoints and a table.

The checkpoints are read by their headers and the table as the step `prepare` reads it. What they do
not say is asked: the column of the texts, that of the labels, and the words for labels that are
numbers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.config.experiment import Parameters, validate
from affectlocus.config.fields import file_name
from affectlocus.config.sources import HUB_ID
from affectlocus.config.yaml_text import parsed
from affectlocus.core import durable
from affectlocus.core.errors import InputError, nearest
from affectlocus.core.projections import ALL, ATTENTION, FFN, PROJECTIONS
from affectlocus.data.table_reader import read_table
from affectlocus.orchestration.preflight import check_data, check_pairs
from affectlocus.orchestration.prompt_limit import check_prompts

Ask = Callable[[str, str], str]
"""A question with a proposed answer → the answer."""

_TEXTS = ("text", "sentence", "utterance", "content", "review", "comment", "message", "tweet")
_LABELS = ("label", "emotion", "sentiment", "mood", "class", "category", "target", "answer")
_MOST_LABELS = 50
_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ()}
_TEST = "test"
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as a source in params.yaml.

    Attributes:
        local: its path, if it is on disk.
    """

    name: str
    source: dict[str, str]
    local: Path | None = None


@dataclass(frozen=True)
class Samples:
    """What a table holds.

    Attributes:
        ids: the column that names each sample; None without one.
        split: the column that names the split of a row, and its values; None without one.
    """

    path: Path
    rows: pd.DataFrame
    text: str
    label: str
    words: dict[str, str]
    ids: str | None = None
    split: tuple[str, list[str]] | None = None


def checkpoint(given: str, option: str, folder: Path) -> Checkpoint:
    """The checkpoint that an argument names: a folder, a file, or owner/name[@revision] on the hub.

    Args:
        option: how messages name the argument.
        folder: the experiment's folder, to which paths are written relative.
    """
    path = Path(given).expanduser()
    if path.exists():
        kind = "gguf" if path.suffix == ".gguf" else "folder"
        name = _name(path.absolute().name.removesuffix(path.suffix if path.is_file() else ""))
        return Checkpoint(name, {kind: _relative(path, folder)}, path)
    hub, _, revision = given.partition("@")
    if not re.match(HUB_ID, hub) or "/" not in hub or given.startswith((".", "/", "~")):
        raise InputError(
            "init.no-checkpoint",
            f"{option}: no such file or folder: {given}; expected a model's or an adapter's "
            "folder, or owner/name of a model hub",
            option=option,
            found=given,
        )
    source = {"hub": hub, "revision": revision or "main"}
    return Checkpoint(_name(hub.rpartition("/")[2]), source)


def _name(text: str) -> str:
    """A text as the name of a base, a pair or a task."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "model"
    return plain if plain[0].isalpha() else f"m-{plain}"


def _relative(path: Path, folder: Path) -> str:
    """The path from the experiment's folder, or the whole one if they share no folder but /."""
    # Symbolic links stay as the user made them.
    whole, here = (os.path.normpath(Path.cwd() / one) for one in (path, folder))
    return whole if os.path.commonpath([whole, here]) == "/" else os.path.relpath(whole, here)


def samples(
    path: Path, ask: Ask | None, text: str = "", label: str = "", words: Sequence[str] = ()
) -> Samples:
    """What a table holds; asks for what it does not say.

    Args:
        ask: asks a question; None without a terminal.
        text, label: columns; empty to find them.
        words: LABEL=WORD for labels that the model answers with another word.

    Raises:
        InputError: the table cannot be read or has no such columns, or a question needs a
            terminal and there is none.
    """
    table = read_table(path)
    rows = table.rows.drop(columns=list(table.nested))
    found_label = _column(rows, label, "label", _label_columns(rows), ask, path)
    others = [name for name in _text_columns(rows) if name != found_label]
    found_text = _column(rows, text, "text", others, ask, path)
    if found_text == found_label:
        raise InputError(
            "init.same-column",
            f"{path}: {found_text!r} is both the text and the label; name two columns with --text "
            "and --label",
            file=path,
            found=found_text,
        )
    values = [value for value in dict.fromkeys(rows[found_label]) if value.strip()]
    if not 2 <= len(values) <= _MOST_LABELS:
        raise InputError(
            "init.no-labels",
            f"{path}: the number of labels in column {found_label!r} is {len(values)}; expected 2 "
            f"to {_MOST_LABELS}; name another column with --label",
            file=path,
            found=len(values),
        )
    return Samples(
        path,
        rows,
        found_text,
        found_label,
        _words(values, words, ask, path),
        _ids(rows),
        _split(rows),
    )


def _column(
    rows: pd.DataFrame,
    given: str,
    what: str,
    likely: list[str],
    ask: Ask | None,
    path: Path,
) -> str:
    names = [str(name) for name in rows.columns]
    answer = given
    if not given and ask is not None and (len(likely) != 1 or len(names) > 2):
        answer = ask(f"Column of the {what}s ({', '.join(names)})", likely[0] if likely else "")
    elif not given and len(likely) == 1:
        answer = likely[0]
    if not answer:
        raise InputError(
            "init.unknown-column",
            f"{path}: the column of the {what}s is not clear; name it with --{what}: one of "
            f"{', '.join(names)}",
            file=path,
            expected=names,
            option=f"--{what}",
        )
    if answer not in names:
        near = nearest(answer, names)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise InputError(
            "init.no-such-column",
            f"{path}: no column {answer!r} for the {what}s{hint}; expected one of "
            f"{', '.join(names)}",
            file=path,
            found=answer,
            expected=names,
        )
    return answer


def _label_columns(rows: pd.DataFrame) -> list[str]:
    """The columns that may hold labels; only those with a usual name if there are any.

    A column with a usual name and too few or too many values is one too, so that it is refused for
    that, and no other column is taken for the labels.
    """
    usual = [name for name in rows.columns if name.lower().rstrip("s") in _LABELS]
    few = [
        name
        for name in rows.columns
        if 2 <= rows[name].nunique() <= min(_MOST_LABELS, max(2, len(rows) // 2))
        and name.lower() not in ("split", *_TEXTS)
    ]
    return [name for name in usual if name in few] or usual or few


def _text_columns(rows: pd.DataFrame) -> list[str]:
    """The columns that may hold texts, the one with the longest texts first."""
    usual = [name for name in rows.columns if name.lower().rstrip("s") in _TEXTS]
    long = rows.apply(lambda column: column.str.len().mean()).sort_values(ascending=False)
    return usual or [str(name) for name in long.index if long[name] >= 12] or [str(long.index[0])]


def _words(values: list[str], given: Sequence[str], ask: Ask | None, path: Path) -> dict[str, str]:
    """Label → the word that the model has to answer."""
    words = {value: value for value in values}
    for part in given:
        label, equals, word = part.partition("=")
        if not equals or label not in words or not word:
            raise InputError(
                "init.bad-word",
                f"--word {part}: expected LABEL=WORD with one of the labels {', '.join(values)}",
                option="--word",
                found=part,
                expected=values,
            )
        words[label] = word
    numbers = [value for value in values if _NUMBER.fullmatch(words[value])]
    if numbers and ask is not None:
        question = f"Words for the labels {', '.join(numbers)}, in this order, with commas"
        answers = [one.strip() for one in ask(question, ", ".join(numbers)).split(",")]
        if len(answers) != len(numbers):
            raise InputError(
                "init.wrong-number-of-words",
                f"{path}: found {len(answers)} words for {len(numbers)} labels; give one for each",
                file=path,
                found=len(answers),
                expected=len(numbers),
            )
        words |= dict(zip(numbers, answers, strict=True))
    return words


def _ids(rows: pd.DataFrame) -> str | None:
    """The column of the samples' names: called id, and with a value of its own in each row."""
    for name in rows.columns:
        if name.lower() in ("id", "sample_id", "uid") and rows[name].is_unique:
            return str(name) if rows[name].str.strip().all() else None
    return None


def _split(rows: pd.DataFrame) -> tuple[str, list[str]] | None:
    """The column that names the split of a row, if a value of it means test."""
    for name in rows.columns:
        values = list(dict.fromkeys(rows[name]))
        if name.lower() == "split" and _TEST in values:
            return str(name), values
    return None


def adapted_projections(base: Path, tuned: Path) -> list[str]:
    """The projections that differ between two checkpoints on disk, by their headers.

    Raises:
        InputError: they are no pair.
    """
    pair = ModelPair(base, tuned)
    pair.check()
    found = {
        location.projection
        for name, places in pair.base.located.items()
        for location, _ in places
        if pair.adapted(name)
    }
    return [name for name in PROJECTIONS if name in found]


def _check_two(base: Checkpoint, tuned: Checkpoint) -> None:
    """Refuses one checkpoint given twice: a whole run would compare it with itself."""
    if base.local is not None and tuned.local is not None:
        same = base.local.samefile(tuned.local)
    else:
        same = base.source == tuned.source
    if same:
        given = tuned.local or tuned.source["hub"]
        raise InputError(
            "init.same-checkpoint",
            f"BASE and TUNED are the same checkpoint, {given}; name the base first, then the "
            "checkpoint that was tuned from it",
            found=given,
        )


def text_of(base: Checkpoint, tuned: Checkpoint, data: Samples, prompt: str, folder: Path) -> str:
    """The text of a params.yaml, with comments.

    Args:
        folder: the experiment's folder.

    Raises:
        InputError: both are the same checkpoint, or they are no pair.
    """
    _check_two(base, tuned)
    pair = tuned.name if tuned.name != base.name else f"{tuned.name}-tuned"
    task = _name(data.path.name.partition(".")[0])
    names = list(PROJECTIONS)
    if base.local is not None and tuned.local is not None and "folder" in base.source:
        names = adapted_projections(base.local, tuned.local)
    blocks = [[name for name in block if name in names] for block in (ATTENTION, FFN)]
    joined = ["+".join(block) for block in blocks if 1 < len(block) < len(names)]
    whole = ALL if names == list(PROJECTIONS) else "+".join(names)
    load = list(dict.fromkeys([*names, *joined, whole]))
    ablate = list(dict.fromkeys([*names, *joined]))
    file = _relative(data.path, folder)
    files = f"{{all: {_quoted(file)}}}" if data.split else f"{{test: {_quoted(file)}}}"
    columns = {"text": data.text, "label": data.label} | ({"id": data.ids} if data.ids else {})
    lines = [
        "# An experiment: where did the tuning change the model, and does that place carry it?",
        f"#   affectlocus check {folder.name}     what is wrong, or what would run",
        f"#   affectlocus run {folder.name}       computes everything, results/report.html too",
        "# All keys: docs/reference/configuration.md",
        "",
        "# Paths are relative to this folder.",
        "data_root: .",
        "",
        "bases:",
        f"  {_quoted(base.name)}: {_mapping(base.source)}",
        "",
        "# domain: affective, control (tuned on something else) or null (learned nothing).",
        "# A second pair of the same base with domain control or null shows what any tuning",
        "# changes.",
        "pairs:",
        f"  {_quoted(pair)}:",
        f"    base: {_quoted(base.name)}",
        f"    tuned: {_mapping(tuned.source)}",
        "    domain: affective",
        "",
        "tasks:",
        f"  {_quoted(task)}:",
        f"    files: {files}",
        *_split_lines(data),
        "    # The names of the columns.",
        f"    columns: {_mapping(columns)}",
        "    # Label in the file: word that the model has to answer. Choose words of about the",
        "    # same number of tokens; affectlocus check prints the numbers.",
        "    labels:",
        *(f"      {_quoted(label)}: {_quoted(word)}" for label, word in data.words.items()),
        "    # What the model reads before the word; {text} is the text, {COLUMN} another column.",
        f"    prompt: {_quoted(prompt)}",
        "",
        "matrix:",
        f"  pairs: [{_quoted(pair)}]",
        "  # The base with the change of these modules alone (Table 1).",
        f"  load: [{', '.join(load)}]",
        "  # The base with noise of the same size in these modules: a null.",
        f"  even: [{', '.join(names)}]",
        "  # The tuned model with these modules reset to the base (Table 3).",
        f"  ablate: [{', '.join(ablate)}]",
        "  modes: [revert]",
        "  # Tuning on single modules needs a recipe and a train split.",
        "  tune: []",
        "  cells_per_job: 40",
    ]
    return "\n".join(lines) + "\n"


def _split_lines(data: Samples) -> list[str]:
    if data.split is None:
        return []
    column, values = data.split
    known = {"test": ["test"]} | {
        split: [value for value in values if value.lower() in words]
        for split, words in _SPLITS.items()
        if words
    }
    parts = [
        f"{split}: [{', '.join(map(_quoted, known[split]))}]" for split in _SPLITS if known[split]
    ]
    return [f"    split: {{column: {_quoted(column)}, {', '.join(parts)}}}"]


def _quoted(text: str) -> str:
    """A text as YAML: bare if it cannot be read as anything else, else in quotes."""
    if re.fullmatch(r"[A-Za-z][\w./-]*", text) and text.lower() not in ("null", "true", "false"):
        return text
    return json.dumps(text, ensure_ascii=False)


def _mapping(source: dict[str, str]) -> str:
    return f"{{{', '.join(f'{key}: {_quoted(value)}' for key, value in source.items())}}}"


def write_experiment(folder: Path, text: str) -> Parameters:
    """Writes an experiment's folder with its params.yaml, which passes the checks before a run.

    Raises:
        InputError: the folder exists, or the parameters are refused; then nothing is written.
    """
    # Next to the folder, so that relative paths are the same in both.
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary.mkdir()
    try:
        (temporary / "params.yaml").write_text(text, encoding="utf-8")
        parameters = validate(parsed(text, "params.yaml"), temporary)
        check_data(parameters, temporary, download=False)
        check_prompts(parameters, temporary)
        check_pairs(parameters, temporary)
        refuse_existing(folder)
        durable.move(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return parameters


def refuse_existing(folder: Path) -> None:
    """Refuses a folder that exists, and a name that no experiment can have."""
    file_name(folder.name)
    if folder.exists() or folder.is_symlink():
        raise InputError(
            "init.exists",
            f"{folder}: exists already; nothing was written. Name another folder with --out",
            file=folder,
        )
