"""Block error rates that Sionna's tutorials print, measured over the digital link.

Source: NVIDIA, documentation of Sionna 1.x, the tutorials that each card names, with the outputs on their web pages.
"""

import phy.startup  # noqa: F401 -- before everything that uses TensorFlow

# isort: split
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from phy import cir
from phy.channel import Channel
from phy.complex_numbers import to_complex
from phy.config import PILOT_SYMBOLS, SYMBOLS_PER_SLOT, LinkConfig
from phy.fading import BLOCK, MultipathFading
from phy.graphs import graph
from phy.noise import ebno_db_to_snr_db, snr_db_to_no
from phy.polar_code import PolarCode
from studies.cards.card import Card, Measurement, Point, count_errors
from studies.cards.coded_link import CRC_BITS, CodedLink, Send, bit_transmission, ldpc_code, one_after_the_other

_DATA_SYMBOLS = SYMBOLS_PER_SLOT - len(PILOT_SYMBOLS)
_KNOWN_CHANNEL: dict[str, Any] = {"pilots": "none", "estimator": "perfect"}


class _DirectedPaths:
    """Paths of the link's CDL model with elements of TR 38.901, table 7.3-1, at both ends, as in the tutorial.

    The link's own terminals have omnidirectional elements. The receiver is told nothing of directions: it would
    estimate in beams, which the tutorial's receiver does not.
    """

    def __init__(self, config: LinkConfig):
        with _same_elements_at_both_ends():
            self._model = cir.CDLModel(
                profile=config.channel[-1].upper(),
                num_tx_ant=config.num_tx_ant,
                num_rx_ant=config.num_rx_ant,
                carrier_frequency=config.carrier_frequency,
                delay_spread=config.delay_spread,
                speed=config.speed,
                direction=config.direction,
            )
        self.mean_gain = self._model.mean_gain
        self.frequency_correlation = self._model.frequency_correlation
        self.time_correlation = self._model.time_correlation

    def __call__(self, num_links, times):
        return self._model(num_links, times)


@contextmanager
def _same_elements_at_both_ends() -> Iterator[None]:
    """Let CDL models that are built within have the base station's elements at the terminal."""
    panel = cir.panel
    cir.panel = lambda num_ant, carrier_frequency, _: panel(num_ant, carrier_frequency, "38.901")
    try:
        yield
    finally:
        cir.panel = panel


def _over_streams(config: LinkConfig) -> Send:
    """Send a word on each antenna, over fades that are scaled to unit energy one by one, as in the tutorial.

    The energy is that on the data resource elements; the tutorial averages over pilots and guards as well.
    """
    channel = Channel(config)
    paths: Any = _DirectedPaths(config)
    channel.fading = MultipathFading(config, paths)
    streams, symbols = config.num_tx_ant, _DATA_SYMBOLS * config.num_subcarriers
    link = bit_transmission(channel, num_bits=2 * symbols * streams, bits_per_symbol=2)

    def receive(bits, no, fades):
        scale = to_complex(tf.reduce_mean(tf.abs(fades.h) ** 2, [0, 1, 3]) ** -0.5)[:, None]
        return link.call(bits, no, fades._replace(h=fades.h * scale, h_pilot=fades.h_pilot * scale))

    signature = [tf.TensorSpec([None, 2 * symbols * streams], tf.float32), tf.TensorSpec([None], tf.float32)]
    receive = graph(receive, signature=[*signature, channel.signature(link.grid)])

    def send(coded, snr_db, batch):
        fades = channel.fades(len(coded) * batch + np.arange(len(coded)), link.grid)
        bits = coded.reshape(-1, streams, symbols, 2).swapaxes(1, 2)  # antennas first, then resource elements
        llr = receive(tf.constant(bits.reshape(len(coded), -1)), snr_db_to_no(np.full(len(coded), snr_db)), fades)
        return llr.numpy().reshape(bits.shape).swapaxes(1, 2).reshape(coded.shape)

    return send


