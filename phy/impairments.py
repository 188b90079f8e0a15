"""Radio hardware: stages between the grid and the antennas, each off by default.

Transmitter: DAC, I/Q modulator, clipping, power amplifier. Receiver: oscillator (frequency offset and phase noise), I/Q
demodulator, ADC. A stage without memory leaves the useful part of an OFDM symbol periodic, as long as the cyclic prefix
covers the channel. The useful part alone is therefore simulated. Every scale is a constant of the configuration; none
is taken from the signal of an example.
"""

import math

import numpy as np
import tensorflow as tf
from scipy.optimize import fminbound
from scipy.stats import norm

from phy.complex_numbers import to_complex
from phy.config import LinkConfig

OVERSAMPLING = 4  # of the waveform that is clipped, amplified or metered


class Modulator:
    r"""OFDM symbols without prefix, of the subcarriers in use, and back.

    .. math:: w_n = \frac{1}{\sqrt{N}} \sum_k x_k e^{2 \pi i k n / (L N)}, \qquad n = 0 \ldots L N - 1

    The mean power of the samples is :math:`\sum_k |x_k|^2 / N` for any oversampling L.

    Parameters
    ----------
    subcarriers : np.ndarray, [num_subcarriers]
        Indices in use, within 0 … fft_size - 1; fft_size // 2 is at the carrier frequency.
    fft_size : int
        Number N of subcarriers.
    oversampling : int
        Factor L.
    """

    def __init__(self, subcarriers: np.ndarray, fft_size: int, oversampling: int = OVERSAMPLING):
        self._size = oversampling * fft_size
        self._bins = (subcarriers - fft_size // 2) % self._size
        self._sources = np.full(self._size, len(self._bins))  # the column of zeros
        self._sources[self._bins] = np.arange(len(self._bins))
        self._scale = self._size / math.sqrt(fft_size)

    def __call__(self, x):
        """Waveform [..., L * fft_size] of the subcarriers `x` [..., num_subcarriers], complex."""
        zero = [[0, 0]] * (x.shape.rank - 1) + [[0, 1]]
        return tf.signal.ifft(tf.gather(tf.pad(x, zero), self._sources, axis=-1)) * tf.cast(self._scale, x.dtype)

    def demodulate(self, waveform):
        """Subcarriers in use of a waveform; the power beside them is dropped."""
        return tf.gather(tf.signal.fft(waveform), self._bins, axis=-1) / tf.cast(self._scale, waveform.dtype)


class Transmitter:
    """The stages at the transmit antennas, in the order DAC, I/Q modulator, clipping, amplifier.

    Levels refer to the mean power that an antenna sends on data symbols.

    Parameters
    ----------
    config : LinkConfig
    num_antennas : int, optional
        Antennas that share the transmit power; defaults to `num_tx_ant`.
    """

    def __init__(self, config: LinkConfig, num_antennas: int | None = None):
        rms = math.sqrt(config.num_subcarriers / config.fft_size / (num_antennas or config.num_tx_ant))
        self._num_subcarriers = config.num_subcarriers
        self._chains = [
            (Modulator(config.subcarriers, config.fft_size, oversampling), stages)
            for oversampling, makers in _TRANSMITTER
            if (stages := _stages_in_use(makers, config, rms))
        ]

    def __call__(self, x):
        """Signals that the antennas send for the symbols `x` [..., num_res], which fill a grid subcarriers first."""
        for modulator, stages in self._chains:
            waveform = modulator(ofdm_symbols(x, self._num_subcarriers))
            for stage in stages:
                waveform = stage(waveform)
            x = _resources(modulator.demodulate(waveform), x)
        return x


class Receiver:
    """The stages at the receive antennas, which share an oscillator, in the order oscillator, I/Q demodulator, ADC.

    Parameters
    ----------
    config : LinkConfig
    symbols : np.ndarray, [num_symbols]
        OFDM symbols that are received.
    """

    def __init__(self, config: LinkConfig, symbols: np.ndarray):
        rms = math.sqrt(config.num_subcarriers / config.fft_size)
        self._num_subcarriers = config.num_subcarriers
        self._modulator = Modulator(config.subcarriers, config.fft_size, 1)
        self._stages = _stages_in_use(_RECEIVER, config, symbols, rms)

    def __call__(self, y, phase, no):
        """Signals behind the receiver's hardware.

        Parameters
        ----------
        y : tf.Tensor, [num_rx_ant, batch, num_res], complex
        phase : tf.Tensor, [num_all_symbols, batch, fft_size], real, [rad]
            Phase noise on all OFDM symbols of the grid, received or not; `ABSENT` without phase noise.
        no : tf.Tensor, [batch, 1], real
            Noise variance. The ADC's gain control knows the mean power 1 + no at each antenna, not that of a fade.
        """
        if not self._stages:
            return y
        # [num_rx_ant, batch, num_symbols, fft_size]
        waveform = self._modulator(ofdm_symbols(y, self._num_subcarriers))
        for stage in self._stages:
            waveform = stage(waveform, phase, no)
        return _resources(self._modulator.demodulate(waveform), y)


def transmitter_leaks(config: LinkConfig) -> bool:
    """Whether a stage of the transmitter is on: antennas then leak beside the subcarriers that they send on."""
    return any(_stages_in_use(makers, config, 1.0) for _, makers in _TRANSMITTER)


# Makers of stages. Each returns None if the config leaves its stage out. A stage of the transmitter maps a waveform
# [num_tx_ant, batch, num_symbols, samples]. One of the receiver also takes `phase` and `no`, as `Receiver` does.


def _dac(config, rms):
    if config.dac_bits is None:
        return None
    full_scale = rms / math.sqrt(2) * quantizer_loading(config.dac_bits)
    return lambda waveform: quantize(waveform, config.dac_bits, full_scale)


def _iq_modulator(config, rms):
    if not any(config.tx_iq_imbalance):
        return None
    return lambda waveform: iq_imbalance(waveform, *config.tx_iq_imbalance)


def _clipper(config, rms):
    if config.clipping_db is None:
        return None
    return lambda waveform: clip(waveform, rms * _amplitude(config.clipping_db))


def _amplifier(config, rms):
    if config.pa_backoff_db is None:
        return None
    return lambda waveform: rapp(waveform, rms * _amplitude(config.pa_backoff_db), config.pa_smoothness)


def _oscillator(config, symbols, rms):
    is_noisy = config.phase_noise_linewidth > 0
    if config.carrier_frequency_offset == 0 and not is_noisy:
        return None
    start = symbols[:, None] * config.symbol_duration
    sample = np.arange(config.fft_size) / (config.fft_size * config.subcarrier_spacing)
    turns = config.carrier_frequency_offset * (start + sample)  # [num_symbols, fft_size]
    offset = 2 * np.pi * np.mod(turns, 1)

    def turn(waveform, phase, no):
        angle = tf.constant(offset, no.dtype)
        if is_noisy:
            angle += tf.cast(tf.transpose(tf.gather(phase, symbols), [1, 0, 2]), no.dtype)
        return waveform * tf.complex(tf.cos(angle), tf.sin(angle))

    return turn


def _iq_demodulator(config, symbols, rms):
    if not any(config.rx_iq_imbalance):
        return None
    return lambda waveform, phase, no: iq_imbalance(waveform, *config.rx_iq_imbalance)


def _adc(config, symbols, rms):
    if config.adc_bits is None:
        return None
    loading = rms / math.sqrt(2) * quantizer_loading(config.adc_bits)
    return lambda waveform, phase, no: quantize(waveform, config.adc_bits, loading * tf.sqrt(1 + no)[..., None])


_TRANSMITTER = (  # makers by the oversampling of the waveform, in the order of the signal
    (1, (_dac,)),
    (OVERSAMPLING, (_iq_modulator, _clipper, _amplifier)),
)
_RECEIVER = (_oscillator, _iq_demodulator, _adc)


def _stages_in_use(makers, *options):
    return [stage for make in makers if (stage := make(*options)) is not None]


def phase_noise_steps(config: LinkConfig) -> np.ndarray:
    r"""Standard deviations [rad] of the steps of the oscillator's phase within an OFDM symbol, [fft_size].

    A free-running oscillator of linewidth :math:`\beta` has a Wiener phase, :math:`\operatorname{E}(\phi(t + \tau) -
    \phi(t))^2 = 2 \pi \beta |\tau|`. The first step spans the cyclic prefix, up to the first sample.

    Source: L. Tomba, "On the effect of Wiener phase noise in OFDM systems", IEEE Trans. Commun. 46(5), 1998.
    """
    sample = 1 / (config.fft_size * config.subcarrier_spacing)
    lengths = np.full(config.fft_size, sample)
    lengths[0] = config.symbol_duration - (config.fft_size - 1) * sample
    return np.sqrt(2 * np.pi * config.phase_noise_linewidth * lengths)


def rapp(waveform, saturation, smoothness):
    r"""Solid-state power amplifier: gain one for small signals, output below `saturation`, no phase distortion.

    .. math:: g(r) = r \left(1 + (r / A)^{2 p}\right)^{-1 / (2 p)}

    Source: C. Rapp, "Effects of HPA-nonlinearity on a 4-DPSK/OFDM-signal", 2nd European Conf. Satellite Commun., 1991.
    """
    power = tf.math.real(waveform * tf.math.conj(waveform)) / saturation**2
    above = tf.maximum(power, 1)  # divided out first, or its powers would overflow
    bend = (1 + (power / above**2) ** smoothness) ** (-0.5 / smoothness)
    return waveform * to_complex(bend / tf.sqrt(above))


def clip(waveform, level):
    """Limit the envelope to `level` and keep the phase."""
    return waveform * to_complex(level / tf.maximum(tf.abs(waveform), level))


def iq_imbalance(waveform, gain_db, phase_deg):
    r"""Mixer whose branches differ by a gain g and a phase φ.

    .. math:: \mu w + \nu w^*, \qquad \mu = \frac{1 + g e^{-i \varphi}}{2}, \quad \nu = \frac{1 - g e^{i \varphi}}{2}

    The image that subcarrier −k leaves on k is weaker by the rejection ratio :math:`|\mu|^2 / |\nu|^2`.

    Source: T. Schenk, *RF Imperfections in High-rate Wireless Systems*, 2008, ch. 5.
    """
    branch = _amplitude(gain_db) * np.exp(1j * np.deg2rad(phase_deg))
    direct, image = (tf.constant(part, waveform.dtype) for part in ((1 + branch.conj()) / 2, (1 - branch) / 2))
    return direct * waveform + image * tf.math.conj(waveform)


def quantize(waveform, bits, full_scale):
    """Round in-phase and quadrature part to the middles of 2^bits steps that cover ±full_scale.

    The gradient passes where the signal is inside that range.
    """
    step = tf.cast(full_scale * 2.0 ** (1 - bits), waveform.dtype.real_dtype)
    highest = 2.0 ** (bits - 1) - 0.5

    def round_part(part):
        inside = tf.clip_by_value(part / step, -highest - 0.5, highest + 0.5)
        level = tf.clip_by_value(tf.floor(inside) + 0.5, -highest, highest)
        return (inside + tf.stop_gradient(level - inside)) * step

    return tf.complex(round_part(tf.math.real(waveform)), round_part(tf.math.imag(waveform)))


def quantizer_loading(bits: int) -> float:
    """Full scale over standard deviation with the least distortion of a Gaussian signal."""
    return float(fminbound(lambda full: quantizer_distortion(bits, full), 0.5, 9.0))


def quantizer_distortion(bits: int, full_scale: float) -> float:
    r"""Mean squared error of a quantiser of 2^bits steps over ±full_scale for a standard normal signal.

    The sum over the steps is exact. For many bits it tends to :math:`\Delta^2 / 12` plus the overload.
    """
    edges = np.linspace(-full_scale, full_scale, 2**bits + 1)
    level = (edges[1:] + edges[:-1]) / 2
    edges[0], edges[-1] = -np.inf, np.inf
    first = norm.pdf(edges[:-1]) - norm.pdf(edges[1:])
    return 1 - 2 * np.sum(level * first) + np.sum(level**2 * np.diff(norm.cdf(edges)))


def papr_db(waveform):
    """Peak over mean power of each OFDM symbol [dB]: [..., samples] to [...]. Oversample at least four times."""
    power = tf.math.real(waveform * tf.math.conj(waveform))
    return 10 / math.log(10) * tf.math.log(tf.reduce_max(power, -1) / tf.reduce_mean(power, -1))


def peak_power(waveform, config) -> np.ndarray:
    """Largest power of each example's waveform, over the mean power of an antenna on data symbols if all of them send.

    Unlike `papr_db` it does not forgive an example that is loud as a whole.

    Parameters
    ----------
    waveform : tf.Tensor, [num_antennas, batch, num_symbols, samples], complex
        Of antennas that share the power of the resource elements. Oversample at least four times.
    config : LinkConfig

    Returns
    -------
    numpy.ndarray, [batch]
    """
    power = tf.reduce_max(tf.math.real(waveform * tf.math.conj(waveform)), [0, 2, 3])
    return power.numpy() / (config.num_subcarriers / config.fft_size / config.num_tx_ant)


def ccdf(values, levels) -> np.ndarray:
    """Complementary cumulative distribution: share of `values`, of any shape, that exceed each of `levels`."""
    values = np.sort(np.ravel(values))
    return 1 - np.searchsorted(values, levels, side="right") / values.size


def evm(received, sent):
    r"""Error vector magnitude over all elements, after the best complex gain, as standards define it.

    .. math:: \sqrt{1 / \rho - 1}, \qquad \rho = |\langle x, y \rangle|^2 / (\|x\|^2 \|y\|^2)

    It is relative to the part of `received` that is a multiple of `sent`. Multiply it by 100 for per cent.
    """
    cross = tf.reduce_sum(tf.math.conj(sent) * received)
    energies = [tf.reduce_sum(tf.math.real(part * tf.math.conj(part))) for part in (sent, received)]
    explained = tf.math.real(cross * tf.math.conj(cross)) / energies[0]
    return tf.sqrt(tf.maximum(energies[1] - explained, 0) / explained)


def _amplitude(db):
    return 10 ** (db / 20)


def ofdm_symbols(x, num_subcarriers):
    """[..., num_res] to whole OFDM symbols [..., num_symbols, num_subcarriers]; zeros fill the last one."""
    missing = -x.shape[-1] % num_subcarriers
    rows = tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[0, missing]])
    return tf.reshape(rows, [*_leading(x), (x.shape[-1] + missing) // num_subcarriers, num_subcarriers])


def _resources(symbols, like):
    size = symbols.shape[-2] * symbols.shape[-1]
    return tf.reshape(symbols, [*_leading(like), size])[..., : like.shape[-1]]


def _leading(x):
    """All but the last axis, as numbers where they are known."""
    sizes = tf.shape(x)
    return [sizes[axis] if size is None else size for axis, size in enumerate(x.shape[:-1])]
