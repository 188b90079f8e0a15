"""Closed forms and bounds that textbooks and papers give, against the link where it has a part in them."""

import phy.startup  # noqa: F401 -- before everything that uses TensorFlow

# isort: split
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from math import comb
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import eval_genlaguerre, gammaln
from scipy.stats import binom, norm

from phy.channel import Channel
from phy.config import LinkConfig
from phy.fading import BLOCK
from phy.noise import ebno_db_to_snr_db, snr_db_to_no
from phy.recovery import LinearRecovery
from phy.resource_grid import ResourceGrid
from studies.cards.card import CONFIDENCE, SURE, Card, Measurement, Point, count_errors
from studies.cards.coded_link import CodedLink, Uncoded, one_after_the_other

_REALISATIONS = 256 * BLOCK
_CROSSOVER, _SHARE, _BLOCK_ERRORS = 0.11, 0.9, 1e-3  # of the binary symmetric channel; of its capacity; allowed


def qpsk_bit_errors(ebno_db: float) -> float:
    """Bit error rate of QPSK in white noise."""
    return float(norm.sf(np.sqrt(2 * 10 ** (ebno_db / 10))))


def qam16_bit_errors(ebno_db: float) -> float:
    """Bit error rate of 16-QAM with Gray labels in white noise."""
    step = np.sqrt(0.8 * 10 ** (ebno_db / 10))  # half the distance of neighbours over the noise of a dimension
    return float(norm.sf(step) * 3 / 4 + norm.sf(3 * step) / 2 - norm.sf(5 * step) / 4)


def mrc_bit_errors(ebno_db: float, num_rx_ant: int) -> float:
    """Bit error rate of QPSK over Rayleigh fading with maximum ratio combining, for the Eb/N0 of one antenna."""
    ebno = 10 ** (ebno_db / 10)
    half = (1 - np.sqrt(ebno / (1 + ebno))) / 2
    return float(half**num_rx_ant * sum(comb(num_rx_ant - 1 + k, k) * (1 - half) ** k for k in range(num_rx_ant)))


def mean_over_eigenvalues(function: Callable[[float], float], num_tx_ant: int, num_rx_ant: int) -> float:
    """Mean sum of a function of the eigenvalues of H^H H that are not zero, for i.i.d. Rayleigh matrices."""
    small, more = min(num_tx_ant, num_rx_ant), abs(num_tx_ant - num_rx_ant)

    def density(value):
        terms = (
            np.exp(gammaln(k + 1) - gammaln(k + more + 1)) * eval_genlaguerre(k, more, value) ** 2 for k in range(small)
        )
        return sum(terms) * value**more * np.exp(-value)

    return float(quad(lambda value: function(value) * density(value), 0, 100, limit=200)[0])


def capacity(snr_db: float, num_tx_ant: int, num_rx_ant: int) -> float:
    """Ergodic capacity [bit] of i.i.d. Rayleigh matrices that only the receiver knows."""
    share = 10 ** (snr_db / 10) / num_tx_ant
    return mean_over_eigenvalues(lambda value: np.log2(1 + share * value), num_tx_ant, num_rx_ant)


def mean_squared_error(snr_db: float, num_tx_ant: int, num_rx_ant: int) -> float:
    """Mean squared error of the linear MMSE estimate of symbols of unit power, over i.i.d. Rayleigh matrices."""
    share = 10 ** (snr_db / 10) / num_tx_ant
    gained = mean_over_eigenvalues(lambda value: share * value / (1 + share * value), num_tx_ant, num_rx_ant)
    return 1 - gained / num_tx_ant


def converse_bits(n: int) -> float:
    """Bits that no code of length `n` exceeds on the binary symmetric channel; theorem 35."""
    cumulative = np.asarray(binom.cdf(np.arange(n + 1), n, _CROSSOVER))
    last = int(np.searchsorted(cumulative, 1 - _BLOCK_ERRORS))
    share = (1 - _BLOCK_ERRORS - cumulative[last - 1]) / binom.pmf(last, n, _CROSSOVER)
    shares = np.append(np.ones(last), share)  # of the words at each distance that the test accepts
    return float(-np.logaddexp.reduce(_log_volumes(n)[: last + 1] + np.log(shares)) / np.log(2))


