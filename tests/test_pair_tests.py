"""Tests of pairs against scipy, against drawn variables, and against a prior that is known."""

import dataclasses

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from bench.leaderboard.pair_tests import (
    NO_PRIOR,
    TESTS,
    Evidence,
    behrens_fisher,
    fit_prior,
    moderated_errors,
    plain_errors,
)


def evidence(levels, spreads, seeds, images=None):
    count = len(levels)
    covariance = np.zeros((count, count)) if images is None else np.asarray(images)
    return Evidence(np.array(levels), np.array(spreads), np.array(seeds), covariance)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_against_a_row_without_noise_it_is_the_t_test(seeds):
    values = np.random.default_rng(3).normal(0.02, 0.03, seeds)
    found = evidence([values.mean(), 0.0], [values.std(ddof=1), 0.0], [seeds, 1])
    p = behrens_fisher(found, plain_errors(found))
    rel = 1e-3 if seeds == 2 else 1e-5
    assert p[0, 1] == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, rel=rel)
    assert p[0, 1] == p[1, 0]
    assert p[0, 0] == 1


@pytest.mark.parametrize("distance", [1.0, 6.0, 40.0])
def test_small_p_values_of_few_seeds_are_exact(distance):
    """Two degrees of freedom have heavy tails, where Holm's correction looks."""
    found = evidence([distance, 0.0], [np.sqrt(3), 0.0], [3, 1])
    p = behrens_fisher(found, plain_errors(found))[0, 1]
    assert p == pytest.approx(2 * scipy.stats.t.sf(distance, 2), rel=1e-5)


def test_without_seeds_it_is_the_paired_normal_test():
    images = [[4.0, 3.0], [3.0, 9.0]]
    found = evidence([0.0, 5.0], [0.0, 0.0], [1, 1], images)
    p = behrens_fisher(found, plain_errors(found))[0, 1]
    assert p == pytest.approx(2 * scipy.stats.norm.sf(5 / np.sqrt(4 + 9 - 6)), rel=1e-12)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("count", [2, 5, 30, 99, 100])
def test_of_few_images_their_choice_is_known_no_better_than_by_a_t_test(count, test):
    """Two validation images made a verdict that was certain."""
    errors = np.random.default_rng(count).normal([[0.3], [0.0]], 1.0, (2, count))
    found = dataclasses.replace(
        evidence(errors.mean(axis=1), [0.0, 0.0], [1, 1], np.cov(errors) / count), count=count
    )
    expected = scipy.stats.ttest_rel(*errors).pvalue
    assert TESTS[test](found)[0, 1] == pytest.approx(expected, rel=1e-3 if count < 100 else 0.1)


def test_two_trained_rows_match_drawn_variables():
    found = evidence([0.10, 0.0], [0.05, 0.02], [3, 6], [[3e-4, 1e-4], [1e-4, 2e-4]])
    generator = np.random.default_rng(11)
    count = 1_000_000
    drawn = (
        generator.standard_t(2, count) * 0.05 / np.sqrt(3)
        - generator.standard_t(5, count) * 0.02 / np.sqrt(6)
        + generator.standard_normal(count) * np.sqrt(3e-4 + 2e-4 - 2e-4)
    )
    p = behrens_fisher(found, plain_errors(found))[0, 1]
    assert p == pytest.approx((np.abs(drawn) >= 0.10).mean(), abs=0.002)


def test_equal_rows_do_not_differ_and_solved_ones_without_noise_do():
    found = evidence([1.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1, 1, 1])
    for test in TESTS.values():
        p = test(found)
        assert p[0, 1] == 1
        assert p[0, 2] == 0


def test_the_prior_of_drawn_variances_is_found():
    generator = np.random.default_rng(5)
    freedom = generator.integers(2, 10, 20_000).astype(float)
    # s^2 = variance x F(freedom, prior freedom), as Smyth's model says.
    variances = 0.04 * scipy.stats.f.rvs(freedom, 6.0, random_state=generator)
    found = fit_prior(variances, freedom)
    assert found.freedom == pytest.approx(6.0, rel=0.1)
    assert found.variance == pytest.approx(0.04, rel=0.05)


def test_the_prior_solves_the_equations_of_the_paper():
    variances = np.array([1.0, 3.0, 0.2, 5.0, 40.0])
    freedom = np.array([2.0, 2.0, 4.0, 9.0, 2.0])
    found = fit_prior(variances, freedom)
    e = [
        np.log(v) - scipy.special.psi(d / 2) + np.log(d / 2)
        for v, d in zip(variances, freedom, strict=True)
    ]
    left = np.var(e, ddof=1) - np.mean([scipy.special.polygamma(1, d / 2) for d in freedom])
    half = scipy.optimize.brentq(lambda y: scipy.special.polygamma(1, y) - left, 1e-3, 1e3)
    assert found.freedom == pytest.approx(2 * half, rel=1e-8)
    expected = np.exp(np.mean(e) + scipy.special.psi(half) - np.log(half))
    assert found.variance == pytest.approx(expected, rel=1e-8)


def test_few_rows_have_no_prior_and_equal_ones_share_their_variance():
    assert fit_prior(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0)) == NO_PRIOR
    assert fit_prior(np.zeros(5), np.full(5, 2.0)) == NO_PRIOR
    assert fit_prior(np.full(5, 2.0), np.full(5, 2.0)).freedom == np.inf
    few = evidence([0.0, 1.0, 2.0], [0.1, 0.2, 0.3], [3, 3, 3])
    assert moderated_errors(few).errors.tolist() == plain_errors(few).errors.tolist()


def test_moderation_draws_variances_together_and_adds_degrees_of_freedom():
    spreads = np.array([0.01, 0.02, 0.03, 0.05, 0.2, 0.0])
    found = evidence(np.arange(6.0), spreads, [3, 3, 3, 3, 10, 1])
    moderated = moderated_errors(found)
    prior = fit_prior(spreads[:5] ** 2, np.array([2.0, 2, 2, 2, 9]))
    expected = (prior.freedom * prior.variance + 2 * 0.01**2) / (prior.freedom + 2)
    assert moderated.errors[0] == pytest.approx(np.sqrt(expected / 3))
    assert moderated.freedom[:5].tolist() == pytest.approx(
        [prior.freedom + d for d in (2,) * 4 + (9,)]
    )
    assert (moderated.errors[5], moderated.freedom[5]) == (0, np.inf)


def test_rows_outside_the_family_do_not_move_the_prior():
    spreads = [0.01, 0.02, 0.03, 0.05, 3.0]
    found = evidence(np.arange(5.0), spreads, [3] * 5)
    alone = evidence(np.arange(4.0), spreads[:4], [3] * 4)
    assert moderated_errors(found, 4).errors[:4].tolist() == moderated_errors(alone).errors.tolist()
    assert moderated_errors(found).errors[0] != moderated_errors(alone).errors[0]


def test_one_t_for_a_pair_is_what_its_formula_says():
    found = evidence([0.0, 0.1, 0.3, 0.6], [0.05, 0.02, 0.04, 0.03], [3, 6, 3, 3], 1e-4 * np.eye(4))
    seeds = moderated_errors(found)
    t = 0.1 / np.sqrt(seeds.errors[0] ** 2 + seeds.errors[1] ** 2 + 2e-4)
    expected = 2 * scipy.stats.t.sf(t, min(seeds.freedom[0], seeds.freedom[1]))
    assert TESTS["moderated_t"](found)[0, 1] == pytest.approx(expected, rel=1e-10)
