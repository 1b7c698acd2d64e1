"""Protocol `mer-unibench`: MER-UniBench's scores exactly as AffectGPT's released scorer gives them.

The flaws of the scorer are kept, because published numbers contain them: neutral is not scored,
more labels cost nothing, and "fear" counts as happy on two wheels. The module `corrected_protocol`
scores the same answers without these flaws.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affectlocus.core.errors import InputError
from affectlocus.scoring.score_draws import confusion_metrics
from affectlocus.scoring.wheels import words


class UndefinedError(InputError):
    """The released scorer has no value for these samples; it crashes on them."""


def parse_open_set(text: str) -> list[str]:
    """The labels in a model's list, such as "['happy', 'proud']", trimmed and in lower case.

    Raises:
        InputError: the text is a single bracket, where the released parser crashes.
    """
    if text == "[":
        raise InputError(
            "prediction.single-bracket",
            "found the answer '['; expected a list of labels, or nothing",
        )
    inner = text.removeprefix("[").removesuffix("]")
    return words(re.sub("[,'\"]", ",", inner))


@dataclass(frozen=True)
class HitRate:
    """The hits on one wheel.

    Attributes:
        n_scored: samples whose gold label has a cluster on the wheel.
        hits: those of them with an answer in the same cluster.
    """

    n_scored: int
    hits: int

    @property
    def hit_rate(self) -> float:
        """hits / n_scored, 0 to 1."""
        return self.hits / self.n_scored


def hit_rates(
    gold: Sequence[str],
    answers: Sequence[Sequence[str]],
    wheels: Mapping[int, Mapping[str, str]],
) -> dict[int, HitRate]:
    """For each wheel, how often at least one answered label is in the gold label's cluster.

    A sample whose gold label has no cluster on a wheel is skipped on that wheel only. An answer
    without labels, or without a label that has a cluster, is a miss.

    Args:
        gold: an emotion per sample.
        answers: an open set per sample.
        wheels: wheel → form → cluster, from `Wheels.published`.

    Raises:
        UndefinedError: no gold label has a cluster on a wheel; the released scorer divides by zero.
    """
    found = {}
    for wheel, clusters in wheels.items():
        scored = hits = 0
        for emotion, labels in zip(gold, answers, strict=True):
            cluster = clusters.get(emotion)
            if cluster is not None:
                scored += 1
                hits += any(clusters.get(label) == cluster for label in labels)
        if not scored:
            emotions = sorted(set(gold))
            raise UndefinedError(
                "score.hit-rate-undefined",
                f"wheel {wheel}: none of the gold emotions ({', '.join(emotions[:10])}) has a "
                "cluster on this wheel, so the hit rate is undefined; use gold emotions that the "
                "wheels contain",
                wheel=wheel,
                found=emotions,
            )
        found[wheel] = HitRate(scored, hits)
    return found


def mean_rate(rates: Mapping[int, HitRate]) -> float:
    """The mean hit rate over wheels, unweighted, although wheels score different samples."""
    return float(np.mean([rate.hit_rate for rate in rates.values()]))


@dataclass(frozen=True)
class PublishedValenceScores:
    """Support-weighted F1 and accuracy (0 to 1) of positive against negative."""

    n_scored: int
    waf: float
    accuracy: float


_VALUE = {"positive": 1.0, "negative": -1.0}


def waf(gold: Sequence[float], answers: Sequence[str]) -> PublishedValenceScores:
    """The weighted average F1 (WAF) of answers in words against valence numbers.

    Samples with a gold value of 0 are dropped. NaN and masked values (-10) count as negative. Every
    answer other than exactly `positive` counts as negative, including neutral and blank ones.

    Raises:
        UndefinedError: every gold value is 0; the released scorer crashes.
    """
    confusion = np.zeros((2, 2))
    for value, answer in zip(gold, answers, strict=True):
        if value != 0:
            confusion[int(value > 0), int(_VALUE.get(answer, 0.0) > 0)] += 1
    if not confusion.any():
        raise UndefinedError(
            "score.waf-undefined",
            f"all {len(gold)} gold values are 0, so WAF is undefined; expected at least one "
            "positive or negative sample",
            rows=len(gold),
        )
    scores = confusion_metrics(confusion)
    return PublishedValenceScores(
        int(confusion.sum()),
        float(scores["weighted_f1"]) / 100,
        float(scores["accuracy"]) / 100,
    )
