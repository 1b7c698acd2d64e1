"""The evidence on scores: the answers of cells, as observed and in draws of their samples."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from affectlocus.claims.settings import ClaimsSettings
from affectlocus.claims.statistics import (
    CellGroup,
    GroupDraws,
    LabelAnswers,
    TextLikelihoods,
    bootstrap,
    first_with_same_samples,
)
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import PROJECTIONS
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring.cell_answers import CellAnswers, read_answers

GroupKey = tuple[str, str, str, str]
"""Identifies a group of cells: group of pairs, kind, module set, mode."""
Replicate = int | tuple[str, int] | None
"""A seed; ("draw", number), a random draw on a checkpoint; None, a checkpoint without a seed."""
COLUMNS = list(PROJECTIONS)


class MissingEvidenceError(Exception):
    """The experiment does not have what a claim needs; the claim is untestable."""


@dataclass(frozen=True)
class ScoreEvidence:
    """Scores of an experiment's cells by group, as observed and in every draw of the samples.

    Attributes:
        draws: scores of every (group, replicate) on every task.
        replicates: group → its replicates, in order.
        by: the metric.
        margin: a difference in points below it counts as none.
        n: the number of samples of all tasks.
        fluency: the logarithm of the perplexity of general text, if it was measured.
        texts: the number of general texts.
        cells: group → the ids of its cells.
        correct: group with a single cell → (n,), in how many tasks a sample's answer is correct.
        accuracy: group → (tasks,) shares of correct answers.
        cell_scores: cell id → (tasks,) scores.
        samples: task → its number of samples.
        source: the files that the scores come from.
        noun: what `cells` are called in sentences.
        bridged: the groups of pairs with a bridge.
        constant: the groups of cells that answer each task with one label throughout.
    """

    draws: GroupDraws
    replicates: Mapping[GroupKey, tuple[Replicate, ...]]
    by: str
    margin: float = math.nan
    n: int = 0
    fluency: GroupDraws | None = None
    texts: int = 0
    cells: Mapping[GroupKey, list[str]] = field(default_factory=dict)
    correct: Mapping[GroupKey, np.ndarray] = field(default_factory=dict)
    accuracy: Mapping[GroupKey, np.ndarray] = field(default_factory=dict)
    cell_scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    noun: str = "cell"
    bridged: frozenset[str] = frozenset()
    constant: frozenset[GroupKey] = frozenset()

    def has(self, key: GroupKey) -> bool:
        return key in self.replicates

    @property
    def matrices(self) -> list[str]:
        """The groups of pairs with load, tune or ablate cells, in order."""
        kinds = ("load", "tune", "ablate")
        return list(dict.fromkeys(key[0] for key in self.replicates if key[1] in kinds))

    def of_tasks(self, tasks: Sequence[str]) -> ScoreEvidence:
        """The scores of some tasks alone; without McNemar's counts, which are over all tasks.

        Raises:
            MissingEvidenceError: a task was not answered.
        """
        names = list(self.draws.tasks)
        if missing := [task for task in tasks if task not in names]:
            raise MissingEvidenceError(
                f"no answers to task {', '.join(missing)}; there are {', '.join(names)}"
            )
        places = [names.index(task) for task in tasks]
        draws = GroupDraws(self.draws.groups, tuple(tasks), self.draws.values[..., places])
        return replace(
            self,
            draws=draws,
            n=sum(self.samples.get(task, 0) for task in tasks),
            correct={},
            accuracy={key: shares[places] for key, shares in self.accuracy.items()},
            cell_scores={cell: scores[places] for cell, scores in self.cell_scores.items()},
        )

    def common(self, keys: Sequence[GroupKey]) -> tuple[Replicate, ...]:
        """The replicates that all groups have. A checkpoint without seed belongs to each of them.

        Raises:
            MissingEvidenceError: there is none.
        """
        own = [self.replicates[key] for key in keys if self.replicates[key] != (None,)]
        if not own:
            return (None,)
        found = tuple(one for one in own[0] if all(one in others for others in own))
        if not found:
            raise MissingEvidenceError(
                f"{', '.join(' '.join(filter(None, key[1:])) for key in keys)} have no seed in "
                "common"
            )
        return found

    def by_task(self, keys: Sequence[GroupKey], draws: GroupDraws | None = None) -> np.ndarray:
        """(groups, 1 + draws, replicates, tasks), scores in the replicates that all groups have.

        Args:
            draws: other scores than `self.draws`, such as `fluency`.

        Raises:
            MissingEvidenceError: the groups have no replicate in common.
        """
        draws, common = draws or self.draws, self.common(keys)
        found = []
        for key in keys:
            alone = self.replicates[key] == (None,)
            places = [draws.groups[key, None if alone else one] for one in common]
            found.append(draws.values[:, places])
        return np.stack(found)

    def mean(self, key: GroupKey, draws: GroupDraws | None = None) -> float:
        """The observed mean score of a group over tasks and replicates."""
        return float(self.by_task([key], draws)[0, 0].mean())

    def basis(self, *keys: GroupKey) -> str:
        """The source of the numbers of some groups, as text; seeds and draws are named once."""
        names: dict[str, None] = {}
        replicates: dict[str, None] = {}
        for name in (name for key in keys for name in self.cells[key]):
            condition, _, last = name.rpartition("/")
            if re.fullmatch(r"(seed|draw)\d+", last):
                name, replicates[last] = condition, None
            names[name] = None
        text = f"{self.source}, {self.noun}s {', '.join(names)}"
        return text + (f", each of {', '.join(replicates)}" if replicates else "")


def gather_scores(
    predictions: Iterable[Predictions], settings: ClaimsSettings
) -> list[ScoreEvidence]:
    """The scores of all cells. Cells that answered the same tasks are drawn together.

    Each of these sets includes the bases. The largest set comes first: it has the affective cells,
    if controls have tasks of their own.

    Args:
        predictions: of every cell; they are read one at a time.

    Raises:
        InputError: there is no cell, or cells did not answer the same samples.
        MissingEvidenceError: no task has labels.
    """
    read = [(own.cell, read_answers(own, settings.tasks)) for own in predictions]
    if not read:
        raise InputError(
            "prediction.none", "no predictions; give predictions.parquet of every cell"
        )
    sets: dict[frozenset[str], list[tuple[Cell, CellAnswers]]] = {}
    for cell, answers in read:
        if cell.pair is not None:
            sets.setdefault(frozenset(answers.labels), []).append((cell, answers))
    together = [[*_bases(read, tasks), *own] for tasks, own in sets.items()] or [read]
    found = []
    for members in sorted(together, key=len, reverse=True):
        cells, cell_answers = [cell for cell, _ in members], [answers for _, answers in members]
        tasks = _label_answers(cell_answers, cells, settings)
        texts = _text_likelihoods(cell_answers, cells)
        found.append(bootstrap_scores(cells, tasks, texts, settings))
    return found


def _bases(
    read: Sequence[tuple[Cell, CellAnswers]], tasks: frozenset[str]
) -> Iterator[tuple[Cell, CellAnswers]]:
    """The bases with their answers to these tasks."""
    for cell, answers in read:
        if cell.pair is None:
            labels = {task: words for task, words in answers.labels.items() if task in tasks}
            yield cell, replace(answers, labels=labels)


def bootstrap_scores(
    cells: Sequence[Cell],
    tasks: Mapping[str, LabelAnswers],
    texts: Mapping[str, TextLikelihoods],
    settings: ClaimsSettings,
) -> ScoreEvidence:
    """The scores of cells that answered the same samples.

    Args:
        cells: one for each row of the arrays in `tasks` and `texts`, in order.

    Raises:
        MissingEvidenceError: no task has labels.
    """
    if not tasks:
        raise MissingEvidenceError("no task with labels among the predictions")
    grouped = _cell_groups(cells, settings)
    groups = [
        CellGroup((key, replicate), tuple(members))
        for key, own in grouped.items()
        for replicate, members in own.items()
    ]
    places = {
        key: list(dict.fromkeys(place for members in own.values() for place in members))
        for key, own in grouped.items()
    }
    correct = [task.correct for task in tasks.values()]  # each (cells, n)
    counts: dict[str, np.ndarray] = {}
    for task, own in zip(tasks.values(), correct, strict=True):
        first = first_with_same_samples(tasks, task)
        counts[first] = counts.get(first, 0) + own.astype(int)
    share = np.array([own.mean(axis=1) for own in correct])  # (tasks, cells)
    one_label = np.array(
        [(task.answers == task.answers[:, :1]).all(axis=1) for task in tasks.values()]
    )
    single_cells = [CellGroup(cell.id, (place,)) for place, cell in enumerate(cells)]
    observed = bootstrap(tasks, single_cells, draws=0).values[0]  # (cells, tasks)
    return ScoreEvidence(
        draws=bootstrap(tasks, groups, settings.draws, settings.seed),
        replicates={key: tuple(own) for key, own in grouped.items()},
        by=settings.metric,
        margin=settings.margin,
        n=sum(len(task.samples) for task in tasks.values()),
        fluency=bootstrap(texts, groups, settings.draws, settings.seed) if texts else None,
        texts=sum(len(text.samples) for text in texts.values()),
        cells={key: [cells[place].id for place in members] for key, members in places.items()},
        correct={
            key: np.concatenate([own[members[0]] for own in counts.values()])
            for key, members in places.items()
            if len(members) == 1
        },
        accuracy={key: share[:, members].mean(axis=1) for key, members in places.items()},
        cell_scores={cell.id: scores for cell, scores in zip(cells, observed, strict=True)},
        samples={name: len(task.samples) for name, task in tasks.items()},
        source="results/cells/*/predictions.parquet",
        bridged=frozenset(
            settings.group(cell.pair) for cell in cells if cell.pair is not None and cell.bridge
        ),
        constant=frozenset(key for key, members in places.items() if one_label[:, members].all()),
    )


def _aligned(
    tables: Sequence[Mapping[str, pd.DataFrame]], cells: Sequence[Cell]
) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """(task, a frame for each cell, sorted by sample).

    Raises:
        InputError: a cell has other samples than the first one.
    """
    for task, first in tables[0].items():
        samples = first["sample"].sort_values()
        parts = []
        for cell, own in zip(cells, tables, strict=True):
            part = own[task].sort_values("sample") if task in own else None
            if part is None or not np.array_equal(part["sample"], samples):
                raise InputError(
                    "cell.other-samples",
                    f"cell {cell.id}: task {task} has other samples than in cell {cells[0].id}; "
                    "evaluate all cells on the same data",
                    cell=cell.id,
                    task=task,
                    other=cells[0].id,
                )
            parts.append(part)
        yield task, parts


def _label_answers(
    read: Sequence[CellAnswers], cells: Sequence[Cell], settings: ClaimsSettings
) -> dict[str, LabelAnswers]:
    tables = []
    for answers in read:
        parts = dict(iter(answers.chosen.groupby("task", sort=False)))
        tables.append({task: parts[task] for task in answers.labels if task in parts})
    found = {}
    for task, frames in _aligned(tables, cells):
        labels, positive = read[0].labels[task], read[0].positive.get(task)
        columns = [frames[0]["label"], *(frame["answer"] for frame in frames)]
        # The code of an answer that is not a label is -1.
        truth, *codes = [pd.Index(labels).get_indexer(pd.Index(column)) for column in columns]
        found[task] = LabelAnswers(
            frames[0]["sample"].to_numpy(),
            truth,
            np.stack(codes),
            len(labels),
            settings.metric,
            None if positive is None else labels.index(positive),
        )
    return found


def _text_likelihoods(
    read: Sequence[CellAnswers], cells: Sequence[Cell]
) -> dict[str, TextLikelihoods]:
    return {
        task: TextLikelihoods(
            parts[0]["sample"].to_numpy(),
            -np.stack([part["loglik"].to_numpy(float) for part in parts]),
            parts[0]["tokens"].to_numpy(float),
        )
        for task, parts in _aligned([answers.texts for answers in read], cells)
    }


def _cell_groups(
    cells: Sequence[Cell], settings: ClaimsSettings
) -> dict[GroupKey, dict[Replicate, list[int]]]:
    """Group → replicate → the indices of its cells, which are averaged.

    If a group has pairs with different seeds, these are its replicates. Otherwise the seeds or
    draws of the cells are. A base belongs to the group of every pair on it: with its own seeds if
    it has several, else as a checkpoint without seed.
    """
    groups = {pair: settings.group(pair) for cell in cells if (pair := cell.pair)}
    seeds: dict[str, set[int]] = {}
    for pair, group in groups.items():
        seeds.setdefault(group, set()).add(settings.facts(pair).seed)
    bases: dict[str, dict[Replicate, list[int]]] = {}
    for place, cell in enumerate(cells):
        if cell.kind == "base":
            bases.setdefault(cell.base, {}).setdefault(cell.replicate, []).append(place)
    found: dict[GroupKey, dict[Replicate, list[int]]] = {}
    for place, cell in enumerate(cells):
        if cell.pair is None:
            continue
        group = groups[cell.pair]
        if cell.base in bases:
            found.setdefault((group, "base", "", ""), bases[cell.base])
        replicate: Replicate = cell.replicate
        if len(seeds[group]) > 1:
            replicate = settings.facts(cell.pair).seed
        key: GroupKey = (group, cell.kind, cell.modules, cell.variant)
        found.setdefault(key, {}).setdefault(replicate, []).append(place)
    return {key: {one: own[one] for one in sorted(own, key=_order)} for key, own in found.items()}


def _order(replicate: Replicate) -> tuple[bool, int]:
    """Sorts seeds before draws."""
    return (True, replicate[1]) if isinstance(replicate, tuple) else (False, replicate or 0)