def _cdl_uplink(**options) -> tuple[CodedLink, float]:
    """Four code words on four antennas, and Es/N0 at the receiver over the tutorial's Eb/N0."""
    config = LinkConfig(
        num_tx_ant=4,
        num_rx_ant=8,
        fft_size=72,
        num_guard_carriers=(5, 6),
        dc_null=True,
        subcarrier_spacing=15e3,
        carrier_frequency=2.6e9,
        delay_spread=100e-9,
        **options,
    )
    k = _DATA_SYMBOLS * config.num_subcarriers
    link = CodedLink(
        code=ldpc_code(k, 2 * k, bits_per_symbol=2),
        block_bits=k - CRC_BITS,
        fades=BLOCK,
        words=config.num_tx_ant,
        send=_over_streams(config),
    )
    sent = SYMBOLS_PER_SLOT / _DATA_SYMBOLS * (1 + options["cyclic_prefix_length"] / config.fft_size)
    offset_db = ebno_db_to_snr_db(0.0, num_tx_ant=config.num_tx_ant, bits_per_symbol=2, code_rate=0.5)
    return link, offset_db + 10 * np.log10(config.num_tx_ant / sent)  # bits pay for pilots and prefix, streams share


def _short_words(make: Callable[[int, int], object], block_bits: int) -> tuple[CodedLink, float]:
    """Words of 64 bits, coded into 128, as QPSK in white noise; 64 of them on each realisation."""
    config = LinkConfig(channel="awgn", num_tx_ant=1, num_rx_ant=1, **_KNOWN_CHANNEL)
    send = one_after_the_other(config, num_bits=128 * BLOCK, bits_per_symbol=2)
    link = CodedLink(code=make(64, 128), block_bits=block_bits, fades=BLOCK**2, words=1, send=send)
    return link, ebno_db_to_snr_db(0.0, num_tx_ant=1, bits_per_symbol=2, code_rate=0.5)


def _flat_mimo() -> tuple[CodedLink, float]:
    """Words of 512 bits, coded into 1024, as 16-QAM over four antennas; a realisation for every four symbols."""
    config = LinkConfig(channel="rayleigh", num_tx_ant=4, num_rx_ant=16, fft_size=1, **_KNOWN_CHANNEL)
    link = CodedLink(
        code=ldpc_code(512, 1024, bits_per_symbol=1),
        block_bits=512 - CRC_BITS,
        fades=4 * BLOCK,
        words=1,
        send=one_after_the_other(config, num_bits=4 * config.num_tx_ant, bits_per_symbol=4),
    )
    offset_db = ebno_db_to_snr_db(0.0, num_tx_ant=config.num_tx_ant, bits_per_symbol=4, code_rate=0.5)
    return link, offset_db - 10 * np.log10(config.num_rx_ant**0.5)  # by which the tutorial multiplies the noise


def _counting(build: Callable[[], tuple[CodedLink, float]], batches: int) -> Callable[[Card], Sequence[Measurement]]:
    def measure(card):
        link, offset_db = build()

        def draw(batch):
            lost = link.draw(batch)
            return lambda ebno_db: lost(ebno_db + offset_db)

        return count_errors(card, draw, batches)

    return measure


def _points(*counts: tuple[float, int, int]) -> tuple[Point, ...]:
    """Points from Eb/N0 [dB], block errors and blocks, as the tutorials print them."""
    return tuple(Point(at=float(ebno_db), printed=errors / blocks, errors=errors) for ebno_db, errors, blocks in counts)


_UPLINK = {
    "a": ((-5, 1185, 2048), (-1, 1251, 4096), (3, 1021, 8192), (7, 1001, 29696), (11, 723, 102400), (15, 102, 102400)),
    "b": ((-5, 1028, 23552), (-1, 215, 102400)),
    "c": ((-5, 1148, 5120), (-1, 1029, 21504), (3, 589, 102400), (7, 41, 102400)),
    "d": ((-5, 1979, 2048), (-1, 1353, 2048), (3, 1002, 5120), (7, 1009, 64512), (11, 25, 102400)),
    "e": ((-5, 1922, 2048), (-1, 1399, 2048), (3, 1033, 4096), (7, 1011, 23552), (11, 368, 102400)),
}
_CDL_TUTORIAL = 'Sionna 1.x, "MIMO OFDM Transmissions over the CDL Channel Model"'
_CDL_SETTINGS = (
    "uplink, 4x8 cross-polarised, QPSK, rate 1/2 on each stream, fft_size 72, guards (5, 6), dc_null, 15 kHz, 2.6 GHz, "
    "100 ns, pilots on symbols 2 and 11, elements of table 7.3-1 at both ends, each fade of unit energy"
)
_CDL_OURS = "paths, fades, grid, pilots, noise, estimate, LMMSE, CRC and code blocks; Sionna's: QAM, LDPC, demapper"
_CODE_TUTORIAL = 'Sionna 1.x, "5G Channel Coding: Polar vs. LDPC Codes"'

