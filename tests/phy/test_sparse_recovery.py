import numpy as np
import pytest
import tensorflow as tf

from phy import CodePrior
from phy.recovery.sparse import BlockOperator, fista, omp, pursue
from tests.phy.links import NUM_TOKENS, WIDTH, draw, link_with

STARVED = {"num_tx_ant": 8, "num_rx_ant": 2}


def problem(batch=4, rows=20, size=40, terms=4, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((batch, rows, size))
    z = np.zeros((batch, size))
    for row in z:
        row[rng.choice(size, terms, replace=False)] = rng.choice([-1, 1], terms) * rng.uniform(1, 2, terms)
    return matrix, z, np.einsum("bij,bj->bi", matrix, z)


def dense(matrix):
    """A general matrix as one block on an identity."""
    return BlockOperator(tf.constant(matrix[:, None]), tf.eye(matrix.shape[2], dtype=tf.float64))


def slow_omp(matrix, y, terms):
    """Textbook pursuit for one example: least squares on the support at every step."""
    support, z = [], np.zeros(matrix.shape[1])
    for _ in range(terms):
        likeness = np.abs(matrix.T @ (y - matrix @ z)) / np.linalg.norm(matrix, axis=0)
        likeness[support] = 0
        support.append(int(np.argmax(likeness)))
        z = np.zeros(matrix.shape[1])
        z[support] = np.linalg.lstsq(matrix[:, support], y)[0]
    return z, support


def test_the_operator_is_its_matrix():
    rng = np.random.default_rng(6)
    blocks, basis = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((15, 7))
    operator = BlockOperator(tf.constant(blocks), tf.constant(basis))
    matrix = (blocks @ basis.reshape(5, 3, 7)).reshape(2, 20, 7)
    r, z = rng.standard_normal((2, 20)), rng.standard_normal((2, 7))
    np.testing.assert_allclose(operator.energy, (matrix**2).sum(1))
    np.testing.assert_allclose(operator.adjoint(tf.constant(r)), np.einsum("bij,bi->bj", matrix, r))
    np.testing.assert_allclose(operator.normal(tf.constant(z)), np.einsum("bik,bij,bj->bk", matrix, matrix, z))
    columns = [matrix[0].T @ matrix[0, :, 6], matrix[1].T @ matrix[1, :, 2]]
    np.testing.assert_allclose(operator.normal_columns(tf.constant([6, 2])), columns)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_omp_is_its_slow_twin(noise):
    matrix, _, y = problem()
    y += noise * np.random.default_rng(1).standard_normal(y.shape)
    z, spread = (part.numpy() for part in omp(dense(matrix), tf.constant(y), max_terms=6))
    for example in range(len(y)):
        expected, support = slow_omp(matrix[example], y[example], 6)
        np.testing.assert_allclose(z[example], expected, atol=1e-8)
        if noise:
            assert set(np.flatnonzero(spread[example])) == set(support)
            chosen = matrix[example][:, sorted(support)]
            np.testing.assert_allclose(
                spread[example][sorted(support)], np.diag(np.linalg.inv(chosen.T @ chosen)), rtol=1e-6
            )


def test_omp_passes_over_columns_that_bring_nothing_new():
    matrix, _, y = problem(rows=30, size=20, terms=4)
    rng = np.random.default_rng(2)
    matrix[:, :, 10:] = matrix[:, :, :10] * (1 + 1e-5 * rng.standard_normal((4, 1, 10)))  # each column twice
    y += 0.3 * rng.standard_normal(y.shape)
    single = BlockOperator(tf.constant(matrix[:, None], tf.float32), tf.eye(20))
    z, spread = (part.numpy() for part in omp(single, tf.constant(y, tf.float32), max_terms=20))
    assert ((spread > 0).sum(1) == 10).all()
    together = z[:, :10] + z[:, 10:]
    for example in range(len(y)):
        expected = np.linalg.lstsq(matrix[example, :, :10], y[example])[0]
        np.testing.assert_allclose(together[example], expected, atol=1e-3)


def test_omp_finds_few_terms_exactly_and_stops_there():
    matrix, z, y = problem(rows=30, terms=3)
    found, _ = omp(dense(matrix), tf.constant(y), max_terms=30, tolerance=1e-12)
    np.testing.assert_allclose(found, z, atol=1e-6)


def test_an_example_that_is_done_waits_for_the_others():
    matrix, z, y = problem(rows=30, terms=3)
    y[0], z[0] = 0, 0
    found, spread = omp(dense(matrix), tf.constant(y), max_terms=30, tolerance=1e-9)
    np.testing.assert_allclose(found, z, atol=1e-4)
    assert not spread[0].numpy().any()


def test_terms_shrink_to_their_posterior_mean():
    matrix, _, y = problem(rows=30, size=20, terms=4)
    y += np.random.default_rng(4).standard_normal(y.shape)
    variances = np.random.default_rng(5).uniform(0.1, 2, 20)
    terms = pursue(dense(matrix), tf.constant(y), max_terms=6)
    shrunk = terms.scatter(terms.shrunk(tf.constant(variances))).numpy()
    for example in range(len(y)):
        support = np.flatnonzero(shrunk[example])
        assert len(support) == 6
        chosen = matrix[example][:, support]
        expected = np.linalg.solve(chosen.T @ chosen + np.diag(1 / variances[support]), chosen.T @ y[example])
        np.testing.assert_allclose(shrunk[example][support], expected, rtol=1e-6)


def test_fista_meets_the_conditions_of_the_minimum():
    """|A^T (y - A z)| is the weight where z is not zero, with its sign, and no larger elsewhere."""
    matrix, _, y = problem(rows=30, size=20)
    penalty = np.random.default_rng(2).uniform(1, 3, 20)
    step = 1 / np.linalg.norm(matrix, 2, axis=(1, 2))[:, None] ** 2
    z = fista(dense(matrix), tf.constant(y), penalty=penalty, step=step, iterations=3000).numpy()
    slope = np.einsum("bij,bi->bj", matrix, y - np.einsum("bij,bj->bi", matrix, z))
    assert np.all(np.abs(slope) <= penalty + 1e-6)
    nonzero = np.abs(z) > 1e-9
    assert nonzero.any()
    assert not nonzero.all()
    np.testing.assert_allclose(slope[nonzero], (np.sign(z) * penalty)[nonzero], atol=1e-6)


def test_pylops_finds_the_same():
    sparsity = pytest.importorskip("pylops.optimization.sparsity")
    matrix_mult = pytest.importorskip("pylops").MatrixMult
    matrix, _, y = problem(rows=30, terms=4)
    y += 0.01 * np.random.default_rng(3).standard_normal(y.shape)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    step, penalty, iterations = 1 / np.linalg.norm(matrix, 2, axis=(1, 2)).max() ** 2, 0.1, 300
    ours = {
        "omp": omp(dense(matrix), tf.constant(y), max_terms=4)[0].numpy(),
        "fista": fista(dense(matrix), tf.constant(y), penalty=penalty, step=step, iterations=iterations).numpy(),
    }
    for example in range(len(y)):
        operator = matrix_mult(matrix[example])
        theirs = {
            "omp": sparsity.omp(operator, y[example], niter_outer=4, niter_inner=4, sigma=0.0)[0],
            "fista": sparsity.fista(operator, y[example], niter=iterations, alpha=step, eps=2 * penalty, tol=0.0)[0],
        }
        for name, expected in theirs.items():
            np.testing.assert_array_equal(np.abs(ours[name][example]) > 1e-3, np.abs(expected) > 1e-3)
            np.testing.assert_allclose(ours[name][example], expected, atol=1e-3)


def errors_of(recovery, train, test, snr_db=20.0, **facts):
    prior = None if recovery == "white" else CodePrior.fit(train)
    link = link_with(prior, recovery=recovery.replace("white", "lmmse"), **{**STARVED, **facts})
    out = link(test, snr_db, np.arange(len(test)))
    return ((out.codes_hat - test) ** 2).numpy().mean(), out.error_var.numpy().mean()


def test_antenna_starved_links_rank_as_theory_says():
    """Rare, decaying coefficients, 8x2 antennas: a law of coefficients beats a covariance, a covariance nothing."""
    law = {"activity": 0.25, "decay": 8.0}
    train, test = draw(4000, seed=1, **law), draw(512, seed=2, **law)
    error = {name: errors_of(name, train, test)[0] for name in ("white", "lmmse", "vamp", "fista", "omp")}
    assert error["vamp"] < error["lmmse"] < 0.7 * error["white"]
    assert error["fista"] < error["lmmse"]
    assert error["omp"] < 1.02 * error["lmmse"]


@pytest.mark.parametrize("recovery", ["omp", "fista", "vamp"])
def test_without_a_prior_codes_are_sought_in_their_own_coordinates(recovery):
    """No prior is a white one; codes of few numbers are found that antennas alone could not tell apart."""
    rng = np.random.default_rng(9)
    codes = rng.standard_normal((256, NUM_TOKENS, WIDTH)) * (rng.random((256, NUM_TOKENS, WIDTH)) < 1 / 8) * 8**0.5
    white = CodePrior.white(NUM_TOKENS, WIDTH)
    facts, numbers = {**STARVED, "estimator": "perfect"}, np.arange(256)
    out, linear = (link_with(None, recovery=kind, **facts)(codes, 20.0, numbers) for kind in (recovery, "lmmse"))
    known = link_with(white, recovery=recovery, **facts)(codes, 20.0, numbers)
    np.testing.assert_array_equal(out.codes_hat, known.codes_hat)
    np.testing.assert_array_equal(out.error_var, known.error_var)
    errors = [float(np.mean((part.codes_hat - codes) ** 2)) for part in (out, linear)]
    assert errors[0] < 0.8 * errors[1]


def test_gaussian_codes_leave_nothing_to_gain_over_the_linear_estimate():
    train, test = draw(4000, seed=3, decay=6), draw(512, seed=4, decay=6)
    linear, vamp = (errors_of(name, train, test)[0] for name in ("lmmse", "vamp"))
    assert vamp == pytest.approx(linear, rel=0.02)


@pytest.mark.parametrize("recovery", ["vamp", "fista", "omp"])
def test_error_variance_is_right_within_a_factor_of_two(recovery):
    law = {"activity": 0.25, "decay": 8.0}
    error, known = errors_of(recovery, draw(4000, seed=5, **law), draw(512, seed=6, **law))
    assert 0.5 < error / known < 2


@pytest.mark.parametrize("recovery", ["omp", "fista", "vamp"])
@pytest.mark.parametrize("facts", [{"num_tx_ant": 5}, {"modulation": "iq", "estimator": "ls-linear"}])
def test_sparse_recovery_is_finite_and_right_with_many_antennas_too(recovery, facts):
    law = {"activity": 0.25, "decay": 8.0}
    train, test = draw(2000, seed=7, **law), draw(64, seed=8, **law)
    for snr_db in (-10.0, 40.0):
        out = errors_of(recovery, train, test, snr_db, **{"num_tx_ant": 4, "num_rx_ant": 8, **facts})
        assert np.isfinite(out).all()
    assert out[0] < 0.02
