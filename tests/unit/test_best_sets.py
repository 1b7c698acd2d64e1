"""Rankings as sets."""

from __future__ import annotations

import numpy as np
import pytest

from affectlocus.claims.best_sets import by_ranks, by_scores

NAMES = list("abcdefg")


def scores(means: list[float], replicates: int = 6, seed: int = 0) -> np.ndarray:
    """(7, 1 + draws, replicates); the bases differ by 6 points, tunings by 1, samples by 0.5."""
    rng = np.random.default_rng(seed)
    base, tuning = 6 * rng.standard_normal(replicates), rng.standard_normal((7, replicates))
    observed = np.array(means)[:, None] + base + tuning
    draws = 0.5 * rng.standard_normal((7, 200, 1))
    return np.concatenate([observed[:, None], observed[:, None] + draws], axis=1)


def test_a_clear_best_stands_alone_and_ties_do_not() -> None:
    assert by_scores(NAMES, scores([20, 0, 0, 0, 0, 0, 0]), 0.95) == "best: a"
    found = by_scores(NAMES, scores([0, 0.2, 0, -30, 0, 0, 0]), 0.95)
    assert found.startswith("best: ")
    assert "not separable: " in found
    assert "d" not in found.replace("and", "").split("best: ")[1].replace("not separable", "")


def test_the_true_best_is_in_the_set_in_95_of_100_experiments() -> None:
    kept = 0
    for seed in range(200):
        found = by_scores(NAMES, scores([0.5, 0, 0, 0, 0, 0, 0], seed=seed), 0.95)
        kept += "a" in found.replace("separable", "").replace("best", "")
    assert kept >= 190


@pytest.mark.parametrize("raters", [3, 30])
def test_mean_ranks_are_compared_simultaneously(raters: int) -> None:
    values = np.tile(np.arange(7.0)[::-1], (raters, 1))
    found = by_ranks(NAMES, values, 0.95)
    expected = {3: "best: a; not separable: b, c, d, e, f", 30: "best: a; not separable: b"}
    assert found == expected[raters]


def test_one_checkpoint_is_ranked_by_its_samples() -> None:
    assert by_scores(NAMES, scores([5, 0, 0, 0, 0, 0, 0], replicates=1), 0.95) == "best: a"
