"""Adaptation to the fade: what a fade carries, and whether it pays to know it."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from phy import DigitalLink, LinkConfig, PayloadLink
from phy.coding_bounds import bit_information, information_density
from phy.link_adaptation import FIRST_REALISATION, digital_link, margin_losses

ONE_ANTENNA = {"num_tx_ant": 1, "num_rx_ant": 1, "estimator": "perfect", "pilots": "none"}


def make_link(data_res=100, bits_per_symbol=2, **facts):
    options = {"bits_per_symbol": bits_per_symbol, "data_res": data_res, "length_header": False}
    return DigitalLink(LinkConfig(**{"channel": "awgn", **ONE_ANTENNA, **facts}), **options)


@pytest.mark.parametrize("snr_db", [-12.0, -3.0, 4.3])
def test_information_of_qpsk_is_that_of_two_binary_symbols_in_white_noise(snr_db):
    """A bit's ratio L has mean m = 2 / N0 and variance 2 m; the mean of log2(2 / (1 + e^-L)) is its information."""
    m = 2 * 10 ** (snr_db / 10)

    def moment(power):
        return quad(
            lambda z: norm.pdf(z) * (1 - np.logaddexp(0, -m - np.sqrt(2 * m) * z) / np.log(2)) ** power, -12, 12
        )[0]

    mean, variance = bit_information(2, np.array([10 ** (-snr_db / 10)]))
    assert mean[0] == pytest.approx(2 * moment(1), rel=2e-3)
    assert variance[0] == pytest.approx(2 * (moment(2) - moment(1) ** 2), rel=5e-3)


@pytest.mark.parametrize("bits_per_symbol", [2, 4, 6, 8])
def test_information_grows_from_none_to_all_bits_and_never_exceeds_the_capacity(bits_per_symbol):
    no = 10 ** (-np.arange(-45, 65, 2.7) / 10)
    mean, variance = bit_information(bits_per_symbol, no)
    assert np.all(np.diff(mean) >= -1e-12)
    assert mean[0] < 1e-3
    assert mean[-1] == pytest.approx(bits_per_symbol)
    assert np.all(mean <= (1 + 1e-3) * np.log2(1 + 1 / no))  # linear between the points of a table
    assert np.all(variance >= 0)
    assert variance[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("bits_per_symbol", "snr_db"), [(2, -4.0), (4, 6.0), (6, 9.0), (8, 17.0)])
def test_information_is_that_of_soft_bits_by_sionna(bits_per_symbol, snr_db):
    link, num = make_link(100, bits_per_symbol), 600
    density = information_density(*link.soft_bits(snr_db, np.arange(num)))
    mean, variance = link.information(snr_db, np.arange(num))
    assert np.ptp(mean) < 1e-3
    assert abs(density.mean() - mean[0]) < norm.isf(5e-7) * np.sqrt(variance[0] / num)
    assert density.var() == pytest.approx(variance[0], rel=0.3)  # five deviations of 600 words


def test_information_is_that_of_the_fade_and_not_of_the_noise():
    config = {"channel": "rayleigh", **ONE_ANTENNA}
    link, numbers, no = make_link(30, **config), np.arange(20), 10**-0.4
    mean, variance = link.information(4.0, numbers)
    h = link.channel.fades(numbers, link._transmission(60).grid).h  # [rx, tx, …], one of each
    gain = np.abs(np.asarray(h).reshape(20, -1)[:, :1]) ** 2
    expected = [part[:, 0] * 30 for part in bit_information(2, no / gain)]
    np.testing.assert_allclose(mean, expected[0], rtol=1e-3)
    np.testing.assert_allclose(variance, expected[1], rtol=1e-3)


def test_the_default_receivers_own_word_for_the_information_is_what_soft_bits_carry():
    link, numbers = digital_link(LinkConfig(), 2, 80), np.arange(300)
    mean, variance = link.information(-5.0, numbers)
    density = information_density(*link.soft_bits(-5.0, numbers))
    assert density.mean() == pytest.approx(mean.mean(), rel=0.05)
    assert np.corrcoef(mean, density)[0, 1] > 0.8
    assert np.std(density - mean) == pytest.approx(np.sqrt(variance.mean()), rel=0.25)


