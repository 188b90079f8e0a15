"""No recovery with a prior is worse than the linear estimate with that prior, and each knows how wrong it is."""

import numpy as np
import pytest

from phy import CodePrior
from tests.phy.links import link_with

NUM_TOKENS, WIDTH, ACTIVE = 2, 32, 6
SIZE = NUM_TOKENS * WIDTH
BASIS = np.linalg.qr(np.random.default_rng(7).standard_normal((SIZE, SIZE)))[0]
SNR_DB, EXAMPLES = (-10.0, 0.0, 10.0, 25.0, 40.0, 60.0, 80.0), 64
SPARSE_RECOVERIES = ("omp", "fista", "vamp")


def decaying(n, rng):
    scale = np.exp(-np.arange(SIZE) / 16)
    return rng.standard_normal((n, SIZE)) * scale * np.sqrt(SIZE / np.sum(scale**2)) @ BASIS.T


def sparse(n, rng):
    z = np.zeros((n, SIZE))
    for row in z:
        row[rng.choice(SIZE, ACTIVE, replace=False)] = rng.standard_normal(ACTIVE) * np.sqrt(SIZE / ACTIVE)
    return z @ BASIS.T


def dead(n, rng):
    """The encoder has a number that never moves."""
    codes = rng.standard_normal((n, SIZE))
    codes[:, 20] = 0.3
    return codes


def low_rank(n, rng):
    return rng.standard_normal((n, 5)) @ BASIS[:5] * np.sqrt(SIZE / 5)


def heavy_tailed(n, rng):
    return decaying(n, rng) * rng.gamma(2.0, 0.5, (n, 1)) ** -0.5


def white(n, rng):
    return rng.standard_normal((n, SIZE))


def draw(law, n, seed):
    return law(n, np.random.default_rng(seed)).reshape(n, NUM_TOKENS, WIDTH).astype(np.float32)


def known_sparse_prior():
    """The law of `sparse` without a fit."""
    one, share = np.ones(SIZE), ACTIVE / SIZE
    return CodePrior(
        mean=np.zeros((NUM_TOKENS, WIDTH)),
        covariance=np.eye(SIZE),
        basis=BASIS,
        activity=share * one,
        wide=one / share,
        narrow=1e-9 * one,
    )


def prior_of(law, basis):
    return known_sparse_prior() if basis == "known" else CodePrior.fit(draw(law, 2000, seed=1), basis=basis)


CASES = {
    "gaussian, starved": (decaying, "pca", {"num_rx_ant": 2}),
    "gaussian, rich": (decaying, "pca", {"num_tx_ant": 4, "num_rx_ant": 8, "channel": "cdl-c"}),
    "gaussian, wrong basis": (decaying, "dictionary", {"num_rx_ant": 2}),
    "heavy tails, wrong basis, cdl": (heavy_tailed, "dictionary", {"num_rx_ant": 3, "channel": "cdl-c"}),
    "sparse, known basis": (sparse, "known", {"num_rx_ant": 2}),
    "sparse, known basis, fixed channel": (sparse, "known", {"num_rx_ant": 3, "channel": "awgn"}),
    "sparse, known basis, cdl": (sparse, "known", {"num_rx_ant": 2, "channel": "cdl-c"}),
    "sparse, learned basis, rich": (sparse, "dictionary", {"num_tx_ant": 4, "num_rx_ant": 8}),
    "dead number, starved": (dead, "pca", {"num_rx_ant": 2}),
    "dead number, pilots": (
        dead,
        "pca",
        {"num_tx_ant": 4, "num_rx_ant": 8, "channel": "cdl-c", "estimator": "ls-linear"},
    ),
    "low rank": (low_rank, "pca", {"num_rx_ant": 2}),
}


