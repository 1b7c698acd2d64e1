"""Step `prepare`: a task's files, as their owner keeps them, into one tidy table and a report."""

from __future__ import annotations

import gzip
import json
import string
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.errors import InputError
from affectlocus.parameters import SPLITS, Task

COLUMNS = ["id", "split", "text", "prompt", "answer"]


def read_rows(
    path: Path, header: list[str] | None = None, delimiter: str | None = None
) -> pd.DataFrame:
    """The rows of a csv, tsv or jsonl file (or .gz of one), every value as text.

    Raises:
        InputError: an unknown kind of file, a broken one, or one that is not UTF-8.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".csv", ".tsv", ".jsonl", ".json"):
        raise InputError(f"{path}: unknown kind of file {kind!r}; expected csv, tsv or jsonl")
    try:
        if kind in (".jsonl", ".json"):
            return _json_rows(path)
        with warnings.catch_warnings():
            # A row with more fields than the header would lose or shift them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=delimiter or ("\t" if kind == ".tsv" else ","),
                names=header,
                index_col=False,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8",
                # In a tsv of running text a quotation mark is a quotation mark.
                quoting=3 if kind == ".tsv" and delimiter is None else 0,
            ).fillna("")  # a short row lacks its last fields
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); convert it first") from None
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        pd.errors.ParserWarning,
        ValueError,
        OSError,
        EOFError,
    ) as error:
        line = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as {kind[1:]}: {line}") from None


def _json_rows(path: Path) -> pd.DataFrame:
    """A JSON object a line; strings as they are, nothing for null, other values as JSON."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    rows = []
    with opened(path, "rt", encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object")
            rows.append({key: _json_text(value) for key, value in row.items()})
    return pd.DataFrame(rows, dtype=object).fillna("")


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check_columns(path: Path, frame: pd.DataFrame, wanted: Iterable[str]) -> None:
    for column in wanted:
        if column not in frame.columns:
            raise InputError(
                f"{path}: no column {column!r}; it has {', '.join(map(str, frame.columns))}"
                + ("; is delimiter right?" if len(frame.columns) == 1 else "")
            )


def _normal(text: pd.Series) -> pd.Series:
    return text.str.casefold().str.split().str.join(" ")


def prepare(name: str, task: Task, files: dict[str, Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One task's samples, ready for tuning and evaluation, and what was found on the way.

    Args:
        name: the task's name, for messages.
        files: split → file; a file under the key `all` holds every split in its column `split`.

    Returns:
        A row per sample with `id` (unique), `split`, `text`, `prompt` and `answer` (the label's
        word, or the target), all text; and a report of rows read, kept and left out.

    Raises:
        InputError: a missing column, a label that is not in the list, an empty text, an id twice
            in a split, or more overlap between splits than the task allows.
    """
    if not files:
        raise InputError(f"task {name}: no file given; give one for train, validation or test")
    report: dict[str, Any] = {"task": name, "splits": {}}
    parts = []
    for split, path in files.items():
        frame = read_rows(path, task.header, task.delimiter)
        groups = [(split, frame)] if split != "all" else _by_split(path, frame)
        for key, rows in groups:
            part, counts = _split(task, path, str(key), rows)
            report["splits"][key] = counts
            parts.append(part)
    samples = pd.concat(parts, ignore_index=True)
    report["overlap"] = _overlap(task, samples)
    return samples[COLUMNS], report


def _by_split(path: Path, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    _check_columns(path, frame, ["split"])
    unknown = set(frame["split"]) - set(SPLITS)
    if unknown:
        raise InputError(
            f"{path}: column 'split' holds {min(unknown)!r}; expected {', '.join(SPLITS)}"
        )
    return [(key, rows) for key in SPLITS if len(rows := frame[frame["split"] == key])]


def _split(
    task: Task, path: Path, split: str, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Any]]:
    columns = task.columns
    answer = columns.label if task.labels is not None else columns.target
    assert answer is not None
    _check_columns(path, rows, [columns.text, answer, *([columns.id] if columns.id else [])])
    rows = rows.reset_index(drop=True)  # rows keep their number, from 0, whatever is left out
    counts: dict[str, Any] = {"file": path.name, "read": len(rows)}
    empty = rows[columns.text].str.strip() == ""
    counts["empty_text"] = int(empty.sum())
    rows = rows[~empty]
    if task.labels is not None:
        unlisted = ~rows[answer].isin(list(task.labels))
        counts["unlisted_label"] = int(unlisted.sum())
        if task.unlisted_labels == "refuse" and unlisted.any():
            row = rows[unlisted].iloc[0]
            raise InputError(
                f"{path}: row {int(rows[unlisted].index[0]) + 1} has the label {row[answer]!r}, "
                f"expected one of {', '.join(task.labels)} ({counts['unlisted_label']} rows so); "
                "add it to labels, or set unlisted_labels: drop"
            )
        rows = rows[~unlisted]
    else:
        silent = rows[answer].str.strip() == ""
        counts["empty_target"] = int(silent.sum())
        rows = rows[~silent]
    if rows.empty:
        raise InputError(f"{path}: no row of split {split!r} is left; check columns and labels")
    values = rows[answer] if task.labels is None else rows[answer].map(task.labels)
    try:
        prompts = _prompts(task.prompt, rows, columns.text)
    except KeyError as error:
        raise InputError(
            f"{path}: the prompt asks for column {error}; it has {', '.join(rows.columns)}"
        ) from None
    ids = rows[columns.id] if columns.id else f"{split}-" + rows.index.astype(str)
    if ids.duplicated().any():
        twice = next(iter(ids[ids.duplicated()]))
        raise InputError(f"{path}: id {twice!r} stands twice in split {split!r}; expected it once")
    part = pd.DataFrame(
        {
            "id": ids.to_numpy(),
            "split": split,
            "text": rows[columns.text].to_numpy(),
            "prompt": prompts,
            "answer": values.to_numpy(),
        }
    )
    counts["kept"] = len(part)
    counts["duplicate_text"] = int(_normal(part["text"]).duplicated().sum())
    if task.labels is not None:
        counts["labels"] = part["answer"].value_counts().sort_index().to_dict()
    return part, counts


def _prompts(template: str, rows: pd.DataFrame, text: str) -> list[str]:
    """The template with each row's columns put in; names are looked up, never evaluated."""
    if "text" not in rows.columns:
        rows = rows.assign(text=rows[text])  # {text} is the column of the text, whatever its name
    pieces = list(string.Formatter().parse(template))
    for _, field, _, _ in pieces:
        if field is not None and field not in rows.columns:
            raise KeyError(field)
    columns = [rows[field] if field is not None else [""] * len(rows) for _, field, _, _ in pieces]
    literals = [literal for literal, _, _, _ in pieces]
    return [
        "".join(part for pair in zip(literals, values, strict=True) for part in pair)
        for values in zip(*columns, strict=True)
    ]


def _overlap(task: Task, samples: pd.DataFrame) -> dict[str, int]:
    """Samples of a later split whose normalised text also stands in an earlier one, counted."""
    normal = _normal(samples["text"])
    counts = {}
    present = [split for split in SPLITS if split in set(samples["split"])]
    for position, earlier in enumerate(present):
        known = set(normal[samples["split"] == earlier])
        for later in present[position + 1 :]:
            rows = normal[samples["split"] == later]
            shared = int(rows.isin(known).sum())
            counts[f"{later} in {earlier}"] = shared
            if later == "test" and shared > task.overlap_limit * len(rows):
                raise InputError(
                    f"files: {shared} of {len(rows)} test texts also stand in the "
                    f"{earlier} split, more than overlap_limit {task.overlap_limit}; "
                    "give splits that are apart, or raise the limit and say so"
                )
    return counts
