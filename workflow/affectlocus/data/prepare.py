"""Step `prepare`: a task's files, as their owner keeps them, into one tidy table and a report."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affectlocus.config.files import EVERY_SPLIT, SPLITS, Gather, Join, Split, SplitBy
from affectlocus.config.presets import PRESETS
from affectlocus.config.tasks import ANSWERS, SIGNS, Columns, NumberAnswer, Task
from affectlocus.core.errors import InputError, LayoutError
from affectlocus.core.files import matching
from affectlocus.core.regex_timeout import time_limit
from affectlocus.core.valences import MASKS
from affectlocus.data.audit import blank, describe, left_out, normalised, overlap
from affectlocus.data.context import previous_turns
from affectlocus.data.table_reader import COUNTED, PATIENCE, read_rows, separated

COLUMNS = ["id", "split", "text", "prompt", "answer"]
# Columns of our own, with names that no file's column has: whether the joined file had the row's
# id; the row's number in the file, from 1; a score as a number.
_PARTNER, _ROW, _SCORE = "\0partner", "\0row", "\0score"
# What stands for a score that is not there.
_UNRATED = ("", "nan", "na", "n/a", "none", "null")


def prepare(name: str, task: Task, files: dict[str, Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One task's samples, ready for tuning and evaluation, and what was found on the way.

    Args:
        name: the task's name, for messages.
        files: split → file; a file under the key `all` holds every split, told apart as
            `task.split` says; under `join` the file that `task.join` describes.

    Returns:
        A row per sample with `id` (unique in its split), `split`, `text`, `prompt` and `answer`
        (the label's word, the number's, the target, or nothing where the text is only read), all
        text; `score` (float64) where there is one. And the data report: rows read, kept and left
        out, and what the kept ones are like.

    Raises:
        InputError: a missing column, a label that is not in the list, a number out of its range,
            a duplicate id in a split, or more overlap between splits than the task allows.
    """
    try:
        return _prepare(name, task, files)
    except LayoutError as error:
        if task.preset is None:
            raise
        expected = PRESETS[task.preset].expectation
        raise InputError(f"{error}; preset {task.preset} expects {expected}") from None


