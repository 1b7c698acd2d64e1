"""Bootstrap, corrections and rank agreement against brute force, scikit-learn and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusal import refused
from scipy.stats import binomtest, friedmanchisquare, t
from sklearn.metrics import accuracy_score, f1_score

from affectlocus.claims.statistics import (
    CellGroup,
    LabelAnswers,
    TextLikelihoods,
    bootstrap,
    cohens_h,
    kendalls_w,
    mcnemar,
)
from affectlocus.core.metrics import metric_names
from affectlocus.scoring.bootstrap import seed_weights
from affectlocus.scoring.score_draws import confusion_metrics as score_metrics

LABELS = 4
METRICS = metric_names("labels")


def answers(
    n: int = 60, right: Any = (0.6, 0.4), seed: int = 0, ids: int = 0, metric: str = "weighted_f1"
) -> LabelAnswers:
    """A cell for each share of right answers; uneven labels."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(LABELS, n, p=[0.5, 0.3, 0.15, 0.05])
    drawn = rng.integers(LABELS, size=(len(right), n))
    given = np.where(rng.random((len(right), n)) < np.array(right)[:, None], truth, drawn)
    return LabelAnswers(np.arange(n) + ids, truth, given, LABELS, metric)


def each(cells: int) -> list[CellGroup]:
    return [CellGroup(cell, (cell,)) for cell in range(cells)]


def counted(truth: np.ndarray, given: np.ndarray) -> np.ndarray:
    confusion = np.zeros((LABELS, LABELS))
    np.add.at(confusion, (truth, given), 1)
    return confusion


@pytest.mark.parametrize("metric", METRICS)
def test_observed_scores_are_those_of_the_score_step_and_of_scikit_learn(metric: str) -> None:
    task = answers(metric=metric)
    observed = task.scores(np.ones((1, 60), np.float32))[0]
    for cell, value in enumerate(observed):
        answered = task.answers[cell]
        assert value == pytest.approx(score_metrics(counted(task.truth, answered))[metric])
        if metric == "accuracy":
            expected = accuracy_score(task.truth, answered)
        else:
            average = metric.removesuffix("_f1")
            expected = f1_score(task.truth, answered, average=average, zero_division=0)
        assert value == pytest.approx(100 * expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@settings(max_examples=40)
def test_a_weight_is_a_repetition_of_the_sample(samples: list[tuple[int, int]]) -> None:
    truth, given = np.array(samples).T
    times = np.arange(len(samples)) % 3 + 1
    for metric in METRICS:
        task = LabelAnswers(np.arange(len(truth)), truth, given[None], LABELS, metric)
        weighted = task.scores(times[None].astype(np.float32))[0, 0]
        repeated = counted(np.repeat(truth, times), np.repeat(given, times))
        assert weighted == pytest.approx(score_metrics(repeated)[metric])


def test_an_answer_that_is_not_a_label_is_wrong() -> None:
    truth = np.array([0, 0, 1, 1])
    silent = LabelAnswers(np.arange(4), truth, np.array([[0, -1, 1, -1]]), 2)
    expected = f1_score(truth, [0, 2, 1, 2], average="weighted", labels=[0, 1], zero_division=0)
    assert silent.scores(np.ones((1, 4), np.float32))[0, 0] == pytest.approx(100 * expected)


def test_binary_f1_is_that_of_the_positive_label() -> None:
    truth, given = np.array([1, 1, 0, 0, 1]), np.array([[1, 0, 1, 0, 1]])
    task = LabelAnswers(np.arange(5), truth, given, 2, "binary_f1", positive=1)
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 1, 1]], np.float32)
    scores = task.scores(weights)[:, 0]
    assert scores[0] == pytest.approx(100 * f1_score(truth, given[0]))
    assert scores[1] == pytest.approx(100 * f1_score(truth, given[0], sample_weight=weights[1]))
    with refused("metric.no-intervals", found="binary_f1", expected=metric_names("labels")):
        LabelAnswers(np.arange(5), truth, given, 2, "binary_f1")


def test_an_unknown_metric_is_refused() -> None:
    with refused("metric.no-intervals", found="bleu", expected=metric_names("labels")):
        answers(metric="bleu")


def test_intervals_equal_those_of_drawing_samples_one_by_one() -> None:
    tasks = {"a": answers(80, seed=1), "b": answers(50, seed=2, ids=100)}
    draws = bootstrap(tasks, each(2), 4000)
    found = (draws.mean(0) - draws.mean(1))[1:]
    rng, naive = np.random.default_rng(9), []
    for _ in range(1500):
        gaps = []
        for task in tasks.values():
            pick = rng.integers(len(task.truth), size=len(task.truth))
            scores = [
                score_metrics(counted(task.truth[pick], task.answers[cell, pick]))["weighted_f1"]
                for cell in (0, 1)
            ]
            gaps.append(scores[0] - scores[1])
        naive.append(np.mean(gaps))
    low, high = np.quantile(naive, [0.05, 0.95])
    assert np.quantile(found, [0.05, 0.95]) == pytest.approx([low, high], abs=0.1 * (high - low))
    assert found.var() == pytest.approx(np.var(naive), rel=0.15)