def random_coding_bits(n: int) -> float:
    """Bits that some code of length `n` carries on the binary symmetric channel; theorem 33."""
    closer = np.logaddexp.accumulate(_log_volumes(n))  # probability of a random word at no larger distance
    distances = binom.pmf(np.arange(n + 1), n, _CROSSOVER)

    def excess(bits):
        return distances @ np.exp(np.minimum(0, bits * np.log(2) + closer)) - _BLOCK_ERRORS

    root: Any = brentq(excess, 0, n)
    return float(root)


def least_length(bits: Callable[[int], float]) -> int:
    """Return the least length at which a bound reaches the share of capacity; bounds ripple with the length."""
    rate = _SHARE * (1 + sum(p * np.log2(p) for p in (_CROSSOVER, 1 - _CROSSOVER)))
    return next(n for n in itertools.count(2500) if bits(n) >= rate * n)


def _log_volumes(n):
    """Logarithm of the share of words at each distance from a given one."""
    k = np.arange(n + 1)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * np.log(2)


def _measure_lengths(card: Card) -> Sequence[Measurement]:
    lengths = map(least_length, (converse_bits, random_coding_bits))
    return [Measurement.exact(length) for length in lengths]


def _count_bits(config: LinkConfig, *, bits_per_fade: int, bits_per_symbol: int, fades: int, batches: int):
    """Count wrong bits without a code."""

    def measure(card):
        send = one_after_the_other(config, num_bits=bits_per_fade, bits_per_symbol=bits_per_symbol)
        link = CodedLink(code=Uncoded(), block_bits=1, fades=fades, words=bits_per_fade, send=send)
        offset_db = ebno_db_to_snr_db(0.0, num_tx_ant=config.num_tx_ant, bits_per_symbol=bits_per_symbol)

        def draw(batch):
            wrong = link.draw(batch)
            return lambda ebno_db: wrong(ebno_db + offset_db)

        return count_errors(card, draw, batches)

    return measure


def _matrices(num_tx_ant, num_rx_ant):
    """Channel and fades of one resource element in many realisations."""
    config = _link("rayleigh", num_tx_ant, num_rx_ant, fft_size=1)
    channel = Channel(config)
    return channel, channel.fades(np.arange(_REALISATIONS), ResourceGrid(config, 1))


def _measure_capacity(card: Card) -> Sequence[Measurement]:
    measured = []
    for num_tx_ant, num_rx_ant, snr_db in _MATRICES:
        _, fades = _matrices(num_tx_ant, num_rx_ant)
        h = fades.h.numpy()[..., 0].transpose(2, 0, 1)
        gram = np.eye(num_rx_ant) + 10 ** (snr_db / 10) / num_tx_ant * h @ h.conj().swapaxes(1, 2)
        measured.append(_mean(np.linalg.slogdet(gram).logabsdet / np.log(2)))
    return measured


def _measure_mean_squared_error(card: Card) -> Sequence[Measurement]:
    measured = []
    for num_tx_ant, num_rx_ant, snr_db in _MATRICES:
        channel, fades = _matrices(num_tx_ant, num_rx_ant)
        pairs = np.random.default_rng(0).standard_normal((2, num_tx_ant, _REALISATIONS, 1)).astype(np.float32)
        sent = tf.complex(*pairs) * (2 * num_tx_ant) ** -0.5
        no = snr_db_to_no(np.full((_REALISATIONS, 1), snr_db))
        recover = LinearRecovery(
            num_reals=2 * num_tx_ant,
            num_kept=2 * num_tx_ant,
            prior_variance=0.5 / num_tx_ant,
            kind="lmmse",
            noisy_channel=False,
        )
        known = tf.zeros([num_tx_ant, _REALISATIONS, 1])
        reals, _ = recover(channel(sent, fades, no), tf.transpose(fades.h, [2, 0, 1, 3]), known, no)
        error = reals.numpy() * (2 * num_tx_ant) ** 0.5 - np.concatenate(pairs)
        measured.append(_mean((error**2).mean((0, 2))))
    return measured


def _mean(samples):
    """Mean of independent samples with its intervals under the normal law."""
    mean, error = float(samples.mean()), float(samples.std() / len(samples) ** 0.5)
    likely, sure = (
        (mean - width * error, mean + width * error) for width in norm.isf((1 - np.array([CONFIDENCE, SURE])) / 2)
    )
    return Measurement(mean, likely, sure, f"{len(samples)} fades")