def _prepare(name: str, task: Task, files: dict[str, Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    tables = {key: path for key, path in files.items() if key != "join"}
    if not tables:
        raise InputError(f"task {name}: no file given; give one for train, validation or test")
    partners = _partners(task.join, files, task.columns) if task.join is not None else None
    report: dict[str, Any] = {"task": name, "preset": task.preset, "encoding": task.encoding}
    if task.preset is not None:
        report["preset_version"] = PRESETS[task.preset].version
    # Row numbers stand in for ids that are not there, and cannot be there twice.
    report["id"] = task.columns.id
    report["splits"] = {}
    parts = []
    for key, path in tables.items():
        rows = read_rows(path, task.header, task.delimiter, task.pattern, task.encoding)
        found = {key: rows.attrs.pop(key, 0) for key in COUNTED}
        nested = rows.attrs.pop("nested", [])
        _check_texts(path, task.columns, [task.rename.get(name, name) for name in nested])
        rows = _renamed(path, rows, task.rename)
        if task.join is not None and partners is not None:
            rows = _joined(path, rows, task.join, partners)
        rows = _with_context(path, rows, task)
        groups: list[tuple[str, pd.DataFrame]] = [(key, rows)]
        if key == "all":
            groups, report["other_splits"] = _by_split(path, rows, task.split or EVERY_SPLIT)
        for count in COUNTED:
            if found[count]:
                report[count] = report.get(count, 0) + found[count]
        for split, group in groups:
            part, counts = _split(task, path, split, group)
            report["splits"][split] = counts
            parts.append(part)
    samples = pd.concat(parts, ignore_index=True)
    samples["normal"] = samples["text"].map(normalised)
    for split, about in describe(samples, labelled=bool(task.words)).items():
        report["splits"][split] |= about
    report["overlap"] = overlap(samples, ids=task.columns.whole_ids)
    _check_overlap(task, report)
    return samples[[*COLUMNS, *(["score"] if task.columns.score else [])]], report


def _check_columns(path: Path, frame: pd.DataFrame, wanted: Iterable[str | None]) -> None:
    for column in wanted:
        if column is not None and column not in frame.columns:
            names = [str(name) for name in frame.columns if name != _PARTNER]
            there = ", ".join(names) or "none, as it has no rows"
            spaced = next((name for name in names if name.strip() == column), None)
            hint = separated(there) if len(frame.columns) == 1 else ""
            if spaced is not None:
                hint = (
                    f"; the name {spaced!r} has a space: remove it, or write the name so, in quotes"
                )
            raise LayoutError(f"{path}: no column {column!r}; it has {there}{hint}")


def _check_texts(path: Path, columns: Columns, nested: list[str]) -> None:
    """Refuses lists and objects where a text is expected, as no prompt is written in JSON."""
    for column in (columns.text, columns.target):
        if column in nested:
            raise LayoutError(
                f"{path}: column {column!r} holds lists or objects; expected text in each row"
            )


def _renamed(path: Path, rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    for old, new in names.items():
        if old in rows.columns and new in rows.columns:
            raise LayoutError(
                f"{path}: has both {old!r} and {new!r}, which rename makes one; remove that line"
            )
    return rows.rename(columns=names)


def _partners(join: Join, files: dict[str, Path], wanted: Columns) -> tuple[Path, pd.DataFrame]:
    """The joined file and its rows, by their id."""
    if "join" not in files:
        raise InputError(f"join: the file {join.file} was not given; give it too")
    path = files["join"]
    rows = read_rows(path, join.header, join.delimiter, join.pattern, join.encoding)
    _check_texts(path, wanted, rows.attrs.get("nested", []))
    rows.attrs.clear()
    key = join.key or join.on
    _check_columns(path, rows, [key, *(join.columns or [])])
    if join.part is not None:
        rows[key] = _parts(path, rows[key], key, join.part)
    if join.gather is not None:
        return path, _gathered(path, rows, key, join.gather)
    rows = rows[[key, *(join.columns or [name for name in rows.columns if name != key])]]
    if not join.columns and matching(path) != [path]:
        rows = rows.drop(columns="file")  # a pattern's own column, which both may have
    rows = rows.drop_duplicates()
    twice = rows[key][rows[key].duplicated()]
    if len(twice):
        raise LayoutError(
            f"{path}: duplicate {key} {twice.iloc[0]!r} with different values; keep one of its rows"
        )
    return path, rows.set_index(key)


def _parts(path: Path, values: pd.Series, column: str, pattern: str) -> pd.Series:
    """What the pattern's one group finds in each value."""
    with time_limit(PATIENCE, f"{path}: join.part takes longer than {PATIENCE} s; simplify it"):
        parts = values.str.extract(pattern, expand=False)
    if parts.isna().any():
        raise LayoutError(
            f"{path}: {column} {values[parts.isna()].iloc[0]!r} is not as join.part says "
            f"({pattern}); correct it"
        )
    return parts


def _gathered(path: Path, rows: pd.DataFrame, key: str, gather: Gather) -> pd.DataFrame:
    """One row an id: the lines that are taken, in the file's order; nothing where none is."""
    _check_columns(path, rows, [gather.column, *gather.where, gather.speaker])
    taken = rows[gather.column].str.strip() != ""
    for column, values in gather.where.items():
        known = rows[column].isin(values)
        if not known.any():
            found = ", ".join(map(repr, sorted(rows[column].unique())[:10]))
            raise LayoutError(
                f"{path}: no row where {column} is {', '.join(map(repr, values))}; it holds {found}"
            )
        taken &= known
    lines = rows[gather.column].str.strip()
    if gather.speaker is not None:
        lines = rows[gather.speaker] + ": " + lines
    texts = lines[taken].groupby(rows[key][taken], sort=False).agg("\n".join)
    return texts.reindex(rows[key].unique(), fill_value="").to_frame(gather.column)


def _joined(
    path: Path, rows: pd.DataFrame, join: Join, partners: tuple[Path, pd.DataFrame]
) -> pd.DataFrame:
    other, found = partners
    _check_columns(path, rows, [join.on])
    if both := [name for name in found.columns if name in rows.columns]:
        raise LayoutError(
            f"{other}: column {both[0]!r} is in {path.name} too; list the columns to take "
            "as join.columns"
        )
    there = rows[join.on].isin(found.index)
    if not there.any():
        one, two = ([*ids[:1].map(repr), "missing"][0] for ids in (rows[join.on], found.index))
        raise LayoutError(
            f"{other}: none of its ids is in {path.name}: there {join.on} is {one}, say, "
            f"here {two}; check join.on and join.key"
        )
    return rows.join(found, on=join.on).fillna("").assign(**{_PARTNER: there})


def _with_context(path: Path, rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The rows with a column `context`, if the prompt asks for the previous turns."""
    context, text = task.context, task.columns.text
    if context is None or not _tells_context(task):
        return rows
    _check_columns(path, rows, [text, context.dialogue, context.order, context.speaker])
    return rows.assign(context=previous_turns(rows, context, text, str(path)))


def _tells_context(task: Task) -> bool:
    asked = [field for _, field, _, _ in _pieces(task.prompt)]
    return task.context is not None and "context" in asked


def _by_split(
    path: Path, rows: pd.DataFrame, by: SplitBy
) -> tuple[list[tuple[str, pd.DataFrame]], dict[str, int]]:
    """(split, rows) for each that is there, and how many rows have which other value."""
    _check_columns(path, rows, [by.column])
    values = rows[by.column]
    known: dict[str, Split] = {value: split for split, listed in by.items() for value in listed}
    counted = values[~values.isin(list(known))].value_counts().sort_index()
    other = {str(value): int(count) for value, count in counted.items()}
    if by is EVERY_SPLIT and other:
        raise LayoutError(
            f"{path}: column {by.column!r} holds {min(other)!r}; "
            f"expected {', '.join(known)}, or say under split which value means which"
        )
    splits = values.map(known)
    groups: list[tuple[str, pd.DataFrame]] = []
    for split, _ in by.items():
        group = rows[splits == split]
        if group.empty:
            if by is not EVERY_SPLIT:
                expected = ", ".join(map(repr, dict(by.items())[split]))
                found = ", ".join(map(repr, sorted(values.unique())[:10]))
                raise LayoutError(
                    f"{path}: no row of split {split!r}: column {by.column!r} holds {found}, "
                    f"expected {expected}"
                )
        else:
            groups.append((split, group))
    if not groups:
        raise LayoutError(f"{path}: no row in it; expected rows of {', '.join(SPLITS)}")
    return groups, other


def _split(
    task: Task, path: Path, split: str, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The samples of one split, and the counts of what was read and left out."""
    columns = task.columns
    answer = columns.label or columns.score or columns.target
    if columns.matches is not None:
        answer = columns.text
    _check_columns(path, rows, [columns.text, answer, *(columns.id or [])])
    # From here on the index is the row's number in the split, which ids are made of.
    rows = rows.assign(**{_ROW: rows.index + 1}).reset_index(drop=True)
    counts: dict[str, Any] = {"file": path.name, "read": len(rows)}
    if _PARTNER in rows.columns:
        counts["no_partner"] = int((~rows[_PARTNER]).sum())
        rows = rows[rows[_PARTNER]]
    empty = blank(rows[columns.text])
    counts["empty_text"] = int(empty.sum())
    rows = rows[~empty]
    if columns.score is not None:
        masked = _masked(rows[columns.score], task.number)
        counts["masked_score"] = int(masked.sum())
        rows = rows[~masked]
        rows = rows.assign(**{_SCORE: _scores(path, rows, columns.score)})
    if answer is None:
        values = pd.Series("", index=rows.index)
    elif task.number is not None:
        values = _numbers(path, rows, task.number)
    elif task.labels is not None:
        if task.label_separator is not None:
            several = rows[answer].str.contains(task.label_separator, regex=False)
            counts["several_labels"] = int(several.sum())
            rows = rows[~several]
        given = _listed(_given(rows, columns, answer), task.labels)
        unlisted = ~given.isin(list(task.labels))
        counts["unlisted_label"] = int(unlisted.sum())
        if task.unlisted_labels == "refuse" and unlisted.any():
            raise LayoutError(
                f"{path}: row {rows[_ROW][unlisted].iloc[0]} has "
                + _unlisted(given[unlisted], task.labels)
            )
        rows, values = rows[~unlisted], given[~unlisted].map(task.labels)
    else:
        silent = rows[answer].str.strip() == ""
        counts["empty_target"] = int(silent.sum())
        rows = rows[~silent]
        values = rows[answer]
    ids = _ids(rows, split, columns)
    repeated = ids.duplicated()
    counts["duplicate_id"] = None if columns.id is None else int(repeated.sum())
    if task.duplicate_ids == "refuse" and repeated.any():
        raise InputError(
            f"{path}: duplicate id {ids[repeated].iloc[0]!r} in split {split!r} "
            f"({counts['duplicate_id']} such rows); name another column as columns.id, or set "
            "duplicate_ids: first"
        )
    rows, values, ids = rows[~repeated], values[~repeated], ids[~repeated]
    if rows.empty:
        why = f", of which are {left_out(counts)}" if counts["read"] else ""
        raise LayoutError(
            f"{path}: no row of split {split!r} is left; it has {counts['read']} rows{why}; check "
            "columns and labels"
        )
    part = pd.DataFrame(
        {
            "id": ids.to_numpy(),
            "split": split,
            "text": rows[columns.text].to_numpy(),
            "prompt": _prompts(path, task, rows),
            "answer": values.to_numpy(),
        }
    )
    if columns.score is not None:
        part["score"] = rows[_SCORE].to_numpy()
    counts["kept"] = len(part)
    if _tells_context(task):
        counts["without_context"] = int((rows["context"] == "").sum())
    return part, counts


def _given(rows: pd.DataFrame, columns: Columns, answer: str) -> pd.Series:
    """The label of each row, as the file has it or as it follows from the row."""
    if columns.score is not None:
        return _signs(rows[_SCORE])
    if columns.matches is not None:
        found = re.compile(columns.matches).search
        yes, no = ANSWERS
        slow = f"columns.matches takes longer than {PATIENCE} s on the texts; simplify it"
        with time_limit(PATIENCE, slow):
            return rows[columns.text].map(lambda text: yes if found(text) else no)
    return rows[answer]


def _listed(given: pd.Series, labels: Iterable[str]) -> pd.Series:
    """The labels as they are listed, without white space around them and the `.0` of a number.

    pandas writes whole numbers of a column with missing values as 1.0.
    """
    for pattern in (r"^\s+|\s+$", r"(?<=\d)\.0$"):
        other = given.str.replace(pattern, "", regex=True)
        given = other.where(other.isin(list(labels)) & ~given.isin(list(labels)), given)
    return given


def _unlisted(given: pd.Series, labels: dict[str, str]) -> str:
    """What the labels are that are not listed, in words."""
    found = list(dict.fromkeys(given))
    shown = ", ".join(map(repr, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
    rows = f"{len(given)} rows so" + (f": {shown}" if len(found) > 1 else "")
    expected = f"expected one of {', '.join(labels)} ({rows})"
    if not found[0].strip():
        return f"no label, {expected}; write it there, or set unlisted_labels: drop"
    words = {label.lower(): word for label, word in labels.items()}
    if all(label.strip().lower() in words for label in found):
        given_word = words[found[0].strip().lower()]
        return (
            f"the label {found[0]!r}, {expected}; write labels as a map that gives each its word, "
            f"such as {{{found[0]}: {given_word}}}"
        )
    each = "each" if len(found) > 1 else "it"
    return f"the label {found[0]!r}, {expected}; add {each} to labels, or set unlisted_labels: drop"


_SHOWN = 20  # labels in a message


def _ids(rows: pd.DataFrame, split: str, columns: Columns) -> pd.Series:
    if columns.id is None:
        return pd.Series(f"{split}-" + rows.index.astype(str), index=rows.index)
    ids = rows[columns.id[0]]
    for column in columns.id[1:]:
        ids = ids + "_" + rows[column]
    return f"{split}-" + ids if columns.id_per_split else ids


def _masked(values: pd.Series, number: NumberAnswer | None) -> pd.Series:
    """Where nobody rated: nothing, NaN, or a mark such as -10 that is off the values' scale."""
    bare = values.str.strip().str.lower()
    found = pd.to_numeric(bare, errors="coerce")
    marked = found.isin(MASKS)
    within = number.values if number is not None else ()
    if (found[~marked] < max(MASKS)).any() or any(int(mark) in within for mark in MASKS):
        marked[:] = False
    return marked | bare.isin(_UNRATED)


def _scores(path: Path, rows: pd.DataFrame, column: str) -> pd.Series:
    scores = pd.to_numeric(rows[column], errors="coerce").astype(float)
    wrong = rows[~np.isfinite(scores)]
    if len(wrong):
        raise LayoutError(
            f"{path}: row {wrong[_ROW].iloc[0]} has the score {wrong[column].iloc[0]!r}, "
            f"expected a number ({len(wrong)} rows so)"
        )
    return scores


def _numbers(path: Path, rows: pd.DataFrame, number: NumberAnswer) -> pd.Series:
    """Each row's number as the model is to say it."""
    scores = rows[_SCORE]
    wrong = rows[~scores.isin(list(number.values))]
    if len(wrong):
        raise LayoutError(
            f"{path}: row {wrong[_ROW].iloc[0]} has the number {wrong[_SCORE].iloc[0]:g}, expected "
            f"a whole one from {number.lowest} to {number.highest} ({len(wrong)} rows so)"
        )
    return scores.map(lambda score: f"{int(score)}{number.ending}")


def _signs(scores: pd.Series) -> pd.Series:
    return (np.sign(scores).astype(int) + 1).map(dict(enumerate(SIGNS)))


def _pieces(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    return list(string.Formatter().parse(prompt))


def _prompts(path: Path, task: Task, rows: pd.DataFrame) -> list[str]:
    """The template with each row's columns put in; names are looked up, never evaluated."""
    if "text" not in rows.columns:
        # {text} is the column of the text, whatever its name.
        rows = rows.assign(text=rows[task.columns.text])
    pieces = _pieces(task.prompt)
    for _, field, _, _ in pieces:
        if field is not None and field not in rows.columns:
            there = ", ".join(name for name in rows.columns if not name.startswith("\0"))
            raise LayoutError(
                f"{path}: the prompt asks for column {field!r}; it has {there}"
                + ("; describe the dialogues under context" if field == "context" else "")
            )
    columns = [rows[field] if field is not None else [""] * len(rows) for _, field, _, _ in pieces]
    literals = [literal for literal, _, _, _ in pieces]
    return [
        "".join(part for pair in zip(literals, values, strict=True) for part in pair)
        for values in zip(*columns, strict=True)
    ]


def _check_overlap(task: Task, report: dict[str, Any]) -> None:
    for pair, counts in report["overlap"].items():
        later, _, earlier = pair.partition(" in ")
        rows, shared = report["splits"][later]["kept"], counts["normalised"]
        if later == "test" and shared > task.overlap_limit * rows:
            raise InputError(
                f"files: {shared} of {rows} test texts are also in the {earlier} split "
                f"({counts['exact']} of them exactly), more than overlap_limit "
                f"{task.overlap_limit}; give splits without common texts, or raise the limit"
            )
