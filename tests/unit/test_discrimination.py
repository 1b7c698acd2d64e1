from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from affectlocus.scoring.bootstrap import Stream
from affectlocus.scoring.discrimination import auc_draws


def answered(n: int, labels: int, skill: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihoods of candidates, higher for the true label by `skill`, and the true labels."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(labels, n, p=np.arange(1, labels + 1) / np.arange(1, labels + 1).sum())
    logliks = rng.normal(size=(n, labels)) * 2 - 5
    logliks[np.arange(n), truth] += skill
    return logliks, truth


@pytest.mark.parametrize("labels", [2, 3, 7])
@pytest.mark.parametrize("skill", [0.0, 1.5])
def test_the_value_is_scikit_learns_mean_over_the_labels(labels: int, skill: float) -> None:
    logliks, truth = answered(300, labels, skill)
    shares = np.exp(logliks) / np.exp(logliks).sum(axis=1, keepdims=True)
    each = [roc_auc_score(truth == label, shares[:, label]) for label in range(labels)]
    value = auc_draws(logliks, truth, Stream(0, "task", 10))[0]
    assert value == pytest.approx(100 * np.mean(each), abs=1e-9)


def test_ties_count_half() -> None:
    logliks = np.zeros((6, 2))
    assert auc_draws(logliks, np.array([0, 1, 1, 0, 1, 0]), Stream(0, "task", 5))[0] == 50.0


def test_a_preference_for_one_answer_hides_no_skill() -> None:
    logliks, truth = answered(200, 4, 1.0)
    stream = Stream(0, "task", 50)
    # With two labels, the preference leaves every rank as it is.
    two, of_two = answered(200, 2, 1.0)
    np.testing.assert_allclose(
        auc_draws(two + np.array([3.0, 0.0]), of_two, stream), auc_draws(two, of_two, stream)
    )
    plain, preferred = logliks.argmax(axis=1), (logliks + np.array([9.0, 0, 0, 0])).argmax(axis=1)
    assert len(set(plain)) == 4
    assert set(preferred) == {0}
    shifted = auc_draws(logliks + np.array([9.0, 0, 0, 0]), truth, stream)[0]
    assert shifted > 60


def test_draws_spread_as_those_of_a_bootstrap_that_ranks_every_draw() -> None:
    logliks, truth = answered(250, 3, 1.0)
    draws = auc_draws(logliks, truth, Stream(3, "task", 4000))[1:]
    rng = np.random.default_rng(1)
    naive = []
    for _ in range(600):
        rows = rng.integers(len(truth), size=len(truth))
        naive.append(auc_draws(logliks[rows], truth[rows], Stream(0, "t", 1))[0])
    assert draws.std() == pytest.approx(np.std(naive), rel=0.1)
    assert draws.mean() == pytest.approx(np.mean(naive), abs=0.3)


def test_one_label_alone_has_no_auc() -> None:
    assert np.isnan(auc_draws(np.zeros((4, 2)), np.zeros(4, int), Stream(0, "t", 3))).all()
