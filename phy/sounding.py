"""What a receiver makes of the pilots: the channel at the data, and how sure it is of it."""

import numpy as np
import tensorflow as tf

from phy.complex_numbers import to_complex
from phy.estimation import LMMSEEstimator, LSEstimator, bounded_profile, linear_weights, nearest_weights
from phy.impairments import Receiver, Transmitter, transmitter_leaks
from phy.pilots import pilot_antenna, pilot_combs, pilot_sequence
from phy.spatial_estimation import SpatialFilter, SpatialLMMSEEstimator


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
    num_streams : int, optional
        Number of antennas that send data, the first ones; by default all.
    plain : bool
        Whether `whiten` leaves alone what the estimator made of single antenna pairs, for least squares with it.

    Attributes
    ----------
    pilots : tf.Tensor, [num_pilots], complex
    estimates_beams : bool
        Whether the channel is estimated in beams, each with an error of its own.
    weighs_beams : bool
        Whether `whiten` weighs beams.
    """

    def __init__(self, *, config, channel, grid, turn=None, num_streams=None, plain=False):
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
        self._num_streams, self._beams, self._filter = num_streams, None, None
        if channel.spatial is not None and config.estimator != "perfect":
            self._beams = tf.constant(channel.spatial.beams.conj().T, dtype)
        if config.estimator == "lmmse-spatial" and channel.spatial is not None:
            self._estimator = SpatialLMMSEEstimator(combs=pilot_combs(config), **options)
        elif config.estimator.startswith("lmmse"):
            profile = bounded_profile(config) if config.estimator == "lmmse-robust" else None
            self._estimator = LMMSEEstimator(combs=pilot_combs(config), profile=profile, **options)
        elif config.estimator != "perfect":
            weights = linear_weights if config.estimator == "ls-linear" else nearest_weights
            self._estimator = LSEstimator(combs=pilot_combs(config), weights=weights, **options)
        self.estimates_beams = isinstance(self._estimator, SpatialLMMSEEstimator)
        self.weighs_beams = self._beams is not None and (self.estimates_beams or not plain)
        if self.weighs_beams and not self.estimates_beams:
            self._filter = SpatialFilter(
                channel.spatial, num_streams=num_streams, noisy_channel=config.has_noisy_estimate, dtype=dtype
            )

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
        """Bring what the antennas receive, [num_rx_ant, ...], to the beams in which the channel is estimated, if any.

        They are orthonormal, so that the noise stays white.
        """
        return tf.tensordot(self._beams, received, 1) if self.estimates_beams else received

    def whiten(self, y, h_hat, err_var, no):
        r"""Turn received data into rows of equal noise, the error of the channel estimate included.

        In beams, with what `SpatialFilter` makes of an estimate that does not know them. A beam b has the noise
        variance :math:`N_b = N_0 + \sum_a \sigma_{ba}^2 / A`, as each of A antennas that send has 1 / A of the power.
        Data and channel times :math:`\sqrt{N_0 / N_b}` have the noise :math:`N_0`, and no other error.

        Parameters
        ----------
        y : tf.Tensor, [num_rx_ant, batch, num_res], complex
            As the antennas receive it.
        h_hat, err_var : see `__call__`
        no : tf.Tensor, [batch, 1], real

        Returns
        -------
        y, h_hat, err_var
            Of the antennas that send, in the form of `LSEstimator`; nothing is weighted unless `weighs_beams`.
        """
        h_hat = h_hat[:, :, : self._num_streams]
        if not self.weighs_beams:
            return y, h_hat, err_var[: self._num_streams]
        if self._filter is None:
            err_var = err_var[:, :, : self._num_streams]
        else:
            turn = 1.0 if self._turn is None else tf.transpose(self._turn, [1, 0, 2])  # [1, num_tx_ant, num_res]
            h_hat = tf.einsum("br,nrat->nbat", self._beams, h_hat / turn)
            h_hat, err_var = self._filter(h_hat, err_var[: self._num_streams])
            h_hat *= turn
        no = no[:, None]
        weight = to_complex(tf.sqrt(no / (no + tf.reduce_mean(err_var, 2))))  # [batch, num_rx_ant, num_res]
        y = tf.tensordot(self._beams, y, 1) * tf.transpose(weight, [1, 0, 2])
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