CARDS = (
    *(
        Card(
            title=f"block errors over CDL-{profile.upper()}, known channel",
            source=_CDL_TUTORIAL,
            settings=f"{_CDL_SETTINGS}; 0 m/s, prefix 6",
            ours=_CDL_OURS,
            axis="Eb/N0 [dB]",
            tolerance=0.15,
            points=_points(*counts),
            measure=_counting(
                partial(_cdl_uplink, channel=f"cdl-{profile}", speed=0.0, cyclic_prefix_length=6, estimator="perfect"),
                batches=96,
            ),
        )
        for profile, counts in _UPLINK.items()
    ),
    Card(
        title="block errors over CDL-C at 3 m/s, least squares, nearest pilot",
        source=_CDL_TUTORIAL,
        settings=f"{_CDL_SETTINGS}; 3 m/s, prefix 20, simulated by subcarriers",
        ours=_CDL_OURS,
        axis="Eb/N0 [dB]",
        tolerance=0.15,
        points=_points(
            *((0, 1028, 3584), (2, 1014, 6144), (4, 1017, 13824), (6, 1006, 33280), (8, 1001, 82432)),
            *((10, 883, 256000), (12, 283, 256000)),
        ),
        measure=_counting(
            partial(_cdl_uplink, channel="cdl-c", speed=3.0, cyclic_prefix_length=20, estimator="ls-nearest"),
            batches=96,
        ),
    ),
    Card(
        title="block errors of LDPC, 64 bits in 128",
        source=_CODE_TUTORIAL,
        settings="QPSK, white noise, 20 iterations; the last 16 of the 64 bits are a CRC",
        ours="grid, noise, receiver, CRC and code blocks; Sionna's: QAM, LDPC, demapper",
        axis="Eb/N0 [dB]",
        tolerance=0.1,
        points=_points(
            *((0, 8643, 10000), (0.5, 7123, 10000), (1, 5033, 10000), (1.5, 3032, 10000), (2, 1547, 10000)),
            *((2.5, 1373, 20000), (3, 1127, 50000), (3.5, 1051, 180000), (4, 1010, 760000), (4.5, 211, 1000000)),
        ),
        measure=_counting(
            partial(_short_words, partial(ldpc_code, bits_per_symbol=2), 64 - CRC_BITS),
            batches=48,
        ),
    ),
    Card(
        title="block errors of the polar code with a list of 8, 64 bits in 128",
        source=_CODE_TUTORIAL,
        settings="QPSK, white noise, CRC of 11 bits beside the 64",
        ours="grid, noise, receiver, list decoder; Sionna's: QAM, demapper, frozen bits and interleavers",
        axis="Eb/N0 [dB]",
        tolerance=0.1,
        points=_points(
            *((0, 7981, 10000), (0.5, 6442, 10000), (1, 4330, 10000), (1.5, 2330, 10000), (2, 1026, 10000)),
            *((2.5, 1082, 30000), (3, 1015, 130000), (3.5, 1002, 760000)),
        ),
        measure=_counting(partial(_short_words, PolarCode, 64), batches=64),
    ),
    Card(
        title="block errors over a matrix per symbol, 4x16, 16-QAM",
        source='Sionna 1.x, "Basic MIMO Simulations", uncorrelated',
        settings="Rayleigh, rate 1/2, 1024 coded bits over four antennas, noise times the root of 16, known channel",
        ours="matrices, grid, noise, LMMSE, CRC and code blocks; Sionna's: QAM, LDPC, demapper",
        axis="Eb/N0 [dB]",
        tolerance=0.1,
        points=_points(
            *((-2.5, 15106, 16384), (-2.25, 12836, 16384), (-2, 9595, 16384), (-1.75, 5998, 16384)),
            *((-1.5, 3120, 16384), (-1.25, 1359, 16384), (-1, 469, 16384), (-0.75, 121, 16384), (-0.5, 139, 65536)),
        ),
        measure=_counting(_flat_mimo, batches=40),
    ),
)
