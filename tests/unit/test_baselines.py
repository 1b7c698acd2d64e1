"""Baselines, against an exhaustive search and against scikit-learn."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from wheel_files import REAL, write_wheels

from affectlocus.config.scoring import PERCENT, Score
from affectlocus.config.task_answers import NumberAnswer, Scoring
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.data.table_reader import read_table
from affectlocus.scoring import corrected_protocol, mer_unibench
from affectlocus.scoring.baselines import (
    baseline_table,
    best_pair,
    majority,
    valence_label,
)
from affectlocus.scoring.mer_unibench import hit_rates, mean_rate
from affectlocus.scoring.score_draws import confusion_metrics
from affectlocus.scoring.wheels import Wheels, read

WORDS = ["joy", "glad", "anger", "fear", "calm", "hope"]
WHEEL = st.dictionaries(st.sampled_from(WORDS), st.sampled_from(["a", "b", "c"])).map(
    lambda clusters: clusters | {"joy": "a"}
)
GOLD = st.lists(st.sampled_from([*WORDS, "neutral"])).map(lambda gold: [*gold, "joy"])


def rate(gold: list[str], answer: list[str], wheels: dict[int, dict[str, str]]) -> float:
    return mean_rate(hit_rates(gold, [answer] * len(gold), wheels))


def test_the_majority_is_the_most_frequent_label_and_of_two_the_first() -> None:
    assert majority(["joy", "fear", "joy"]) == "joy"
    assert majority(["joy", "fear"]) == "fear"


@given(GOLD, st.lists(WHEEL, min_size=1, max_size=3))
def test_no_pair_of_words_scores_higher_than_the_one_found(gold: list[str], each: list) -> None:
    wheels = dict(enumerate(each, start=1))
    found = best_pair(gold, wheels)
    highest = max(rate(gold, list(pair), wheels) for pair in combinations(WORDS, 2))
    assert 1 <= len(found) <= 2
    assert rate(gold, found, wheels) == pytest.approx(highest)


def test_a_pair_is_named_by_gold_labels_if_possible() -> None:
    wheels = {1: {"joy": "happy", "ha": "happy", "anger": "mad", "ire": "mad", "sadness": "sad"}}
    assert best_pair(["joy", "anger", "joy"], wheels) == ["anger", "joy"]


def test_a_single_cluster_gives_a_single_word() -> None:
    assert best_pair(["joy"], {1: {"joy": "happy"}}) == ["joy"]


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_the_best_pair_on_meld_is_as_good_as_happy_and_angry_and_beats_every_checkpoint() -> None:
    gold = read_table(REAL / "meld_gold.csv").rows["emotion"].tolist()
    wheels = read(REAL / "emotion_wheel").published
    found = rate(gold, best_pair(gold, wheels), wheels)
    assert found == rate(gold, ["happy", "angry"], wheels)
    assert f"{100 * found:.2f}" == "61.10"


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.0, "neutral"), (-0.0, "neutral"), (1e-9, "positive"), (-2.0, "negative")],
)
def test_a_value_has_the_label_of_its_sign(value: float, label: str) -> None:
    assert valence_label(value) == label


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_the_majority_answer_scores_as_in_scikit_learn(gold: list[str]) -> None:
    answers = [majority(gold)] * len(gold)
    rows = tabled({"moods": prepared(gold)}, {"moods": list("abc")}, {}, Score(resamples=100))
    expected = {
        "weighted_f1": 100 * f1_score(gold, answers, average="weighted", zero_division=0),
        "accuracy": 100 * accuracy_score(gold, answers),
        "macro_f1": 100 * f1_score(gold, answers, average="macro", zero_division=0),
    }
    for metric, value in expected.items():
        assert of(rows, "majority", "moods", metric)["value"] == pytest.approx(value)


def test_a_uniform_guess_scores_like_many_random_guesses() -> None:
    gold = ["a"] * 7000 + ["b"] * 2000 + ["c"] * 1000
    guesses = np.random.default_rng(5).choice(["a", "b", "c"], len(gold))
    rows = tabled({"moods": prepared(gold)}, {"moods": list("abc")}, {}, Score(resamples=100))
    for metric, value, error in (
        ("accuracy", 1 / 3, 1e-9),
        ("weighted_f1", f1_score(gold, guesses, average="weighted"), 1),
        ("macro_f1", f1_score(gold, guesses, average="macro"), 1),
    ):
        found = of(rows, "uniform", "moods", metric)["value"]
        assert found == pytest.approx(100 * value, abs=error)


# Baselines of a table


def prepared(gold: list[str]) -> pd.DataFrame:
    """A task whose test split has these answers, after a train split with another majority."""
    splits = ["train"] * 99 + ["test"] * len(gold)
    return pd.DataFrame({"split": splits, "answer": ["c"] * 99 + gold})


def tabled(
    tasks: dict[str, pd.DataFrame], labels: dict[str, list[str]], *more: Any
) -> pd.DataFrame:
    """The baselines of tasks with these labels."""
    return baseline_table(
        [PreparedTask(name, labels[name], samples) for name, samples in tasks.items()], *more
    )


MOODS = ["a"] * 12 + ["b"] * 6 + ["c"] * 2
SCORES = Score(resamples=500)


def of(rows: pd.DataFrame, baseline: str, task: str, metric: str) -> pd.Series:
    (place,) = rows.index[
        (rows["baseline"] == baseline) & (rows["task"] == task) & (rows["metric"] == metric)
    ]
    return rows.loc[place]


def test_every_task_and_the_mean_have_both_baselines_with_intervals() -> None:
    tasks = {"moods": prepared(MOODS), "more": prepared(["c"] * 5 + ["a"] * 3)}
    words = {"moods": list("abc"), "more": list("ac"), "text": []}
    rows = tabled(tasks | {"text": prepared([])}, words, {}, SCORES)
    assert list(rows.columns) == [
        *("baseline", "answer", "task", "metric", "value", "n", "low", "high", "confidence")
    ]
    assert list(rows["task"].unique()) == ["moods", "more", "mean"]
    for baseline in ("majority", "uniform"):
        for metric in ("weighted_f1", "accuracy", "macro_f1"):
            row = of(rows, baseline, "moods", metric)
            value = row["value"]
            assert row["n"] == 20
            assert row["low"] <= value + 1e-9
            more = of(rows, baseline, "more", metric)
            mean = of(rows, baseline, "mean", metric)
            assert (mean["n"], mean["value"]) == (28, pytest.approx((value + more["value"]) / 2))
    assert of(rows, "majority", "moods", "accuracy")["answer"] == "a"
    assert of(rows, "majority", "more", "accuracy")["answer"] == "c"
    assert of(rows, "uniform", "moods", "accuracy")["answer"] == ""
    always = of(rows, "majority", "moods", "accuracy")
    # 12 of 20: a share's standard error is 11 points.
    assert always["high"] - always["low"] == pytest.approx(2 * 1.96 * 10.95, rel=0.15)


def test_the_majority_has_no_f1_of_a_rare_positive_and_a_guess_has_some() -> None:
    gold = ["no"] * 8 + ["yes"] * 2
    about = {"woz": Scoring(positive="yes")}
    rows = tabled({"woz": prepared(gold)}, {"woz": ["no", "yes"]}, about, SCORES)
    assert of(rows, "majority", "woz", "binary_f1")["value"] == 0
    # A guess finds one of the two and answers yes five times: F1 is 2 · 1 / (2 + 5).
    assert of(rows, "uniform", "woz", "binary_f1")["value"] == pytest.approx(100 * 2 / 7)


def test_the_median_and_the_mean_have_the_least_error_of_all_constants() -> None:
    number = NumberAnswer(highest=24, cutoff=10)
    true = np.array([0, 1, 2, 4, 20])
    tasks = {"phq": prepared([f"{value}\n" for value in true]), "moods": prepared(MOODS)}
    words = {"phq": number.words, "moods": list("abc")}
    rows = tabled(tasks, words, {"phq": Scoring(number=number)}, SCORES)
    mae, rmse = (of(rows, "majority", "phq", metric) for metric in ("mae", "rmse"))
    assert (mae["answer"], mae["value"]) == ("2", pytest.approx(np.abs(true - 2).mean()))
    assert (rmse["answer"], rmse["value"]) == ("5.4", pytest.approx(true.std()))
    guesses = np.random.default_rng(0).integers(0, 25, (40000, 5))
    for metric, expected in (
        ("mae", np.abs(guesses - true).mean()),
        ("rmse", np.sqrt(((guesses - true) ** 2).mean())),
        ("accuracy", 100 * ((guesses >= 10) == (true >= 10)).mean()),
    ):
        assert of(rows, "uniform", "phq", metric)["value"] == pytest.approx(expected, rel=0.01)
    assert of(rows, "majority", "phq", "accuracy")["value"] == 80
    assert of(rows, "majority", "phq", "accuracy")["answer"] == "below 10"
    means = set(rows[rows["task"] == "mean"]["metric"])
    percent = {"weighted_f1", "accuracy", "macro_f1", "top_answer"}
    assert means == percent, "no mean of errors and percentages"


def test_a_number_without_a_cutoff_has_only_errors() -> None:
    number = NumberAnswer(highest=3)
    tasks = {"phq": prepared(["1\n", "3\n"])}
    rows = tabled(tasks, {"phq": number.words}, {"phq": Scoring(number=number)}, SCORES)
    assert set(rows["metric"]) == {"mae", "rmse"}
    assert set(rows["task"]) == {"phq"}


SPLITS = {
    "balanced": list("abcdefg") * 20,
    "unbalanced": ["a"] * 90 + ["b"] * 9 + ["c"],
    "constant": ["a"] * 30,
    "two alike": ["a", "b"],
    "one sample": ["g"],
    "rare labels": ["a"] * 20 + list("bcdefg"),
}


@pytest.mark.parametrize("gold", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("resamples", [100, 2000])
def test_every_interval_includes_its_value(gold: list[str], resamples: int) -> None:
    number = NumberAnswer(highest=24, cutoff=10)
    numbers = [f"{3 * ord(one) % 25}\n" for one in gold]
    tasks = {"moods": prepared(gold), "again": prepared(gold), "phq": prepared(numbers)}
    words = {"moods": list("abcdefg"), "again": list("abcdefgh"), "phq": number.words}
    about = {"moods": Scoring(positive="a"), "phq": Scoring(number=number)}
    rows = tabled(tasks, words, about, Score(resamples=resamples))
    assert set(rows["metric"]) == {*PERCENT, "top_answer", "mae", "rmse"}
    outside = rows[~rows["value"].between(rows["low"], rows["high"])]
    assert outside.empty, outside


@pytest.mark.parametrize("metric", ["weighted_f1", "macro_f1"])
@pytest.mark.parametrize("chances", [[1 / 7] * 7, [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1]])
def test_the_interval_of_a_guess_has_its_nominal_coverage(
    metric: str, chances: list[float]
) -> None:
    labels = np.array(list("abcdefg"))
    # With infinitely many texts: labels occur with their probability, guesses are uniform.
    true = float(confusion_metrics(np.outer(chances, np.full(7, 1 / 7)))[metric])
    rng = np.random.default_rng(0)
    held = []
    for number in range(200):
        gold = rng.choice(labels, 300, p=chances).tolist()
        rows = tabled(
            {"moods": prepared(gold)},
            {"moods": list(labels)},
            {},
            Score(resamples=200, seed=number),
        )
        row = of(rows, "uniform", "moods", metric)
        held.append(row["low"] <= true <= row["high"])
    assert np.mean(held) > 0.88


# Free text

FEELINGS = ["Joy", "Angry", "Fear", "Neutral"]
FELT = ["Joy"] * 6 + ["Angry"] * 3 + ["Fear"] * 2 + ["Neutral"] * 7
SIGNS = ["positive", "negative", "neutral"]
SIGNED = ["negative"] * 5 + ["positive"] * 3 + ["neutral"] * 2


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return read(write_wheels(tmp_path_factory.mktemp("wheels")), own=True)


def free_text(wheels: Wheels) -> pd.DataFrame:
    tasks = {"feel": prepared(FELT), "MOSI": prepared(SIGNED)}
    settings = Score(resamples=200, protocols=dict.fromkeys(tasks, "mer-unibench"))
    return tabled(tasks, {"feel": FEELINGS, "MOSI": SIGNS}, {}, settings, wheels, set(tasks))


def test_constant_answers_have_the_scores_of_free_text_too(wheels) -> None:
    rows = free_text(wheels)
    gold = [one.lower() for one in FELT]
    constants = {
        "majority": ["neutral"],
        "best pair": best_pair(gold, wheels.published),
        "every label": [one.lower() for one in FEELINGS],
    }
    for baseline, words in constants.items():
        answers = [words] * len(gold)
        corrected = corrected_protocol.mean_over_wheels(
            corrected_protocol.open_set_scores(gold, answers, wheels.corrected)
        )
        for metric, value in {
            "mer_unibench": rate(gold, words, wheels.published),
            "corrected_f1": corrected.f1,
            "corrected_macro_f1": corrected.macro_f1,
            "corrected_precision": corrected.precision,
            "corrected_recall": corrected.recall,
        }.items():
            row = of(rows, baseline, "feel", metric)
            assert row["value"] == pytest.approx(100 * value), (baseline, metric)
            assert (row["answer"].lower(), row["n"]) == (", ".join(words), 18)
    assert of(rows, "majority", "feel", "mer_unibench")["value"] == 0
    assert of(rows, "every label", "feel", "mer_unibench")["value"] == 100
    # A uniform guess gives every answer equally often: the mean over all answers.
    each = [rate(gold, [word.lower()], wheels.published) for word in FEELINGS]
    found = of(rows, "uniform", "feel", "mer_unibench")
    assert found["value"] == pytest.approx(100 * np.mean(each))
    always = of(rows, "majority", "feel", "corrected_f1")
    assert always["low"] < always["value"] < always["high"]


def test_intervals_of_free_text_include_their_values(wheels) -> None:
    tasks = {
        "feel": prepared(FEELINGS * 5),
        "few": prepared(["Joy"]),
        "MOSI": prepared(SIGNS * 7),
        "one": prepared(["positive"]),
    }
    settings = Score(resamples=300, protocols=dict.fromkeys(tasks, "mer-unibench"))
    words = {"feel": FEELINGS, "few": FEELINGS, "MOSI": SIGNS, "one": SIGNS}
    rows = tabled(tasks, words, {}, settings, wheels, set(tasks))
    known = rows[rows["value"].notna()]
    outside = known[~known["value"].between(known["low"], known["high"])]
    assert outside.empty, outside


def test_constant_valence_has_the_published_score_and_the_corrected_one(wheels) -> None:
    rows = free_text(wheels)
    numbers = [{"negative": -1.0, "neutral": 0.0, "positive": 1.0}[one] for one in SIGNED]
    always = ["negative"] * len(numbers)
    row = of(rows, "majority", "MOSI", "mer_unibench")
    assert row["value"] == pytest.approx(100 * mer_unibench.waf(numbers, always).waf)
    assert row["answer"] == "negative"
    corrected = corrected_protocol.valence_scores(numbers, always)
    found = of(rows, "majority", "MOSI", "corrected_f1")["value"]
    assert found == pytest.approx(100 * corrected.weighted_f1)


def test_the_mean_includes_the_baselines_and_metrics_that_all_tasks_have(wheels) -> None:
    rows = free_text(wheels)
    mean = rows[rows["task"] == "mean"]
    assert set(mean["baseline"]) == {"majority", "uniform"}
    both = [of(rows, "majority", task, "corrected_f1")["value"] for task in ("feel", "MOSI")]
    assert of(rows, "majority", "mean", "corrected_f1")["value"] == pytest.approx(np.mean(both))
    assert "corrected_precision" not in set(mean["metric"])
    assert (rows[rows["metric"] == "coverage"]["value"] == 100).all()
    assert set(rows[rows["metric"] == "coverage"]["baseline"]) == {"majority", "uniform"}


def test_a_task_with_errors_only_does_not_change_the_mean_of_the_others() -> None:
    number = NumberAnswer(highest=3)
    tasks = {"phq": prepared(["1\n", "3\n"]), "moods": prepared(MOODS)}
    words = {"phq": number.words, "moods": list("abc")}
    rows = tabled(tasks, words, {"phq": Scoring(number=number)}, SCORES)
    mean = of(rows, "majority", "mean", "accuracy")
    assert (mean["n"], mean["value"]) == (20, 60)
