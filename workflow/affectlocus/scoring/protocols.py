"""Scores of free text in addition to label scores: MER-UniBench's, and the corrected ones.

Emotions are scored on the emotion wheels (hit rate; F1 per sample). Valence is scored by its sign
(WAF; three classes). The definitions are those of `mer_unibench` and `corrected_protocol`. Here
each score is a function of sums over samples, and the bootstrap draws these sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from affectlocus.config.task_answers import is_valence
from affectlocus.core.errors import InputError
from affectlocus.scoring.bootstrap import Stream, drawn_sums
from affectlocus.scoring.corrected_protocol import open_set_scores
from affectlocus.scoring.mer_unibench import hit_rates
from affectlocus.scoring.score_draws import Protocol, ScoreDraws, confusion_metrics
from affectlocus.scoring.wheels import Wheels


@dataclass(frozen=True)
class ProtocolScores:
    """The scores of a task under a protocol, in two steps.

    Attributes:
        sums: answers → (samples, columns), the values that are summed over samples.
        scores: (draws, columns), these sums in each draw → metric → (draws,) scores in percent.
    """

    sums: Callable[[pd.DataFrame], np.ndarray]
    scores: Callable[[np.ndarray], dict[str, np.ndarray]]


def task_protocols(
    protocols: Mapping[str, str], labels: Mapping[str, Sequence[str]], wheels: Wheels | None
) -> dict[str, Protocol]:
    """Task → its additional scores, as `score.score` takes them.

    Args:
        protocols: task → `mer-unibench`.
        labels: the labels of every task.

    Raises:
        InputError: an unknown task, or a task with emotions and no wheels.
    """
    found = {}
    for task in protocols:
        if task not in labels:
            raise InputError(
                "score.unknown-task",
                f"score.protocols: task {task!r} is not in these predictions; found "
                f"{', '.join(labels) or 'no task'}",
                key="score.protocols",
                task=task,
                found=list(labels),
            )
        if not is_valence(labels[task]) and wheels is None:
            raise InputError(
                "score.no-wheels",
                f"score.protocols: task {task!r} is scored on emotion wheels; set score.wheels to "
                "a folder with AffectGPT's emotion_wheel files, or to `released` to download them",
                key="score.wheels",
                task=task,
            )
        found[task] = task_protocol(task, labels[task], wheels)
    return found


def task_protocol(task: str, labels: Sequence[str], wheels: Wheels | None) -> Protocol:
    """The additional scores of one task, as a function of the answers of a cell and its reference.

    The function raises `InputError` if the answers are not free text.
    """

    def scores(own: pd.DataFrame, other: pd.DataFrame, stream: Stream) -> ScoreDraws:
        if "openset" not in own or own["openset"].isna().any():
            raise InputError(
                "score.protocol-without-free-text",
                f"task {task}: score.protocols needs answers in free text, and these are "
                "candidates; set the task's readout to generation, or remove the task from "
                "score.protocols",
                key="score.protocols",
                task=task,
            )
        protocol = protocol_scores(own["label"].tolist(), labels, wheels)
        both = np.concatenate([protocol.sums(own), protocol.sums(other)], axis=1)
        totals = drawn_sums(both, stream)
        half = both.shape[1] // 2
        return ScoreDraws(
            protocol.scores(totals[:, :half]), protocol.scores(totals[:, half:]), len(own)
        )

    return scores


def protocol_scores(
    gold: Sequence[str], labels: Sequence[str], wheels: Wheels | None
) -> ProtocolScores:
    """The scores of a task with these labels: of valence for valence labels or without wheels."""
    return _valence() if wheels is None or is_valence(labels) else _emotions(gold, wheels)


def constant_answers(gold: Sequence[str], words: Sequence[str]) -> pd.DataFrame:
    """The same words as the answer to every sample, in the columns that `sums` reads."""
    answer = [word.lower() for word in words]
    return pd.DataFrame({"label": gold, "openset": [answer] * len(gold), "valence": answer[0]})


def _mean_ratio(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of values / counts over the last axis, without entries that have a count of 0."""
    ratios = np.divide(values, counts, out=np.zeros_like(values), where=counts > 0)
    return np.divide(
        ratios.sum(axis=-1),
        (counts > 0).sum(axis=-1),
        out=np.full(ratios.shape[:-1], np.nan),
        where=(counts > 0).any(axis=-1),
    )


