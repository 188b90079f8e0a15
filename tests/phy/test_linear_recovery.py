import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.mimo import lmmse_equalizer, zf_equalizer

from phy.recovery.linear import LinearRecovery, least_squares, real_matrix
from tests.phy.links import complex_normal


def recover(h, y, no, num_reals, num_kept, *, err_var=0.0, kind="ls", noisy_channel=False, prior_variance=1.0):
    """Antennas first, then batch, then resource elements, the channel too."""
    recovery = LinearRecovery(
        num_reals=num_reals,
        num_kept=num_kept,
        prior_variance=prior_variance,
        kind=kind,
        noisy_channel=noisy_channel,
    )
    err_var = tf.constant(np.full(h.shape[1:], err_var, h.real.dtype))
    no = tf.constant(np.full((1, 1), no, h.real.dtype))
    return [part.numpy() for part in recovery(tf.constant(y), tf.constant(h.transpose(2, 0, 1, 3)), err_var, no)]


def send(rng, h, x, no):
    return (h * x).sum(1) + np.sqrt(no) * complex_normal(rng, h.shape[0], *h.shape[2:])


@pytest.mark.parametrize(("rows", "unknowns"), [(1, 1), (4, 4), (16, 4), (9, 7)])
def test_least_squares_is_numpys(rows, unknowns):
    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((2, rows, unknowns, 3)), rng.standard_normal((2, rows, 3))
    x, inverse_gram = least_squares(tf.constant(a), tf.constant(y))
    for b in range(2):
        for re in range(3):
            matrix = a[b, :, :, re]
            expected = np.linalg.lstsq(matrix, y[b, :, re])[0]
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


def test_error_of_an_mmse_channel_estimate_adds_to_the_noise():
    _, variance = recover(np.ones((2, 1, 1, 1), complex), np.ones((2, 1, 1), complex), 0.2, 1, 1, err_var=0.3)
    assert variance.item() == pytest.approx((0.2 + 0.3) / 2 / 2)


@pytest.mark.parametrize("num_reals", [3, 6])
def test_lmmse_is_its_textbook_formula(num_reals):
    rng = np.random.default_rng(6)
    h, y, no, p = complex_normal(rng, 2, 3, 1, 1), complex_normal(rng, 2, 1, 1), 0.3, 0.25
    x_hat, variance = recover(h, y, no, num_reals, num_reals, kind="lmmse", prior_variance=p)
    a = real_matrix(tf.constant(h.transpose(2, 0, 1, 3)), num_reals=num_reals).numpy()[0, :, :, 0]
    covariance = p * a @ a.T + no / 2 * np.eye(4)
    gain = p * a.T @ np.linalg.inv(covariance)
    np.testing.assert_allclose(x_hat[:, 0, 0], gain @ np.concatenate([y.real, y.imag])[:, 0, 0], rtol=1e-9)
    np.testing.assert_allclose(variance[:, 0, 0], p - p * np.diag(gain @ a), rtol=1e-9)


@pytest.mark.parametrize(("tx", "rx"), [(4, 8), (4, 2), (4, 1)])
def test_lmmse_is_never_worse_than_least_squares_and_tends_to_it(tx, rx):
    rng, samples = np.random.default_rng(7), 4000
    h, x = complex_normal(rng, rx, tx, 1, samples), rng.standard_normal((tx, 1, samples))
    for no in (10.0, 0.1, 1e-6):
        y = send(rng, h, x, no)
        lmmse, known = recover(h, y, no, tx, tx, kind="lmmse")
        unbiased, _ = recover(h, y, no, tx, tx, kind="lmmse-unbiased")
        errors = (lmmse - x) ** 2
        error = errors.mean()
        assert abs(error - known.mean()) < 5 * errors.mean(0).std() / np.sqrt(samples)
        assert (unbiased * x).mean() == pytest.approx((x**2).mean(), abs=5 * np.std(unbiased * x) / np.sqrt(x.size))
        if 2 * rx >= tx:
            ls, _ = recover(h, y, no, tx, tx)
            assert error <= ((ls - x) ** 2).mean()
    if 2 * rx > tx:
        np.testing.assert_allclose(lmmse, ls, atol=1e-4)


