"""Step `prepare`: converts the files of a task into one table of samples and a data report."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affectlocus.config.files import EVERY_SPLIT, SPLITS, Split, SplitBy
from affectlocus.config.presets import PRESETS
from affectlocus.config.tasks import ANSWERS, SIGNS, Columns, NumberAnswer, Task
from affectlocus.core.errors import InputError, LayoutError
from affectlocus.core.regex_timeout import time_limit
from affectlocus.core.valences import MASKS
from affectlocus.data.audit import blank, describe, left_out, normalised, overlap
from affectlocus.data.columns import PARTNER, check_columns, check_texts
from affectlocus.data.context import previous_turns
from affectlocus.data.join import join_rows, joined_rows
from affectlocus.data.prepared_task import COLUMNS
from affectlocus.data.table_reader import COUNTED, PATIENCE, read_table

# Columns for internal use, with names that no file can have: the row's number in the file, from 1;
# the score as a number.
_ROW, _SCORE = "\0row", "\0score"
# Values of a missing score.
_MISSING = ("", "nan", "na", "n/a", "none", "null")


def prepare(name: str, task: Task, files: dict[str, Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The samples of a task, for tuning and evaluation, and its data report.

    Args:
        name: the task's name, for messages.
        files: split → file; or `all` → a file of every split, which `task.split` separates. Also
            `join` → the file that `task.join` describes.

    Returns:
        A row per sample with `id` (unique in its split), `split`, `text`, `prompt` and `answer`,
        all text; and `score` (float64) if the task has one. The answer is the word of the label,
        the number as text, the target, or empty if the text is only used for perplexity. The data
        report holds the numbers of rows read, kept and left out, and describes the kept rows.

    Raises:
        InputError: a missing column, a label that is not listed, a number out of range, a
            duplicate id in a split, or more overlap between splits than the task allows.
    """
    try:
        return _prepare(name, task, files)
    except LayoutError as error:
        if task.preset is None:
            raise
        expected = PRESETS[task.preset].expectation
        message = f"{error}; preset {task.preset} expects {expected}"
        raise InputError(error.code, message, **error.fields, preset=task.preset) from None


def _prepare(name: str, task: Task, files: dict[str, Path]) -> tuple[pd.DataFrame, dict[str, Any]]:
    tables = {key: path for key, path in files.items() if key != "join"}
    if not tables:
        raise InputError(
            "task.without-files",
            f"task {name}: no file; give one for train, validation or test",
            task=name,
        )
    joined = joined_rows(task.join, files, task.columns) if task.join is not None else None
    report: dict[str, Any] = {"task": name, "preset": task.preset, "encoding": task.encoding}
    if task.preset is not None:
        report["preset_version"] = PRESETS[task.preset].version
    # Without an id column, row numbers are the ids, and duplicates cannot be detected.
    report["id"] = task.columns.id
    report["splits"] = {}
    parts = []
    for key, path in tables.items():
        table = read_table(path, task.header, task.delimiter, task.pattern, task.encoding)
        check_texts(path, task.columns, [task.rename.get(name, name) for name in table.nested])
        rows = _renamed(path, table.rows, task.rename)
        if task.join is not None and joined is not None:
            rows = join_rows(path, rows, task.join, joined)
        rows = _with_context(path, rows, task)
        groups: list[tuple[str, pd.DataFrame]] = [(key, rows)]
        if key == "all":
            groups, report["other_splits"] = _by_split(path, rows, task.split or EVERY_SPLIT)
        for name in COUNTED:
            if count := table.counts.get(name, 0):
                report[name] = report.get(name, 0) + count
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


