"""The bound of linear codes: its closed form, and that no link with its prior does better."""

import numpy as np
import pytest
from scipy.optimize import minimize

from phy import AnalogLink, CodePrior, LinkConfig
from phy.linear_bound import known_shares, water_filled
from tests.phy.links import NUM_TOKENS, WIDTH, draw


def test_white_codes_share_the_energy_evenly():
    gain = np.array([0.3, 4.0])
    np.testing.assert_allclose(water_filled(np.ones(20), 5.0, gain), np.full((2, 20), 0.25))
    np.testing.assert_allclose(known_shares(np.ones(20), 5.0, gain)[:, 0], gain * 0.25 / (1 + gain * 0.25))


@pytest.mark.parametrize("gain", [0.05, 0.4, 30.0])
def test_no_other_sharing_has_a_smaller_error(gain):
    variances, energy = np.array([3.0, 0.2, 1.0, 0.0, 0.01]), 4.0
    found, known = (make(variances, energy, np.array([gain]))[0] for make in (water_filled, known_shares))
    assert found.sum() == pytest.approx(energy)
    assert found.min() >= 0
    assert found[3] == 0

    def error(shares):
        return np.sum(variances / (1 + gain * energy * shares**2 / np.sum(shares**2)))

    starts = np.random.default_rng(0).random((5, 5))
    best = min(minimize(error, start).fun for start in starts)
    assert np.sum(variances / (1 + gain * found)) == pytest.approx(best, rel=1e-4)
    assert np.sum(variances * (1 - known)) == pytest.approx(best, rel=1e-4)


def test_gain_of_a_known_channel_is_its_closed_form():
    # unit gain on each of 4 receive antennas for the one that sends; half the noise in a real dimension
    config = LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=4, estimator="perfect")
    gain = AnalogLink(config).gain(num_tokens=2, width=8, snr_db=np.array([0.0, 10.0]), realisation=np.arange(2))
    assert gain == pytest.approx([8, 80])


def test_white_codes_over_awgn_reach_the_bound():
    config = LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=1, estimator="perfect", recovery="lmmse")
    link, numbers = AnalogLink(config), np.arange(200)
    codes = np.random.default_rng(1).standard_normal((200, 5, 64)).astype(np.float32)
    out = link(codes, snr_db=3.0, realisation=numbers)
    gain = link.gain(num_tokens=5, width=64, snr_db=3.0, realisation=numbers)
    energy = link.ledger(num_tokens=5, width=64).energy - link.ledger(num_tokens=5, width=64).pilot_res
    bound = 1 - known_shares(np.ones(320), energy, gain).mean()
    assert bound == pytest.approx(1 / (1 + 2 * 10**0.3), rel=1e-4)
    assert np.mean((out.codes_hat - codes) ** 2) == pytest.approx(bound, rel=0.03)  # 64 000 numbers: 0.6 %


@pytest.mark.parametrize("facts", [{"channel": "rayleigh", "estimator": "perfect"}, {"channel": "cdl-c"}])
def test_no_link_that_knows_the_codes_is_better_than_the_bound(facts):
    codes = draw(400, seed=2, decay=4.0)
    flat = codes.reshape(400, -1)
    prior = CodePrior.gaussian(flat.mean(0).reshape(NUM_TOKENS, WIDTH), np.cov(flat, rowvar=False))
    config = LinkConfig(num_tx_ant=4, num_rx_ant=6, recovery="lmmse", **facts)
    link, numbers = AnalogLink(config, prior=prior), np.arange(400)
    variances = np.linalg.eigvalsh(np.cov(flat, rowvar=False)).clip(0)
    energy = variances.sum() / 4  # four antennas share the power of an element
    for snr_db in (-10.0, 0.0, 15.0):
        gain = link.gain(num_tokens=NUM_TOKENS, width=WIDTH, snr_db=snr_db, realisation=numbers)
        bound = ((1 - known_shares(variances, energy, gain)) @ variances).mean()
        out = link(codes.astype(np.float32), snr_db=snr_db, realisation=numbers)
        assert bound < np.sum(out.error_var, (1, 2)).mean()
