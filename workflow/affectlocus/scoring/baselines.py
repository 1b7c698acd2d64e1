"""What a score is worth: the scores of answers that look at no input.

Each is worked out from the gold labels alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from affectlocus.config.scoring import Score
from affectlocus.config.tasks import NumberAnswer, Scoring, is_valence
from affectlocus.core.metrics import value_range
from affectlocus.scoring.bootstrap import Stream, centred, drawn_sums
from affectlocus.scoring.corrected_protocol import NEUTRAL
from affectlocus.scoring.number_answers import METRICS as ERRORS
from affectlocus.scoring.number_answers import classes, errors
from affectlocus.scoring.protocols import constant, measure
from affectlocus.scoring.score import metrics, summary
from affectlocus.scoring.wheels import Wheels

MAJORITY, UNIFORM = "majority", "uniform"
BEST_PAIR, EVERY = "best pair", "every label"


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


def classic(
    gold: Sequence[str], labels: Sequence[str], positive: str | None = None
) -> dict[str, dict[str, float]]:
    """Scores of a single-label task without a model, in percent, as `score.metrics` defines them.

    Args:
        gold: a label per sample; at least one.
        labels: all labels that could be answered.
        positive: the one whose own F1 is `binary_f1`.

    Returns:
        `majority` (always the most frequent label) and `uniform` (each label with the same chance)
        → `weighted_f1`, `accuracy`, `macro_f1`. Those of `uniform` come from the expected counts.
    """
    counts = np.array([Counter(gold)[label] for label in labels], dtype=float)
    chances = _chances(gold, labels)
    place = None if positive is None else list(labels).index(positive)
    return {
        name: {metric: float(value) for metric, value in metrics(table, place).items()}
        for name, table in ((name, counts[:, None] * chance) for name, chance in chances.items())
    }


def _chances(gold: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """How likely each baseline answers each label, (labels,)."""
    most = majority(gold)
    return {
        MAJORITY: np.array([float(label == most) for label in labels]),
        UNIFORM: np.full(len(labels), 1 / len(labels)),
    }


def beside(
    tasks: Mapping[str, pd.DataFrame],
    words: Mapping[str, list[str]],
    about: Mapping[str, Scoring],
    settings: Score,
    wheels: Wheels | None = None,
    spoken: Collection[str] = (),
) -> pd.DataFrame:
    """What the scores of a table are worth: those of answers that look at no input, per task.

    Args:
        tasks: prepared tasks, columns `split` and `answer`; those without words are left out.
        words: what can be answered in each task.
        about: what scoring a task needs to know beyond that.
        settings: draws, confidence and seed of the intervals, over test samples; and the tasks
            under a protocol of free text, which have its scores as well.
        wheels: for those of them that are emotions.
        spoken: the tasks that are answered in free text, which have a coverage.

    Returns:
        A row per (baseline, task, metric): `baseline` (majority or uniform; under a protocol of
        emotions the pair of words with the highest published hit rate and the list of every label
        too), `answer` (what it says: the most frequent label of the test split; for `mae` the
        median number, for `rmse` the mean; nothing for uniform), `task` (`mean` for the mean over
        tasks, of baselines and metrics that all of them have), `metric`, `value`, `n`, `low`,
        `high`.
    """
    rows: list[dict[str, object]] = []
    drawn: dict[str, list[dict[str, np.ndarray]]] = {}
    samples: list[int] = []
    for task, frame in tasks.items():
        if not words[task]:
            continue
        gold = frame.loc[frame["split"] == "test", "answer"].tolist()
        found = _found(task, gold, words[task], about.get(task, Scoring()), settings)
        if task in spoken:
            for answers, values in found.values():
                answers["coverage"] = answers["accuracy"]
                values["coverage"] = np.full(1 + settings.resamples, 100.0)
        if task in settings.protocols:
            for name, more in _spoken(task, gold, words[task], wheels, settings).items():
                answers, values = found.get(name, ({}, {}))
                found[name] = answers | more[0], values | more[1]
        shares = {
            name: {key: values[key] for key in values if key not in ERRORS}
            for name, (_, values) in found.items()
        }
        for name, (answers, values) in found.items():
            rows += _rows(name, task, answers, values, len(gold), settings)
        if any(shares.values()):
            samples.append(len(gold))
            for name, one in shares.items():
                drawn.setdefault(name, []).append(one)
    for name, each in drawn.items():
        if len(each) == len(samples):
            shared = [key for key in each[0] if all(key in one for one in each)]
            means = {key: np.mean([one[key] for one in each], axis=0) for key in shared}
            rows += _rows(name, "mean", {}, means, sum(samples), settings)
    return pd.DataFrame(rows)


# Of each baseline: metric → what it answers, metric → its score as observed (first) and drawn.
_Found = dict[str, tuple[dict[str, str], dict[str, np.ndarray]]]


def _found(
    task: str, gold: Sequence[str], words: Sequence[str], scoring: Scoring, settings: Score
) -> _Found:
    if scoring.number is not None:
        return _numbered(task, gold, scoring.number, settings)
    return _labelled(task, gold, words, scoring.positive, None, settings)


def _labelled(
    task: str,
    gold: Sequence[str],
    words: Sequence[str],
    positive: str | None,
    guess: np.ndarray | None,
    settings: Score,
) -> _Found:
    """Of a task with labels; `guess` are the chances of a uniform answer, if they are not even.

    The F1 of a uniform guess is at its least or most where labels are balanced, so that draws are
    biased: they are centred on the observed value.
    """
    counts = np.array([Counter(gold)[word] for word in words])
    rng = Stream(settings.seed, task, settings.resamples).generator()
    draws = rng.multinomial(len(gold), counts / len(gold), size=settings.resamples)
    counts = np.vstack([counts, draws])[..., None]  # (1 + draws, labels, 1)
    chances = _chances(gold, words)
    if guess is not None:
        chances[UNIFORM] = guess
    place = None if positive is None else list(words).index(positive)
    found: _Found = {}
    for name, chance in chances.items():
        values = metrics(counts * chance, place)
        if name == UNIFORM:
            values = {metric: centred(drawn) for metric, drawn in values.items()}
        said = majority(gold) if name == MAJORITY else ""
        found[name] = (dict.fromkeys(values, said), values)
    return found


def _spoken(
    task: str, gold: Sequence[str], words: Sequence[str], wheels: Wheels | None, settings: Score
) -> _Found:
    """Of a task under a protocol of free text; a guess has the expected sums of its answers."""
    most = majority(gold)
    asked = measure(gold, words, wheels)
    said = {MAJORITY: [most]}
    if wheels is not None and not is_valence(words):
        said[BEST_PAIR] = best_pair([one.lower() for one in gold], wheels.published)
        said[EVERY] = [word.lower() for word in words]
    each = {name: asked.sums(constant(gold, answer)) for name, answer in said.items()}
    guesses = [asked.sums(constant(gold, [word])) for word in words]
    each[UNIFORM] = np.mean(guesses, axis=0)
    found: _Found = {}
    for name, sums in each.items():
        draws = drawn_sums(sums, Stream(settings.seed, task, settings.resamples))
        values = asked.scores(draws)
        found[name] = dict.fromkeys(values, ", ".join(said.get(name, []))), values
    return found


def _numbered(task: str, gold: Sequence[str], number: NumberAnswer, settings: Score) -> _Found:
    """Of a task with a number: errors of a constant and of a guess, and scores of the two sides."""
    value_of = dict(zip(number.words, number.values, strict=True))
    true = np.array([value_of[word] for word in gold], dtype=float)
    median, mean = float(np.median(true)), float(np.mean(true))
    off = true[:, None] - np.array(number.values)  # (samples, candidates)
    one = np.ones_like(true)
    each = {
        MAJORITY: np.stack([np.abs(true - median), (true - mean) ** 2, one], axis=1),
        UNIFORM: np.stack([np.abs(off).mean(axis=1), (off**2).mean(axis=1), one], axis=1),
    }
    found: _Found = {MAJORITY: ({}, {}), UNIFORM: ({}, {})}
    if number.cutoff is not None:
        sides = classes(number)
        above = np.mean([value >= number.cutoff for value in number.values])
        guess = np.array([1 - above, above])
        labels = [sides[int(value >= number.cutoff)] for value in true]
        found = _labelled(task, labels, sides, sides[-1], guess, settings)
    for name, values in each.items():
        totals = drawn_sums(values, Stream(settings.seed, task, settings.resamples))
        answers = {"mae": f"{median:g}", "rmse": f"{mean:g}"} if name == MAJORITY else {}
        found[name] = (found[name][0] | answers, found[name][1] | errors(totals))
    return found


def _rows(
    baseline: str,
    task: str,
    answers: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    n: int,
    settings: Score,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for metric, drawn in values.items():
        value, low, high = summary(drawn, settings.confidence, *value_range(metric))
        about = {"baseline": baseline, "answer": answers.get(metric, ""), "task": task}
        found = {"metric": metric, "value": value, "n": n, "low": low, "high": high}
        rows.append(about | found | {"confidence": settings.confidence})
    return rows
