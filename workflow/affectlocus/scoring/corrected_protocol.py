"""Protocol `corrected`: the same answers, scored without the flaws of MER-UniBench's scorer.

It penalises wrong and superfluous labels, and it scores neutral. It is reported in addition to the
published protocol, never instead of it. All scores are fractions, 0 to 1, and `None` where they are
undefined.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from affectlocus.core.valences import is_rated

NEUTRAL = "neutral"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


@dataclass(frozen=True)
class OpenSetScores:
    """Scores of open sets on one wheel, or means over wheels.

    Attributes:
        n_scored: samples whose gold label is neutral or has a cluster; None for a mean.
        coverage: n_scored over all samples.
        precision, recall, f1: computed per sample over clusters, then averaged over the scored
            samples.
        macro_precision, macro_recall, macro_f1: averaged over the samples of each gold emotion,
            then over gold emotions; rare and frequent emotions have the same weight.
        labels_per_sample: different labels that were answered, over all samples.
        mapped_labels: the share of these labels that are neutral or have a cluster.
    """

    n_scored: int | None
    coverage: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    macro_precision: float | None
    macro_recall: float | None
    macro_f1: float | None
    labels_per_sample: float | None
    mapped_labels: float | None


def open_set_scores(
    gold: Sequence[str],
    answers: Sequence[Sequence[str]],
    wheels: Mapping[int, Mapping[str, str]],
) -> dict[int, OpenSetScores]:
    """Wheel → its scores. Neutral is a cluster of its own.

    These cases are undefined or wrong in the published protocol:

    - A gold label neutral is matched by the label neutral, and by an empty open set.
    - Several labels in one cluster count once. A label without a cluster is ignored;
      `mapped_labels` reports the share of labels with a cluster.
    - If an answer has labels and none of them has a cluster, its precision, recall and F1 are 0,
      whatever the gold label is.
    - A gold label without a cluster on a wheel is not scored on that wheel; `coverage` reports the
      share of scored samples.
    - The macro averages leave out gold emotions without a scored sample.
    - Without a scored sample, precision, recall, F1 and the macro averages are None. Without any
      sample, coverage and labels per sample are None too. Without any label, the share of mapped
      labels is None.

    Args:
        gold: an emotion per sample.
        answers: an open set per sample.
        wheels: wheel → word → cluster, from `Wheels.corrected`.
    """
    sets = [frozenset(answer) for answer in answers]
    return {wheel: _one_wheel(gold, sets, clusters) for wheel, clusters in wheels.items()}


def _one_wheel(
    gold: Sequence[str], answers: Sequence[frozenset[str]], clusters: Mapping[str, str]
) -> OpenSetScores:
    clusters = {**clusters, NEUTRAL: NEUTRAL}
    by_emotion: dict[str, list[tuple[float | None, ...]]] = {}
    labels = mapped = 0
    for emotion, answer in zip(gold, answers, strict=True):
        known = [clusters[label] for label in answer if label in clusters]
        labels += len(answer)
        mapped += len(known)
        if emotion in clusters:
            answered = set(known) if answer else {NEUTRAL}
            hit = clusters[emotion] in answered
            score = (1 / len(answered), 1.0, 2 / (len(answered) + 1)) if hit else (0.0, 0.0, 0.0)
            by_emotion.setdefault(emotion, []).append(score)
    scores = [score for rows in by_emotion.values() for score in rows]
    emotion_means = [_column_means(rows) for rows in by_emotion.values()]
    precision, recall, f1 = _column_means(scores)
    macro_precision, macro_recall, macro_f1 = _column_means(emotion_means)
    n = len(gold)
    return OpenSetScores(
        n_scored=len(scores),
        coverage=len(scores) / n if n else None,
        precision=precision,
        recall=recall,
        f1=f1,
        macro_precision=macro_precision,
        macro_recall=macro_recall,
        macro_f1=macro_f1,
        labels_per_sample=labels / n if n else None,
        mapped_labels=mapped / labels if labels else None,
    )


def _column_means(rows: Sequence[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    """The means of precision, recall and F1 over rows of (precision, recall, F1)."""
    return tuple(_mean(row[number] for row in rows) for number in range(3))


def mean_over_wheels(scores: Mapping[int, OpenSetScores]) -> OpenSetScores:
    """The unweighted mean of each score over the wheels on which it is defined."""
    names = [field.name for field in fields(OpenSetScores) if field.name != "n_scored"]
    means = {name: _mean(getattr(wheel, name) for wheel in scores.values()) for name in names}
    return OpenSetScores(n_scored=None, **means)


@dataclass(frozen=True)
class CorrectedValenceScores:
    """Scores of answers in words against valence numbers.

    Attributes:
        n_scored: samples with a gold value.
        n_masked: samples without a gold value (NaN, infinite, -10 or another of `MASKS`); they are
            not scored.
        n_unread: scored samples whose answer is not positive, negative or neutral.
        accuracy, weighted_f1, macro_f1: of three classes, negative, neutral (gold value 0) and
            positive.
        n_binary: scored samples with a gold value other than 0. The next four scores are computed
            on these samples.
        polar: the share of them that were answered with positive or negative. Every other answer
            is wrong and counts for neither class.
        binary_accuracy, binary_weighted_f1, binary_macro_f1: positive against negative.
    """

    n_scored: int
    n_masked: int
    n_unread: int
    accuracy: float | None
    weighted_f1: float | None
    macro_f1: float | None
    n_binary: int
    polar: float | None
    binary_accuracy: float | None
    binary_weighted_f1: float | None
    binary_macro_f1: float | None


_POLAR = ("negative", "positive")


def valence_scores(gold: Sequence[float], answers: Sequence[str]) -> CorrectedValenceScores:
    """Scores of answers in words. Case, surrounding blanks and a final full stop are ignored.

    These cases are undefined or wrong in the published protocol:

    - An answer that is not one of the three words (mixed, blank, a sentence) is wrong; `n_unread`
      counts it.
    - NaN, infinite and masked gold values are not scored; `n_masked` counts them.
    - The F1 of a class that occurs in gold and is never answered is 0. A class that does not occur
      in gold is in no average; answering it lowers the score of the true class.
    - Without a scored sample, scores are None.
    """
    rated = [
        (value, answer.strip().lower().removesuffix("."))
        for value, answer in zip(gold, answers, strict=True)
        if is_rated(value)
    ]
    pairs = [(NEUTRAL if value == 0 else _POLAR[value > 0], answer) for value, answer in rated]
    binary = [(truth, answer) for truth, answer in pairs if truth != NEUTRAL]
    return CorrectedValenceScores(
        len(pairs),
        len(gold) - len(pairs),
        sum(answer not in (*_POLAR, NEUTRAL) for _, answer in pairs),
        *_class_scores(pairs),
        len(binary),
        _mean(answer in _POLAR for _, answer in binary),
        *_class_scores(binary),
    )


def _class_scores(
    pairs: Sequence[tuple[str, str]],
) -> tuple[float | None, float | None, float | None]:
    """Accuracy, weighted F1 and macro F1 over the gold classes of (gold, answer) pairs."""
    truth = Counter(gold for gold, _ in pairs)
    answered = Counter(answer for _, answer in pairs)
    hits = Counter(gold for gold, answer in pairs if gold == answer)
    f1 = {label: 2 * hits[label] / (truth[label] + answered[label]) for label in truth}
    return (
        _mean(float(gold == answer) for gold, answer in pairs),
        _mean(f1[gold] for gold, _ in pairs),
        _mean(f1.values()),
    )
