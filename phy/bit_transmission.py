"""Coded bits over the grid and fades of the analog link: scrambling and QAM, channel, linear MMSE, soft decisions."""

import weakref

import numpy as np
import tensorflow as tf
from sionna.phy.fec.scrambling import TB5GScrambler
from sionna.phy.mapping import Demapper, Mapper

from phy.channel import Channel, Fades
from phy.config import LinkConfig
from phy.graphs import graph
from phy.impairments import Modulator, Receiver, Transmitter, ofdm_symbols
from phy.noise import snr_db_to_no
from phy.recovery import LinearRecovery
from phy.resource_grid import ResourceGrid
from phy.sounding import Sounding, in_one_row


def num_streams(config: LinkConfig) -> int:
    """Return the streams of a digital link: as many antennas send as the receiver can tell apart."""
    return min(config.num_tx_ant, config.num_rx_ant)


class BitTransmission:
    """The digital link between encoder and decoder, for one number of coded bits: the boxes of the figure in order.

    Parameters
    ----------
    config : LinkConfig
    channel : Channel
    num_bits : int
        Coded bits of a payload, a multiple of `bits_per_symbol`.
    bits_per_symbol : int
    """

    def __init__(self, config: LinkConfig, channel: Channel, *, num_bits: int, bits_per_symbol: int):
        self.channel, self._config = channel, config
        self._num_streams, self._num_symbols = num_streams(config), num_bits // bits_per_symbol
        self.grid = grid = ResourceGrid(config, -(-self._num_symbols // self._num_streams))
        self._complex = tf.complex64 if config.precision == "single" else tf.complex128
        self._scale = self._num_streams**-0.5
        self._scrambling = TB5GScrambler()(tf.zeros([1, num_bits]))[0]
        self._map = Mapper("qam", bits_per_symbol, precision=config.precision)
        self._demap = Demapper("app", "qam", bits_per_symbol, precision=config.precision)
        self.sounding = Sounding(config=config, channel=channel, grid=grid, num_streams=self._num_streams)
        self.estimate = in_one_row(self.sounding)
        reals = 2 * self._num_streams
        self._recovery = LinearRecovery(
            num_reals=reals,
            num_kept=reals,
            prior_variance=1 / reals,
            kind="lmmse-unbiased",
            noisy_channel=config.has_noisy_estimate,
        )
        self.transmit = Transmitter(config, self._num_streams)
        self._receiver = Receiver(config, grid.data_symbols)
        self._noise_error = 10 ** (config.noise_error_db / 10)
        signature = [
            tf.TensorSpec([None, num_bits], tf.float32),
            tf.TensorSpec([None], self._complex.real_dtype),
            channel.signature(grid),
        ]
        this = weakref.proxy(self)  # the graph would keep its own owner, and the cached fades, alive otherwise
        self._chain = graph(lambda *args: this.call(*args), signature=signature)
        self._variance = graph(lambda *args: this.symbol_variance(*args), signature=signature[1:])

    def __call__(self, bits, snr_db: np.ndarray, numbers: np.ndarray) -> tf.Tensor:
        """Send coded bits [batch, num_bits] over the fades of these numbers; return log-likelihood ratios of ones."""
        return self._chain(bits, *self._met(snr_db, numbers))

    def error_variance(self, snr_db: np.ndarray, numbers: np.ndarray) -> tf.Tensor:
        """Return the error variance of each symbol over the fades of these numbers, [batch, num_symbols]."""
        return self._variance(*self._met(snr_db, numbers))

    def call(self, bits, no, fades: Fades):
        """Send coded bits [batch, num_bits] at noise variances [batch]; return the log-likelihood ratios of ones."""
        no = no[:, None]
        fades = self._of_streams(fades)
        bits = tf.abs(bits - self._scrambling)  # or streams would be alike where the bits repeat
        x = self.transmit(self.map_bits(bits))  # [num_streams, batch, num_res]
        y = self._receiver(self.channel(x, fades, no), fades.phase, no)  # [num_rx_ant, batch, num_res]
        return self.read_bits(*self._recover(y, fades, no)) * (1 - 2 * self._scrambling)

    def symbol_variance(self, no, fades: Fades):
        """Error variance of the symbols [batch, num_symbols] at noise variances [batch]; no symbol changes it."""
        no, fades = no[:, None], self._of_streams(fades)
        silence = tf.zeros([self._config.num_rx_ant, tf.shape(no)[0], self.grid.num_res], self._complex)
        return self._no_eff(self._recover(silence, fades, no)[1])

    def _of_streams(self, fades):
        fades = fades.cast(self._complex)
        return fades._replace(h=fades.h[:, : self._num_streams])

    def _recover(self, y, fades, no):
        h_hat, err_var = self.estimate(fades, no)
        no = self._noise_error * no
        return self._recovery(*self.sounding.whiten(y, h_hat, err_var, no), no)

    def _met(self, snr_db, numbers):
        """Noise variances and fades."""
        fades = self.channel.fades(numbers, self.grid)
        return snr_db_to_no(snr_db, self._complex.real_dtype), tf.nest.map_structure(tf.convert_to_tensor, fades)

    def map_bits(self, bits):
        """Put QAM symbols on antennas first, then on resource elements."""
        symbols = self._map(bits)
        symbols = tf.pad(symbols, [[0, 0], [0, self.grid.num_res * self._num_streams - self._num_symbols]])
        rows = tf.transpose(tf.reshape(symbols, [-1, self.grid.num_res, self._num_streams]), [2, 0, 1])
        return rows * tf.cast(self._scale, rows.dtype)

    def waveform(self, bits):
        """Signals of the antennas that send bits, four times oversampled, as `AnalogLink.waveform` has them."""
        rows = ofdm_symbols(self.map_bits(bits), self._config.num_subcarriers)
        return Modulator(self._config.subcarriers, self._config.fft_size)(rows)

    def read_bits(self, reals, variance):
        """Soft decisions on the bits from the unbiased symbols and the variance of their errors."""
        symbols = tf.complex(reals[: self._num_streams], reals[self._num_streams :]) / tf.cast(
            self._scale, self._complex
        )
        return tf.cast(self._demap(self._in_order(symbols), self._no_eff(variance)), tf.float32)

    def _no_eff(self, variance):
        return self._in_order((variance[: self._num_streams] + variance[self._num_streams :]) / self._scale**2)

    def _in_order(self, rows):
        size = self.grid.num_res * self._num_streams
        return tf.reshape(tf.transpose(rows, [1, 2, 0]), [-1, size])[:, : self._num_symbols]