def _emotions(gold: Sequence[str], wheels: Wheels) -> ProtocolScores:
    """Published hits, and corrected precision, recall and F1, of each wheel.

    The columns of the sums are, in this order: five blocks of (wheels,); two blocks of (wheels,
    emotions), the count and F1 of each gold emotion for the macro average; labels; samples.
    """
    emotions = {emotion: number for number, emotion in enumerate(dict.fromkeys(gold))}
    numbers = list(wheels.published)
    shape = (len(numbers), len(emotions))
    # Raises UndefinedError where the published protocol can score no sample.
    hit_rates([emotion.lower() for emotion in gold], [[]] * len(gold), wheels.published)
    known: dict[tuple[str, tuple[str, ...]], np.ndarray] = {}

    def sample_values(label: str, openset: tuple[str, ...]) -> np.ndarray:
        truth = label.lower()
        labels = len(set(openset))
        # Rows: published scored, published hit, corrected precision, recall, labels with a cluster.
        by_wheel = np.zeros((5, len(numbers)))
        counts, f1 = np.zeros(shape), np.zeros(shape)
        corrected = open_set_scores([truth], [openset], wheels.corrected)
        for at, wheel in enumerate(numbers):
            clusters = wheels.published[wheel]
            cluster, own = clusters.get(truth), corrected[wheel]
            hit = cluster is not None and any(clusters.get(word) == cluster for word in openset)
            by_wheel[:, at] = (
                cluster is not None,
                hit,
                own.precision or 0,
                own.recall or 0,
                labels * (own.mapped_labels or 0),
            )
            if own.f1 is not None:
                counts[at, emotions[label]], f1[at, emotions[label]] = 1, own.f1
        return np.concatenate([by_wheel.ravel(), counts.ravel(), f1.ravel(), [labels, 1]])

    def sums(rows: pd.DataFrame) -> np.ndarray:
        found = []
        for label, openset in rows[["label", "openset"]].itertuples(index=False):
            key = (label, tuple(openset))
            if key not in known:
                known[key] = sample_values(*key)
            found.append(known[key])
        return np.stack(found)

    def scores(totals: np.ndarray) -> dict[str, np.ndarray]:
        w = len(numbers)
        by_wheel = np.split(totals[:, : 5 * w], 5, axis=1)
        counts, f1 = (
            part.reshape(-1, *shape) for part in np.split(totals[:, 5 * w : -2], 2, axis=1)
        )
        labels, n = totals[:, -2:-1], totals[:, -1:]
        return _wheel_scores(numbers, by_wheel, counts, f1, labels, n)

    return ProtocolScores(sums, scores)


