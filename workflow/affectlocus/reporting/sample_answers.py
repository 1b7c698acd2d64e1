"""The samples behind the numbers of the report, as text that the page's script unpacks.

For each task: its first test samples. For each cell in a table: its answer to each of them, in
every replicate. The page has a bounded number of samples, because it must stay small enough to
send; the files have all of them.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from affectlocus.config.task_answers import Scoring
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring.cell_answers import CellAnswers, read_answers

MOST_SAMPLES = 50
"""The most samples of a task on the page."""
MOST_BYTES = 500_000
"""The most bytes that all samples may take on the page; above it, the page has fewer samples."""
_MOST_CHARACTERS = 600  # of a text; longer texts are cut


@dataclass
class SampleAnswers:
    """Samples and answers.

    Attributes:
        tasks: task → number of test samples.
        labelled: the tasks whose answers are labels, so that they are right or wrong.
        samples: task → (id, prompt, true answer) of its first samples.
        answers: cell → task → replicate → the answers to these samples, in their order.
    """

    tasks: dict[str, int] = field(default_factory=dict)
    labelled: set[str] = field(default_factory=set)
    samples: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    answers: dict[str, dict[str, dict[str, list[str]]]] = field(default_factory=dict)

    def packed(self, most_bytes: int = MOST_BYTES) -> str:
        """All as base64 of zlib's format; with fewer samples if it would be too large."""
        most = MOST_SAMPLES
        while len(text := self._packed(most)) > most_bytes and most > 1:
            most //= 2
        return text

    def _packed(self, most: int) -> str:
        distinct = {
            task: sorted(
                {
                    answer
                    for cell in self.answers.values()
                    for answers in cell.get(task, {}).values()
                    for answer in answers[:most]
                }
            )
            for task in self.samples
        }
        places = {task: {word: at for at, word in enumerate(distinct[task])} for task in distinct}
        content = {
            "tasks": {
                task: {
                    "of": self.tasks[task],
                    "labelled": task in self.labelled,
                    "samples": rows[:most],
                    "answers": distinct[task],
                }
                for task, rows in self.samples.items()
            },
            "cells": {
                cell: {
                    task: {
                        replicate: [places[task][answer] for answer in answers[:most]]
                        for replicate, answers in replicates.items()
                    }
                    for task, replicates in tasks.items()
                }
                for cell, tasks in self.answers.items()
            },
        }
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def sample_answers(
    results: Path,
    shown: Collection[str],
    cells: Iterable[str],
    scorings: Mapping[str, Scoring],
) -> SampleAnswers:
    """The samples behind tables of scores.

    Args:
        results: the folder of an experiment's results.
        shown: the ids of the cells in the tables; a mean over replicates has no replicate.
        cells: the ids of the experiment's cells.
        scorings: as in `read_answers`.
    """
    found = SampleAnswers()
    for cell in cells:
        row = next((name for name in _parents(cell) if name in shown), None)
        path = _answers_file(results / "cells" / cell)
        if row is None or path is None:
            continue
        answers = read_answers(_first(Predictions.read(path), found, results), scorings)
        found.labelled |= answers.labels.keys() - answers.numbers.keys()
        for task, given in _by_task(answers).items():
            ids = [sample for sample, *_ in found.samples[task]]
            replicate = cell[len(row) + 1 :]
            mine = found.answers.setdefault(row, {}).setdefault(task, {})
            mine[replicate] = [given.get(sample, "") for sample in ids]
    return found


def _parents(cell: str) -> list[str]:
    """A cell's id, and the ids of the means that it is in: `a/load/gate` of `a/load/gate/seed0`."""
    parts = cell.split("/")
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _answers_file(folder: Path) -> Path | None:
    files = (folder / f"{name}.parquet" for name in ("openset", "predictions"))
    return next((path for path in files if path.is_file()), None)


def _first(predictions: Predictions, found: SampleAnswers, results: Path) -> Predictions:
    """The predictions on the samples that the page has; adds the samples of new tasks."""
    rows = predictions.rows
    kept = pd.Series(False, index=rows.index)
    labels = {}
    for task, candidates in predictions.labels.items():
        if task not in found.samples:
            _add_task(found, results, task)
        if task in found.samples:
            ids = [sample for sample, *_ in found.samples[task]]
            kept |= (rows["task"] == task) & rows["sample"].isin(ids)
            labels[task] = candidates
    # Indices count from 0, as in the file.
    return replace(predictions, labels=labels, rows=rows[kept].reset_index(drop=True))


def _add_task(found: SampleAnswers, results: Path, task: str) -> None:
    path = results / "data" / f"{task}.parquet"
    if not path.is_file():
        return
    test = PreparedTask.read(path).test
    rows = test.head(MOST_SAMPLES)[["id", "prompt", "answer"]].astype(str)
    found.tasks[task] = len(test)
    found.samples[task] = [
        (identity, _cut(prompt), _cut(answer))
        for identity, prompt, answer in rows.itertuples(index=False, name=None)
    ]


def _by_task(answers: CellAnswers) -> dict[str, dict[str, str]]:
    """Task → sample → answer: a number, a label, a text, or a label and below it its text."""
    labels = _texts(answers.chosen, "answer")
    numbers = [_texts(frame, "predicted") for frame in answers.numbers.values()]
    written = [_texts(frame, "text") for frame in answers.written.values()]
    # Tasks with labels come first; among the others, the order is that of the predictions.
    found: dict[str, dict[str, str]] = {task: {} for task in labels}
    for each in (*written, labels):
        for task, given in each.items():
            mine = found.setdefault(task, {})
            for sample, answer in given.items():
                mine[sample] = f"{answer}\n{mine[sample]}" if sample in mine else answer
    for each in numbers:
        found |= each
    return found


def _texts(frame: pd.DataFrame, column: str) -> dict[str, dict[str, str]]:
    return {
        str(task): dict(zip(rows["sample"].astype(str), map(_text, rows[column]), strict=True))
        for task, rows in frame.groupby("task", sort=False, observed=True)
    }


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"
