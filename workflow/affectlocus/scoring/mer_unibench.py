"""Protocol `mer-unibench`: MER-UniBench's scores exactly as AffectGPT's released scorer gives them.

Its flaws are kept, for that is what published numbers hold: neutral is not scored, more labels cost
nothing, "fear" counts as happy on two wheels. `corrected` is the honest protocol beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affectlocus.core.errors import InputError
from affectlocus.scoring.score import metrics
from affectlocus.scoring.wheels import words


class UndefinedError(InputError):
    """Samples for which the released scorer has no value: it crashes."""


def open_set(text: str) -> list[str]:
    """The labels in a model's list, such as "['happy', 'proud']", trimmed and in lower case.

    Raises:
        InputError: the text is a lone bracket, where the released parser crashes.
    """
    if text == "[":
        raise InputError("found the answer '['; expected a list of labels, or nothing")
    inner = text.removeprefix("[").removesuffix("]")
    return words(re.sub("[,'\"]", ",", inner))


@dataclass(frozen=True)
class HitRate:
    """Hits of one wheel, among the samples whose gold label has a cluster there."""

    n_scored: int
    hits: int

    @property
    def hit_rate(self) -> float:
        """A fraction, 0 to 1."""
        return self.hits / self.n_scored


def hit_rates(
    gold: Sequence[str],
    answers: Sequence[Sequence[str]],
    wheels: Mapping[int, Mapping[str, str]],
) -> dict[int, HitRate]:
    """For each wheel, how often one of the labels is in the gold label's cluster.

    A sample whose gold label has no cluster is skipped, for that wheel only. No label, or none
    with a cluster, is a miss.

    Args:
        gold: an emotion per sample.
        answers: the open set of each of these samples.
        wheels: wheel → form → cluster, from `Wheels.published`.

    Raises:
        UndefinedError: no gold label has a cluster on some wheel, where the released scorer
            divides by zero.
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
            kinds = ", ".join(sorted(set(gold))[:10])
            raise UndefinedError(
                f"wheel {wheel}: none of the gold emotions ({kinds}) has a cluster on it, so "
                "there is no hit rate; give emotions that the wheels hold"
            )
        found[wheel] = HitRate(scored, hits)
    return found


def mean_rate(rates: Mapping[int, HitRate]) -> float:
    """A set's hit rate: the plain mean over its wheels, though these score different samples."""
    return float(np.mean([one.hit_rate for one in rates.values()]))


@dataclass(frozen=True)
class Valence:
    """Support-weighted F1 and accuracy (0 to 1) of positive against negative."""

    n_scored: int
    waf: float
    accuracy: float


_VALUE = {"positive": 1.0, "negative": -1.0}


def waf(gold: Sequence[float], answers: Sequence[str]) -> Valence:
    """WAF of answers in words against valence numbers.

    Samples with a gold value of 0 are dropped; NaN and masked values (-10) count as negative. An
    answer that is not exactly `positive` counts as negative, neutral and blank ones included.

    Raises:
        UndefinedError: every gold value is 0, where the released scorer crashes.
    """
    confusion = np.zeros((2, 2))
    for value, answer in zip(gold, answers, strict=True):
        if value != 0:
            confusion[int(value > 0), int(_VALUE.get(answer, 0.0) > 0)] += 1
    if not confusion.any():
        raise UndefinedError(
            f"every gold value is 0 ({len(gold)} samples), so there is nothing to score; give "
            "samples that are positive or negative"
        )
    scores = metrics(confusion)
    return Valence(
        int(confusion.sum()),
        float(scores["weighted_f1"]) / 100,
        float(scores["accuracy"]) / 100,
    )
