"""What a receiver makes of the pilots: the channel at the data, and how sure it is of it."""

import numpy as np
import tensorflow as tf

from phy.complex_numbers import to_complex
from phy.estimation import LMMSEEstimator, LSEstimator, bounded_profile, linear_weights, nearest_weights
from phy.impairments import Receiver, Transmitter, transmitter_leaks
from phy.pilots import pilot_antenna, pilot_combs, pilot_sequence
from phy.spatial_estimation import SpatialLMMSEEstimator


class Sounding:
    """Pilots over the channel, and the channel estimate that the receiver makes of them.

    Parameters
    ----------
    config : LinkConfig
        Its `estimator` names the method.
    channel : Channel
    grid : ResourceGrid
    turn : tf.Tensor, optional
        See `LSEstimator`.

    Attributes
    ----------
    pilots : tf.Tensor, [num_pilots], complex
    """

    def __init__(self, *, config, channel, grid, turn=None):
        self._channel, self._turn, self._estimator = channel, turn, None
        dtype = tf.complex64 if config.precision == "single" else tf.complex128
        pilots, age = pilot_sequence(config, grid), config.csi_delay / config.symbol_duration
        self.pilots = tf.constant(pilots.ravel(), dtype)
        self._sent = self._leave_antennas(config)
        self._receive = Receiver(config, grid.pilot_symbols)
        self._noise_error = 10 ** (config.noise_error_db / 10)
        self._is_told_late = age > 0
        self._told_variance = float(2 * (1 - np.real(channel.time_correlation(np.array(age))))) if age else 0.0
        options = {"grid": grid, "channel": channel, "pilots": pilots, "age": age, "dtype": dtype, "turn": turn}
        self._beams = None
        if config.estimator == "lmmse-spatial" and channel.spatial is not None:
            self._estimator = SpatialLMMSEEstimator(combs=pilot_combs(config), **options)
            self._beams = tf.constant(channel.spatial.beams.conj().T, dtype)
        elif config.estimator.startswith("lmmse"):
            profile = bounded_profile(config) if config.estimator == "lmmse-robust" else None
            self._estimator = LMMSEEstimator(combs=pilot_combs(config), profile=profile, **options)
        elif config.estimator != "perfect":
            weights = linear_weights if config.estimator == "ls-linear" else nearest_weights
            self._estimator = LSEstimator(combs=pilot_combs(config), weights=weights, **options)

    def __call__(self, fades, no):
        """Estimate the channel at the data from received pilots, with its error variance; or be told the channel.

        Parameters
        ----------
        fades : Fades of tf.Tensor
        no : tf.Tensor, [batch, 1], real
            True noise variance; the estimator takes it for `noise_error_db` more.

        Returns
        -------
        h_hat, err_var : see `LSEstimator`
            Or those of `SpatialLMMSEEstimator`: in beams, as `combine` makes them.
        """
        if self._estimator is None:
            told = fades.h_told if self._is_told_late else fades.h
            return _batch_first(told, self._turn), tf.fill(
                tf.shape(told)[1:], tf.constant(self._told_variance, no.dtype)
            )
        y_pilot = self._receive(self._channel.sound(self._sent, fades, no), fades.phase, no)
        return self._estimator(self.combine(y_pilot), self._noise_error * no)

    def combine(self, received):
        """Bring what the antennas receive, [num_rx_ant, ...], to the beams in which the channel is estimated.

        They are orthonormal, so that the noise stays white. Without statistics in space they are the antennas.
        """
        return tf.tensordot(self._beams, received, 1) if self.has_beams else received

    @property
    def has_beams(self) -> bool:
        """Whether the channel is estimated in beams, each with an error of its own."""
        return self._beams is not None

    def whiten(self, y, h_hat, err_var, no, num_streams=None):
        r"""Turn received data into rows of equal noise, the error of the channel estimate included.

        A beam b has the noise variance :math:`N_b = N_0 + \sum_a \sigma_{ba}^2 / A`, as each of A antennas that send
        has 1 / A of the power. Data and channel times :math:`\sqrt{N_0 / N_b}` have the noise :math:`N_0`, and no other
        error.

        Parameters
        ----------
        y : tf.Tensor, [num_rx_ant, batch, num_res], complex
            As the antennas receive it.
        h_hat, err_var : see `__call__`
        no : tf.Tensor, [batch, 1], real
        num_streams : int, optional
            Number of antennas that send, the first ones; by default all.

        Returns
        -------
        y, h_hat, err_var
            Of the antennas that send, in the form of `LSEstimator`; nothing is weighted if there are no beams.
        """
        h_hat = h_hat[:, :, :num_streams]
        if not self.has_beams:
            return y, h_hat, err_var[:num_streams]
        err_var, no = err_var[:, :, :num_streams], no[:, None]
        weight = to_complex(tf.sqrt(no / (no + tf.reduce_mean(err_var, 2))))  # [batch, num_rx_ant, num_res]
        y = self.combine(y) * tf.transpose(weight, [1, 0, 2])
        return y, h_hat * weight[:, :, None], tf.transpose(tf.zeros_like(err_var[:, 0]), [1, 0, 2])

    def _leave_antennas(self, config):
        """Pilots as the antennas send them, [num_pilots], or [num_tx_ant, 1, num_pilots] if they leak."""
        if not transmitter_leaks(config):
            return self.pilots
        antenna = pilot_antenna(config.num_tx_ant, config.num_subcarriers, config.pilot_spacing)
        own = np.tile(antenna, len(self.pilots) // len(antenna)) == np.arange(config.num_tx_ant)[:, None, None]
        return Transmitter(config)(self.pilots * own.astype(self.pilots.dtype.as_numpy_dtype))


def in_one_row(sound):
    """Let a `Sounding`, compiled or not, return one row of resource elements, [batch, num_rx_ant, num_tx_ant, num_res].

    Symbols are joined behind the compiled box: inside, XLA would divide the index of every element by the number of
    subcarriers, and take half as long again.
    """

    def joined(fades, no):
        h_hat, err_var = sound(fades, no)
        if len(h_hat.shape) == 5:  # whole symbols
            h_hat = tf.reshape(h_hat, [-1, *h_hat.shape[1:3], h_hat.shape[3] * h_hat.shape[4]])
        return h_hat, err_var

    return joined


def _batch_first(h, turn):
    """Turn [num_rx_ant, num_tx_ant, batch, num_res] by the phases of the data, and bring the batch to the front."""
    return tf.transpose(h if turn is None else h * turn, [2, 0, 1, 3])
