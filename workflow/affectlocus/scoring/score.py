"""Step `score`: answers into scores, each with n, an interval, and a paired gain over the base.

The bootstrap draws samples with replacement within each task; all cells share the same draws. It
also resamples the seeds of cells that are otherwise equal. Every score is a function of sums over
samples (a confusion table, squared errors, log-likelihoods), and the bootstrap draws these sums.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from affectlocus.config.scoring import MEAN, MEAN_OF_CONTROL, Score
from affectlocus.config.task_answers import Scoring
from affectlocus.core.cells import INITIAL, NONE, TUNED, Cell
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring.bootstrap import Stream, category_counts, drawn_sums, seed_weights
from affectlocus.scoring.cell_answers import CellAnswers, read_answers
from affectlocus.scoring.discrimination import auc_draws
from affectlocus.scoring.distinct_n import diversity, diversity_draws
from affectlocus.scoring.number_answers import error_metrics, error_sums
from affectlocus.scoring.perplexity import perplexity, text_sums
from affectlocus.scoring.score_draws import (
    Protocol,
    ScoreDraws,
    confusion_metrics,
    mean_over_seeds,
    mean_over_tasks,
    score_rows,
)

T = TypeVar("T")


def score(
    predictions: Sequence[Predictions],
    settings: Score,
    tasks: Mapping[str, Scoring] | None = None,
    protocols: Mapping[str, Protocol] | None = None,
) -> pd.DataFrame:
    """Scores of several cells. Each cell is compared with its reference.

    The reference of an ablation is the tuned model; the reference of any other cell is the base.

    Args:
        predictions: of each cell; the base first, then the cells in the order of a table.
        tasks: task → its domain, positive label and number; tasks without these may be left out.
        protocols: task → its additional scores (`protocols.task_protocols`).

    Returns:
        The columns `cell`, `kind`, `base`, `pair`, `modules`, `mode`, `seed`, `draw`, `seeds`,
        `draws`, then those of `score_rows`, then `reference` (a cell's id). `seeds` and `draws`
        are 1 for a single cell. After cells that differ only in their seed or draw comes their
        mean: `seeds` or `draws` is their number, `seed` and `draw` are empty.

    Raises:
        InputError: a reference is not among the cells.
    """
    tasks = tasks or {}
    cells = {own.cell.id: own.cell for own in predictions}
    answers = {own.cell.id: read_answers(own, tasks) for own in predictions}
    mean_names = {
        task: MEAN_OF_CONTROL for task, entry in tasks.items() if entry.domain == "control"
    }
    references = {name: _reference(cell, cells) for name, cell in cells.items()}
    known = _KnownScores()
    draws = {
        name: cell_scores(
            answers[name],
            answers[references[name]],
            settings.resamples,
            settings.seed,
            protocols,
            mean_names,
            known,
        )
        for name in cells
    }
    parts = []
    for group in _replicate_groups(cells):
        for name in group:
            rows = score_rows(draws[name], settings.confidence)
            parts.append(_with_cell(rows, name, cells[name], references[name]))
        if len(group) > 1:
            parts.append(_group_mean(group, cells, references, draws, settings))
    scores = pd.concat(parts, ignore_index=True)
    return scores.astype({"seed": "Int64", "draw": "Int64"})


def _group_mean(
    group: Sequence[str],
    cells: Mapping[str, Cell],
    references: Mapping[str, str],
    draws: Mapping[str, list[tuple[str, ScoreDraws]]],
    settings: Score,
) -> pd.DataFrame:
    """The rows of the mean of cells that differ only in their seed or draw."""
    first = cells[group[0]]
    units = [cells[name].replicate for name in group]
    rng = Stream(settings.seed, repr(units), settings.resamples).generator()
    weights = seed_weights(len(group), settings.resamples, rng)
    mean = [
        (same_task[0][0], mean_over_seeds([scores for _, scores in same_task], weights))
        for same_task in zip(*(draws[name] for name in group), strict=True)
    ]
    reference = cells[references[group[0]]]
    if len({references[name] for name in group}) > 1:
        reference = reference.condition
    rows = score_rows(mean, settings.confidence)
    seeds, random_draws = (1, len(group)) if first.draw is not None else (len(group), 1)
    return _with_cell(rows, first.condition.id, first.condition, reference.id, seeds, random_draws)


def _reference(cell: Cell, cells: Mapping[str, Cell]) -> str:
    """The id of the cell that a cell is compared with: its base, or the tuned model.

    With a bridge, the base of loads and of tunings is base and bridge alone, so that the comparison
    shows the module set and not the bridge. Controls of media are compared with the tuned model.
    """
    reference = Cell("base", cell.base, seed=cell.seed)
    if cell.kind == "ablate" or (cell.kind == "tuned" and (cell.media or cell.bridge == NONE)):
        bridge = cell.bridge and TUNED
        reference = Cell("tuned", cell.base, cell.pair, seed=cell.seed, bridge=bridge)
    elif cell.kind in ("load", "tune") and cell.bridge in (TUNED, INITIAL):
        alone = replace(cell, modules=BRIDGE, mode="", media="", draw=None)
        if alone != cell and alone.id in cells:
            return alone.id
    if reference.id not in cells:
        # A checkpoint that was not tuned here has no seed; nor has a base that serves every seed.
        reference = replace(reference, seed=None)
    if reference.id not in cells:
        raise InputError(
            "score.no-reference",
            f"cell {cell.id} is compared with {reference.id}; give its predictions too",
            cell=cell.id,
            expected=reference.id,
        )
    return reference.id


def _replicate_groups(cells: Mapping[str, Cell]) -> list[list[str]]:
    """The ids of cells that differ only in their seed or draw, in the order of their first one."""
    groups: dict[Cell, list[str]] = {}
    for name, cell in cells.items():
        groups.setdefault(cell.condition, []).append(name)
    return list(groups.values())


def _with_cell(
    rows: pd.DataFrame, name: str, cell: Cell, reference: str, seeds: int = 1, draws: int = 1
) -> pd.DataFrame:
    """The rows with the columns of their cell in front and `reference` at the end."""
    own = cell.fields | {"mode": cell.variant}
    columns = {"cell": name, **own, "seeds": seeds, "draws": draws}
    for position, (column, value) in enumerate(columns.items()):
        rows.insert(position, column, "" if value is None and column == "pair" else value)
    return rows.assign(reference=reference)


class _KnownScores:
    """Values of single cells, each computed once: many cells are compared with one reference."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}

    def of(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of a key, which has everything that it depends on."""
        if key not in self._found:
            self._found[key] = compute()
        found: T = self._found[key]
        return found

    def rows(self, task: str, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a task in a cell's frame, indexed by sample."""

        def split() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
            parts = frame.groupby("task", sort=False, observed=True)
            # The frame is kept too, so that no other frame gets its id.
            return frame, {str(name): rows.set_index("sample") for name, rows in parts}

        return self.of(("rows", id(frame)), split)[1].get(task, frame.iloc[:0])

    def diversity(self, rows: pd.DataFrame) -> tuple[Mapping[str, float], np.ndarray]:
        """The diversity of texts (`distinct_n.diversity`)."""
        texts = tuple(rows["text"])
        return self.of(("diversity", texts), lambda: diversity(texts))


def cell_scores(
    cell: CellAnswers,
    reference: CellAnswers,
    resamples: int,
    seed: int,
    protocols: Mapping[str, Protocol] | None = None,
    mean_names: Mapping[str, str] | None = None,
    known: _KnownScores | None = None,
) -> list[tuple[str, ScoreDraws]]:
    """One cell's scores on every task and their means, as observed and in every draw.

    Args:
        cell, reference: answers of a cell and of the cell that it is compared with.
        resamples, seed: number of bootstrap draws, and their seed.
        protocols: task → its additional scores.
        mean_names: task → name of the mean that includes it; `mean` by default.
        known: the scores of these and other cells on the same draws.

    Returns:
        (task, scores), in this order: each task with labels, in percent; the means, each with the
        metrics that all its tasks have; and the scores of `unaveraged_scores`.

    Raises:
        InputError: the two cells did not answer the same samples.
    """
    found = []
    known = known or _KnownScores()
    averaged: dict[str, list[ScoreDraws]] = {}
    for task in cell.labels:
        stream = Stream(seed, task, resamples)
        draws = _label_scores(task, cell, reference, stream, protocols or {}, known)
        averaged.setdefault((mean_names or {}).get(task, MEAN), []).append(draws)
        found.append((task, draws))
    means = [(name, mean_over_tasks(tasks)) for name, tasks in averaged.items()]
    return [*found, *means, *unaveraged_scores(cell, reference, resamples, seed, known)]


def _label_scores(
    task: str,
    cell: CellAnswers,
    reference: CellAnswers,
    stream: Stream,
    protocols: Mapping[str, Protocol],
    known: _KnownScores,
) -> ScoreDraws:
    """The scores of one task with labels, and those of its protocol."""
    labels = cell.labels[task]
    own, other = _paired(task, cell.chosen, reference.chosen, known)
    code = {label: number for number, label in enumerate(labels)}
    truth = own["label"].map(code).to_numpy()
    positive = code.get(cell.positive.get(task, ""))
    free_text = "openset" in own and bool(own["openset"].notna().all())

    def scores(answers: pd.Series) -> dict[str, np.ndarray]:
        # The code after the last label is an answer that is not a label.
        given = np.array([code.get(answer, len(labels)) for answer in answers])
        width = len(labels) + 1
        counts = category_counts(truth * width + given, len(labels) * width, stream)
        confusion = counts.reshape(-1, len(labels), width)
        found = confusion_metrics(confusion, positive)
        if free_text:
            unlabelled = confusion[..., len(labels)].sum(axis=-1)
            found["coverage"] = 100 * (1 - unlabelled / len(truth))
        return found

    def auc(answers: CellAnswers) -> dict[str, np.ndarray]:
        logliks = answers.logliks[task]().loc[own.index, labels].to_numpy(float)
        return {"auc": auc_draws(logliks, truth, stream)}

    with_auc = task in cell.logliks and task in reference.logliks and len(set(truth)) > 1
    asked = task, tuple(own.index), truth.tobytes(), tuple(labels), positive, free_text

    def side(answers: CellAnswers, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        of = id(answers), *asked
        found = known.of(of, lambda: scores(rows["answer"]))
        return found | (known.of(("auc", *of), lambda: auc(answers)) if with_auc else {})

    draws = ScoreDraws(side(cell, own), side(reference, other), len(truth))
    if task not in protocols:
        return draws
    more = protocols[task](own, other, stream)
    return ScoreDraws(draws.cell | more.cell, draws.reference | more.reference, draws.n)


def _paired(
    task: str, answers: pd.DataFrame, reference: pd.DataFrame, known: _KnownScores
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The task's rows of a cell and of its reference, indexed by sample, in the same order."""

    own, other = (known.rows(task, frame) for frame in (answers, reference))
    if not own.empty and own.index.equals(other.index):
        return own, other
    if len(own) != len(other) or set(own.index) != set(other.index) or own.empty:
        raise InputError(
            "prediction.other-samples",
            f"task {task}: the cell and its reference answered different samples ({len(own)} and "
            f"{len(other)}); evaluate both on the same data",
            task=task,
            found=len(own),
            expected=len(other),
        )
    return own, other.loc[own.index]


def unaveraged_scores(
    cell: CellAnswers,
    reference: CellAnswers,
    resamples: int,
    seed: int,
    known: _KnownScores | None = None,
) -> list[tuple[str, ScoreDraws]]:
    """Scores that no mean over tasks includes, as (task, scores).

    - `mae` and `rmse` of tasks with a number, in its unit; n is the number of samples.
    - `perplexity` of texts; n is the number of documents.
    - `distinct_1`, `distinct_2` (percent) and `words_per_text` of generated text, which depend on
      the amount of text; n is the number of texts.

    Lower `mae`, `rmse` and `perplexity` are better.
    """
    found = []
    known = known or _KnownScores()
    kinds = (
        (cell.numbers, reference.numbers, error_sums, error_metrics),
        (
            cell.texts,
            reference.texts,
            text_sums,
            lambda totals: {"perplexity": perplexity(totals)},
        ),
    )
    for frames, reference_frames, sums, metrics in kinds:
        for task, frame in frames.items():
            own, other = _paired(task, frame, reference_frames.get(task, frame.iloc[:0]), known)
            both = np.concatenate([sums(own), sums(other)], axis=1)
            totals = drawn_sums(both, Stream(seed, task, resamples))
            half = both.shape[1] // 2
            draws = ScoreDraws(metrics(totals[:, :half]), metrics(totals[:, half:]), len(own))
            found.append((task, draws))
    for task, frame in cell.written.items():
        own, other = _paired(task, frame, reference.written.get(task, frame.iloc[:0]), known)
        found.append((task, _diversity_scores(own, other, Stream(seed, task, resamples), known)))
    return found


def _diversity_scores(
    own: pd.DataFrame, other: pd.DataFrame, stream: Stream, known: _KnownScores
) -> ScoreDraws:
    """Distinct-n and words per text of a cell and its reference, on the same draws of samples."""
    own_scores, own_sums = known.diversity(own)
    other_scores, other_sums = known.diversity(other)
    totals = drawn_sums(np.concatenate([own_sums, other_sums], axis=1), stream)
    half, n = own_sums.shape[1], len(own_sums)
    return ScoreDraws(
        diversity_draws(own_scores, totals[:, :half], n),
        diversity_draws(other_scores, totals[:, half:], n),
        n,
    )
