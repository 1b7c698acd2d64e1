"""The answer of each sample: the word of its label, its number, or its target.

The messages do not name the file; the caller adds it (`columns.naming`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from affectlocus.config.task_answers import ANSWERS, SIGNS, NumberAnswer
from affectlocus.config.tasks import Columns, Task
from affectlocus.core.errors import InputError, LayoutError
from affectlocus.core.regex_timeout import time_limit
from affectlocus.core.valences import MASKS
from affectlocus.data.table_reader import PATIENCE

# Columns for internal use, with names that no file can have: the row's number in the file, from 1;
# the score as a number.
ROW, SCORE = "\0row", "\0score"
# Values of a missing score.
_MISSING = ("", "nan", "na", "n/a", "none", "null")


def answers(
    task: Task, rows: pd.DataFrame, answer: str | None, counts: dict[str, Any]
) -> tuple[pd.DataFrame, pd.Series]:
    """The rows that have an answer, and their answers as text; adds the rows left out to `counts`.

    Args:
        answer: the column of the label, score or target; None without one.
    """
    if answer is None:
        values = pd.Series("", index=rows.index)
    elif task.number is not None:
        values = _numbers(rows, task.number)
    elif task.labels is not None:
        if task.label_separator is not None:
            several = rows[answer].str.contains(task.label_separator, regex=False)
            counts["several_labels"] = int(several.sum())
            rows = rows[~several]
        labels = _as_listed(_labels(rows, task.columns, answer), task.labels)
        unlisted = ~labels.isin(list(task.labels))
        counts["unlisted_label"] = int(unlisted.sum())
        if task.unlisted_labels == "refuse" and unlisted.any():
            row = int(rows[ROW][unlisted].iloc[0])
            raise _unlisted_labels(row, labels[unlisted], task.labels)
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
        return (np.sign(rows[SCORE]).astype(int) + 1).map(dict(enumerate(SIGNS)))
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


def _unlisted_labels(row: int, labels: pd.Series, listed: dict[str, str]) -> LayoutError:
    """The labels that are not listed, the listed ones, and what to do.

    Args:
        row: the number of the first row with one of `labels`.
    """
    found = list(dict.fromkeys(labels))
    first = found[0]
    shown = ", ".join(map(repr, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
    rows = f"{len(labels)} such rows" + (f": {shown}" if len(found) > 1 else "")
    expected = f"expected one of {', '.join(listed)} ({rows})"
    fields = {"row": row, "found": found, "expected": list(listed), "rows": len(labels)}
    if not first.strip():
        return LayoutError(
            "label.empty",
            f"row {row} has no label; {expected}: add the label to the file, or set "
            "unlisted_labels: drop",
            **fields,
        )
    words = {label.lower(): word for label, word in listed.items()}
    if all(label.strip().lower() in words for label in found):
        word = words[first.strip().lower()]
        return LayoutError(
            "label.other-case",
            f"row {row} has the label {first!r}; {expected}: write labels as a map from "
            f"each label to its word, such as {{{first}: {word}}}",
            **fields,
        )
    parts = [part.strip() for part in first.split(",")]
    if len(parts) > 1 and all(part in listed for part in parts):
        return LayoutError(
            "label.split-at-comma",
            f"row {row} has the label {first!r}; {expected}: the comma separates labels in "
            f"params.yaml; to list {first!r} as one label, put it in quotes",
            **fields,
        )
    every = "them" if len(found) > 1 else "it"
    return LayoutError(
        "label.unlisted",
        f"row {row} has the label {first!r}; {expected}: add {every} to labels, or set "
        "unlisted_labels: drop",
        **fields,
    )


_SHOWN = 20  # labels in a message


def masked(values: pd.Series, number: NumberAnswer | None) -> pd.Series:
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


def scores(rows: pd.DataFrame, column: str) -> pd.Series:
    scores = pd.to_numeric(rows[column], errors="coerce").astype(float)
    wrong = rows[~np.isfinite(scores)]
    if len(wrong):
        row, value = int(wrong[ROW].iloc[0]), wrong[column].iloc[0]
        raise LayoutError(
            "table.not-a-number",
            f"row {row} has the score {value!r}; expected a number ({len(wrong)} such rows)",
            column=column,
            row=row,
            found=value,
            rows=len(wrong),
        )
    return scores


def _numbers(rows: pd.DataFrame, number: NumberAnswer) -> pd.Series:
    """The number of each row, as the text that the model is asked to write."""
    scores = rows[SCORE]
    wrong = rows[~scores.isin(list(number.values))]
    if len(wrong):
        row, value = int(wrong[ROW].iloc[0]), float(wrong[SCORE].iloc[0])
        raise LayoutError(
            "task.number-off-scale",
            f"row {row} has the number {value:g}; expected an integer from "
            f"{number.lowest} to {number.highest} ({len(wrong)} such rows)",
            row=row,
            found=value,
            expected=(number.lowest, number.highest),
            rows=len(wrong),
        )
    return scores.map(lambda score: f"{int(score)}{number.ending}")
