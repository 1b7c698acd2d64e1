"""A cell's predictions as answers: a label, a number, or the log-likelihood of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import pandas as pd

from affectlocus.config.task_answers import Scoring
from affectlocus.core.errors import InputError
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring.number_answers import class_answers, class_names, predicted_numbers


@dataclass(frozen=True)
class CellAnswers:
    """The answers of one cell. Every frame has the columns `task` and `sample`.

    Attributes:
        chosen: columns `label` and `answer`; a row for each sample of a task with labels.
        labels: task → its labels; only tasks with labels.
        positive: task → its positive label; only tasks that have one.
        numbers: task → columns `true` and `predicted`.
        texts: task → columns `loglik` (nats) and `tokens`; a row for each document.
        written: task → column `text`, the text that the model generated.
        logliks: task → a function that returns a row for each sample and a column for each label,
            nats; only tasks whose labels are candidates.
    """

    chosen: pd.DataFrame
    labels: dict[str, list[str]]
    positive: dict[str, str]
    numbers: dict[str, pd.DataFrame] = field(default_factory=dict)
    texts: dict[str, pd.DataFrame] = field(default_factory=dict)
    written: dict[str, pd.DataFrame] = field(default_factory=dict)
    logliks: dict[str, Callable[[], pd.DataFrame]] = field(default_factory=dict)


def read_answers(predictions: Predictions, tasks: Mapping[str, Scoring]) -> CellAnswers:
    """The answers in one cell's predictions.

    Args:
        tasks: task → its domain, positive label and number; tasks without these may be left out.
    """
    frame, candidates = predictions.rows, predictions.labels
    scoring = {task: tasks.get(task, Scoring()) for task in candidates}
    numbered = {task: entry.number for task, entry in scoring.items() if entry.number is not None}
    parts = {str(task): rows for task, rows in frame.groupby("task", sort=False, observed=True)}
    of_task = {task: parts.get(task, frame.iloc[:0]) for task in candidates}
    numbers = {
        task: predicted_numbers(task, of_task[task], number).assign(task=task)
        for task, number in numbered.items()
    }
    texts = {task: of_task[task] for task in candidates if not candidates[task]}
    labelled = [task for task in candidates if candidates[task] and task not in numbered]
    chosen = [choose(frame[frame["task"].isin(labelled)])] if labelled else []
    labels = {task: candidates[task] for task in labelled}
    positive = {
        task: entry.positive for task, entry in scoring.items() if entry.positive is not None
    }
    for task, number in numbered.items():
        if number.cutoff is not None:
            chosen.append(class_answers(task, numbers[task], number))
            labels[task] = class_names(number)
            positive[task] = labels[task][-1]
    ordered = {task: labels[task] for task in candidates if task in labels}
    if not chosen:
        chosen = [pd.DataFrame(columns=["task", "sample", "label", "answer"])]
    generated = frame[frame["text"].notna()] if "text" in frame else frame.iloc[:0]
    by_task = generated[generated["task"].isin(list(candidates))].groupby("task", sort=False)
    written = {str(task): rows for task, rows in by_task}
    logliks: dict[str, Callable[[], pd.DataFrame]] = {}
    for task in labelled:
        if of_task[task]["loglik"].notna().all():
            # Only some readers need the table, and each needs it for several comparisons.
            logliks[task] = cache(partial(_by_label, of_task[task], labels[task]))
    return CellAnswers(
        pd.concat(chosen, ignore_index=True), ordered, positive, numbers, texts, written, logliks
    )


def _by_label(rows: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """The log-likelihoods of one task: a row for each sample, a column for each label."""
    places, samples = pd.factorize(rows["sample"])
    values = rows["loglik"].to_numpy()
    found = np.full((len(samples), len(labels)), np.nan, values.dtype)
    found[places, pd.Index(labels).get_indexer(pd.Index(rows["candidate"]))] = values
    return pd.DataFrame(found, pd.Index(samples, name="sample"), labels)


def choose(predictions: pd.DataFrame) -> pd.DataFrame:
    """The answer to each sample: columns `task`, `sample`, `label`, `answer`.

    With candidates, the answer is the candidate with the highest log-likelihood. A tie goes to the
    candidate that comes first in params.yaml. With free text, the answer is the label that
    `openset` found in the text, or empty if it found none; the columns `openset` and `valence` are
    added.

    Raises:
        InputError: free text without the columns that `openset` adds.
    """
    free_text = predictions[predictions["text"].notna()] if "text" in predictions else None
    candidates = predictions if free_text is None else predictions[predictions["text"].isna()]
    best = candidates.groupby(["task", "sample"], sort=False, observed=True)["loglik"].idxmax()
    rows = candidates.loc[best, ["task", "sample", "label", "candidate"]]
    rows = rows.rename(columns={"candidate": "answer"}).reset_index(drop=True)
    if free_text is None or free_text.empty:
        return rows
    if "answer" not in free_text:
        task = free_text["task"].iloc[0]
        raise InputError(
            "prediction.free-text-without-labels",
            f"task {task}: the answers are free text without labels; run `affectlocus openset` on "
            "these predictions and score the file that it writes",
            task=task,
        )
    read = free_text[["task", "sample", "label", "answer", "openset", "valence"]]
    return pd.concat([rows, read], ignore_index=True)
