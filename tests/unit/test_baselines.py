"""Answers that look at nothing, against searching through all of them and against scikit-learn."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from wheel_files import REAL

from affectlocus.baselines import best_pair, classic, majority, valence_label
from affectlocus.mer_unibench import hit_rates, mean_rate
from affectlocus.prepare import read_rows
from affectlocus.wheels import read

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


def test_a_pair_is_named_by_gold_labels_where_they_do() -> None:
    wheels = {1: {"joy": "happy", "ha": "happy", "anger": "mad", "ire": "mad", "sadness": "sad"}}
    assert best_pair(["joy", "anger", "joy"], wheels) == ["anger", "joy"]


def test_one_word_is_found_where_there_is_no_second() -> None:
    assert best_pair(["joy"], {1: {"joy": "happy"}}) == ["joy"]


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_the_best_pair_on_meld_is_as_good_as_happy_and_angry_and_beats_every_checkpoint() -> None:
    gold = read_rows(REAL / "meld_gold.csv")["emotion"].tolist()
    wheels = read(REAL / "emotion_wheel").published
    found = rate(gold, best_pair(gold, wheels), wheels)
    assert found == rate(gold, ["happy", "angry"], wheels)
    assert f"{100 * found:.2f}" == "61.10"


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.0, "neutral"), (-0.0, "neutral"), (1e-9, "positive"), (-2.0, "negative")],
)
def test_a_value_is_the_label_of_its_sign(value: float, label: str) -> None:
    assert valence_label(value) == label


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_the_majority_answer_scores_what_scikit_learn_says(gold: list[str]) -> None:
    answers = [majority(gold)] * len(gold)
    found = classic(gold, ["a", "b", "c"])["majority"]
    expected = {
        "weighted_f1": 100 * f1_score(gold, answers, average="weighted", zero_division=0),
        "accuracy": 100 * accuracy_score(gold, answers),
        "macro_f1": 100 * f1_score(gold, answers, average="macro", zero_division=0),
    }
    assert found == pytest.approx(expected)


def test_a_uniform_guess_scores_what_many_guesses_score() -> None:
    gold = ["a"] * 7000 + ["b"] * 2000 + ["c"] * 1000
    guesses = np.random.default_rng(5).choice(["a", "b", "c"], len(gold))
    found = classic(gold, ["a", "b", "c"])["uniform"]
    assert found["accuracy"] == pytest.approx(100 / 3)
    weighted = f1_score(gold, guesses, average="weighted")
    assert found["weighted_f1"] == pytest.approx(100 * weighted, abs=1)
    assert found["macro_f1"] == pytest.approx(100 * f1_score(gold, guesses, average="macro"), abs=1)
