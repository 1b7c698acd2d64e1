"""Protocol `corrected`: the same answers scored so that guessing, flattery and neutral count.

Reported beside the published protocol, never instead of it. All scores are fractions, 0 to 1, and
`None` where nothing defines them.
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
class OpenSet:
    """Scores of open sets on one wheel, or means over wheels.

    Attributes:
        n_scored: samples whose gold label is neutral or has a cluster; None for a mean.
        coverage: these over all samples.
        precision, recall, f1: per sample, over clusters; then the mean over the scored samples.
        macro_precision, macro_recall, macro_f1: the same, the mean over gold emotions of their
            samples' means: a rare emotion weighs as much as a frequent one.
        labels_per_sample: different labels that were answered, over all samples.
        mapped_labels: the share of them that is neutral or has a cluster.
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


def open_sets(
    gold: Sequence[str],
    answers: Sequence[Sequence[str]],
    wheels: Mapping[int, Mapping[str, str]],
) -> dict[int, OpenSet]:
    """Scores of each wheel, neutral as a cluster of its own.

    What the published protocol leaves undefined, or defines oddly:

    - Gold neutral is met by the label neutral, and by an empty open set.
    - Labels in one cluster count once. A label without a cluster counts neither for nor against;
      `mapped_labels` says how many have one.
    - An answer with labels of which none has a cluster has precision, recall and F1 0, whatever
      the gold label.
    - A gold label without a cluster is not scored on that wheel; `coverage` says how many are.
    - A gold emotion that no scored sample has is left out of the macro averages.
    - Nothing scored: precision, recall, F1 and macro averages are None; no sample at all:
      coverage and labels per sample too; no label at all: the share of mapped labels too.

    Args:
        gold: an emotion per sample.
        answers: the open set of each of these samples.
        wheels: wheel → word → cluster, from `Wheels.corrected`.
    """
    given = [frozenset(answer) for answer in answers]
    return {wheel: _one_wheel(gold, given, clusters) for wheel, clusters in wheels.items()}


def _one_wheel(
    gold: Sequence[str], answers: Sequence[frozenset[str]], clusters: Mapping[str, str]
) -> OpenSet:
    clusters = {**clusters, NEUTRAL: NEUTRAL}
    by_emotion: dict[str, list[tuple[float | None, ...]]] = {}
    labels = mapped = 0
    for emotion, given in zip(gold, answers, strict=True):
        known = [clusters[label] for label in given if label in clusters]
        labels += len(given)
        mapped += len(known)
        if emotion in clusters:
            answered = set(known) if given else {NEUTRAL}
            hit = clusters[emotion] in answered
            score = (1 / len(answered), 1.0, 2 / (len(answered) + 1)) if hit else (0.0, 0.0, 0.0)
            by_emotion.setdefault(emotion, []).append(score)
    scores = [score for rows in by_emotion.values() for score in rows]
    balanced = [_means(rows) for rows in by_emotion.values()]
    precision, recall, f1 = _means(scores)
    macro_precision, macro_recall, macro_f1 = _means(balanced)
    n = len(gold)
    return OpenSet(
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


def _means(rows: Sequence[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    """Precision, recall and F1, each the mean of its column."""
    return tuple(_mean(row[number] for row in rows) for number in range(3))


def mean_over_wheels(scores: Mapping[int, OpenSet]) -> OpenSet:
    """The plain mean of each score over the wheels that define it."""
    names = [field.name for field in fields(OpenSet) if field.name != "n_scored"]
    means = {name: _mean(getattr(one, name) for one in scores.values()) for name in names}
    return OpenSet(n_scored=None, **means)


@dataclass(frozen=True)
class Valence:
    """Scores of answers in words against valence numbers.

    Attributes:
        n_scored: samples with a gold value.
        n_masked: samples without one (NaN, infinite, -10 or another of `MASKS`), not scored.
        n_unread: scored samples whose answer is none of positive, negative and neutral.
        accuracy, weighted_f1, macro_f1: negative, neutral (gold 0) and positive, three ways.
        n_binary: scored samples with a gold value other than 0, on which the next ones stand.
        polar: the share of them that was answered with positive or negative; every other answer
            is wrong for either, and never taken for one.
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


def valence(gold: Sequence[float], answers: Sequence[str]) -> Valence:
    """Scores of answers in words, in upper or lower case, with a full stop or blanks around or not.

    What the published protocol leaves undefined, or defines oddly:

    - An answer that is not read (mixed, blank, a sentence) is wrong, and counted.
    - NaN, infinite and masked gold values are not scored, and counted.
    - F1 of a class that occurs in gold and is never answered is 0. A class that does not occur in
      gold is in no average; answering it costs the class that was right.
    - Nothing scored: None.
    """
    rated = [
        (value, answer.strip().lower().removesuffix("."))
        for value, answer in zip(gold, answers, strict=True)
        if is_rated(value)
    ]
    pairs = [(NEUTRAL if value == 0 else _POLAR[value > 0], answer) for value, answer in rated]
    binary = [(truth, answer) for truth, answer in pairs if truth != NEUTRAL]
    return Valence(
        len(pairs),
        len(gold) - len(pairs),
        sum(answer not in (*_POLAR, NEUTRAL) for _, answer in pairs),
        *_scores(pairs),
        len(binary),
        _mean(answer in _POLAR for _, answer in binary),
        *_scores(binary),
    )


def _scores(pairs: Sequence[tuple[str, str]]) -> tuple[float | None, float | None, float | None]:
    """Accuracy, weighted F1, macro F1 over the gold classes of (gold, answer) pairs."""
    truth, answered = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    hits = Counter(one for one, other in pairs if one == other)
    f1 = {label: 2 * hits[label] / (truth[label] + answered[label]) for label in truth}
    return (
        _mean(float(one == other) for one, other in pairs),
        _mean(f1[one] for one, _ in pairs),
        _mean(f1.values()),
    )
