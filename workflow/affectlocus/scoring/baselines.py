"""Baselines: the scores of answers that do not depend on the input.

They are computed from the gold labels alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from affectlocus.config.scoring import Score
from affectlocus.config.task_answers import NumberAnswer, Scoring, is_valence
from affectlocus.core.metrics import value_range
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.scoring.bootstrap import Stream, centred, drawn_sums
from affectlocus.scoring.corrected_protocol import NEUTRAL
from affectlocus.scoring.number_answers import METRICS as ERRORS
from affectlocus.scoring.number_answers import class_names, error_metrics
from affectlocus.scoring.protocols import constant_answers, protocol_scores
from affectlocus.scoring.score_draws import confusion_metrics, score_interval
from affectlocus.scoring.wheels import Wheels

MAJORITY, UNIFORM = "majority", "uniform"
BEST_PAIR, EVERY = "best pair", "every label"


def majority(gold: Sequence[str]) -> str:
    """The most frequent gold label; of equally frequent labels the alphabetically first."""
    counts = Counter(gold)
    return min(counts, key=lambda label: (-counts[label], label))


def best_pair(gold: Sequence[str], wheels: Mapping[int, Mapping[str, str]]) -> list[str]:
    """The two labels with the highest published hit rate if they are the answer to every sample.

    All pairs of words that the wheels map are compared. Words with the same cluster on each wheel
    are one candidate. It is named by a gold label if one is among these words, otherwise by the
    shortest word.

    Args:
        gold: an emotion per sample.
        wheels: wheel → form → cluster, from `Wheels.published`.
    """
    counts = Counter(gold)
    names: dict[tuple[str | None, ...], str] = {}
    mapped = {form for clusters in wheels.values() for form in clusters}
    for form in sorted(mapped, key=lambda form: (form not in counts, len(form), form)):
        names.setdefault(tuple(clusters.get(form) for clusters in wheels.values()), form)
    candidates = sorted(names, key=names.__getitem__)
    total = np.zeros((len(candidates), len(candidates)))
    for number, clusters in enumerate(wheels.values()):
        support: Counter[str] = Counter()
        for emotion, count in counts.items():
            if emotion in clusters:
                support[clusters[emotion]] += count
        cluster_of = np.array([candidate[number] or "" for candidate in candidates])
        rate = np.array([support[cluster] for cluster in cluster_of]) / max(support.total(), 1)
        same = cluster_of[:, None] == cluster_of[None, :]
        total += rate[:, None] + np.where(same, 0.0, rate[None, :])  # (candidates, candidates)
    # Rounding keeps floating-point noise from deciding a tie: the first pair wins.
    first, second = np.unravel_index(np.argmax(np.round(np.triu(total), 12)), total.shape)
    return [names[candidates[at]] for at in dict.fromkeys([int(first), int(second)])]


def valence_label(value: float) -> str:
    """positive, negative or neutral. NaN is negative, as in the published protocol."""
    return NEUTRAL if value == 0 else ("positive" if value > 0 else "negative")


def _probabilities(gold: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Baseline → the probability that it answers each label, (labels,)."""
    most = majority(gold)
    return {
        MAJORITY: np.array([float(label == most) for label in labels]),
        UNIFORM: np.full(len(labels), 1 / len(labels)),
    }


# Baseline → (metric → its answer, metric → (1 + draws,) scores with the observed one first).
_Baselines = dict[str, tuple[dict[str, str], dict[str, np.ndarray]]]


def baseline_table(
    tasks: Sequence[PreparedTask],
    scoring: Mapping[str, Scoring],
    settings: Score,
    wheels: Wheels | None = None,
    free_text: Collection[str] = (),
) -> pd.DataFrame:
    """The baselines of every task of a table, and their means over tasks.

    Args:
        tasks: the tasks; those without labels are left out.
        scoring: task → its domain, positive label and number.
        settings: draws, confidence and seed of the intervals over test samples; and the tasks
            under a protocol of free text, whose scores are added.
        wheels: needed if one of these tasks has emotions.
        free_text: the tasks that are answered in free text; they have a coverage.

    Returns:
        A row per (baseline, task, metric). `baseline`: majority or uniform; with a protocol of
        emotions also the pair of words with the highest published hit rate, and the list of every
        label. `answer`: the constant answer (the most frequent label of the test split; the median
        number for `mae`, the mean for `rmse`; empty for uniform). `task`: `mean` is the mean over
        tasks, for the baselines and metrics that all tasks have. `metric`, `value`, `n`, `low`,
        `high`, `confidence`.
    """
    rows: list[dict[str, object]] = []
    averaged: dict[str, list[dict[str, np.ndarray]]] = {}
    samples: list[int] = []
    for prepared in tasks:
        if not prepared.labels:
            continue
        task, gold = prepared.name, prepared.test["answer"].tolist()
        found = _task_baselines(
            task,
            gold,
            prepared.labels,
            scoring.get(task, Scoring()),
            settings,
            wheels,
            task in free_text,
        )
        for name, (answers, values) in found.items():
            rows += _rows(name, task, answers, values, len(gold), settings)
        percentages = {
            name: {metric: values[metric] for metric in values if metric not in ERRORS}
            for name, (_, values) in found.items()
        }
        if any(percentages.values()):
            samples.append(len(gold))
            for name, values in percentages.items():
                averaged.setdefault(name, []).append(values)
    for name, by_task in averaged.items():
        if len(by_task) == len(samples):
            shared = [metric for metric in by_task[0] if all(metric in own for own in by_task)]
            means = {metric: np.mean([own[metric] for own in by_task], axis=0) for metric in shared}
            rows += _rows(name, "mean", {}, means, sum(samples), settings)
    return pd.DataFrame(rows)