def _renamed(path: Path, rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    for old, new in names.items():
        if old in rows.columns and new in rows.columns:
            raise LayoutError(
                "task.rename-to-present-column",
                f"{path}: rename maps {old!r} to {new!r}, but the file has both columns; remove "
                f"{old!r} from rename",
                file=path,
                column=new,
                key=old,
            )
    return rows.rename(columns=names)


def _with_context(path: Path, rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The rows with a column `context`, if the prompt contains the previous turns."""
    context, text = task.context, task.columns.text
    if context is None or not _needs_context(task):
        return rows
    check_columns(path, rows, [text, context.dialogue, context.order, context.speaker])
    return rows.assign(context=previous_turns(rows, context, text, path))


def _needs_context(task: Task) -> bool:
    fields = [field for _, field, _, _ in _pieces(task.prompt)]
    return task.context is not None and "context" in fields


def _by_split(
    path: Path, rows: pd.DataFrame, by: SplitBy
) -> tuple[list[tuple[str, pd.DataFrame]], dict[str, int]]:
    """The rows of each split in the file, and the number of rows of every other value."""
    check_columns(path, rows, [by.column])
    values = rows[by.column]
    known: dict[str, Split] = {value: split for split, listed in by.items() for value in listed}
    counted = values[~values.isin(list(known))].value_counts().sort_index()
    other = {str(value): int(count) for value, count in counted.items()}
    if by is EVERY_SPLIT and other:
        raise LayoutError(
            "split.unknown-value",
            f"{path}: column {by.column!r} holds {min(other)!r}; "
            f"expected {', '.join(known)}: list the values of each split under split",
            file=path,
            column=by.column,
            found=min(other),
            expected=list(known),
        )
    splits = values.map(known)
    groups: list[tuple[str, pd.DataFrame]] = []
    for split, _ in by.items():
        group = rows[splits == split]
        if group.empty:
            if by is not EVERY_SPLIT:
                expected = dict(by.items())[split]
                found = sorted(values.unique())[:10]
                raise LayoutError(
                    "split.no-such-value",
                    f"{path}: no row of split {split!r}: column {by.column!r} holds "
                    f"{', '.join(map(repr, found))}; expected {', '.join(map(repr, expected))}: "
                    f"correct split.{split}",
                    file=path,
                    split=split,
                    column=by.column,
                    found=found,
                    expected=expected,
                )
        else:
            groups.append((split, group))
    if not groups:
        raise LayoutError(
            "table.no-rows", f"{path}: no rows; expected rows of {', '.join(SPLITS)}", file=path
        )
    return groups, other


def _split(
    task: Task, path: Path, split: str, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The samples of one split, and the numbers of rows read, left out and kept."""
    columns = task.columns
    answer = columns.label or columns.score or columns.target
    if columns.matches is not None:
        answer = columns.text
    check_columns(path, rows, [columns.text, answer, *(columns.id or [])])
    # From here on the index is the row's number in the split; ids without a column are built of it.
    rows = rows.assign(**{_ROW: rows.index + 1}).reset_index(drop=True)
    counts: dict[str, Any] = {"file": path.name, "read": len(rows)}
    if PARTNER in rows.columns:
        counts["no_partner"] = int((~rows[PARTNER]).sum())
        rows = rows[rows[PARTNER]]
    empty = blank(rows[columns.text])
    counts["empty_text"] = int(empty.sum())
    rows = rows[~empty]
    if columns.score is not None:
        masked = _masked(rows[columns.score], task.number)
        counts["masked_score"] = int(masked.sum())
        rows = rows[~masked]
        rows = rows.assign(**{_SCORE: _scores(path, rows, columns.score)})
    rows, values = _answers(task, path, rows, answer, counts)
    ids = _ids(rows, split, columns)
    repeated = ids.duplicated()
    counts["duplicate_id"] = None if columns.id is None else int(repeated.sum())
    if task.duplicate_ids == "refuse" and repeated.any():
        duplicate = ids[repeated].iloc[0]
        raise InputError(
            "split.duplicate-id",
            f"{path}: duplicate id {duplicate!r} in split {split!r} ({repeated.sum()} such rows); "
            "set columns.id to another column, or set duplicate_ids: first",
            file=path,
            split=split,
            found=duplicate,
            rows=int(repeated.sum()),
        )
    rows, values, ids = rows[~repeated], values[~repeated], ids[~repeated]
    if rows.empty:
        why = f" ({left_out(counts)})" if counts["read"] else ""
        raise LayoutError(
            "split.no-row-kept",
            f"{path}: no row of split {split!r} is kept; it has {counts['read']} rows{why}: check "
            "columns and labels",
            file=path,
            split=split,
            rows=counts["read"],
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
    if _needs_context(task):
        counts["without_context"] = int((rows["context"] == "").sum())
    return part, counts


def _answers(
    task: Task, path: Path, rows: pd.DataFrame, answer: str | None, counts: dict[str, Any]
) -> tuple[pd.DataFrame, pd.Series]:
    """The rows that have an answer, and their answers as text; adds the rows left out to `counts`.

    Args:
        answer: the column of the label, score or target; None without one.
    """
    if answer is None:
        values = pd.Series("", index=rows.index)
    elif task.number is not None:
        values = _numbers(path, rows, task.number)
    elif task.labels is not None:
        if task.label_separator is not None:
            several = rows[answer].str.contains(task.label_separator, regex=False)
            counts["several_labels"] = int(several.sum())
            rows = rows[~several]
        labels = _as_listed(_labels(rows, task.columns, answer), task.labels)
        unlisted = ~labels.isin(list(task.labels))
        counts["unlisted_label"] = int(unlisted.sum())
        if task.unlisted_labels == "refuse" and unlisted.any():
            row = int(rows[_ROW][unlisted].iloc[0])
            raise _unlisted_labels(path, row, labels[unlisted], task.labels)
        rows, values = rows[~unlisted], labels[~unlisted].map(task.labels)
    else:
        without = rows[answer].str.strip() == ""
        counts["empty_target"] = int(without.sum())
        rows = rows[~without]
        values = rows[answer]
    return rows, values


def _labels(rows: pd.DataFrame, columns: Columns, answer: str) -> pd.Series:
    """The label of each row: from its column, the sign of its score, or a pattern on its text."""
    if columns.score is not None:
        return _signs(rows[_SCORE])
    if columns.matches is not None:
        search = re.compile(columns.matches).search
        yes, no = ANSWERS
        slow = InputError(
            "task.slow-pattern",
            f"columns.matches takes longer than {PATIENCE} s on the texts; simplify the pattern",
            key="columns.matches",
        )
        with time_limit(PATIENCE, slow):
            return rows[columns.text].map(lambda text: yes if search(text) else no)
    return rows[answer]


def _as_listed(labels: pd.Series, listed: Iterable[str]) -> pd.Series:
    """The labels as in `listed`: white space around them and the `.0` of a number are removed.

    pandas writes the whole numbers of a column with missing values as 1.0. A label that is listed
    unchanged is kept.
    """
    for pattern in (r"^\s+|\s+$", r"(?<=\d)\.0$"):
        other = labels.str.replace(pattern, "", regex=True)
        labels = other.where(other.isin(list(listed)) & ~labels.isin(list(listed)), labels)
    return labels


def _unlisted_labels(
    path: Path, row: int, labels: pd.Series, listed: dict[str, str]
) -> LayoutError:
    """The labels that are not listed, the listed ones, and what to do.

    Args:
        row: the number of the first row with one of `labels`.
    """
    found = list(dict.fromkeys(labels))
    first = found[0]
    shown = ", ".join(map(repr, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
    rows = f"{len(labels)} such rows" + (f": {shown}" if len(found) > 1 else "")
    expected = f"expected one of {', '.join(listed)} ({rows})"
    fields = {"file": path, "row": row, "found": found, "expected": list(listed)}
    fields["rows"] = len(labels)
    if not first.strip():
        return LayoutError(
            "label.empty",
            f"{path}: row {row} has no label; {expected}: add the label to the file, or set "
            "unlisted_labels: drop",
            **fields,
        )
    words = {label.lower(): word for label, word in listed.items()}
    if all(label.strip().lower() in words for label in found):
        word = words[first.strip().lower()]
        return LayoutError(
            "label.other-case",
            f"{path}: row {row} has the label {first!r}; {expected}: write labels as a map from "
            f"each label to its word, such as {{{first}: {word}}}",
            **fields,
        )
    every = "them" if len(found) > 1 else "it"
    return LayoutError(
        "label.unlisted",
        f"{path}: row {row} has the label {first!r}; {expected}: add {every} to labels, or set "
        "unlisted_labels: drop",
        **fields,
    )


_SHOWN = 20  # labels in a message


def _ids(rows: pd.DataFrame, split: str, columns: Columns) -> pd.Series:
    if columns.id is None:
        return pd.Series(f"{split}-" + rows.index.astype(str), index=rows.index)
    ids = rows[columns.id[0]]
    for column in columns.id[1:]:
        ids = ids + "_" + rows[column]
    return f"{split}-" + ids if columns.id_per_split else ids


def _masked(values: pd.Series, number: NumberAnswer | None) -> pd.Series:
    """Whether each score is missing: empty, NaN, or a mark such as -10 that is off the scale.

    A number such as -10 is a score where the scale includes it.
    """
    bare = values.str.strip().str.lower()
    numbers = pd.to_numeric(bare, errors="coerce")
    marked = numbers.isin(MASKS)
    scale = number.values if number is not None else ()
    if (numbers[~marked] < max(MASKS)).any() or any(int(mark) in scale for mark in MASKS):
        marked[:] = False
    return marked | bare.isin(_MISSING)


def _scores(path: Path, rows: pd.DataFrame, column: str) -> pd.Series:
    scores = pd.to_numeric(rows[column], errors="coerce").astype(float)
    wrong = rows[~np.isfinite(scores)]
    if len(wrong):
        row, value = int(wrong[_ROW].iloc[0]), wrong[column].iloc[0]
        raise LayoutError(
            "table.not-a-number",
            f"{path}: row {row} has the score {value!r}; expected a number ({len(wrong)} such "
            "rows)",
            file=path,
            column=column,
            row=row,
            found=value,
            rows=len(wrong),
        )
    return scores


def _numbers(path: Path, rows: pd.DataFrame, number: NumberAnswer) -> pd.Series:
    """The number of each row, as the text that the model is asked to write."""
    scores = rows[_SCORE]
    wrong = rows[~scores.isin(list(number.values))]
    if len(wrong):
        row, value = int(wrong[_ROW].iloc[0]), float(wrong[_SCORE].iloc[0])
        raise LayoutError(
            "task.number-off-scale",
            f"{path}: row {row} has the number {value:g}; expected an integer from "
            f"{number.lowest} to {number.highest} ({len(wrong)} such rows)",
            file=path,
            row=row,
            found=value,
            expected=(number.lowest, number.highest),
            rows=len(wrong),
        )
    return scores.map(lambda score: f"{int(score)}{number.ending}")


def _signs(scores: pd.Series) -> pd.Series:
    return (np.sign(scores).astype(int) + 1).map(dict(enumerate(SIGNS)))


def _pieces(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    return list(string.Formatter().parse(prompt))


def _prompts(path: Path, task: Task, rows: pd.DataFrame) -> list[str]:
    """The template filled with the columns of each row; names are looked up, never evaluated."""
    if "text" not in rows.columns:
        # {text} means the column `columns.text`, whatever its name.
        rows = rows.assign(text=rows[task.columns.text])
    pieces = _pieces(task.prompt)
    for _, field, _, _ in pieces:
        if field is not None and field not in rows.columns:
            names = [name for name in rows.columns if not name.startswith("\0")]
            hint = "; describe the dialogues under context" if field == "context" else ""
            raise LayoutError(
                "prompt.no-such-column",
                f"{path}: the prompt uses column {field!r}; its columns are "
                f"{', '.join(names)}{hint}",
                file=path,
                column=field,
                found=names,
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
                "split.overlap",
                f"files: {shared} of {rows} test texts are also in the {earlier} split "
                f"({counts['exact']} of them exactly), more than overlap_limit "
                f"{task.overlap_limit}; give splits without common texts, or raise overlap_limit",
                split=earlier,
                found=shared,
                exact=counts["exact"],
                rows=rows,
                expected=task.overlap_limit,
            )
