import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from studies.statistics import (
    cluster_bootstrap,
    clustered_interval,
    clustered_mean_interval,
    clustered_variance,
    compare,
    holm,
    mcnemar,
    wilson_interval,
)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(n=st.integers(1, 5000), share=st.floats(0, 1), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_interval_is_scipys(n, share, confidence):
    k = round(share * n)
    low, high = wilson_interval(k, n, confidence)
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-12)
    assert 0 <= low <= k / n <= high <= 1


def test_wilson_interval_covers_the_truth_as_often_as_it_says():
    n, p = 200, 0.37
    k = np.random.default_rng(1).binomial(n, p, 40_000)
    low, high = wilson_interval(k, n)
    assert abs(np.mean((low <= p) & (p <= high)) - 0.95) < 0.01  # coverage of Wilson at this n and p: 0.949


def test_wilson_interval_of_no_questions_is_nan():
    low, high = wilson_interval([0, 1], [0, 2])
    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()


@pytest.mark.parametrize(("k", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_interval_refuses_impossible_counts(k, n, confidence):
    with pytest.raises(ValueError, match="must lie between"):
        wilson_interval(k, n, confidence)


def test_mcnemar_counts_only_discordant_pairs():
    first = np.array([1] * 10 + [1] * 8 + [0] * 2 + [0] * 10)
    second = np.array([1] * 10 + [0] * 8 + [1] * 2 + [0] * 10)
    only_first, only_second, p_value = mcnemar(first, second)
    assert (only_first, only_second) == (8, 2)
    assert p_value == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # P(X <= 2) of binomial(10, 1/2), two-sided
    assert mcnemar(first, first) == (0, 0, 1.0)


def test_comparing_missing_points_is_refused():
    with pytest.raises(ValueError, match="is a point missing"):
        mcnemar([0, 1, 255], [0, 1, 1])
    with pytest.raises(ValueError, match="equally long"):
        mcnemar([0, 1], [0, 1, 1])


def test_bootstrap_of_clusters_is_as_wide_as_theory_says():
    # 300 clusters of 4 equal values: the standard error is that of 300 samples, not of 1200
    values = np.repeat(np.random.default_rng(2).standard_normal(300), 4)
    low, high = cluster_bootstrap(values, np.repeat(np.arange(300), 4), num_resamples=5000)
    expected = 2 * 1.96 * values.std() / np.sqrt(300)
    assert (high - low) == pytest.approx(expected, rel=0.05)
    assert low < values.mean() < high
    one_each = cluster_bootstrap(values, np.arange(1200), num_resamples=5000)
    assert (one_each[1] - one_each[0]) == pytest.approx(expected / 2, rel=0.05)


def test_bootstrap_is_decided_by_its_seed_and_refuses_unequal_lists():
    values, clusters = np.arange(10.0), np.arange(10) // 2
    assert cluster_bootstrap(values, clusters, seed=3) == cluster_bootstrap(values, clusters, seed=3)
    with pytest.raises(ValueError, match="equally long"):
        cluster_bootstrap(values, clusters[:-1])


def test_compare_puts_test_and_interval_together():
    rng = np.random.default_rng(5)
    second = rng.random(400) < 0.5
    first = second | (rng.random(400) < 0.3)
    found = compare(first, second, images=np.arange(400) // 4)
    assert found.difference == pytest.approx((first.sum() - second.sum()) / 400)
    assert found.low < found.difference < found.high
    assert found.only_second == 0
    assert found.p_value == pytest.approx(2 * 0.5**found.only_first)


def test_variance_of_nested_levels_is_that_of_the_outermost():
    rng = np.random.default_rng(6)
    images, fades = np.repeat(np.arange(300), 4), np.arange(1200)
    values = rng.standard_normal(300)[images] + rng.standard_normal(1200)
    by_image = np.bincount(images, weights=values) / 4
    expected = np.var(by_image, ddof=1) / 300  # of the mean of 300 independent images
    assert clustered_variance(values, [images]) == pytest.approx(expected)
    assert clustered_variance(values, [images, fades]) == pytest.approx(expected)
    assert clustered_variance(values, [images, fades, np.zeros(1200)]) == pytest.approx(expected)
    assert clustered_variance(values, [fades]) == pytest.approx(np.var(values, ddof=1) / 1200)


def test_variance_of_crossed_levels_is_the_sum_of_its_parts():
    # a + b + e with 40 trainings on 50 images: var(mean) = var(a) / 40 + var(b) / 50 + var(e) / 2000
    rng, found = np.random.default_rng(7), []
    seeds, images = np.repeat(np.arange(40), 50), np.tile(np.arange(50), 40)
    for _ in range(60):
        values = 0.5 * rng.standard_normal(40)[seeds] + rng.standard_normal(50)[images] + rng.standard_normal(2000)
        found.append(clustered_variance(values, [seeds, images]))
    assert np.mean(found) == pytest.approx(0.25 / 40 + 1 / 50 + 1 / 2000, rel=0.1)  # its standard error is 2.3 %


def test_interval_of_independent_outcomes_is_wilsons_and_of_clusters_that_of_fewer():
    outcomes = np.random.default_rng(8).random(1000) < 0.7
    alone = clustered_interval(outcomes, [np.arange(1000)])
    expected = wilson_interval(outcomes.sum(), 1000)
    np.testing.assert_allclose(alone, np.ravel(expected), atol=2e-4)  # n / (n - 1), and Student's for 999
    together = clustered_interval(np.repeat(outcomes, 4), [np.repeat(np.arange(1000), 4), np.arange(4000)])
    np.testing.assert_allclose(together, alone, atol=1e-12)  # four equal outcomes are worth one
    assert clustered_interval(np.ones(10), [np.arange(10)])[1] == 1.0


def test_interval_covers_the_truth_of_clusters_as_often_as_it_says():
    rng, covered = np.random.default_rng(9), []
    images = np.repeat(np.arange(200), 4)
    for _ in range(500):
        share = rng.beta(4, 2, 200)[images]
        low, high = clustered_interval(rng.random(800) < share, [images, np.arange(800)])
        covered.append(low <= 4 / 6 <= high)
    assert abs(np.mean(covered) - 0.95) < 0.04  # standard error 0.01


def test_few_trainings_widen_the_interval_as_student_says():
    rates, images = np.array([0.80, 0.84, 0.88]), np.arange(500)
    outcomes = np.concatenate([images < rate * 500 for rate in rates])
    low, high = clustered_interval(outcomes, [np.repeat(np.arange(3), 500)])
    half = 4.302653 * 0.04 / np.sqrt(3)  # t of 2 degrees of freedom, standard error of three means
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)  # Wilson's is not symmetric


def test_interval_of_a_mean_covers_the_truth_of_paired_clusters_as_often_as_it_says():
    rng, covered = np.random.default_rng(11), []
    images = np.repeat(np.arange(100), 6)
    for _ in range(500):
        drift = rng.normal(0.1, 0.2, 100)[images]
        low, high = clustered_mean_interval(rng.normal(drift, 0.5), [images, np.arange(600)])
        covered.append(low <= 0.1 <= high)
    assert abs(np.mean(covered) - 0.95) < 0.04  # standard error 0.01


def test_interval_of_a_mean_of_three_trainings_is_students():
    means, noise = np.array([0.1, 0.3, 0.5]), np.tile([-1.0, 1.0], 300)  # of the samples within a training: no mean
    low, high = clustered_mean_interval((means[:, None] + noise[:600]).ravel(), [np.repeat(np.arange(3), 600)])
    half = 4.302653 * 0.2 / np.sqrt(3)
    np.testing.assert_allclose([low, high], [0.3 - half, 0.3 + half], rtol=1e-6)


def test_holm_takes_the_smallest_times_the_number_of_tests_and_never_falls():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([[0.5, np.nan], [0.6, 0.01]]), [[1.0, np.nan], [1.0, 0.03]])
    assert np.isnan(holm([np.nan])).all()
    uniform = np.random.default_rng(10).random((4000, 20))  # true hypotheses: some p below 0.05 in 5 % of the families
    assert np.mean([holm(family).min() <= 0.05 for family in uniform]) == pytest.approx(1 - 0.9975**20, abs=0.012)
