"""Whether a tuning learned more than its null."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from affectlocus.training.learning import _T95, MORE, NO_MORE, curves, judged


def manifest(losses: list[float], samples: int = 100) -> dict[str, Any]:
    log = [{"step": 10 * number, "loss": loss} for number, loss in enumerate(losses)]
    return {"recipe": {"steps": 20, "batch_size": 5}, "samples": samples, "log": log}


def learned(own: list[list[float]], null: list[list[float]], samples: int = 100) -> Any:
    told = [("felt", seed, manifest(losses, samples)) for seed, losses in enumerate(own)]
    told += [("void", seed, manifest(losses, samples)) for seed, losses in enumerate(null)]
    (found,) = judged(curves(told, {"felt": "void"}))
    return found


def test_the_final_loss_is_the_mean_of_the_last_quarter() -> None:
    found = learned([[9, 9, 9, 9, 9, 9, 1, 3]], [[9, 9, 9, 9, 9, 9, 4, 4]])
    assert (found.loss, found.null_loss, found.reduction) == (2, 4, 0.5)


def test_a_loss_as_high_as_the_null_s_is_no_learning() -> None:
    found = learned([[1.244]] * 3, [[1.254]] * 3)
    assert found.verdict == NO_MORE
    assert "learned no more than its null void" in found.sentence
    assert "nothing to locate" in found.sentence


def test_a_lower_loss_in_every_seed_is_learning() -> None:
    found = learned([[0.24], [0.25], [0.23]], [[0.9], [0.92], [0.91]])
    assert found.verdict == MORE
    assert found.low < found.reduction < found.high


def test_seeds_that_disagree_show_no_learning() -> None:
    found = learned([[0.5], [1.1], [0.9]], [[1.0], [1.0], [1.0]])
    assert found.reduction > 0.1
    assert found.verdict == NO_MORE


def test_one_seed_has_no_interval_and_is_judged_by_its_reduction() -> None:
    assert learned([[0.9]], [[1.0]]).verdict == MORE
    found = learned([[0.99]], [[1.0]])
    assert found.verdict == NO_MORE
    assert math.isnan(found.low)
    assert "one seed" in found.sentence


def test_samples_that_are_used_often_are_mentioned() -> None:
    assert "4.0 times" in learned([[0.5]], [[1.0]], samples=25).sentence
    assert "times" not in learned([[0.5]], [[1.0]], samples=100).sentence


def test_a_pair_without_a_null_or_a_common_seed_is_not_judged() -> None:
    told = [("felt", 0, manifest([1.0])), ("void", 1, manifest([1.0]))]
    assert judged(curves(told, {})) == []
    assert judged(curves(told, {"felt": "void"})) == []


@pytest.mark.parametrize("freedom", range(1, len(_T95) + 1))
def test_the_quantiles_are_student_s(freedom: int) -> None:
    assert _T95[freedom - 1] == pytest.approx(stats.t.ppf(0.975, freedom), abs=5e-4)


def test_more_seeds_have_student_s_quantile_too() -> None:
    rows = [[1.0 + 0.1 * (seed % 2)] for seed in range(30)]
    found = learned(rows, [[2.0]] * 30)
    values = pd.Series([1 - row[0] / 2 for row in rows])
    half = stats.t.ppf(0.975, 29) * values.std() / math.sqrt(30)
    assert found.high - found.reduction == pytest.approx(half, rel=2e-3)
