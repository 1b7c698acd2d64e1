"""What a score is worth: the scores of answers that look at no input.

Each is worked out from the gold labels alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from affectlocus.corrected import NEUTRAL
from affectlocus.score import metrics


def majority(gold: Sequence[str]) -> str:
    """The most frequent gold label; of equally frequent ones the alphabetically first."""
    counts = Counter(gold)
    return min(counts, key=lambda label: (-counts[label], label))


def best_pair(gold: Sequence[str], wheels: Mapping[int, Mapping[str, str]]) -> list[str]:
    """The two labels that, answered to every sample, have the highest published hit rate.

    Every pair of words that the wheels map is tried. Words with the same cluster on each wheel are
    one choice, named by a gold label where one is among them, else by its shortest word.

    Args:
        gold: an emotion per sample.
        wheels: wheel → form → cluster, from `Wheels.published`.
    """
    counts = Counter(gold)
    names: dict[tuple[str | None, ...], str] = {}
    mapped = {form for clusters in wheels.values() for form in clusters}
    for form in sorted(mapped, key=lambda form: (form not in counts, len(form), form)):
        names.setdefault(tuple(clusters.get(form) for clusters in wheels.values()), form)
    choices = sorted(names, key=names.__getitem__)
    total = np.zeros((len(choices), len(choices)))
    for number, clusters in enumerate(wheels.values()):
        support: Counter[str] = Counter()
        for emotion, count in counts.items():
            if emotion in clusters:
                support[clusters[emotion]] += count
        found = np.array([choice[number] or "" for choice in choices])
        rate = np.array([support[cluster] for cluster in found]) / max(support.total(), 1)
        same = found[:, None] == found[None, :]
        total += rate[:, None] + np.where(same, 0.0, rate[None, :])  # (choices, choices)
    # Of equally good pairs the first, whatever rounding says.
    first, second = np.unravel_index(np.argmax(np.round(np.triu(total), 12)), total.shape)
    return [names[choices[place]] for place in dict.fromkeys([int(first), int(second)])]


def valence_label(value: float) -> str:
    """positive, negative or neutral; a value that is no number is negative, as published."""
    return NEUTRAL if value == 0 else ("positive" if value > 0 else "negative")


def classic(gold: Sequence[str], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Scores of a single-label task without a model, in percent, as `score.metrics` defines them.

    Args:
        gold: a label per sample; at least one.
        labels: all labels that could be answered.

    Returns:
        `majority` (always the most frequent label) and `uniform` (each label with the same chance)
        → `weighted_f1`, `accuracy`, `macro_f1`. Those of `uniform` come from the expected counts.
    """
    counts = np.array([Counter(gold)[label] for label in labels], dtype=float)
    always = np.zeros((len(labels), len(labels)))
    always[:, labels.index(majority(gold))] = counts
    evenly = np.repeat(counts[:, None] / len(labels), len(labels), axis=1)
    return {
        name: {metric: float(value) for metric, value in metrics(confusion).items()}
        for name, confusion in (("majority", always), ("uniform", evenly))
    }
