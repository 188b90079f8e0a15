"""Retransmission of payloads: what is combined, who is sent again, and what it is worth."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chi2, fisher_exact, norm

from phy import DigitalLink, LinkConfig
from phy.bit_transmission import BitTransmission
from phy.config import REPEATED_FADES
from phy.transport_block import TransportCoder, TransportFormat

AWGN = {"channel": "awgn", "num_tx_ant": 1, "num_rx_ant": 1, "pilots": "none", "estimator": "perfect"}
NUM = 200


def make_link(data_res=40, bits_per_symbol=2, code_rate=602 / 1024, **facts):
    options = {"bits_per_symbol": bits_per_symbol, "code_rate": code_rate, "data_res": data_res}
    return DigitalLink(LinkConfig(**{"channel": "rayleigh", **facts}), length_header=False, **options)


def payloads_of(num_bytes, count=NUM):
    rng = np.random.default_rng(0)
    return [rng.bytes(num_bytes) for _ in range(count)]


@pytest.mark.parametrize(
    ("num_bytes", "bits_per_symbol", "snr_db"), [(5, 2, -11.0), (60, 4, 3.0)], ids=["polar", "ldpc"]
)
def test_soft_bits_of_all_transmissions_add_up_before_decoding(num_bytes, bits_per_symbol, snr_db):
    link, payloads, numbers = make_link(60, bits_per_symbol), payloads_of(num_bytes), np.arange(7, 7 + NUM)
    found = link.harq(payloads, snr_db, numbers, max_transmissions=3)
    assert set(found.num_transmissions) == {1, 2, 3}
    num_bits = 60 * 4 * bits_per_symbol
    form = TransportFormat.of(
        num_bytes, bits_per_symbol=bits_per_symbol, length_header=False, coded_bits=num_bits, code_rate=602 / 1024
    )
    coder = TransportCoder(form, bits_per_symbol=bits_per_symbol, num_iterations=20)
    transmission = BitTransmission(link.config, link.channel, num_bits=num_bits, bits_per_symbol=bits_per_symbol)
    soft = np.zeros((NUM, num_bits), np.float32)
    for attempt in range(3):
        asked = np.flatnonzero(found.num_transmissions > attempt)
        for index in np.array_split(asked, max(1, len(asked) // 32)):
            bits = coder.encode([payloads[i] for i in index])
            soft[index] += transmission(bits, np.full(len(index), snr_db), attempt * REPEATED_FADES + numbers[index])
        answers = coder.decode(tf.constant(soft[asked]))
        for index, answer in zip(asked, answers, strict=True):
            done = found.num_transmissions[index] == attempt + 1
            assert answer == (found.payloads[index] if done else None)


def test_whoever_arrives_at_once_is_sent_once_and_as_without_retransmission():
    link, payloads = make_link(), payloads_of(12)
    once, found = link(payloads, -4.0, np.arange(NUM)), link.harq(payloads, -4.0, np.arange(NUM))
    lost = np.array([payload is None for payload in once])
    assert 10 < lost.sum() < NUM - 10
    np.testing.assert_array_equal(found.num_transmissions, 1 + lost)
    assert all(again == first for first, again in zip(once, found.payloads, strict=True) if first is not None)
    assert found.payloads.count(None) < lost.sum()
    alone = link.harq(payloads, -4.0, np.arange(NUM), max_transmissions=1)
    assert alone.payloads == once
    assert (alone.num_transmissions == 1).all()


def test_what_is_received_does_not_depend_on_the_batch():
    link, payloads = make_link(), payloads_of(12, 50)
    whole = link.harq(payloads, -1.0, np.arange(50))
    order = np.random.default_rng(3).permutation(50)
    other = link.harq([payloads[i] for i in order], -1.0, order)
    assert other.payloads == [whole.payloads[i] for i in order]
    np.testing.assert_array_equal(other.num_transmissions, whole.num_transmissions[order])


def test_an_error_that_the_crc_lets_through_ends_the_transmissions(monkeypatch):
    link, payloads = make_link(), payloads_of(5, 10)
    monkeypatch.setattr(TransportCoder, "decode", lambda coder, llr: [b"wrong"] * len(llr))
    found = link.harq(payloads, -30.0, np.arange(10))
    assert found.payloads == [b"wrong"] * 10
    assert (found.num_transmissions == 1).all()


def test_two_equal_fades_gain_three_decibels():
    """QPSK in white noise: a bit's ratio is Gaussian with mean 2 / N0 and twice that variance; both double."""
    link, no = make_link(500, **AWGN), 10**0.3
    transmission = BitTransmission(link.config, link.channel, num_bits=1000, bits_per_symbol=2)
    bits = np.random.default_rng(1).integers(2, size=(20, 1000)).astype(np.float32)
    snr_db, numbers = np.full(20, -3.0), np.arange(20)
    both = sum(transmission(tf.constant(bits), snr_db, fades).numpy() for fades in (numbers, REPEATED_FADES + numbers))
    sure, mean = ((2 * bits - 1) * both).ravel().astype(float), 2 / (no / 2)
    assert abs(sure.mean() - mean) < norm.isf(5e-7) * np.sqrt(2 * mean / sure.size)
    low, high = chi2.interval(1 - 1e-6, df=sure.size - 1)
    assert low < sure.var() * sure.size / (2 * mean) < high


def test_losses_of_two_transmissions_in_white_noise_are_those_of_twice_the_power():
    link, payloads, numbers = make_link(100, **AWGN), payloads_of(5, 800), np.arange(800)
    once = link(payloads, -3.4 - 10 * np.log10(2), numbers)
    assert once.count(None) > 760
    twice = link.harq(payloads, -3.4 - 10 * np.log10(2), numbers).payloads.count(None)
    louder = link(payloads, -3.4, numbers + 10_000).count(None)
    assert 80 < louder < 720
    assert fisher_exact([[twice, 800 - twice], [louder, 800 - louder]]).pvalue > 1e-4


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "2"])
def test_no_number_of_transmissions_is_refused(most):
    with pytest.raises(ValueError, match=f"max_transmissions must be a positive whole number, got {most!r}"):
        make_link().harq([b"x"], 10.0, [0], max_transmissions=most)