@pytest.mark.parametrize("kind", ["ls", "lmmse", "lmmse-unbiased"])
@pytest.mark.parametrize("epsilon", [0.01, 1.0])
def test_error_variance_holds_for_a_noisy_channel_estimate(kind, epsilon):
    rng, tx, rx, samples, no = np.random.default_rng(8), 4, 8, 20_000, 0.1
    h, x = complex_normal(rng, rx, tx, 1, samples), rng.standard_normal((tx, 1, samples)) / 2
    h_hat = h + np.sqrt(epsilon) * complex_normal(rng, *h.shape)
    facts = {"err_var": epsilon, "kind": kind, "noisy_channel": True, "prior_variance": 0.25}
    x_hat, variance = recover(h_hat, send(rng, h, x, no), no, tx, tx, **facts)
    errors = (x_hat - x) ** 2
    # the four errors of a resource element are dependent: count it once; five standard errors
    assert abs(errors.mean() - variance.mean()) < 5 * errors.mean(0).std() / np.sqrt(samples)


@pytest.mark.parametrize("kind", ["lmmse", "lmmse-unbiased"])
@pytest.mark.parametrize(("tx", "rx"), [(3, 4), (3, 2), (1, 1)])
def test_complex_lmmse_of_real_symbols_is_its_textbook_formula(kind, tx, rx):
    rng, no, p = np.random.default_rng(11), 0.3, 0.25
    h, y = complex_normal(rng, rx, tx, 1, 1), complex_normal(rng, rx, 1, 1)
    x_hat, variance = recover(h, y, no, 2 * tx, tx, kind=kind, prior_variance=p)
    a = h[:, :, 0, 0]
    gain = p * a.conj().T @ np.linalg.inv(p * a @ a.conj().T + no * np.eye(rx))
    if kind == "lmmse-unbiased":
        gain /= np.real(np.diag(gain @ a))[:, None]
    np.testing.assert_allclose(x_hat[:, 0, 0], np.real(gain @ y[:, 0, 0]), rtol=1e-9)
    missed = np.real(gain @ a) - np.eye(tx)  # of amplitudes that are real, though the receiver does not know
    expected = p * (missed**2).sum(1) + no / 2 * (np.abs(gain) ** 2).sum(1)
    np.testing.assert_allclose(variance[:, 0, 0], expected, rtol=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["lmmse", "lmmse-unbiased"])
def test_complex_lmmse_knows_its_error_and_is_worse_than_that_of_real_symbols(kind, epsilon):
    rng, tx, rx, samples, no = np.random.default_rng(12), 4, 4, 20_000, 0.1
    h, x = complex_normal(rng, rx, tx, 1, samples), rng.standard_normal((tx, 1, samples)) / 2
    h_hat = h + np.sqrt(epsilon) * complex_normal(rng, *h.shape)
    y, facts = send(rng, h, x, no), {"err_var": epsilon, "noisy_channel": True, "kind": kind, "prior_variance": 0.25}
    x_hat, variance = recover(h_hat, y, no, 2 * tx, tx, **facts)
    errors = (x_hat - x) ** 2
    assert abs(errors.mean() - variance.mean()) < 5 * errors.mean(0).std() / np.sqrt(samples)
    widely, _ = recover(h_hat, y, no, tx, tx, **facts)
    assert ((widely - x) ** 2).mean() < errors.mean()


def test_unbiased_complex_lmmse_is_sionnas():
    rng = np.random.default_rng(9)
    h, y = (complex_normal(rng, *shape).astype(np.complex64) for shape in ((3, 4, 3, 20), (3, 3, 20)))
    facts = {"kind": "lmmse-unbiased", "prior_variance": 0.5}  # half of the unit power of a complex symbol
    x_hat, variance = recover(h, y, 0.3, 8, 8, **facts)
    s = tf.eye(3, batch_shape=[3, 20], dtype=tf.complex64) * 0.3
    reference, no_eff = lmmse_equalizer(tf.transpose(y, [1, 2, 0]), tf.transpose(h, [2, 3, 0, 1]), s)
    reference = tf.transpose(reference, [2, 0, 1]).numpy()
    assert np.abs(x_hat[:4] + 1j * x_hat[4:] - reference).max() < 1e-4 * np.abs(reference).max()
    np.testing.assert_allclose(variance[:4], tf.transpose(no_eff, [2, 0, 1]) / 2, rtol=1e-3)


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
    a = real_matrix(tf.constant(h.transpose(2, 0, 1, 3).astype(np.complex64)), num_reals=2)
    x, _ = least_squares(a, tf.reduce_sum(a, 2))
    condition = np.linalg.cond(np.moveaxis(a.numpy().astype(np.float64), (1, 2), (-2, -1)))
    assert condition.max() > 5e3
    # the condition number enters once; by way of the Gram matrix it would be squared
    assert np.all(np.abs(x - 1) < 10 * np.finfo(np.float32).eps * condition)


def test_a_channel_without_rank_gives_large_but_finite_numbers():
    x, inverse_gram = least_squares(tf.ones([1, 4, 2, 1]), tf.ones([1, 4, 1]))
    assert np.isfinite(x).all()
    assert np.isfinite(inverse_gram).all()
