"""Step `score`: answers into scores, each with n, an interval, and a paired gain over the base.

The bootstrap draws samples with replacement within each task. A score depends on the samples only
through how often each (true, base's, cell's) triple of labels occurs, so a draw is one multinomial
sample of those counts: the same distribution as drawing samples one by one, thousands at a time.
An error of numbers and a perplexity are functions of sums over samples, which are drawn themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from affectlocus.cells import Cell
from affectlocus.distinct import drawn_variety, variety
from affectlocus.errors import InputError
from affectlocus.numbers import classed, classes, errors, read_out
from affectlocus.numbers import sums as sums_of_errors
from affectlocus.parameters import LABEL_METRICS, Score, Scoring
from affectlocus.perplexity import perplexity
from affectlocus.perplexity import sums as sums_of_text
from affectlocus.resampling import drawn_sums

METRICS = LABEL_METRICS


def choose(predictions: pd.DataFrame) -> pd.DataFrame:
    """The answer to each sample: `task`, `sample`, `label`, `answer`.

    Of candidates the likeliest; a tie goes to the one that stands first in params.yaml. Of free
    text the label that `openset` read in it, empty for none, with `openset` and `valence` beside.

    Raises:
        InputError: free text that `openset` has not read.
    """
    spoken = predictions[predictions["text"].notna()] if "text" in predictions else None
    asked = predictions if spoken is None else predictions[predictions["text"].isna()]
    best = asked.groupby(["task", "sample"], sort=False, observed=True)["loglik"].idxmax()
    rows = asked.loc[best, ["task", "sample", "label", "candidate"]]
    rows = rows.rename(columns={"candidate": "answer"}).reset_index(drop=True)
    if spoken is None or spoken.empty:
        return rows
    if "answer" not in spoken:
        raise InputError(
            f"task {spoken['task'].iloc[0]}: answered in free text, whose labels were not read "
            "yet; run openset on these predictions, and score what it writes"
        )
    read = spoken[["task", "sample", "label", "answer", "openset", "valence"]]
    return pd.concat([rows, read], ignore_index=True)


def metrics(confusion: np.ndarray, positive: int | None = None) -> dict[str, np.ndarray]:
    """Scores in percent from counts.

    Args:
        confusion: (..., labels, labels), true label first; may hold a bootstrap's draws. Columns
            beyond the labels count answers that are no label: wrong, and in no average.
        positive: the number of the label whose own F1 is `binary_f1`.

    Returns:
        `weighted_f1` (each label's F1 weighted by its true count), `accuracy`, `macro_f1` over the
        labels that occur as truth or answer, and, with `positive`, `binary_f1`, each of shape
        (...). As scikit-learn defines them, an F1 without any true or answered sample is 0.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    truth = confusion.sum(axis=-1).astype(float)
    answered = confusion[..., : confusion.shape[-2]].sum(axis=-2).astype(float)
    present = (truth + answered) > 0
    f1 = np.divide(2 * hits, truth + answered, out=np.zeros_like(hits), where=present)
    total = truth.sum(axis=-1)
    scores = {
        "weighted_f1": 100 * (f1 * truth).sum(axis=-1) / total,
        "accuracy": 100 * hits.sum(axis=-1) / total,
        "macro_f1": 100 * f1.sum(axis=-1) / present.sum(axis=-1),
    }
    return scores if positive is None else scores | {"binary_f1": 100 * f1[..., positive]}


@dataclass(frozen=True)
class Draws:
    """Scores of one cell: as observed (first) and in every bootstrap draw."""

    cell: dict[str, np.ndarray]
    base: dict[str, np.ndarray]
    n: int


Protocol = Callable[[pd.DataFrame, pd.DataFrame, int, np.random.Generator], Draws]
"""Further scores from a cell's and its base's answers to one task, in one order of samples."""


def _draws(
    truth: Sequence[int],
    base: Sequence[int],
    cell: Sequence[int],
    labels: int,
    resamples: int,
    rng: np.random.Generator,
    positive: int | None = None,
    spoken: bool = False,
) -> Draws:
    triples = np.stack([truth, base, cell]).astype(np.int64)
    kinds, counts = np.unique(triples, axis=1, return_counts=True)  # (3, kinds), (kinds,)
    n = int(counts.sum())
    drawn = np.vstack([counts, rng.multinomial(n, counts / n, size=resamples)])  # observed first

    def confusions(answer: np.ndarray) -> np.ndarray:
        # Which entry of the confusion matrix each kind of triple adds to, as a 0/1 matrix; the
        # last column counts free text that names no label.
        entry = np.zeros((kinds.shape[1], labels * (labels + 1)))
        entry[np.arange(kinds.shape[1]), kinds[0] * (labels + 1) + answer] = 1
        return (drawn @ entry).reshape(-1, labels, labels + 1)

    def scores(answer: np.ndarray) -> dict[str, np.ndarray]:
        found = confusions(answer)
        measured = metrics(found, positive)
        if spoken:
            measured["coverage"] = 100 * (1 - found[..., labels].sum(axis=-1) / n)
        return measured

    return Draws(cell=scores(kinds[2]), base=scores(kinds[1]), n=n)


def summary(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """A score as observed (first of the values), and its percentile interval over the draws.

    Draws in which nothing defines the score (no sample of a rare kind among them) do not count.
    """
    tail = 100 * (1 - confidence) / 2
    known = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(known, [tail, 100 - tail]) if known.size else (np.nan, np.nan)
    return float(values[0]), float(low), float(high)


def score_cell(
    answers: pd.DataFrame,
    base: pd.DataFrame,
    labels: dict[str, list[str]],
    resamples: int,
    confidence: float,
    seed: int,
    positive: Mapping[str, str] | None = None,
    protocols: Mapping[str, Protocol] | None = None,
) -> pd.DataFrame:
    """Scores of one cell on every task and their mean, with percentile bootstrap intervals.

    Args:
        answers, base: chosen answers of the cell and of its base, from `choose`.
        labels: the label words of each task.
        positive: the word whose F1 is `binary_f1`, of the tasks that have one.
        protocols: further scores of single tasks.

    Returns:
        A row per (task, metric): `task` (`mean` for the mean over tasks, of metrics that all of
        them have), `metric`, `value`, `n`
        (samples), `low`, `high`, and `gain`, `gain_low`, `gain_high` over the base on the same
        samples. Scores are in percent, gains in percentage points.

    Raises:
        InputError: the two did not answer the same samples.
    """
    rows = []
    each: list[Draws] = []
    for task, words in labels.items():
        mine, theirs = _paired(task, answers, base)
        code = {word: number for number, word in enumerate(words)}
        rng = generator(seed, task)
        drawn = _draws(
            mine["label"].map(code).tolist(),
            [code.get(answer, len(words)) for answer in theirs["answer"]],
            [code.get(answer, len(words)) for answer in mine["answer"]],
            len(words),
            resamples,
            rng,
            code.get((positive or {}).get(task, "")),
            "openset" in mine and bool(mine["openset"].notna().all()),
        )
        if protocols is not None and task in protocols:
            more = protocols[task](mine, theirs, resamples, rng)
            drawn = Draws(drawn.cell | more.cell, drawn.base | more.base, drawn.n)
        each.append(drawn)
        rows += _rows(task, drawn, confidence)
    if each:
        shared = [metric for metric in each[0].cell if all(metric in one.cell for one in each)]
        mean = Draws(
            cell={metric: np.mean([one.cell[metric] for one in each], axis=0) for metric in shared},
            base={metric: np.mean([one.base[metric] for one in each], axis=0) for metric in shared},
            n=sum(one.n for one in each),
        )
        rows += _rows("mean", mean, confidence)
    return pd.DataFrame(rows)


def generator(seed: int, task: str) -> np.random.Generator:
    """A task's own stream of draws: the same for every cell, whatever other tasks there are."""
    return np.random.default_rng([seed, *task.encode()])


def _paired(
    task: str, answers: pd.DataFrame, base: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The task's rows of a cell and of what it is compared with, by sample, in one order."""
    mine = answers[answers["task"] == task].set_index("sample")
    theirs = base[base["task"] == task].set_index("sample")
    if len(mine) != len(theirs) or set(mine.index) != set(theirs.index) or mine.empty:
        raise InputError(
            f"task {task}: cell and base answered different samples ({len(mine)} and "
            f"{len(theirs)}); evaluate both on the same data"
        )
    return mine, theirs.loc[mine.index]


def _rows(task: str, drawn: Draws, confidence: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for metric in drawn.cell:
        value, low, high = summary(drawn.cell[metric], confidence)
        gain, gain_low, gain_high = summary(drawn.cell[metric] - drawn.base[metric], confidence)
        rows.append(
            {
                "task": task,
                "metric": metric,
                "value": value,
                "n": drawn.n,
                "low": low,
                "high": high,
                "gain": gain,
                "gain_low": gain_low,
                "gain_high": gain_high,
            }
        )
    return rows


@dataclass(frozen=True)
class Answers:
    """What a cell said, in the forms in which it is scored, each with `task` and `sample`.

    `chosen` has `label` and `answer`, `labels` the words of its tasks; `numbers` has `true` and
    `read`; `texts` has `loglik` and `tokens` of each document; `written` has `text`, whatever the
    model wrote.
    """

    chosen: pd.DataFrame
    labels: dict[str, list[str]]
    positive: dict[str, str]
    numbers: dict[str, pd.DataFrame] = field(default_factory=dict)
    texts: dict[str, pd.DataFrame] = field(default_factory=dict)
    written: dict[str, pd.DataFrame] = field(default_factory=dict)


def answered(frame: pd.DataFrame, tasks: Mapping[str, Scoring]) -> Answers:
    """A cell's answers, as `evaluate` wrote them.

    Args:
        frame: with the words of each task in `attrs["labels"]`: none for a text that is read.
        tasks: what scoring a task needs to know beyond its words.
    """
    words: dict[str, list[str]] = dict(frame.attrs["labels"])
    about = {task: tasks.get(task, Scoring()) for task in words}
    asked = {task: one.number for task, one in about.items() if one.number is not None}
    read = {
        task: read_out(task, frame[frame["task"] == task], number).assign(task=task)
        for task, number in asked.items()
    }
    texts = {task: frame[frame["task"] == task] for task in words if not words[task]}
    labelled = [task for task in words if words[task] and task not in asked]
    chosen = [choose(frame[frame["task"].isin(labelled)])] if labelled else []
    labels = {task: words[task] for task in labelled}
    positive = {task: one.positive for task, one in about.items() if one.positive is not None}
    for task, number in asked.items():
        if number.cutoff is not None:
            chosen.append(classed(task, read[task], number))
            labels[task] = classes(number)
            positive[task] = labels[task][-1]
    ordered = {task: labels[task] for task in words if task in labels}
    if not chosen:
        chosen = [pd.DataFrame(columns=["task", "sample", "label", "answer"])]
    wrote = frame[frame["text"].notna()] if "text" in frame else frame.iloc[:0]
    groups = wrote[wrote["task"].isin(list(words))].groupby("task", sort=False)
    written = {str(task): rows for task, rows in groups}
    return Answers(pd.concat(chosen, ignore_index=True), ordered, positive, read, texts, written)


def score_amounts(
    cell: Answers, base: Answers, resamples: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Scores that have no mean over tasks: rows as those of `score_cell`.

    `mae` and `rmse` of tasks with a number, in its unit (n samples), and `perplexity` of texts (n
    documents), of which less is better; `distinct_1`, `distinct_2` (percent) and `words_per_text`
    of whatever was written (n texts), which depend on how much that is.
    """
    rows: list[dict[str, object]] = []
    kinds = (
        (cell.numbers, base.numbers, sums_of_errors, errors),
        (cell.texts, base.texts, sums_of_text, lambda totals: {"perplexity": perplexity(totals)}),
    )
    for mine, theirs, sums, measured in kinds:
        for task, frame in mine.items():
            own, other = _paired(task, frame, theirs.get(task, frame.iloc[:0]))
            both = np.concatenate([sums(own), sums(other)], axis=1)
            totals = drawn_sums(both, resamples, generator(seed, task))
            half = both.shape[1] // 2
            drawn = Draws(measured(totals[:, :half]), measured(totals[:, half:]), len(own))
            rows += _rows(task, drawn, confidence)
    for task, frame in cell.written.items():
        texts = _paired(task, frame, base.written.get(task, frame.iloc[:0]))
        rows += _rows(task, _varied(texts, resamples, generator(seed, task)), confidence)
    return pd.DataFrame(rows)


def _varied(
    both: tuple[pd.DataFrame, pd.DataFrame], resamples: int, rng: np.random.Generator
) -> Draws:
    """How varied a cell and its base write, on the same draws of samples."""
    (own, mine), (other, theirs) = (variety(one["text"].tolist()) for one in both)
    totals = drawn_sums(np.concatenate([mine, theirs], axis=1), resamples, rng)
    half, n = mine.shape[1], len(mine)
    return Draws(
        drawn_variety(own, totals[:, :half], n), drawn_variety(other, totals[:, half:], n), n
    )


def score(
    predictions: Sequence[pd.DataFrame],
    settings: Score,
    tasks: Mapping[str, Scoring] | None = None,
    protocols: Mapping[str, Protocol] | None = None,
) -> pd.DataFrame:
    """Scores of several cells, each against the cell that it is to be compared with.

    Args:
        predictions: of each cell, with the cell and the labels in `attrs`, as `evaluate` wrote
            them; base first, then the cells in the order of a table.
        tasks: what scoring a task needs to know beyond its labels, of those that need it.
        protocols: further scores of single tasks (`protocols.of_task`).

    Returns:
        The rows of `score_cell` and `score_amounts` with `cell`, `kind`, `base`, `pair`,
        `modules`, `mode`, `seed` in front and `reference` (a cell's id) behind: the base, or the
        tuned model for an ablation.

    Raises:
        InputError: a reference is not among the cells.
    """
    cells = {(cell := Cell(**frame.attrs["cell"])).id: cell for frame in predictions}
    answers = {
        name: answered(frame, tasks or {}) for name, frame in zip(cells, predictions, strict=True)
    }
    parts = []
    for name, cell in cells.items():
        against = (
            Cell("tuned", cell.base, cell.pair)
            if cell.kind == "ablate"
            else Cell("base", cell.base)
        )
        if against.id not in answers:
            raise InputError(f"cell {name} is compared with {against.id}; give its predictions too")
        mine, theirs = answers[name], answers[against.id]
        draws = (settings.resamples, settings.confidence, settings.seed)
        found = (
            score_cell(mine.chosen, theirs.chosen, mine.labels, *draws, mine.positive, protocols),
            score_amounts(mine, theirs, *draws),
        )
        rows = pd.concat([one for one in found if not one.empty], ignore_index=True)
        for position, (column, value) in enumerate({"cell": name, **asdict(cell)}.items()):
            rows.insert(position, column, "" if value is None and column == "pair" else value)
        parts.append(rows.assign(reference=against.id))
    scores = pd.concat(parts, ignore_index=True)
    return scores.astype({"seed": "Int64"})
