"""Step `score`: answers into scores, each with n, an interval, and a paired gain over the base.

The bootstrap draws samples with replacement within each task. A score depends on the samples only
through how often each (true, base's, cell's) triple of labels occurs, so a draw is one multinomial
sample of those counts: the same distribution as drawing samples one by one, thousands at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from affectlocus.cells import Cell
from affectlocus.errors import InputError
from affectlocus.parameters import Score

METRICS = ("weighted_f1", "accuracy", "macro_f1")


def choose(predictions: pd.DataFrame) -> pd.DataFrame:
    """The likeliest candidate of each sample: `task`, `sample`, `label`, `answer`.

    A tie goes to the candidate that stands first in params.yaml.
    """
    best = predictions.groupby(["task", "sample"], sort=False, observed=True)["loglik"].idxmax()
    rows = predictions.loc[best, ["task", "sample", "label", "candidate"]]
    return rows.rename(columns={"candidate": "answer"}).reset_index(drop=True)


def metrics(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Scores in percent from counts.

    Args:
        confusion: (..., labels, labels), true label first; may hold a bootstrap's draws.

    Returns:
        `weighted_f1` (each label's F1 weighted by its true count), `accuracy`, and `macro_f1` over
        the labels that occur as truth or answer, each of shape (...). As scikit-learn defines them,
        an F1 without any true or answered sample is 0.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    truth = confusion.sum(axis=-1).astype(float)
    answered = confusion.sum(axis=-2).astype(float)
    present = (truth + answered) > 0
    f1 = np.divide(2 * hits, truth + answered, out=np.zeros_like(hits), where=present)
    total = truth.sum(axis=-1)
    return {
        "weighted_f1": 100 * (f1 * truth).sum(axis=-1) / total,
        "accuracy": 100 * hits.sum(axis=-1) / total,
        "macro_f1": 100 * f1.sum(axis=-1) / present.sum(axis=-1),
    }


@dataclass(frozen=True)
class Draws:
    """Scores of one cell: as observed (first) and in every bootstrap draw."""

    cell: dict[str, np.ndarray]
    base: dict[str, np.ndarray]
    n: int


def _draws(
    truth: Sequence[int],
    base: Sequence[int],
    cell: Sequence[int],
    labels: int,
    resamples: int,
    rng: np.random.Generator,
) -> Draws:
    triples = np.stack([truth, base, cell]).astype(np.int64)
    kinds, counts = np.unique(triples, axis=1, return_counts=True)  # (3, kinds), (kinds,)
    n = int(counts.sum())
    drawn = np.vstack([counts, rng.multinomial(n, counts / n, size=resamples)])  # observed first

    def confusions(answer: np.ndarray) -> np.ndarray:
        # Which entry of the confusion matrix each kind of triple adds to, as a 0/1 matrix.
        entry = np.zeros((kinds.shape[1], labels * labels))
        entry[np.arange(kinds.shape[1]), kinds[0] * labels + answer] = 1
        return (drawn @ entry).reshape(-1, labels, labels)

    return Draws(cell=metrics(confusions(kinds[2])), base=metrics(confusions(kinds[1])), n=n)


def _summary(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values[1:], [tail, 100 - tail])
    return float(values[0]), float(low), float(high)


def score_cell(
    answers: pd.DataFrame,
    base: pd.DataFrame,
    labels: dict[str, list[str]],
    resamples: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Scores of one cell on every task and their mean, with percentile bootstrap intervals.

    Args:
        answers, base: chosen answers of the cell and of its base, from `choose`.
        labels: the label words of each task.

    Returns:
        A row per (task, metric): `task` (`mean` for the mean over tasks), `metric`, `value`, `n`
        (samples), `low`, `high`, and `gain`, `gain_low`, `gain_high` over the base on the same
        samples. Scores are in percent, gains in percentage points.

    Raises:
        InputError: the two did not answer the same samples.
    """
    rows = []
    each: list[Draws] = []
    for task, words in labels.items():
        mine = answers[answers["task"] == task].set_index("sample")
        theirs = base[base["task"] == task].set_index("sample")
        if len(mine) != len(theirs) or set(mine.index) != set(theirs.index) or mine.empty:
            raise InputError(
                f"task {task}: cell and base answered different samples ({len(mine)} and "
                f"{len(theirs)}); evaluate both on the same data"
            )
        theirs = theirs.loc[mine.index]
        code = {word: number for number, word in enumerate(words)}
        rng = np.random.default_rng([seed, *task.encode()])
        drawn = _draws(
            mine["label"].map(code).tolist(),
            theirs["answer"].map(code).tolist(),
            mine["answer"].map(code).tolist(),
            len(words),
            resamples,
            rng,
        )
        each.append(drawn)
        rows += _rows(task, drawn, confidence)
    mean = Draws(
        cell={metric: np.mean([one.cell[metric] for one in each], axis=0) for metric in METRICS},
        base={metric: np.mean([one.base[metric] for one in each], axis=0) for metric in METRICS},
        n=sum(one.n for one in each),
    )
    rows += _rows("mean", mean, confidence)
    return pd.DataFrame(rows)


def _rows(task: str, drawn: Draws, confidence: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for metric in METRICS:
        value, low, high = _summary(drawn.cell[metric], confidence)
        gain, gain_low, gain_high = _summary(drawn.cell[metric] - drawn.base[metric], confidence)
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


def score(predictions: Sequence[pd.DataFrame], settings: Score) -> pd.DataFrame:
    """Scores of several cells, each against the cell that it is to be compared with.

    Args:
        predictions: of each cell, with the cell and the labels in `attrs`, as `evaluate` wrote
            them; base first, then the cells in the order of a table.

    Returns:
        The rows of `score_cell` with `cell`, `kind`, `base`, `pair`, `modules`, `mode`, `seed` in
        front and `reference` (a cell's id) behind: the base, or the tuned model for an ablation.

    Raises:
        InputError: a reference is not among the cells.
    """
    cells = {(cell := Cell(**frame.attrs["cell"])).id: cell for frame in predictions}
    answers = {name: choose(frame) for name, frame in zip(cells, predictions, strict=True)}
    parts = []
    for frame, (name, cell) in zip(predictions, cells.items(), strict=True):
        against = (
            Cell("tuned", cell.base, cell.pair)
            if cell.kind == "ablate"
            else Cell("base", cell.base)
        )
        if against.id not in answers:
            raise InputError(f"cell {name} is compared with {against.id}; give its predictions too")
        rows = score_cell(
            answers[name],
            answers[against.id],
            frame.attrs["labels"],
            settings.resamples,
            settings.confidence,
            settings.seed,
        )
        for position, (column, value) in enumerate({"cell": name, **asdict(cell)}.items()):
            rows.insert(position, column, "" if value is None and column == "pair" else value)
        parts.append(rows.assign(reference=against.id))
    scores = pd.concat(parts, ignore_index=True)
    return scores.astype({"seed": "Int64"})