def test_losses_are_learned_from_margins_on_fades_that_no_study_meets():
    """A payload is lost where its margin, the fade's number less its size, is below two; one in ten is noise."""
    met = []

    def margins(sizes, snr_db, numbers):
        return (numbers - FIRST_REALISATION) % 20 - np.array(sizes)[:, None].astype(float)

    def send(payloads, snr_db, numbers):
        met.extend(numbers)
        below = margins([len(payloads[0])], snr_db, numbers)[0] < 2
        return [None if lost else payload for lost, payload in zip(below, payloads, strict=True)]

    at, losses = margin_losses(send, margins, [1, 3, 9, 15, 30, 60], 0.0, 100)
    assert min(met) == FIRST_REALISATION
    assert len(at) == 5 * 100  # thirty is the smallest that never arrives; sixty is not tried again
    assert np.all(np.diff(at) >= 0)
    assert np.all(np.diff(losses) <= 0)
    np.testing.assert_array_equal(losses, at < 2)


@pytest.fixture(scope="module")
def links():
    config = LinkConfig(num_tx_ant=2, num_rx_ant=2)

    def make(**options):
        return PayloadLink(lambda bits: digital_link(config, bits, 15), 15, **options)

    return make


def worth(num_bytes):
    return 1 - 0.8 ** min(num_bytes, 20)


def reached(link, snr_db, numbers):
    """Mean worth of what arrives on some fades, a loss being worth a tenth; and the sizes."""
    sizes = link.chosen(snr_db, numbers, worth, 0.1)
    payloads = [np.random.default_rng(int(n)).bytes(size) for n, size in zip(numbers, sizes, strict=True)]
    received = link.send(payloads, snr_db, numbers, bytes)
    items = zip(received.items, sizes.tolist(), strict=True)
    return np.array([0.1 if item is None else worth(size) for item, size in items]), sizes


def test_whoever_knows_the_fade_reaches_more_on_fades_that_were_not_learned_from(links):
    numbers = np.arange(600)
    mean, sizes = reached(links(), 3.0, numbers)
    fade, own_sizes = reached(links(cqi=True), 3.0, numbers)
    assert len(set(sizes)) == 1
    assert len(set(own_sizes)) > 5
    gain = fade - mean
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_the_size_grows_with_what_the_fade_carries(links):
    link, numbers = links(cqi=True), np.arange(200)
    sizes = link.chosen(3.0, numbers, worth, 0.1)
    carried, _ = digital_link(LinkConfig(num_tx_ant=2, num_rx_ant=2), 2, 15).information(3.0, numbers)
    assert np.corrcoef(carried, sizes)[0, 1] > 0.7
    np.testing.assert_array_equal(link.chosen(3.0, numbers[50:60], worth, 0.1), sizes[50:60])
    assert (link.chosen(3.0, numbers, lambda num_bytes: 0.5, 0.1) <= 2).mean() > 0.9  # more bytes bring nothing


def test_a_second_transmission_loses_no_more_and_its_rates_are_measured(links):
    once, twice = links(), links(max_transmissions=2)
    first, second = once.measure(0.0, 200), twice.measure(0.0, 200)
    assert max(second) > max(first)
    for size in first.keys() & second.keys():
        assert second[size] <= first[size]
    payloads, numbers = [bytes([i % 256] * max(first)) for i in range(200)], np.arange(200)
    alone, again = (link.send(payloads, 0.0, numbers, bytes) for link in (once, twice))
    assert set(alone.num_transmissions) == {1}
    lost = [item is None for item in alone.items]
    assert again.num_transmissions == [1 + gone for gone in lost]
    assert 0 < again.items.count(None) < sum(lost)
    assert twice.ledger() == once.ledger()


def test_impossible_options_are_refused(links):
    with pytest.raises(ValueError, match="max_transmissions must be a positive whole number, got 0"):
        links(max_transmissions=0)
    config = LinkConfig(num_tx_ant=1)
    small = PayloadLink(lambda bits: digital_link(config, bits, 2), 2, cqi=True)
    with pytest.raises(ValueError, match="2 data resource elements hold not a byte, whatever the modulation"):
        small.chosen(0.0, np.arange(2), worth, 0.1)
    with pytest.raises(ValueError, match="bits fill data_res, which this link has not; give it"):
        DigitalLink().information(0.0, [0])
