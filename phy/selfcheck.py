"""The closed forms that a correct link obeys, measured.

Every tolerance is five standard errors of the quantity under its own law, or a stated accuracy.
"""

import phy.startup  # noqa: F401 -- before everything that uses TensorFlow

# isort: split
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import erfc, j0
from sionna.phy import SPEED_OF_LIGHT
from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies

from phy.analog_link import AnalogLink
from phy.channel import ABSENT
from phy.config import CHANNELS, LinkConfig
from phy.fading import BLOCK
from phy.impairments import Receiver, Transmitter, quantizer_distortion, quantizer_loading
from phy.noise import no_to_snr_db, snr_db_to_no
from phy.recovery.linear import LinearRecovery


class Row(NamedTuple):
    """One check.

    Attributes
    ----------
    name : str
    requested : str
        Circumstances of the check.
    expected, measured : float
    verdict : {"ok", "off"}
    """

    name: str
    requested: str
    expected: float
    measured: float
    verdict: str


def rows() -> list[Row]:
    """Run all checks; about half a minute on one idle core."""
    return [row for check in _CHECKS for row in check()]


def _row(name, requested, expected, measured, tolerance) -> Row:
    verdict = "ok" if abs(measured - expected) <= tolerance else "off"
    return Row(name, requested, float(expected), float(measured), verdict)


def _conversions() -> Iterator[Row]:
    grid = np.linspace(-30, 60, 91)
    error = np.abs(no_to_snr_db(snr_db_to_no(grid, tf.float64)) - grid).max()
    yield _row("SNR to noise variance and back, error [dB]", "-30 to 60 dB", 0, error, 1e-6)


def _transmit_power() -> Iterator[Row]:
    for num_tx_ant in (1, 4, 8):
        link = AnalogLink(LinkConfig(num_tx_ant=num_tx_ant, channel="rayleigh"))
        x = link.transmission(num_tokens=5, width=64).grid.map(_signs((2, 5, 64)))
        yield _row(
            "transmit power per data element", f"{num_tx_ant} antennas", 1, np.mean(np.abs(x) ** 2) * num_tx_ant, 1e-5
        )


def _signal_to_noise() -> Iterator[Row]:
    """Noise-free part against noise at the receiver, without the gain of the drawn fades."""
    for channel in CHANNELS:
        link = AnalogLink(LinkConfig(channel=channel))
        grid = link.transmission(num_tokens=10, width=300).grid
        fades = link.channel.fades(np.arange(BLOCK), grid.resources)
        x, no = grid.map(_signs((BLOCK, 10, 300))), tf.constant([[0.1]])
        clean = link.channel(x, fades._replace(noise=np.zeros_like(fades.noise)), no)
        noise = link.channel(x, fades, no) - clean
        ratio = np.mean(np.abs(clean) ** 2) / np.mean(np.abs(noise) ** 2) / np.mean(np.abs(fades.h) ** 2)
        yield _row("SNR at the receiver [dB]", f"10 dB, {channel}, 4x8", 10, 10 * np.log10(ratio), 0.05)


def _mean_gain() -> Iterator[Row]:
    for channel in ("rayleigh", "tdl-a", "cdl-c", "cdl-d", "rma"):
        link = AnalogLink(LinkConfig(channel=channel, num_tx_ant=2, num_rx_ant=2, fft_size=8))
        h = link.channel.fades(np.arange(30 * BLOCK), link.transmission(num_tokens=1, width=4).grid.resources).h
        gain = (np.abs(h) ** 2).mean((0, 1, 3))
        yield _row(
            "mean channel gain", f"{channel}, {len(gain)} fades", 1, gain.mean(), 5 * gain.std() / len(gain) ** 0.5
        )


def _sionna() -> Iterator[Row]:
    """One response from the same paths, summed here and by Sionna."""
    for channel in ("tdl-a", "cdl-c"):
        link = AnalogLink(LinkConfig(channel=channel, num_tx_ant=2, num_rx_ant=2))
        fading, key = link.channel.fading, np.array([1, 0])
        ours = fading(np.array([0]), key)
        a, tau = fading.paths(np.array([0]), key)  # pyright: ignore[reportAttributeAccessIssue]
        reference = cir_to_ofdm_channel(subcarrier_frequencies(64, 30e3), a[:, None, :, None], tau[:, None, None])
        error = np.abs(ours - tf.transpose(reference[:, 0, :, 0], [1, 2, 0, 3, 4])).max()
        yield _row("H against Sionna's, largest error", f"{channel}, same paths", 0, error, 1e-5)


def _pilot_error() -> Iterator[Row]:
    link = AnalogLink(
        LinkConfig(channel="rayleigh", num_tx_ant=1, num_rx_ant=8, estimator="ls-nearest", phase_mask=False)
    )
    transmission = link.transmission(num_tokens=1, width=64)
    fades = link.channel.fades(np.arange(2 * BLOCK), transmission.grid.resources)
    h_hat, _ = transmission.estimate(fades, tf.constant([[0.1]]))
    error = np.abs(np.transpose(h_hat, [1, 2, 0, 3]) - fades.h) ** 2
    yield _row("channel estimate at a pilot, error", "N0 = 0.1, energy 1", 0.1, error.mean(), 5 * 0.1 / error.size**0.5)