def _link(channel, num_tx_ant, num_rx_ant, **options):
    known = {"pilots": "none", "estimator": "perfect"}
    return LinkConfig(channel=channel, num_tx_ant=num_tx_ant, num_rx_ant=num_rx_ant, **known, **options)


def _at(closed: Callable[[float], float], *ebno_db: float) -> tuple[Point, ...]:
    return tuple(Point(at=at, printed=closed(at)) for at in ebno_db)


def _over_matrices(closed: Callable[[float, int, int], float]) -> tuple[Point, ...]:
    return tuple(Point(at=f"{tx}x{rx}, {snr:g} dB", printed=closed(snr, tx, rx)) for tx, rx, snr in _MATRICES)


_MATRICES = ((1, 1, 10.0), (4, 4, 10.0), (4, 8, 0.0), (4, 8, 20.0), (8, 4, 10.0))
_BIT_ERRORS: dict[str, Any] = {"axis": "Eb/N0 [dB]", "tolerance": 0.05}
_IN_NOISE: dict[str, Any] = {"bits_per_fade": 128 * BLOCK, "fades": BLOCK, "batches": 16}

CARDS = (
    Card(
        title="bit errors of QPSK in white noise",
        source="J. G. Proakis, Digital Communications, 2001, section 5.2",
        settings="no code",
        ours="grid, noise, receiver; Sionna's: QAM, demapper",
        points=_at(qpsk_bit_errors, 0.0, 4.0, 7.0),
        measure=_count_bits(_link("awgn", 1, 1), bits_per_symbol=2, **_IN_NOISE),
        **_BIT_ERRORS,
    ),
    Card(
        title="bit errors of 16-QAM in white noise",
        source="K. Cho, D. Yoon, IEEE Trans. Commun. 50(7), 2002, on Gray labels",
        settings="no code",
        ours="grid, noise, receiver; Sionna's: QAM, demapper",
        points=_at(qam16_bit_errors, 2.0, 6.0, 10.0),
        measure=_count_bits(_link("awgn", 1, 1), bits_per_symbol=4, **_IN_NOISE),
        **_BIT_ERRORS,
    ),
    Card(
        title="bit errors of QPSK over Rayleigh fading, four receive antennas",
        source="J. G. Proakis, Digital Communications, 2001, equation 14.4-15",
        settings="no code, a fade per symbol, maximum ratio combining; Eb/N0 of one antenna",
        ours="fades, grid, noise, receiver; Sionna's: QAM, demapper",
        points=_at(partial(mrc_bit_errors, num_rx_ant=4), -6.0, -3.0, 0.0),
        measure=_count_bits(
            _link("rayleigh", 1, 4, fft_size=1), bits_per_fade=2, bits_per_symbol=2, fades=BLOCK**2, batches=40
        ),
        **_BIT_ERRORS,
    ),
    Card(
        title="ergodic capacity of Rayleigh matrices [bit]",
        source='I. E. Telatar, "Capacity of multi-antenna Gaussian channels", Eur. Trans. Telecommun. 10(6), 1999',
        settings="known to the receiver only, equal powers",
        ours="fades",
        axis="antennas, SNR",
        tolerance=0.02,
        points=_over_matrices(capacity),
        measure=_measure_capacity,
    ),
    Card(
        title="error of the linear MMSE estimate over Rayleigh matrices",
        source="Telatar's law of eigenvalues, 1999; D. Guo, S. Shamai, S. Verdú, IEEE Trans. Inf. Theory 51(4), 2005",
        settings="Gaussian symbols of unit power, known channel",
        ours="fades, noise, LMMSE",
        axis="antennas, SNR",
        tolerance=0.03,
        points=_over_matrices(mean_squared_error),
        measure=_measure_mean_squared_error,
    ),
    Card(
        title="least block length for 90 % of capacity, binary symmetric channel",
        source="Y. Polyanskiy, H. V. Poor, S. Verdú, IEEE Trans. Inf. Theory 56(5), 2010, table I",
        settings="crossover 0.11, block error rate 1e-3",
        ours="the bounds in this file; the link has no part in it",
        axis="bound",
        tolerance=0.01,
        points=(Point(at="converse", printed=2985), Point(at="random coding", printed=3106)),
        measure=_measure_lengths,
    ),
)
