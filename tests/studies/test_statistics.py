import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from studies.statistics import cluster_bootstrap, compare, mcnemar, wilson_interval


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