def test_every_cell_has_the_same_draws() -> None:
    task = answers(right=(0.5, 0.5))
    twins = LabelAnswers(task.samples, task.truth, task.answers[[0, 0, 1]], LABELS)
    draws = bootstrap({"a": twins}, each(3), 200)
    assert (draws.mean(0) == draws.mean(1)).all()
    assert draws.mean(0)[1:].std() > 0


def test_tasks_on_the_same_samples_are_drawn_together_and_others_apart() -> None:
    task = answers()
    again, apart = answers(), answers(ids=500)
    draws = bootstrap({"a": task, "b": again, "c": apart}, each(2), 300).by_task(0)
    assert (draws[:, 0] == draws[:, 1]).all()
    assert abs(np.corrcoef(draws[1:, 0], draws[1:, 2])[0, 1]) < 0.3


def test_results_depend_on_the_seed_and_not_on_the_chunk() -> None:
    tasks = {"a": answers()}
    groups = [CellGroup("g", (0, 1))]
    whole, small, other = (
        bootstrap(tasks, groups, 50, **more).values for more in ({}, {"chunk": 7}, {"seed": 1})
    )
    np.testing.assert_allclose(whole, small, rtol=1e-12)
    assert (whole[0] == other[0]).all()
    assert (whole[1:] != other[1:]).any()


def test_without_draws_only_the_observed_scores_are_computed() -> None:
    draws = bootstrap({"a": answers()}, each(2), 0)
    assert draws.values.shape == (1, 2, 1)


def test_a_group_is_the_mean_over_its_cells() -> None:
    task = answers(right=(0.9, 0.6, 0.3))
    scores = bootstrap({"a": task}, [*each(3), CellGroup("both", (1, 2))], 0).values[0, :, 0]
    assert scores[3] == pytest.approx((scores[1] + scores[2]) / 2)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_alone_give_students_interval(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(10, 2, seeds)
    drawn = seed_weights(seeds, 200_000, np.random.default_rng(1)) @ values
    assert drawn[0] == pytest.approx(values.mean())
    expected = t.interval(0.8, seeds - 1, values.mean(), values.std(ddof=1) / seeds**0.5)
    assert np.quantile(drawn[1:], [0.1, 0.9]) == pytest.approx(expected, rel=0.02)


def test_perplexities_are_weighted_by_tokens() -> None:
    text = TextLikelihoods(
        np.arange(2), np.array([[2.0, 30.0], [4.0, 10.0]]), np.array([2.0, 10.0])
    )
    logs = text.scores(np.array([[1, 1], [2, 0]], np.float32))
    assert logs == pytest.approx(np.array([[32 / 12, 14 / 12], [1, 2]]))


def test_mcnemar_uses_only_the_differing_samples() -> None:
    first = np.array([True] * 9 + [False] * 1 + [True] * 50)
    second = np.array([False] * 9 + [True] * 1 + [True] * 50)
    assert mcnemar(first, second) == pytest.approx(binomtest(9, 10).pvalue)
    assert mcnemar(first, second) == pytest.approx(2 * 11 / 2**10)
    assert mcnemar(first, first) == 1
    # With two tasks on the same samples, each sample counts once.
    both = np.array([2, 1, 1, 0, 2]), np.array([0, 1, 0, 1, 1])
    assert mcnemar(*both) == pytest.approx(binomtest(3, 4).pvalue)


def test_cohens_h_is_0_for_equal_accuracies_and_pi_for_1_against_0() -> None:
    assert cohens_h(np.array([0.3]), np.array([0.3])) == 0
    assert cohens_h(np.array([1.0]), np.array([0.0])) == pytest.approx(np.pi)
    gap = cohens_h(np.array([0.7, 0.5]), np.array([0.5, 0.5]))
    assert gap == pytest.approx(2 * (np.arcsin(0.7**0.5) - np.arcsin(0.5**0.5)) / 2)


@given(
    st.integers(3, 6).flatmap(
        lambda items: st.lists(
            st.lists(st.integers(0, 4), min_size=items, max_size=items), min_size=3, max_size=6
        )
    )
)
@settings(max_examples=40, deadline=None)
def test_kendalls_w_is_friedmans_statistic_ties_included(values: list[list[int]]) -> None:
    table = np.array(values, float)
    w, p = kendalls_w(table)
    if all(len(set(row)) == 1 for row in values):
        assert np.isnan([w, p]).all()
        return
    statistic = friedmanchisquare(*table.T).statistic
    assert w == pytest.approx(statistic / (len(table) * (table.shape[1] - 1)))


def test_agreement_of_all_raters_is_1_and_its_p_small() -> None:
    w, p = kendalls_w(np.tile(np.arange(7.0), (3, 1)))
    assert w == pytest.approx(1)
    assert p < 0.001
    many = np.tile(np.arange(7.0), (40, 1)) + np.random.default_rng(0).normal(0, 3, (40, 7))
    assert kendalls_w(many)[1] < 1e-6


def test_random_rankings_rarely_agree() -> None:
    rng = np.random.default_rng(1)
    few = [kendalls_w(rng.random((4, 7)))[1] for _ in range(40)]
    many = [kendalls_w(rng.random((30, 7)))[1] for _ in range(40)]
    for p in (few, many):
        assert np.mean(np.array(p) < 0.05) < 0.15
        assert 0.3 < np.mean(p) < 0.7


def test_one_rater_has_no_agreement() -> None:
    assert np.isnan(kendalls_w(np.arange(7.0)[None])).all()