def _task_baselines(
    task: str,
    gold: Sequence[str],
    labels: Sequence[str],
    scoring: Scoring,
    settings: Score,
    wheels: Wheels | None,
    free_text: bool,
) -> _Baselines:
    """The baselines of one task: of its number or labels, its coverage and its protocol."""
    if scoring.number is not None:
        found = _number_baselines(task, gold, scoring.number, settings)
    else:
        found = _drawn_label_baselines(task, gold, labels, scoring.positive, None, settings)
    if free_text:
        for answers, values in found.values():
            answers["coverage"] = answers["accuracy"]
            values["coverage"] = np.full(1 + settings.resamples, 100.0)
    if task in settings.protocols:
        for name, more in _protocol_baselines(task, gold, labels, wheels, settings).items():
            answers, values = found.get(name, ({}, {}))
            found[name] = answers | more[0], values | more[1]
    return found


def _drawn_label_baselines(
    task: str,
    gold: Sequence[str],
    labels: Sequence[str],
    positive: str | None,
    uniform: np.ndarray | None,
    settings: Score,
) -> _Baselines:
    """The baselines of a task with labels.

    The F1 of a uniform guess is at its minimum or maximum where the labels are balanced, which
    biases the draws. They are therefore centred on the observed value.

    Args:
        uniform: the probabilities of the labels in a uniform guess, if they are not equal.
    """
    counts = np.array([Counter(gold)[label] for label in labels])
    rng = Stream(settings.seed, task, settings.resamples).generator()
    draws = rng.multinomial(len(gold), counts / len(gold), size=settings.resamples)
    counts = np.vstack([counts, draws])[..., None]  # (1 + draws, labels, 1)
    probabilities = _probabilities(gold, labels)
    if uniform is not None:
        probabilities[UNIFORM] = uniform
    place = None if positive is None else list(labels).index(positive)
    found: _Baselines = {}
    for name, probability in probabilities.items():
        values = confusion_metrics(counts * probability, place)
        if name == UNIFORM:
            values = {metric: centred(drawn) for metric, drawn in values.items()}
        answer = majority(gold) if name == MAJORITY else ""
        found[name] = (dict.fromkeys(values, answer), values)
    return found


def _protocol_baselines(
    task: str, gold: Sequence[str], labels: Sequence[str], wheels: Wheels | None, settings: Score
) -> _Baselines:
    """The baselines of a task under a protocol of free text.

    A uniform guess has the mean of the labels' sums.
    """
    protocol = protocol_scores(gold, labels, wheels)
    constants = {MAJORITY: [majority(gold)]}
    if wheels is not None and not is_valence(labels):
        constants[BEST_PAIR] = best_pair([emotion.lower() for emotion in gold], wheels.published)
        constants[EVERY] = [label.lower() for label in labels]
    sums = {
        name: protocol.sums(constant_answers(gold, answer)) for name, answer in constants.items()
    }
    guesses = [protocol.sums(constant_answers(gold, [label])) for label in labels]
    sums[UNIFORM] = np.mean(guesses, axis=0)
    found: _Baselines = {}
    for name, own in sums.items():
        draws = drawn_sums(own, Stream(settings.seed, task, settings.resamples))
        values = protocol.scores(draws)
        found[name] = dict.fromkeys(values, ", ".join(constants.get(name, []))), values
    return found


def _number_baselines(
    task: str, gold: Sequence[str], number: NumberAnswer, settings: Score
) -> _Baselines:
    """The baselines of a task with a number: errors, and scores of the two classes at a cutoff."""
    value_of = dict(zip(number.words, number.values, strict=True))
    true = np.array([value_of[word] for word in gold], dtype=float)
    median, mean = float(np.median(true)), float(np.mean(true))
    difference = true[:, None] - np.array(number.values)  # (samples, candidates)
    ones = np.ones_like(true)
    sums = {
        MAJORITY: np.stack([np.abs(true - median), (true - mean) ** 2, ones], axis=1),
        UNIFORM: np.stack(
            [np.abs(difference).mean(axis=1), (difference**2).mean(axis=1), ones], axis=1
        ),
    }
    found: _Baselines = {MAJORITY: ({}, {}), UNIFORM: ({}, {})}
    if number.cutoff is not None:
        classes = class_names(number)
        above = np.mean([value >= number.cutoff for value in number.values])
        uniform = np.array([1 - above, above])
        labels = [classes[int(value >= number.cutoff)] for value in true]
        found = _drawn_label_baselines(task, labels, classes, classes[-1], uniform, settings)
    for name, own in sums.items():
        totals = drawn_sums(own, Stream(settings.seed, task, settings.resamples))
        answers = {"mae": f"{median:g}", "rmse": f"{mean:g}"} if name == MAJORITY else {}
        found[name] = (found[name][0] | answers, found[name][1] | error_metrics(totals))
    return found


def _rows(
    baseline: str,
    task: str,
    answers: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    n: int,
    settings: Score,
) -> list[dict[str, object]]:
    """A row per metric, with its interval."""
    rows: list[dict[str, object]] = []
    for metric, drawn in values.items():
        value, low, high = score_interval(drawn, settings.confidence, *value_range(metric))
        rows.append(
            {
                "baseline": baseline,
                "answer": answers.get(metric, ""),
                "task": task,
                "metric": metric,
                "value": value,
                "n": n,
                "low": low,
                "high": high,
                "confidence": settings.confidence,
            }
        )
    return rows
