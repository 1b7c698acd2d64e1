"""Step `score`: answers into scores, each with n, an interval, and a paired gain over the base.

The bootstrap draws samples with replacement within each task, the same for all cells, and the seeds
of cells that differ in nothing else. A score depends on the samples only through sums over them: of
how often each label was answered to each, of squared errors, of log-likelihoods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd

from affectlocus.config.scoring import MEAN, MEAN_OF_CONTROL, Score
from affectlocus.config.tasks import Scoring
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.metrics import LabelCounts, label_metrics, value_range
from affectlocus.scoring.bootstrap import Stream, drawn_kinds, drawn_sums, interval, seed_weights
from affectlocus.scoring.distinct_n import drawn_variety, variety
from affectlocus.scoring.number_answers import classed, classes, errors, read_out
from affectlocus.scoring.number_answers import sums as sums_of_errors
from affectlocus.scoring.perplexity import perplexity
from affectlocus.scoring.perplexity import sums as sums_of_text


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
        The registry's metrics of tasks with labels, (...) each; with `positive` those of it too.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    truth = confusion.sum(axis=-1).astype(float)
    answered = confusion[..., : confusion.shape[-2]].sum(axis=-2).astype(float)
    return label_metrics(LabelCounts(hits, truth, answered, positive))


@dataclass(frozen=True)
class Draws:
    """Scores of one cell: as observed (first) and in every bootstrap draw."""

    cell: dict[str, np.ndarray]
    base: dict[str, np.ndarray]
    n: int


Protocol = Callable[[pd.DataFrame, pd.DataFrame, Stream], Draws]
"""Further scores from a cell's and its base's answers to one task, in one order of samples."""


def _draws(
    truth: np.ndarray,
    base: np.ndarray,
    cell: np.ndarray,
    labels: int,
    stream: Stream,
    positive: int | None = None,
    spoken: bool = False,
) -> Draws:
    """From codes of labels, (samples,) each; the code behind the last one is no label."""

    def scores(answer: np.ndarray) -> dict[str, np.ndarray]:
        found = drawn_kinds(truth * (labels + 1) + answer, labels * (labels + 1), stream)
        found = found.reshape(-1, labels, labels + 1)
        measured = metrics(found, positive)
        if spoken:
            measured["coverage"] = 100 * (1 - found[..., labels].sum(axis=-1) / len(truth))
        return measured

    return Draws(cell=scores(cell), base=scores(base), n=len(truth))


def summary(
    values: np.ndarray, confidence: float, least: float = -np.inf, most: float = np.inf
) -> tuple[float, float, float]:
    """A score as observed (first of the values), and its percentile interval over the draws.

    The interval holds the score (`resampling.interval`). Draws in which nothing defines the score
    (no sample of a rare kind among them) do not count, and a score that nothing defines has none.
    Over two or three seeds, whose weights vary as Student's t, draws can lie where no score can:
    the interval ends at `least` and `most`.
    """
    tail = 100 * (1 - confidence) / 2
    value = float(values[0])
    known = values[~np.isnan(values)]
    if np.isnan(value) or len(known) < 2:
        return value, np.nan, np.nan
    _, *ends = interval(known, np.array([tail, 100 - tail]) / 100)
    low, high = np.clip(ends, least, most)
    return value, min(float(low), value), max(float(high), value)


def scored(
    cell: Answers,
    base: Answers,
    resamples: int,
    seed: int,
    protocols: Mapping[str, Protocol] | None = None,
    means: Mapping[str, str] | None = None,
) -> list[tuple[str, Draws]]:
    """One cell's scores on every task and their means, as observed and in every draw.

    Args:
        cell, base: answers of a cell, and of what it is compared with.
        protocols: further scores of single tasks.
        means: what the mean is called that a task goes into, where it is not `mean`.

    Returns:
        (task, scores) for each task with labels, in percent; for their means, of metrics that all
        of the tasks have; and for `amounts`.

    Raises:
        InputError: the two did not answer the same samples.
    """
    found = []
    each: dict[str, list[Draws]] = {}
    for task, words in cell.labels.items():
        mine, theirs = _paired(task, cell.chosen, base.chosen)
        code = {word: number for number, word in enumerate(words)}
        stream = Stream(seed, task, resamples)
        said, before = (
            np.array([code.get(answer, len(words)) for answer in one["answer"]])
            for one in (mine, theirs)
        )
        drawn = _draws(
            mine["label"].map(code).to_numpy(),
            before,
            said,
            len(words),
            stream,
            code.get(cell.positive.get(task, "")),
            "openset" in mine and bool(mine["openset"].notna().all()),
        )
        if protocols is not None and task in protocols:
            more = protocols[task](mine, theirs, stream)
            drawn = Draws(drawn.cell | more.cell, drawn.base | more.base, drawn.n)
        each.setdefault((means or {}).get(task, MEAN), []).append(drawn)
        found.append((task, drawn))
    for name, ones in each.items():
        shared = [metric for metric in ones[0].cell if all(metric in one.cell for one in ones)]
        mean = Draws(
            cell={metric: np.mean([one.cell[metric] for one in ones], axis=0) for metric in shared},
            base={metric: np.mean([one.base[metric] for one in ones], axis=0) for metric in shared},
            n=sum(one.n for one in ones),
        )
        found.append((name, mean))
    return [*found, *amounts(cell, base, resamples, seed)]


def over_seeds(each: Sequence[Draws], weights: np.ndarray) -> Draws:
    """The mean of cells that differ in their seed alone, on draws of samples and of seeds.

    Args:
        weights: (1 + draws, cells), of `resampling.seed_weights`; the same for whatever is
            compared.
    """

    def mean(ones: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        shared = [metric for metric in ones[0] if all(metric in one for one in ones)]
        return {
            metric: (np.stack([one[metric] for one in ones], axis=1) * weights).sum(axis=1)
            for metric in shared
        }

    return Draws(mean([one.cell for one in each]), mean([one.base for one in each]), each[0].n)


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


def rows_of(drawn: Iterable[tuple[str, Draws]], confidence: float) -> pd.DataFrame:
    """A row per (task, metric) of one cell, with percentile bootstrap intervals.

    Returns:
        `task`, `metric`, `value`, `n` (samples), `low`, `high`, and `gain`, `gain_low`,
        `gain_high` over the base on the same samples; of percentages in points; `confidence`, the
        level of both intervals, 0 to 1.
    """
    return pd.DataFrame([row for task, one in drawn for row in _rows(task, one, confidence)])


def _rows(task: str, drawn: Draws, confidence: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for metric in drawn.cell:
        least, most = value_range(metric)
        value, low, high = summary(drawn.cell[metric], confidence, least, most)
        gained = drawn.cell[metric] - drawn.base[metric]
        gain, gain_low, gain_high = summary(gained, confidence, least - most, most - least)
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
                "confidence": confidence,
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


def amounts(cell: Answers, base: Answers, resamples: int, seed: int) -> list[tuple[str, Draws]]:
    """Scores that have no mean over tasks, as those of `scored`.

    `mae` and `rmse` of tasks with a number, in its unit (n samples), and `perplexity` of texts (n
    documents), of which less is better; `distinct_1`, `distinct_2` (percent) and `words_per_text`
    of whatever was written (n texts), which depend on how much that is.
    """
    found = []
    kinds = (
        (cell.numbers, base.numbers, sums_of_errors, errors),
        (cell.texts, base.texts, sums_of_text, lambda totals: {"perplexity": perplexity(totals)}),
    )
    for mine, theirs, sums, measured in kinds:
        for task, frame in mine.items():
            own, other = _paired(task, frame, theirs.get(task, frame.iloc[:0]))
            both = np.concatenate([sums(own), sums(other)], axis=1)
            totals = drawn_sums(both, Stream(seed, task, resamples))
            half = both.shape[1] // 2
            drawn = Draws(measured(totals[:, :half]), measured(totals[:, half:]), len(own))
            found.append((task, drawn))
    for task, frame in cell.written.items():
        texts = _paired(task, frame, base.written.get(task, frame.iloc[:0]))
        found.append((task, _varied(texts, Stream(seed, task, resamples))))
    return found


def _varied(both: tuple[pd.DataFrame, pd.DataFrame], stream: Stream) -> Draws:
    """How varied a cell and its base write, on the same draws of samples."""
    (own, mine), (other, theirs) = (variety(one["text"].tolist()) for one in both)
    totals = drawn_sums(np.concatenate([mine, theirs], axis=1), stream)
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
        The rows of `rows_of` with `cell`, `kind`, `base`, `pair`, `modules`, `mode`, `seed`,
        `draw`, `seeds`, `draws` in front and `reference` (a cell's id) behind: the base, or the
        tuned model for an ablation. `seeds` and `draws` are 1, but for cells that differ in their
        seed or draw alone: behind them comes their mean, by samples and by seeds or draws, of as
        many `seeds` or `draws` and without `seed` and `draw`.

    Raises:
        InputError: a reference is not among the cells.
    """
    cells = {(cell := Cell(**frame.attrs["cell"])).id: cell for frame in predictions}
    answers = {
        name: answered(frame, tasks or {}) for name, frame in zip(cells, predictions, strict=True)
    }
    about = (tasks or {}).items()
    means = {task: MEAN_OF_CONTROL for task, one in about if one.domain == "control"}
    draws: dict[str, list[tuple[str, Draws]]] = {}
    against = {name: _reference(cell, cells) for name, cell in cells.items()}
    for name in cells:
        asked = (settings.resamples, settings.seed, protocols, means)
        draws[name] = scored(answers[name], answers[against[name]], *asked)
    parts = []
    for group in _groups(cells):
        for name in group:
            rows = rows_of(draws[name], settings.confidence)
            parts.append(_about(rows, name, cells[name], against[name]))
        if len(group) > 1:
            units = [cells[name].replicate for name in group]
            drawn_apart = cells[group[0]].draw is not None
            rng = Stream(settings.seed, repr(units), settings.resamples).generator()
            weights = seed_weights(len(group), settings.resamples, rng)
            mean = [
                (together[0][0], over_seeds([one for _, one in together], weights))
                for together in zip(*(draws[name] for name in group), strict=True)
            ]
            one = cells[group[0]].condition
            other = cells[against[group[0]]]
            if other.pair is not None and len({against[name] for name in group}) > 1:
                other = other.condition
            rows = rows_of(mean, settings.confidence)
            counts = (1, len(group)) if drawn_apart else (len(group), 1)
            parts.append(_about(rows, one.id, one, other.id, *counts))
    scores = pd.concat(parts, ignore_index=True)
    return scores.astype({"seed": "Int64", "draw": "Int64"})


def _reference(cell: Cell, cells: Mapping[str, Cell]) -> str:
    """What a cell is compared with: its base; of an ablation the tuned model."""
    against = Cell("base", cell.base)
    if cell.kind == "ablate":
        against = Cell("tuned", cell.base, cell.pair, seed=cell.seed)
        if against.id not in cells:  # a checkpoint that was brought has no seed
            against = replace(against, seed=None)
    if against.id not in cells:
        raise InputError(f"cell {cell.id} is compared with {against.id}; give its predictions too")
    return against.id


def _groups(cells: Mapping[str, Cell]) -> list[list[str]]:
    """Cells that differ in their seed or draw alone, by the first of them."""
    found: dict[Cell, list[str]] = {}
    for name, cell in cells.items():
        found.setdefault(cell.condition, []).append(name)
    return list(found.values())


def _about(
    rows: pd.DataFrame, name: str, cell: Cell, reference: str, seeds: int = 1, draws: int = 1
) -> pd.DataFrame:
    """The rows with what they are of."""
    columns = {"cell": name, **asdict(cell), "seeds": seeds, "draws": draws}
    for position, (column, value) in enumerate(columns.items()):
        rows.insert(position, column, "" if value is None and column == "pair" else value)
    return rows.assign(reference=reference)
