"""Scores of free text beyond the label that it names: MER-UniBench's, and the corrected ones.

Emotions are scored over the released wheels (hit rate; F1 per sample), valence over the signs (WAF;
three ways), as `mer_unibench` and `corrected` score any system's outputs. Each is a function of
sums over samples, which is what the bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from affectlocus.config.tasks import is_valence
from affectlocus.core.errors import InputError
from affectlocus.scoring.bootstrap import Stream, drawn_sums
from affectlocus.scoring.corrected_protocol import open_sets
from affectlocus.scoring.mer_unibench import hit_rates
from affectlocus.scoring.score import Draws, Protocol, metrics
from affectlocus.scoring.wheels import Wheels

Sums = Callable[[pd.DataFrame], np.ndarray]
Scores = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Measure:
    """A task's scores in two steps.

    `sums` turns answers into what is summed, (samples, columns); `scores` turns such sums, (draws,
    columns), into metrics, (draws,).
    """

    sums: Sums
    scores: Scores


def of_tasks(
    protocols: Mapping[str, str], labels: Mapping[str, Sequence[str]], wheels: Wheels | None
) -> dict[str, Protocol]:
    """The further scores that some tasks ask for, as `score.score` takes them.

    Args:
        protocols: task → `mer-unibench`.
        labels: the labels of every task.

    Raises:
        InputError: a task that is not there, or emotions without wheels.
    """
    found = {}
    for task in protocols:
        if task not in labels:
            raise InputError(f"score.protocols: no task {task!r} in these predictions")
        if not is_valence(labels[task]) and wheels is None:
            raise InputError(
                f"score.protocols: task {task!r} is scored over wheels; give a folder of "
                "AffectGPT's emotion_wheel files as score.wheels, or `released` to download them"
            )
        found[task] = of_task(task, labels[task], wheels)
    return found


def of_task(task: str, labels: Sequence[str], wheels: Wheels | None) -> Protocol:
    """One task's scores, as a function of a cell's and its base's answers."""

    def drawn(mine: pd.DataFrame, theirs: pd.DataFrame, stream: Stream) -> Draws:
        if "openset" not in mine or mine["openset"].isna().any():
            raise InputError(
                f"task {task}: score.protocols wants free text, and its answers are candidates; "
                "set its readout to generation, or take it out of score.protocols"
            )
        chosen = measure(mine["label"].tolist(), labels, wheels)
        both = np.concatenate([chosen.sums(mine), chosen.sums(theirs)], axis=1)
        totals = drawn_sums(both, stream)
        half = both.shape[1] // 2
        own, others = chosen.scores(totals[:, :half]), chosen.scores(totals[:, half:])
        return Draws(own, others, len(mine))

    return drawn


def measure(gold: Sequence[str], labels: Sequence[str], wheels: Wheels | None) -> Measure:
    """The scores of a task with these labels; of valence where there are no wheels."""
    return _valence() if wheels is None or is_valence(labels) else _emotions(gold, wheels)


