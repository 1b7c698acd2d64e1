"""Numbers read out of the likelihoods of candidates, and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from affectlocus.config.tasks import NumberAnswer
from affectlocus.core.errors import InputError
from affectlocus.scoring.number_answers import classed, classes, errors, read_out, sums

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


def read(**changes: Any) -> pd.DataFrame:
    return read_out("moods", rows(SAMPLES), FOUR.model_copy(update=changes))


def test_the_mean_weighs_candidates_by_their_likelihood_whatever_their_sum() -> None:
    found = read()
    assert found["sample"].tolist() == ["b", "a"]
    assert found["true"].tolist() == [2, 0]
    assert found["read"].tolist() == pytest.approx([2.0, 1.4997])


def test_the_likeliest_is_a_candidate() -> None:
    assert read(readout="likeliest")["read"].tolist() == [3, 0]


def test_the_order_of_the_rows_changes_nothing() -> None:
    shuffled = rows(SAMPLES).sample(frac=1, random_state=1)
    found = read_out("moods", shuffled, FOUR).set_index("sample")
    pd.testing.assert_frame_equal(found.sort_index(), read().set_index("sample").sort_index())


def test_hopelessly_unlikely_candidates_are_no_division_by_nought() -> None:
    frame = rows(SAMPLES).assign(loglik=lambda frame: frame["loglik"] - 1e5)
    assert read_out("moods", frame, FOUR)["read"].tolist() == pytest.approx([2.0, 1.4997], abs=1e-3)


def test_a_range_that_starts_elsewhere_is_read_in_its_own_numbers() -> None:
    number = NumberAnswer(lowest=-1, highest=1)
    frame = rows({"a": (-1, [0.2, 0.3, 0.5])}, number)
    found = read_out("moods", frame, number)
    assert found[["true", "read"]].values.tolist() == [[-1, pytest.approx(0.3)]]


def test_other_candidates_than_those_of_the_number_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        read_out("moods", rows(SAMPLES), NumberAnswer(highest=5))
    assert str(caught.value) == (
        r"task moods: the candidates are '0\n' to '3\n' (4), expected '0\n' to '5\n' (6); "
        "evaluate it again"
    )


def test_the_cutoff_makes_two_classes_and_a_mean_below_it_is_below() -> None:
    assert classes(FOUR) == ["below 2", "2 and above"]
    numbers = pd.DataFrame({"sample": ["a", "b", "c"], "true": [2.0, 1, 3], "read": [2.0, 1.9, 0]})
    assert classed("moods", numbers, FOUR).to_dict("list") == {
        "task": ["moods"] * 3,
        "sample": ["a", "b", "c"],
        "label": ["2 and above", "below 2", "2 and above"],
        "answer": ["2 and above", "below 2", "below 2"],
    }


def test_errors_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 25, 40).astype(float), rng.uniform(0, 24, 40)
    totals = sums(pd.DataFrame({"true": true, "read": said})).sum(axis=0)
    found = errors(np.stack([totals, totals]))
    assert found["mae"] == pytest.approx([mean_absolute_error(true, said)] * 2)
    assert found["rmse"] == pytest.approx([root_mean_squared_error(true, said)] * 2)
