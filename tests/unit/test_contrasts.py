"""Tests of contrasts over replicates, against scipy, simulation and limma's formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from affectlocus.claims.contrasts import (
    MOST_PRIOR_DF,
    Errors,
    fit_prior,
    half_width,
    moderated,
    p_above,
    sensitivity,
)
from affectlocus.claims.decisions import (
    AGAINST,
    EQUAL,
    OPEN,
    SUPPORT,
    ClaimP,
    OneSided,
    benjamini_hochberg,
    claim_p,
    holm,
    needed_replicates,
    one_sided,
    outcomes,
)


def errors(replicates: float, df: float = 5.0, samples: float = 0.0) -> Errors:
    return Errors(np.array([replicates]), np.array([df]), np.array([samples]))


@given(st.floats(1.9, 60), st.floats(-8, 8))
@settings(max_examples=60)
def test_without_samples_p_is_students(df: float, effect: float) -> None:
    found = p_above(np.array([effect]), errors(1.3, df))
    assert found == pytest.approx(stats.t.sf(effect / 1.3, df), abs=1e-8)


def test_without_replicates_p_is_normal_and_without_any_error_it_is_the_sign() -> None:
    assert p_above(np.array([3.0]), errors(0, 1, 4.0)) == pytest.approx(stats.norm.sf(1.5))
    exact = [p_above(np.array([effect]), errors(0)).item() for effect in (2.0, 0.0, -2.0)]
    assert exact == [0, 0.5, 1]


def test_both_errors_add_up_as_random_numbers_do() -> None:
    rng = np.random.default_rng(0)
    drawn = 0.5 * rng.standard_t(3, 2_000_000) + 2 * rng.standard_normal(2_000_000)
    error = errors(0.5, 3, 4.0)
    for effect in (1.0, 3.0, 7.0):
        expected = (drawn >= effect).mean()
        assert p_above(np.array([effect]), error)[0] == pytest.approx(expected, rel=0.03)
    assert half_width(error, 0.9)[0] == pytest.approx(np.quantile(np.abs(drawn), 0.9), rel=0.01)


def test_p_and_interval_agree() -> None:
    error = errors(1.1, 4, 0.7)
    half = half_width(error, 0.95)
    assert p_above(half, error)[0] == pytest.approx(0.025)
    assert p_above(half + 5, error, 5.0)[0] == pytest.approx(0.025)


def test_the_prior_finds_the_distribution_that_variances_were_drawn_from() -> None:
    rng = np.random.default_rng(1)
    true_df, scale, df = 3.0, 4.0, 5.0
    variances = scale * true_df / rng.chisquare(true_df, 2000)
    observed = variances * rng.chisquare(df, 2000) / df
    prior = fit_prior(observed, np.full(2000, df))
    assert prior.df == pytest.approx(true_df, rel=0.15)
    assert prior.variance == pytest.approx(scale, rel=0.1)
    assert prior.trusted.all()
    found, total = moderated(observed, np.full(2000, df), prior)
    assert total == pytest.approx(df + prior.df)
    expected = (prior.df * prior.variance + df * observed) / (prior.df + df)
    assert found == pytest.approx(expected)


def test_equal_variances_are_moderated_by_at_most_four_degrees_of_freedom() -> None:
    rng = np.random.default_rng(2)
    observed = 4 * rng.chisquare(5, 500) / 5
    prior = fit_prior(observed, np.full(500, 5.0))
    assert prior.df == MOST_PRIOR_DF


def test_a_variance_that_the_prior_does_not_expect_stays_as_it_is() -> None:
    rng = np.random.default_rng(3)
    df = np.full(300, 5.0)
    observed = 4 * rng.chisquare(5, 300) / 5
    observed[7] = 4000.0
    prior = fit_prior(observed, df)
    assert not prior.trusted[7]
    assert prior.trusted.sum() == 299
    found, total = moderated(observed, df, prior)
    assert (found[7], total[7]) == (4000.0, 5.0)


@pytest.mark.parametrize("variances", [np.ones(4), np.zeros(9)])
def test_few_variances_or_none_are_not_moderated(variances: np.ndarray) -> None:
    prior = fit_prior(variances, np.full(len(variances), 2.0))
    found, total = moderated(variances, np.full(len(variances), 2.0), prior)
    assert (found == variances).all()
    assert (total == 2).all()


def test_many_experiments_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(4)
    observed, df = rng.chisquare(5, (6, 12)), np.full(12, 5.0)
    together = moderated(observed, df, fit_prior(observed, df))
    for row in range(6):
        alone = moderated(observed[row], df, fit_prior(observed[row], df))
        np.testing.assert_allclose([one[row] for one in together], alone)


def test_the_moments_are_limmas() -> None:
    observed, df = np.array([0.5, 2.0, 3.0, 9.0, 40.0, 0.1]), 3.0
    shifted = np.log(observed) - special.digamma(df / 2) + np.log(df / 2)
    spread = shifted.var(ddof=1) - special.polygamma(1, df / 2)
    prior = fit_prior(observed, np.full(6, df))
    assert special.polygamma(1, prior.df / 2) == pytest.approx(spread)
    expected = np.exp(shifted.mean() + special.digamma(prior.df / 2) - np.log(prior.df / 2))
    assert prior.variance == pytest.approx(expected)


def test_a_claim_needs_all_of_its_contrasts_and_falls_with_one() -> None:
    above = np.array([0.001, 0.02, 0.3])
    tests = OneSided(above, 1 - above, np.array([0.01, 0.02, 0.03]), np.array([0.5, 0.9, 0.004]))
    p = claim_p(tests)
    assert (p.support, p.against) == (0.3, pytest.approx(1.0))
    assert p.equal == pytest.approx(0.03)
    assert claim_p(tests, [0, 1]).support == 0.02
    assert claim_p(tests, [2]).against == pytest.approx(0.7)
    assert p.two_sided == pytest.approx(0.6)


def test_the_four_outcomes() -> None:
    p = ClaimP(*(np.array(one) for one in (
        (0.001, 0.999, 0.4, 0.4),
        (0.999, 0.001, 0.6, 0.6),
        (0.001, 1.0, 0.02, 0.2),
    )))  # fmt: skip
    found = outcomes(p, p.two_sided)
    assert found.tolist() == [SUPPORT, AGAINST, EQUAL, OPEN]


def test_equality_of_one_contrast_is_tost() -> None:
    effect, margin = np.array([1.0]), 3.0
    tests = one_sided(effect, errors(0.8, 7), margin)
    low, high = stats.t.sf(4 / 0.8, 7), stats.t.sf(2 / 0.8, 7)
    assert claim_p(tests).equal == pytest.approx(max(low, high))
    assert claim_p(one_sided(effect, errors(0.8, 7), np.nan)).equal == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(values: list[float]) -> None:
    level, order = 0.05, np.argsort(values, kind="stable")
    rejected = set()
    for step, place in enumerate(order):
        if values[place] * (len(values) - step) >= level:
            break
        rejected.add(int(place))
    assert {place for place, p in enumerate(holm(np.array(values))) if p < level} == rejected


def test_the_corrections_on_an_example_worked_by_hand() -> None:
    p = np.array([[0.01, 0.04, 0.03, 0.5], [0.5, 0.03, 0.04, 0.01]])
    assert holm(p) == pytest.approx(np.array([[0.04, 0.09, 0.09, 0.5], [0.5, 0.09, 0.09, 0.04]]))
    by_bh = np.array([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert benjamini_hochberg(p) == pytest.approx(np.array([by_bh, by_bh[::-1]]))


def test_the_sensitivity_is_the_effect_that_a_t_test_finds_four_times_of_five() -> None:
    rng = np.random.default_rng(5)
    effect = sensitivity(np.array(4.0), np.array(7.0), np.array(0.0), 8, 0.025, 0.8)
    drawn = rng.normal(effect, 2.0, (20_000, 8))
    found = stats.ttest_1samp(drawn, 0, axis=1, alternative="greater").pvalue < 0.025
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_the_needed_replicates_are_those_of_the_least_demanding_outcome() -> None:
    def needed(effect: list[float], samples: float = 0.0, margin: float = np.nan) -> float:
        effects = np.array(effect)
        one = np.ones_like(effects)
        return needed_replicates(effects, 4 * one, 0 * one, samples * one, margin * one, 0.05, 0.05)

    assert needed([2.0]) < needed([1.0])
    assert needed([2.0]) < needed([2.0, 1.0])
    assert needed([-2.0]) == needed([2.0])
    assert needed([-2.0, 1.0]) > needed([-2.0])
    assert needed([0.1], margin=3.0) < needed([0.1])
    assert np.isinf(needed([1.0], samples=1.0))