def errors_by_snr(recovery, prior, codes, **facts):
    """Mean squared error of the same codes over the same fades, and what was declared, for each SNR."""
    link = link_with(prior, **{"num_tx_ant": 8, "recovery": recovery, **facts})
    codes, numbers = np.tile(codes, (len(SNR_DB), 1, 1)), np.tile(np.arange(len(codes)), len(SNR_DB))
    out = link(codes, np.repeat(SNR_DB, len(numbers) // len(SNR_DB)), numbers)
    parts = (out.codes_hat - codes) ** 2, out.error_var
    return [np.mean(np.reshape(part, (len(SNR_DB), -1)), 1, dtype=np.float64) for part in parts]


def assert_honest(declared, error):
    """Within a factor of two; below -80 dB, single precision limits both."""
    assert np.all((0.5 * error < declared + 1e-8) & (declared < 2 * error + 1e-8)), declared / error


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_recovery_is_worse_than_the_linear_estimate_with_the_same_prior(case):
    """Nor silent about its error, from -10 to 80 dB; `lmmse` is an estimate of its own code, not the fallback's."""
    law, basis, facts = CASES[case]
    prior, codes = prior_of(law, basis), draw(law, EXAMPLES, seed=2)
    linear, declared = errors_by_snr("lmmse", prior, codes, **facts)
    assert_honest(declared, linear)
    for recovery in SPARSE_RECOVERIES:
        error, declared = errors_by_snr(recovery, prior, codes, **facts)
        assert np.all(error <= 1.1 * linear + 1e-10), (recovery, error / linear)
        assert_honest(declared, error)


@pytest.mark.parametrize("recovery", SPARSE_RECOVERIES)
def test_rare_coefficients_are_found_that_the_linear_estimate_cannot_see(recovery):
    """Half as many observations as numbers: the linear estimate loses half of the energy at any SNR.

    What a solver finds does not get lost again as noise falls.
    """
    error, _ = errors_by_snr(recovery, known_sparse_prior(), draw(sparse, EXAMPLES, seed=3), num_rx_ant=2)
    from_25_db = error[SNR_DB.index(25.0) :]
    assert from_25_db.max() < 0.03
    assert np.all(from_25_db[1:] <= 1.1 * from_25_db[:-1])


def test_gaussian_coefficients_leave_vamp_the_linear_estimate():
    prior, codes = prior_of(white, "pca"), draw(white, 64, seed=4)
    facts = {"num_tx_ant": 8, "num_rx_ant": 2, "estimator": "perfect"}
    vamp, linear = (link_with(prior, recovery=kind, **facts)(codes, 20.0, np.arange(64)) for kind in ("vamp", "lmmse"))
    difference = np.mean((vamp.codes_hat - linear.codes_hat) ** 2)
    assert difference < 0.01 * np.mean((linear.codes_hat - codes) ** 2)


PRIORS = {
    "white": lambda: CodePrior.fit(draw(white, 2000, seed=5)),
    "gaussian": lambda: CodePrior.fit(draw(decaying, 2000, seed=5)),
    "few examples": lambda: CodePrior.fit(draw(decaying, 3, seed=5)),
    "sparse": known_sparse_prior,
    "dictionary": lambda: CodePrior.fit(draw(sparse, 500, seed=5), basis="dictionary"),
    "dead number": lambda: CodePrior.fit(draw(dead, 2000, seed=5)),
    "one direction": lambda: CodePrior.fit(draw(low_rank, 2000, seed=5)[:, :, :1] * np.ones(WIDTH)),
    "always the same": lambda: CodePrior.fit(np.ones((5, NUM_TOKENS, WIDTH))),
    "heavy tails": lambda: CodePrior.fit(draw(heavy_tailed, 2000, seed=5)),
}
ANTENNAS = ((8, 2), (1, 1), (4, 8), (2, 1), (32, 64), (3, 5), (8, 2), (64, 1), (4, 4))


@pytest.mark.parametrize("recovery", ["lmmse", "lmmse-unbiased", "vamp"])
@pytest.mark.parametrize(("name", "antennas"), zip(PRIORS, ANTENNAS, strict=True))
def test_recovery_is_finite_for_any_prior_noise_and_number_of_antennas(recovery, name, antennas):
    """From -60 to 80 dB in single precision, whose Cholesky factors ended in NaN, and variances are not negative."""
    facts = {"num_tx_ant": antennas[0], "num_rx_ant": antennas[1], "recovery": recovery, "fft_size": 64}
    link, codes = link_with(PRIORS[name](), **facts), draw(white, 42, seed=6)
    for part in link(codes, np.repeat([-60.0, -20.0, 0.0, 20.0, 50.0, 80.0], 7), np.arange(42)):
        assert np.isfinite(part).all()
    assert np.min(part) >= 0


@pytest.mark.parametrize("recovery", ["lmmse", *SPARSE_RECOVERIES])
def test_where_nothing_finite_arrives_the_prior_is_the_answer(recovery):
    """Noise at -400 dB overflows: the declared variance says that nothing is known. Other examples don't suffer."""
    prior, codes = prior_of(decaying, "pca"), draw(decaying, 4, seed=8)
    link = link_with(prior, num_tx_ant=8, num_rx_ant=2, recovery=recovery)
    out = link(codes, [10.0, -400.0, 10.0, 400.0], [0, 1, 2, 3])
    np.testing.assert_allclose(out.codes_hat[1], prior.mean, rtol=1e-5, atol=1e-6)
    if recovery == "lmmse":
        np.testing.assert_allclose(out.error_var[1].numpy().ravel(), np.diag(prior.covariance), rtol=1e-5)
    alone = link(codes[[0, 2]], 10.0, [0, 2])
    np.testing.assert_allclose(np.asarray(out.codes_hat)[[0, 2]], alone.codes_hat, rtol=1e-4, atol=1e-5)
    assert np.isfinite(out.codes_hat).all()
    assert np.isfinite(out.error_var).all()


@pytest.mark.parametrize("recovery", ["lmmse", *SPARSE_RECOVERIES])
def test_huge_codes_are_recovered_or_given_up_but_never_nan(recovery):
    link = link_with(prior_of(white, "pca"), num_tx_ant=8, num_rx_ant=2, recovery=recovery)
    for size in (1e20, 5e37):
        for part in link(np.float32(size) * draw(white, 4, seed=9), 10.0, np.arange(4)):
            assert np.isfinite(part).all()