def _wheel_scores(
    wheels: Sequence[int],
    by_wheel: Sequence[np.ndarray],
    counts: np.ndarray,
    f1: np.ndarray,
    labels: np.ndarray,
    n: np.ndarray,
) -> dict[str, np.ndarray]:
    """Scores in percent of every wheel, and their means over wheels, from sums over samples.

    Args:
        by_wheel: scored samples, hits, precision, recall, labels with a cluster; each (draws,
            wheels).
        counts, f1: of the corrected protocol, (draws, wheels, emotions).
        labels, n: numbers of labels and of samples, (draws, 1).
    """
    scored, hits, precision, recall, mapped = by_wheel
    corrected_scored = counts.sum(axis=-1)
    macro_f1 = np.stack(
        [_mean_ratio(f1[:, at], counts[:, at]) for at in range(len(wheels))], axis=1
    )
    defined = (~np.isnan(macro_f1)).astype(float)
    mapped_share = _mean_ratio(mapped, np.broadcast_to(labels, mapped.shape))
    found = {
        "mer_unibench": 100 * _mean_ratio(hits, scored),
        "corrected_f1": 100 * _mean_ratio(f1.sum(axis=-1), corrected_scored),
        "corrected_macro_f1": 100 * _mean_ratio(np.nan_to_num(macro_f1), defined),
        "corrected_precision": 100 * _mean_ratio(precision, corrected_scored),
        "corrected_recall": 100 * _mean_ratio(recall, corrected_scored),
        "labels_per_sample": (labels / n)[:, 0],
        "mapped_labels": 100 * np.nan_to_num(mapped_share),
        "corrected_scored": 100 * (corrected_scored / n).mean(axis=1),
        "mer_unibench_scored": 100 * (scored / n).mean(axis=1),
    }
    for at, wheel in enumerate(wheels):
        own = slice(at, at + 1)
        wheel_f1 = f1[:, at].sum(-1)[:, None]
        found |= {
            f"mer_unibench_wheel{wheel}": 100 * _mean_ratio(hits[:, own], scored[:, own]),
            f"mer_unibench_scored_wheel{wheel}": 100 * (scored / n)[:, at],
            f"corrected_f1_wheel{wheel}": 100 * _mean_ratio(wheel_f1, corrected_scored[:, own]),
            f"corrected_scored_wheel{wheel}": 100 * (corrected_scored / n)[:, at],
        }
    return found


_SIGNS = ("negative", "neutral", "positive")


def _valence() -> ProtocolScores:
    """The published confusion table of positive against the rest, and the corrected one.

    The corrected table has three classes and a fourth column for other answers. `mer_unibench` is
    the published WAF. `corrected_f1` is the weighted F1 of three classes. `polar` is the share of
    positive and negative samples that were answered with positive or negative.
    """

    def sample_values(label: str, answer: str) -> np.ndarray:
        published, corrected = np.zeros((2, 2)), np.zeros((3, 4))
        if label != "neutral":
            published[int(label == "positive"), int(answer == "positive")] = 1
        word = answer.strip().lower().removesuffix(".")
        corrected[_SIGNS.index(label), _SIGNS.index(word) if word in _SIGNS else 3] = 1
        return np.concatenate([published.ravel(), corrected.ravel()])

    def sums(rows: pd.DataFrame) -> np.ndarray:
        columns = rows[["label", "valence"]]
        return np.stack([sample_values(*row) for row in columns.itertuples(index=False)])

    def scores(totals: np.ndarray) -> dict[str, np.ndarray]:
        corrected = totals[:, 4:].reshape(-1, 3, 4)
        truth, answered = corrected.sum(axis=2), corrected.sum(axis=1)[:, :3]
        hits = np.diagonal(corrected, axis1=1, axis2=2)
        f1 = np.divide(2 * hits, truth + answered, out=np.zeros_like(truth), where=truth > 0)
        n, polar = truth.sum(axis=1), truth[:, 0] + truth[:, 2]
        with np.errstate(invalid="ignore"):
            waf = confusion_metrics(totals[:, :4].reshape(-1, 2, 2))["weighted_f1"]
            polar_answers = corrected[:, [0, 2]][:, :, [0, 2]].sum(axis=(1, 2)) / polar
        return {
            "mer_unibench": waf,
            "corrected_f1": 100 * (f1 * truth).sum(axis=1) / n,
            "corrected_macro_f1": 100 * f1.sum(axis=1) / (truth > 0).sum(axis=1),
            "corrected_accuracy": 100 * hits.sum(axis=1) / n,
            "mer_unibench_scored": 100 * polar / n,
            "polar": 100 * polar_answers,
        }

    return ProtocolScores(sums, scores)
