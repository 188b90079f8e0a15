import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.mimo import zf_equalizer

from phy.recovery.linear import LinearRecovery, least_squares, real_columns
from tests.phy.links import complex_normal

ZERO = tf.zeros([1, 1, 1], tf.float64)


def recover(h, y, no, num_reals, num_kept):
    recovery = LinearRecovery(num_reals=num_reals, num_kept=num_kept)
    return [part.numpy() for part in recovery(tf.constant(y), tf.constant(h), ZERO, tf.constant(no)[None, None, None])]


@pytest.mark.parametrize(("rows", "unknowns"), [(1, 1), (4, 4), (16, 4), (9, 7)])
def test_least_squares_is_numpys(rows, unknowns):
    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((2, rows, unknowns, 3)), rng.standard_normal((2, rows, 3))
    x, inverse_gram = least_squares(tf.constant(a), tf.constant(y))
    for b in range(2):
        for re in range(3):
            expected = np.linalg.lstsq(a[b, :, :, re], y[b, :, re])[0]
            np.testing.assert_allclose(x[b, :, re], expected, rtol=1e-8, atol=1e-8)
            gram = np.linalg.inv(a[b, :, :, re].T @ a[b, :, :, re])
            np.testing.assert_allclose(inverse_gram[b, :, re], np.diag(gram), rtol=1e-7)


@pytest.mark.parametrize(("tx", "rx"), [(4, 8), (4, 4), (4, 3), (2, 1), (1, 1)])
def test_widely_linear_recovery_is_exact_without_noise(tx, rx):
    rng = np.random.default_rng(1)
    h, x = complex_normal(rng, 2, rx, tx, 5), rng.standard_normal((2, tx, 5))
    x_hat, _ = recover(h, (h * x[:, None]).sum(2), 0.0, tx, tx)
    np.testing.assert_allclose(x_hat, x, atol=1e-9)


def test_complex_unknowns_are_recovered_as_pairs():
    rng = np.random.default_rng(1)
    h, x = complex_normal(rng, 2, 5, 3, 7), complex_normal(rng, 2, 3, 7)
    x_hat, _ = recover(h, (h * x[:, None]).sum(2), 0.0, 6, 6)
    np.testing.assert_allclose(x_hat, np.concatenate([x.real, x.imag], 1), atol=1e-9)


def inverse_gamma_tolerance(dof, samples):
    """Five standard errors, relative, of the mean of e² with e ~ N(0, s) and s an inverse chi-square of `dof` > 4."""
    return 5 * np.sqrt((3 * (dof - 2) / (dof - 4) - 1) / samples)


@pytest.mark.parametrize(("tx", "rx"), [(1, 2), (2, 3), (4, 8), (4, 6), (4, 5)])
def test_widely_linear_error_on_iid_rayleigh_is_the_closed_form(tx, rx):
    no, samples = 0.1, 40_000
    rng = np.random.default_rng(2)
    h, x = complex_normal(rng, 1, rx, tx, samples), rng.standard_normal((1, tx, samples))
    y = (h * x[:, None]).sum(2) + np.sqrt(no) * complex_normal(rng, 1, rx, samples)
    x_hat, variance = recover(h, y, no, tx, tx)
    expected, tolerance = no / (2 * rx - tx - 1), inverse_gamma_tolerance(2 * rx - tx + 1, samples)
    assert ((x_hat - x) ** 2).mean() == pytest.approx(expected, rel=tolerance)
    assert variance.mean() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("tx", "rx"), [(1, 3), (2, 5), (4, 8)])
def test_complex_error_on_iid_rayleigh_is_the_closed_form(tx, rx):
    no, samples = 0.1, 40_000
    rng = np.random.default_rng(3)
    h, x = complex_normal(rng, 1, rx, tx, samples), rng.standard_normal((1, tx, samples))
    y = (h * x[:, None]).sum(2) + np.sqrt(no) * complex_normal(rng, 1, rx, samples)
    x_hat, variance = recover(h, y, no, 2 * tx, tx)
    expected, tolerance = no / (2 * (rx - tx)), inverse_gamma_tolerance(2 * (rx - tx + 1), samples)
    assert ((x_hat - x) ** 2).mean() == pytest.approx(expected, rel=tolerance)
    assert variance.mean() == pytest.approx(expected, rel=tolerance)


def test_one_real_symbol_meets_half_the_noise():
    _, variance = recover(np.ones((1, 1, 1, 1), complex), np.ones((1, 1, 1), complex), 0.2, 1, 1)
    assert variance.item() == pytest.approx(0.1)


def test_complex_recovery_is_sionnas_zero_forcing():
    rng = np.random.default_rng(4)
    h = complex_normal(rng, 3, 8, 4, 20).astype(np.complex64)
    y = complex_normal(rng, 3, 8, 20).astype(np.complex64)
    recovery = LinearRecovery(num_reals=8, num_kept=8)
    x_hat, variance = recovery(tf.constant(y), tf.constant(h), tf.zeros([1, 1, 1]), tf.constant(0.3)[None, None, None])
    s = tf.eye(8, batch_shape=[3, 20], dtype=tf.complex64) * 0.3
    reference, no_eff = zf_equalizer(tf.transpose(y, [0, 2, 1]), tf.transpose(h, [0, 3, 1, 2]), s)
    reference = tf.transpose(reference, [0, 2, 1]).numpy()
    assert np.abs(x_hat[:, :4].numpy() - reference.real).max() < 1e-4 * np.abs(reference).max()
    assert np.abs(x_hat[:, 4:].numpy() - reference.imag).max() < 1e-4 * np.abs(reference).max()
    np.testing.assert_allclose(variance[:, :4], tf.transpose(no_eff, [0, 2, 1]) / 2, rtol=1e-3)


def test_error_of_the_channel_estimate_adds_to_the_noise():
    h, y = np.ones((1, 2, 1, 1), complex), np.ones((1, 2, 1), complex)
    recovery = LinearRecovery(num_reals=1, num_kept=1)
    no = tf.constant(0.2, tf.float64)[None, None, None]
    _, variance = recovery(tf.constant(y), tf.constant(h), tf.fill([1, 1, 1], tf.constant(0.3, tf.float64)), no)
    assert variance.numpy().item() == pytest.approx((0.2 + 0.3) / 2 / 2)


def test_single_precision_survives_nearly_dependent_antennas():
    rng = np.random.default_rng(5)
    h = complex_normal(rng, 1, 2, 1, 50).repeat(2, axis=2)
    h[:, :, 1] *= 1 + 1e-3 * rng.standard_normal((1, 2, 50))
    a = real_columns(tf.constant(h.astype(np.complex64)), num_reals=2)
    x, inverse_gram = least_squares(a, tf.reduce_sum(a, 2))
    np.testing.assert_allclose(x, 1, atol=5e-2)
    assert np.isfinite(inverse_gram).all()


def test_a_channel_without_rank_gives_large_but_finite_numbers():
    a = tf.ones([1, 4, 2, 1])
    x, inverse_gram = least_squares(a, tf.ones([1, 4, 1]))
    assert np.isfinite(x).all()
    assert np.isfinite(inverse_gram).all()