def constant(gold: Sequence[str], words: Sequence[str]) -> pd.DataFrame:
    """The same words answered to every sample, in the columns that `Measure.sums` reads."""
    said = [word.lower() for word in words]
    return pd.DataFrame({"label": gold, "openset": [said] * len(gold), "valence": said[0]})


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of values / counts over the last axis, of those that count anything."""
    shares = np.divide(values, counts, out=np.zeros_like(values), where=counts > 0)
    return np.divide(
        shares.sum(axis=-1),
        (counts > 0).sum(axis=-1),
        out=np.full(shares.shape[:-1], np.nan),
        where=(counts > 0).any(axis=-1),
    )


def _emotions(gold: Sequence[str], wheels: Wheels) -> Measure:
    """Published hits, and the corrected precision, recall and F1, of each wheel.

    The corrected F1 is summed apart for each gold emotion, for its macro average.
    """
    emotions = {emotion: number for number, emotion in enumerate(dict.fromkeys(gold))}
    turns = list(wheels.published)
    shape = (len(turns), len(emotions))
    # Where nothing can be scored the published protocol has no result: it says so.
    hit_rates([one.lower() for one in gold], [[]] * len(gold), wheels.published)
    known: dict[tuple[str, tuple[str, ...]], np.ndarray] = {}

    def one(label: str, openset: tuple[str, ...]) -> np.ndarray:
        truth = label.lower()
        labels = len(set(openset))
        each = np.zeros((5, len(turns)))  # published: scored, hit; corrected; labels with a cluster
        counts, f1 = np.zeros(shape), np.zeros(shape)
        honest = open_sets([truth], [openset], wheels.corrected)
        for at, wheel in enumerate(turns):
            clusters = wheels.published[wheel]
            cluster, own = clusters.get(truth), honest[wheel]
            hit = cluster is not None and any(clusters.get(word) == cluster for word in openset)
            each[:, at] = (
                cluster is not None,
                hit,
                own.precision or 0,
                own.recall or 0,
                labels * (own.mapped_labels or 0),
            )
            if own.f1 is not None:
                counts[at, emotions[label]], f1[at, emotions[label]] = 1, own.f1
        return np.concatenate([each.ravel(), counts.ravel(), f1.ravel(), [labels, 1]])

    def sums(rows: pd.DataFrame) -> np.ndarray:
        found = []
        for label, openset in rows[["label", "openset"]].itertuples(index=False):
            key = (label, tuple(openset))
            if key not in known:
                known[key] = one(*key)
            found.append(known[key])
        return np.stack(found)

    def scores(totals: np.ndarray) -> dict[str, np.ndarray]:
        w = len(turns)
        each = np.split(totals[:, : 5 * w], 5, axis=1)
        counts, f1 = (
            part.reshape(-1, *shape) for part in np.split(totals[:, 5 * w : -2], 2, axis=1)
        )
        labels, n = totals[:, -2:-1], totals[:, -1:]
        return _over_wheels(turns, each, counts, f1, labels, n)

    return Measure(sums, scores)


def _over_wheels(
    wheels: Sequence[int],
    each: Sequence[np.ndarray],
    counts: np.ndarray,
    f1: np.ndarray,
    labels: np.ndarray,
    n: np.ndarray,
) -> dict[str, np.ndarray]:
    """Scores in percent from sums over samples, of every wheel and in the mean over wheels.

    Args:
        each: scored, hits, precision, recall, labels with a cluster, each (draws, wheels).
        counts, f1: of the corrected protocol, (draws, wheels, emotions).
        labels, n: (draws, 1).
    """
    scored, hits, precision, recall, mapped = each
    honest = counts.sum(axis=-1)
    balanced = np.stack([_mean(f1[:, at], counts[:, at]) for at in range(len(wheels))], axis=1)
    there = (~np.isnan(balanced)).astype(float)
    found = {
        "mer_unibench": 100 * _mean(hits, scored),
        "corrected_f1": 100 * _mean(f1.sum(axis=-1), honest),
        "corrected_macro_f1": 100 * _mean(np.nan_to_num(balanced), there),
        "corrected_precision": 100 * _mean(precision, honest),
        "corrected_recall": 100 * _mean(recall, honest),
        "labels_per_sample": (labels / n)[:, 0],
        "mapped_labels": 100 * np.nan_to_num(_mean(mapped, np.broadcast_to(labels, mapped.shape))),
        "corrected_scored": 100 * (honest / n).mean(axis=1),
        "mer_unibench_scored": 100 * (scored / n).mean(axis=1),
    }
    for at, wheel in enumerate(wheels):
        own = slice(at, at + 1)
        found |= {
            f"mer_unibench_wheel{wheel}": 100 * _mean(hits[:, own], scored[:, own]),
            f"mer_unibench_scored_wheel{wheel}": 100 * (scored / n)[:, at],
            f"corrected_f1_wheel{wheel}": 100 * _mean(f1[:, at].sum(-1)[:, None], honest[:, own]),
            f"corrected_scored_wheel{wheel}": 100 * (honest / n)[:, at],
        }
    return found


_SIGNS = ("negative", "neutral", "positive")


def _valence() -> Measure:
    """The published confusion of positive against not, and the corrected one of three signs.

    `mer_unibench` is the published WAF; the corrected F1 is weighted, three ways; `polar` is the
    share of positive and negative samples that were answered with either.
    """

    def one(label: str, answer: str) -> np.ndarray:
        published, honest = np.zeros((2, 2)), np.zeros((3, 4))
        if label != "neutral":
            published[int(label == "positive"), int(answer == "positive")] = 1
        said = answer.strip().lower().removesuffix(".")
        honest[_SIGNS.index(label), _SIGNS.index(said) if said in _SIGNS else 3] = 1
        return np.concatenate([published.ravel(), honest.ravel()])

    def sums(rows: pd.DataFrame) -> np.ndarray:
        return np.stack([one(*row) for row in rows[["label", "valence"]].itertuples(index=False)])

    def scores(totals: np.ndarray) -> dict[str, np.ndarray]:
        honest = totals[:, 4:].reshape(-1, 3, 4)
        truth, answered = honest.sum(axis=2), honest.sum(axis=1)[:, :3]
        hits = np.diagonal(honest, axis1=1, axis2=2)
        f1 = np.divide(2 * hits, truth + answered, out=np.zeros_like(truth), where=truth > 0)
        n, polar = truth.sum(axis=1), truth[:, 0] + truth[:, 2]
        with np.errstate(invalid="ignore"):
            waf = metrics(totals[:, :4].reshape(-1, 2, 2))["weighted_f1"]
            said = honest[:, [0, 2]][:, :, [0, 2]].sum(axis=(1, 2)) / polar
        return {
            "mer_unibench": waf,
            "corrected_f1": 100 * (f1 * truth).sum(axis=1) / n,
            "corrected_macro_f1": 100 * f1.sum(axis=1) / (truth > 0).sum(axis=1),
            "corrected_accuracy": 100 * hits.sum(axis=1) / n,
            "mer_unibench_scored": 100 * polar / n,
            "polar": 100 * said,
        }

    return Measure(sums, scores)