def _recovery() -> Iterator[Row]:
    """Mean squared error per real symbol on i.i.d. Rayleigh matrices, N0 = 0.1."""
    rng, samples, no = np.random.default_rng(0), 40_000, 0.1
    for kind, tx, rx, unknowns, closed in (
        ("widely linear", 4, 8, 4, no / (2 * 8 - 4 - 1)),
        ("widely linear", 4, 5, 4, no / (2 * 5 - 4 - 1)),
        ("complex, real part", 4, 8, 8, no / (2 * (8 - 4))),
    ):
        h, noise = _normal(rng, rx, tx, 1, samples), _normal(rng, rx, 1, samples) * no**0.5
        x = rng.standard_normal((tx, 1, samples))
        solve = LinearRecovery(num_reals=unknowns, num_kept=tx, prior_variance=1.0, kind="ls", noisy_channel=False)
        y, no_error = tf.constant((h * x).sum(1) + noise), tf.zeros([tx, 1, 1], tf.float64)
        x_hat, _ = solve(y, tf.constant(h.transpose(2, 0, 1, 3)), no_error, tf.constant([[no]], tf.float64))
        error = (x_hat - x) ** 2
        tolerance = 5 * np.std(np.mean(error, 0)) / samples**0.5
        yield _row(f"least squares, {kind}", f"{tx}x{rx}, N0 = {no}", closed, np.mean(error), tolerance)
    x, noise = rng.standard_normal((1, 1, samples)), _normal(rng, 1, 1, samples) * no**0.5
    error = ((x + noise).real - x) ** 2
    yield _row(
        "one real symbol meets half the noise", f"1x1, N0 = {no}", no / 2, error.mean(), 5 * error.std() / samples**0.5
    )


def _ledger() -> Iterator[Row]:
    for guards in ((0, 0), (5, 6)):
        ledger = AnalogLink(LinkConfig(num_guard_carriers=guards)).ledger(num_tokens=5, width=256)
        parts = ledger.data_res + ledger.pilot_res + ledger.guard_res + ledger.idle_res
        yield _row("parts of the ledger", f"guards {guards}", ledger.num_symbols * 64, parts, 0)


def _hardware() -> Iterator[Row]:
    """Stages of the waveform on Gaussian symbols, and the age of channel knowledge, against their closed forms."""
    rng, options = np.random.default_rng(0), {"channel": "tdl-a", "num_tx_ant": 1, "num_rx_ant": 1, "fft_size": 256}
    x = _normal(rng, 1, 400, 256)
    for clipping_db in (0.0, 6.0):
        sent = Transmitter(LinkConfig(clipping_db=clipping_db, **options))(tf.constant(x)).numpy()
        ratio, gain = 10 ** (clipping_db / 20), np.vdot(x, sent).real / np.vdot(x, x).real
        closed = 1 - np.exp(-(ratio**2)) + np.pi**0.5 / 2 * ratio * erfc(ratio)
        yield _row("gain of a clipped waveform", f"{clipping_db:g} dB", closed, gain, 5e-3)
    for bits in (4, 8):
        sent = Transmitter(LinkConfig(dac_bits=bits, **options))(tf.constant(x)).numpy()
        distortion = quantizer_distortion(bits, quantizer_loading(bits))
        measured = 10 * np.log10(np.mean(np.abs(sent - x) ** 2))
        yield _row("distortion of a DAC [dB]", f"{bits} bits", 10 * np.log10(distortion), measured, 0.2)
    offset = 0.05
    receive = Receiver(LinkConfig(carrier_frequency_offset=offset * 30e3, **options), np.array([0]))
    leaked = receive(tf.constant(x), ABSENT, tf.constant(0.1, tf.float64)).numpy() - x * np.exp(
        1j * np.pi * offset * 255 / 256
    )
    kept = np.sin(np.pi * offset) / (256 * np.sin(np.pi * offset / 256))
    power = np.mean(np.abs(leaked) ** 2)
    yield _row("leak and loss by frequency offset", f"{offset:g} of the spacing", 2 * (1 - kept), power, 0.05 * power)
    image = Transmitter(LinkConfig(tx_iq_imbalance=(0.5, 3.0), **options))(tf.constant(np.eye(256)[None, 130:131] + 0j))
    image = np.abs(image.numpy()[0, 0]) ** 2
    g, turn = 10 ** (0.5 / 20), np.cos(np.deg2rad(3.0))
    rejection = 10 * np.log10((1 + 2 * g * turn + g**2) / (1 - 2 * g * turn + g**2))
    measured = 10 * np.log10(image[130] / image[126])
    yield _row("image rejection [dB]", "0.5 dB, 3 degrees", rejection, measured, 1e-3)
    link = AnalogLink(LinkConfig(csi_delay=1e-3, speed=30.0, estimator="perfect", **options))
    fades = link.channel.fades(np.arange(10 * BLOCK), link.transmission(num_tokens=1, width=64).grid.resources)
    error = (np.abs(np.asarray(fades.h) - np.asarray(fades.h_told)) ** 2).mean((0, 1, 3))
    closed = 2 * (1 - j0(2 * np.pi * 30.0 * 3.5e9 / SPEED_OF_LIGHT * 1e-3))
    yield _row(
        "error of channel knowledge 1 ms old", "tdl-a, 30 m/s", closed, error.mean(), 5 * error.std() / error.size**0.5
    )


def _signs(shape):
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), shape)


def _normal(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / 2**0.5


_CHECKS = (
    _conversions,
    _transmit_power,
    _signal_to_noise,
    _mean_gain,
    _sionna,
    _pilot_error,
    _recovery,
    _ledger,
    _hardware,
)
