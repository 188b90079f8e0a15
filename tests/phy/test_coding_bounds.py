"""Bounds of codes: closed forms of the erasure channel and of soft bits in Gaussian noise."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, norm

from phy import DigitalLink, LinkConfig
from phy.coding_bounds import calibrated_density, information_density, lost_by_any_code, random_coding_loss

NEVER = 60.0  # log-likelihood ratio of a bit that is known


def erased(num_words, num_bits, share, seed=0):
    """Words over an erasure channel: each bit is known or not."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (num_words, num_bits))
    return NEVER * (2 * bits - 1) * (rng.random(bits.shape) >= share), bits


def noisy(num_words, num_bits, deviation, seed=0):
    """Antipodal bits in Gaussian noise, and their true ratios."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (num_words, num_bits))
    return 2 / deviation**2 * (2 * bits - 1 + deviation * rng.standard_normal(bits.shape)), bits


def density_moments(deviation):
    """Mean and variance of a bit's information density, by quadrature."""

    def moment(power):
        def weighted(y):
            return (1 - np.logaddexp(0, -2 * y / deviation**2) / np.log(2)) ** power * norm.pdf(y, 1, deviation)

        return quad(weighted, 1 - 10 * deviation, 1 + 10 * deviation, limit=200)[0]

    return moment(1), moment(2) - moment(1) ** 2


def test_density_of_an_erasure_channel_counts_what_is_known():
    llr, bits = erased(50, 40, 0.5)
    np.testing.assert_allclose(information_density(llr, bits), (llr != 0).sum(1), atol=1e-9)
    assert information_density(-llr, bits).max() < -NEVER  # wrong bits


@pytest.mark.parametrize("deviation", [0.7, 1.5, 4.0])
def test_density_of_gaussian_noise_has_the_mean_and_variance_of_the_closed_form(deviation):
    density = information_density(*noisy(4000, 64, deviation))
    capacity, dispersion = density_moments(deviation)
    assert abs(density.mean() - 64 * capacity) < 5 * np.sqrt(64 * dispersion / 4000)
    assert density.var() == pytest.approx(64 * dispersion, rel=0.15)  # its standard error is 2.2 %


def test_ratios_that_claim_too_much_or_too_little_are_calibrated():
    llr, bits = noisy(500, 200, 2.0)
    assert calibrated_density(llr, bits) == pytest.approx(information_density(llr, bits))
    for factor in (0.5, 2.0):
        assert calibrated_density(factor * llr, bits) == pytest.approx(information_density(llr, bits))


def test_losses_over_an_erasure_channel_are_those_of_the_closed_form():
    num_bits, share, size = 100, 0.5, 40
    density = information_density(*erased(40_000, num_bits, share))
    known = np.arange(num_bits + 1)
    weight = binom.pmf(known, num_bits, 1 - share)
    union = weight @ np.minimum(1, (2.0**size - 1) * 2.0**-known)
    assert random_coding_loss(density, size).mean() == pytest.approx(union, rel=0.1)
    power = np.cumsum((weight * 2.0**-known)[::-1])[::-1]  # of tests that accept so many known bits or more
    threshold = known[power <= 2.0**-size].min()
    assert lost_by_any_code(density, size).mean() == pytest.approx(weight[:threshold].sum(), rel=0.15)


@pytest.mark.parametrize(("num_bits", "size", "deviation"), [(160, 40, 1.4), (640, 64, 2.3)])
def test_the_bounds_of_gaussian_noise_enclose_the_normal_approximation(num_bits, size, deviation):
    density = information_density(*noisy(20_000, num_bits, deviation))
    capacity, dispersion = density_moments(deviation)
    backlog = num_bits * capacity - size + 0.5 * np.log2(num_bits)
    normal = norm.sf(backlog / np.sqrt(num_bits * dispersion))
    low, high = lost_by_any_code(density, size).mean(), random_coding_loss(density, size).mean()
    assert 0.01 < normal < 0.2
    assert low < normal < high
    assert high < 2.5 * normal
    assert low > 0.75 * normal


def test_more_bits_are_lost_more_often_and_no_bits_never():
    density = information_density(*noisy(2000, 160, 2.0))
    for rule in (random_coding_loss, lost_by_any_code):
        losses = [rule(density, size).mean() for size in (0, 8, 16, 24, 40, 80, 200)]
        assert losses == sorted(losses)
        assert losses[0] == 0
        assert losses[-1] == 1


def test_no_code_of_two_words_is_better_than_the_bound():
    # repetition, decided by the sum: its error is Q(sqrt(n) / deviation)
    num_bits, deviation = 9, 3.0
    density = information_density(*noisy(50_000, num_bits, deviation))
    error = norm.sf(np.sqrt(num_bits) / deviation)
    assert lost_by_any_code(density, 1).mean() <= error
    assert random_coding_loss(density, 1).mean() >= error


def digital_link(**facts):
    return DigitalLink(LinkConfig(num_tx_ant=1, num_rx_ant=1, estimator="perfect", channel="awgn"), **facts)


def test_soft_bits_of_the_link_over_awgn_are_those_of_the_closed_form():
    snr_db, size = -2.0, 40
    llr, bits = digital_link(bits_per_symbol=2, data_res=80).soft_bits(snr_db, np.arange(3000))
    assert bits.shape == (3000, 160)
    capacity, dispersion = density_moments(10 ** (-snr_db / 20))  # of each part of a QPSK symbol
    density, mean, deviation = information_density(llr, bits), 160 * capacity, np.sqrt(160 * dispersion)
    assert abs(density.mean() - mean) < 5 * deviation / np.sqrt(3000)
    assert density.std() == pytest.approx(deviation, rel=0.07)  # its standard error is 1.3 %

    def lost(part):
        return min(1, 2.0 ** (size - mean - deviation * part)) * norm.pdf(part)

    normal = quad(lost, -8, 8, limit=400, points=[(size - mean) / deviation])[0]
    assert 0.05 < normal < 0.5
    assert random_coding_loss(density, size).mean() == pytest.approx(normal, rel=0.15)  # its standard error is 4 %


def test_random_bits_belong_to_their_fades_and_fill_the_budget():
    link = digital_link(bits_per_symbol=4, data_res=7)
    llr, bits = link.soft_bits(30.0, np.arange(5, 45))
    np.testing.assert_array_equal(bits, (llr > 0).astype(float))
    np.testing.assert_array_equal(link.soft_bits(30.0, np.array([8]))[1], bits[3:4])
    assert bits.mean() == pytest.approx(0.5, abs=0.06)  # 1120 bits
    with pytest.raises(ValueError, match="random bits fill data_res"):
        digital_link(bits_per_symbol=4).soft_bits(30.0, np.arange(2))


def test_peaks_of_qam_are_over_the_mean_of_all_payloads():
    link = digital_link(bits_per_symbol=2, data_res=64)
    peaks = link.peak_power(np.arange(200))  # 64 subcarriers: the waveform is nearly Gaussian
    assert 1 < peaks.min() < np.median(peaks) < 64
    assert 10 * np.log10(np.median(peaks)) == pytest.approx(7.5, abs=1)
