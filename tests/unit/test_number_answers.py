"""Numbers read out of the likelihoods of candidates, and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from refusal import refused
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from affectlocus.config.task_answers import NumberAnswer
from affectlocus.scoring.number_answers import (
    class_answers,
    class_names,
    error_metrics,
    error_sums,
    predicted_numbers,
)

FOUR = NumberAnswer(highest=3, cutoff=2)


def rows(samples: dict[str, tuple[int, list[float]]], number: NumberAnswer = FOUR) -> pd.DataFrame:
    """Sample → the true number, and the probability of each candidate up to a factor."""
    return pd.DataFrame(
        [
            (sample, f"{true}{number.ending}", word, np.log(chance) - 50)
            for sample, (true, chances) in samples.items()
            for word, chance in zip(number.words, chances, strict=True)
        ],
        columns=["sample", "label", "candidate", "loglik"],
    )


SAMPLES = {"b": (2, [0.1, 0.2, 0.3, 0.4]), "a": (0, [0.5, 0.0001, 0.0001, 0.4998])}


def predicted(**changes: Any) -> pd.DataFrame:
    return predicted_numbers("moods", rows(SAMPLES), FOUR.model_copy(update=changes))


def test_the_mean_weighs_candidates_by_their_likelihood_whatever_their_sum() -> None:
    found = predicted()
    assert found["sample"].tolist() == ["b", "a"]
    assert found["true"].tolist() == [2, 0]
    assert found["predicted"].tolist() == pytest.approx([2.0, 1.4997])


def test_the_likeliest_is_a_candidate() -> None:
    assert predicted(readout="likeliest")["predicted"].tolist() == [3, 0]


def test_the_order_of_the_rows_changes_nothing() -> None:
    shuffled = rows(SAMPLES).sample(frac=1, random_state=1)
    found = predicted_numbers("moods", shuffled, FOUR).set_index("sample")
    pd.testing.assert_frame_equal(found.sort_index(), predicted().set_index("sample").sort_index())


def test_very_unlikely_candidates_cause_no_division_by_zero() -> None:
    frame = rows(SAMPLES).assign(loglik=lambda frame: frame["loglik"] - 1e5)
    assert predicted_numbers("moods", frame, FOUR)["predicted"].tolist() == pytest.approx(
        [2.0, 1.4997], abs=1e-3
    )


def test_a_range_may_start_below_zero() -> None:
    number = NumberAnswer(lowest=-1, highest=1)
    frame = rows({"a": (-1, [0.2, 0.3, 0.5])}, number)
    found = predicted_numbers("moods", frame, number)
    assert found[["true", "predicted"]].values.tolist() == [[-1, pytest.approx(0.3)]]


def test_other_candidates_than_those_of_the_number_are_refused() -> None:
    number = NumberAnswer(highest=5)
    found = ["0\n", "1\n", "2\n", "3\n"]
    fields = {"task": "moods", "found": found, "expected": number.words}
    with refused("prediction.other-candidates", **fields):
        predicted_numbers("moods", rows(SAMPLES), number)


def test_the_cutoff_makes_two_classes_and_a_mean_below_it_is_below() -> None:
    assert class_names(FOUR) == ["below 2", "2 and above"]
    numbers = pd.DataFrame(
        {"sample": ["a", "b", "c"], "true": [2.0, 1, 3], "predicted": [2.0, 1.9, 0]}
    )
    assert class_answers("moods", numbers, FOUR).to_dict("list") == {
        "task": ["moods"] * 3,
        "sample": ["a", "b", "c"],
        "label": ["2 and above", "below 2", "2 and above"],
        "answer": ["2 and above", "below 2", "below 2"],
    }


def test_errors_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 25, 40).astype(float), rng.uniform(0, 24, 40)
    totals = error_sums(pd.DataFrame({"true": true, "predicted": said})).sum(axis=0)
    found = error_metrics(np.stack([totals, totals]))
    assert found["mae"] == pytest.approx([mean_absolute_error(true, said)] * 2)
    assert found["rmse"] == pytest.approx([root_mean_squared_error(true, said)] * 2)
