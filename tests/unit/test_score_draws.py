"""Scores from confusion tables, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from affectlocus.config.scoring import PERCENT
from affectlocus.core.metrics import metric_names, value_range
from affectlocus.scoring.score_draws import confusion_metrics

METRICS = metric_names("labels")
LABELS = st.integers(0, 4)
SAMPLES = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=60)


def test_a_confusion_table_counted_by_hand() -> None:
    # Six joyful of which four were seen; three fearful of which two; rage answered once, wrongly.
    scores = confusion_metrics(np.array([[4, 1, 1], [1, 2, 0], [0, 0, 0]]))
    joy, fear, rage = 2 * 4 / (6 + 5), 2 * 2 / (3 + 3), 0
    assert scores["accuracy"] == pytest.approx(100 * 6 / 9)
    assert scores["weighted_f1"] == pytest.approx(100 * (6 * joy + 3 * fear) / 9)
    assert scores["macro_f1"] == pytest.approx(100 * (joy + fear + rage) / 3)


def test_a_label_that_never_occurs_is_in_no_average() -> None:
    scores = confusion_metrics(np.array([[4, 1, 0], [1, 2, 0], [0, 0, 0]]))
    assert scores["macro_f1"] == confusion_metrics(np.array([[4, 1], [1, 2]]))["macro_f1"]


def test_answers_that_are_not_labels_are_wrong_and_in_no_average() -> None:
    without = confusion_metrics(np.array([[4, 1, 1], [1, 2, 0], [0, 0, 0]]))
    beside = confusion_metrics(np.array([[4, 1, 1], [1, 2, 0]]))
    assert beside["accuracy"] == without["accuracy"]
    assert beside["weighted_f1"] == without["weighted_f1"]
    assert beside["macro_f1"] == pytest.approx(without["macro_f1"] * 3 / 2)


def confusion(samples: list[tuple[int, int]]) -> np.ndarray:
    return confusion_matrix(*zip(*samples, strict=True), labels=range(5))


@given(SAMPLES)
@settings(max_examples=60)
def test_every_metric_equals_scikit_learns_in_percent(samples: list[tuple[int, int]]) -> None:
    truth, answers = zip(*samples, strict=True)
    scores = confusion_metrics(confusion(samples))
    assert scores["accuracy"] == pytest.approx(100 * accuracy_score(truth, answers))
    for name, average in (("weighted_f1", "weighted"), ("macro_f1", "macro")):
        expected = 100 * f1_score(truth, answers, average=average, zero_division=0)
        assert scores[name] == pytest.approx(expected)


@given(SAMPLES, st.permutations(range(5)), st.integers(2, 50))
@settings(max_examples=60)
def test_renaming_labels_and_repeating_samples_change_no_score(
    samples: list[tuple[int, int]], order: list[int], times: int
) -> None:
    before = confusion_metrics(confusion(samples))
    renamed = confusion_metrics(confusion(samples)[np.ix_(order, order)])
    repeated = confusion_metrics(confusion(samples) * times)
    for name in METRICS:
        assert renamed[name] == pytest.approx(before[name])
        assert repeated[name] == pytest.approx(before[name])


@given(SAMPLES)
@settings(max_examples=60)
def test_scores_are_between_0_and_100_and_only_perfect_answers_reach_100(
    samples: list[tuple[int, int]],
) -> None:
    perfect = all(truth == answer for truth, answer in samples)
    found = confusion_metrics(confusion(samples))
    for name in METRICS:
        assert -1e-9 <= found[name] <= 100 + 1e-9
        assert (found[name] > 100 - 1e-9) == perfect
    most = max([answer for _, answer in samples].count(label) for label in range(5))
    assert found["top_answer"] == pytest.approx(100 * most / len(samples))


@given(SAMPLES, st.integers(0, 4))
@settings(max_examples=40)
def test_binary_f1_equals_scikit_learns(samples: list[tuple[int, int]], positive: int) -> None:
    truth, answers = zip(*samples, strict=True)
    found = confusion_metrics(confusion(samples), positive)
    expected = f1_score(truth, answers, labels=[positive], average="macro", zero_division=0)
    assert found["binary_f1"] == pytest.approx(100 * expected)
    assert set(found) == {*PERCENT, "top_answer"}


def test_a_stack_of_tables_is_scored_table_by_table() -> None:
    stack = np.random.default_rng(0).integers(0, 9, (2, 7, 3, 3))
    stacked = confusion_metrics(stack)
    for place in np.ndindex(2, 7):
        for name, value in confusion_metrics(stack[place]).items():
            assert stacked[name][place] == pytest.approx(value)


def test_metrics_without_a_maximum_have_an_open_range() -> None:
    assert value_range("mae") == (0, math.inf)
    assert value_range("perplexity") == (1, math.inf)
    assert value_range("weighted_f1") == value_range("corrected_f1_wheel3") == (0, 100)
