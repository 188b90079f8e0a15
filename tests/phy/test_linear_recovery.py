import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.mimo import zf_equalizer

from phy.recovery.linear import LinearRecovery, least_squares, real_matrix
from tests.phy.links import complex_normal


def recover(h, y, no, num_reals, num_kept, err_var=0.0):
    """Shapes as in `LinearRecovery`: antennas first, then batch, then resource elements."""
    recovery = LinearRecovery(num_reals=num_reals, num_kept=num_kept)
    no, err_var = (np.full(shape, value, h.real.dtype) for shape, value in (((1, 1), no), ((1, 1, 1), err_var)))
    return [part.numpy() for part in recovery(tf.constant(y), tf.constant(h), err_var, no)]


def send(rng, h, x, no):
    return (h * x).sum(1) + np.sqrt(no) * complex_normal(rng, h.shape[0], *h.shape[2:])


@pytest.mark.parametrize(("rows", "unknowns"), [(1, 1), (4, 4), (16, 4), (9, 7)])
def test_least_squares_is_numpys(rows, unknowns):
    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((rows, unknowns, 2, 3)), rng.standard_normal((rows, 2, 3))
    x, inverse_gram = least_squares(tf.constant(a), tf.constant(y))
    for b in range(2):
        for re in range(3):
            matrix = a[:, :, b, re]
            expected = np.linalg.lstsq(matrix, y[:, b, re])[0]
            np.testing.assert_allclose(x[:, b, re], expected, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(inverse_gram[:, b, re], np.diag(np.linalg.inv(matrix.T @ matrix)), rtol=1e-7)


@pytest.mark.parametrize(("tx", "rx"), [(4, 8), (4, 4), (4, 3), (4, 2), (2, 1), (1, 1)])
def test_widely_linear_recovery_is_exact_without_noise(tx, rx):
    rng = np.random.default_rng(1)
    h, x = complex_normal(rng, rx, tx, 2, 5), rng.standard_normal((tx, 2, 5))
    x_hat, _ = recover(h, send(rng, h, x, 0.0), 0.0, tx, tx)
    np.testing.assert_allclose(x_hat, x, atol=1e-8)


def test_complex_unknowns_are_recovered_as_pairs():
    rng = np.random.default_rng(1)
    h, x = complex_normal(rng, 5, 3, 2, 7), complex_normal(rng, 3, 2, 7)
    x_hat, _ = recover(h, send(rng, h, x, 0.0), 0.0, 6, 6)
    np.testing.assert_allclose(x_hat, np.concatenate([x.real, x.imag]), atol=1e-9)


def five_standard_errors(dof, samples):
    """Relative, for the mean of e² where e ~ N(0, s) and s is an inverse chi-square of `dof` > 4."""
    return 5 * np.sqrt((3 * (dof - 2) / (dof - 4) - 1) / samples)


@pytest.mark.parametrize(("tx", "rx"), [(1, 3), (2, 4), (4, 8), (4, 5)])
def test_widely_linear_error_on_iid_rayleigh_is_the_closed_form(tx, rx):
    no, samples = 0.1, 20_000
    rng = np.random.default_rng(2)
    h, x = complex_normal(rng, rx, tx, 1, samples), rng.standard_normal((tx, 1, samples))
    x_hat, variance = recover(h, send(rng, h, x, no), no, tx, tx)
    expected = no / (2 * rx - tx - 1)
    tolerance = five_standard_errors(2 * rx - tx + 1, samples)
    assert ((x_hat - x) ** 2).mean() == pytest.approx(expected, rel=tolerance)
    assert variance.mean() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("tx", "rx"), [(1, 3), (2, 5), (4, 8)])
def test_complex_error_on_iid_rayleigh_is_the_closed_form(tx, rx):
    no, samples = 0.1, 20_000
    rng = np.random.default_rng(3)
    h, x = complex_normal(rng, rx, tx, 1, samples), rng.standard_normal((tx, 1, samples))
    x_hat, variance = recover(h, send(rng, h, x, no), no, 2 * tx, tx)
    expected = no / (2 * (rx - tx))
    tolerance = five_standard_errors(2 * (rx - tx + 1), samples)
    assert ((x_hat - x) ** 2).mean() == pytest.approx(expected, rel=tolerance)
    assert variance.mean() == pytest.approx(expected, rel=tolerance)


def test_one_real_symbol_meets_half_the_noise():
    _, variance = recover(np.ones((1, 1, 1, 1), complex), np.ones((1, 1, 1), complex), 0.2, 1, 1)
    assert variance.item() == pytest.approx(0.1)


def test_error_of_the_channel_estimate_adds_to_the_noise():
    _, variance = recover(np.ones((2, 1, 1, 1), complex), np.ones((2, 1, 1), complex), 0.2, 1, 1, err_var=0.3)
    assert variance.item() == pytest.approx((0.2 + 0.3) / 2 / 2)


def test_complex_recovery_is_sionnas_zero_forcing():
    rng = np.random.default_rng(4)
    h, y = (complex_normal(rng, *shape).astype(np.complex64) for shape in ((8, 4, 3, 20), (8, 3, 20)))
    x_hat, variance = recover(h, y, 0.3, 8, 8)
    s = tf.eye(8, batch_shape=[3, 20], dtype=tf.complex64) * 0.3
    reference, no_eff = zf_equalizer(tf.transpose(y, [1, 2, 0]), tf.transpose(h, [2, 3, 0, 1]), s)
    reference = tf.transpose(reference, [2, 0, 1]).numpy()
    assert np.abs(x_hat[:4] + 1j * x_hat[4:] - reference).max() < 1e-4 * np.abs(reference).max()
    np.testing.assert_allclose(variance[:4], tf.transpose(no_eff, [2, 0, 1]) / 2, rtol=1e-3)


def test_single_precision_survives_nearly_dependent_antennas():
    rng = np.random.default_rng(5)
    h = complex_normal(rng, 2, 1, 1, 50).repeat(2, axis=1)
    h[:, 1] *= 1 + 1e-3 * rng.standard_normal((2, 1, 50))
    a = real_matrix(tf.constant(h.astype(np.complex64)), num_reals=2)
    x, _ = least_squares(a, tf.reduce_sum(a, 1))
    condition = np.linalg.cond(np.moveaxis(a.numpy().astype(np.float64), (0, 1), (-2, -1)))
    assert condition.max() > 5e3
    # the condition number enters once; by way of the Gram matrix it would be squared
    assert np.all(np.abs(x - 1) < 10 * np.finfo(np.float32).eps * condition)


def test_a_channel_without_rank_gives_large_but_finite_numbers():
    x, inverse_gram = least_squares(tf.ones([4, 2, 1, 1]), tf.ones([4, 1, 1]))
    assert np.isfinite(x).all()
    assert np.isfinite(inverse_gram).all()
