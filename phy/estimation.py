"""Channel estimates at the data from pilots, and the variance of their error."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.pilots import pilot_antenna, pilot_sequence


def nearest_weights(targets: np.ndarray, pilots: np.ndarray) -> np.ndarray:
    """Interpolate by the nearest pilot, the first of two equally near ones: a matrix [num_targets, num_pilots]."""
    weights = np.zeros((len(targets), len(pilots)))
    weights[np.arange(len(targets)), np.abs(targets[:, None] - pilots).argmin(1)] = 1
    return weights


def linear_weights(targets: np.ndarray, pilots: np.ndarray) -> np.ndarray:
    """Interpolate on the line through two neighbours, which goes on beyond the outer pilots; shape as above."""
    if len(pilots) == 1:
        return np.ones((len(targets), 1))
    right = np.clip(np.searchsorted(pilots, targets), 1, len(pilots) - 1)
    share = (targets - pilots[right - 1]) / (pilots[right] - pilots[right - 1])
    weights, rows = np.zeros((len(targets), len(pilots))), np.arange(len(targets))
    weights[rows, right - 1], weights[rows, right] = 1 - share, share
    return weights


class LSEstimator:
    r"""Least squares at the pilots, interpolated over subcarriers, then over OFDM symbols.

    With :math:`\hat h_p = y_p / p` at pilots of unit energy and interpolation weights w, the estimate :math:`w^T \hat
    h_p` has the error variance

    .. math:: N_0 \|w\|^2 + 1 - 2 \operatorname{Re}(w^T r^*) + w^T R w

    where R and r are the channel's correlations among the pilots and with the target: noise, and what interpolation
    misses.

    Parameters
    ----------
    grid : ResourceGrid
    weights : callable
        `linear_weights` or `nearest_weights`.
    channel : Channel
        For its correlations.
    pilots : np.ndarray, [num_pilot_symbols, num_subcarriers], unit modulus
    dtype : tf.DType, complex
    """

    def __init__(self, *, grid, weights, channel, pilots, dtype):
        self._num_res, self._num_pilot_symbols = grid.num_res, len(grid.pilot_symbols)
        self._conjugate = tf.constant(pilots.conj().ravel(), dtype)
        subcarriers, symbols = np.arange(len(grid.subcarriers)), grid.data_symbols
        self._combs = combs = _combs(grid)
        in_time = weights(symbols, grid.pilot_symbols)
        in_frequency = [weights(subcarriers, comb) for comb in combs]
        self._in_time = tf.constant(in_time, dtype)
        self._in_frequency = [tf.constant(w.T, dtype) for w in in_frequency]
        time = _second_moments(in_time, symbols, grid.pilot_symbols, channel.time_correlation)
        noise, missed = [], []
        for w, comb in zip(in_frequency, combs, strict=True):
            frequency = _second_moments(w, subcarriers, comb, channel.frequency_correlation)
            noise.append(np.outer(time.noise, frequency.noise))
            cross = np.real(np.outer(time.cross, frequency.cross))
            missed.append(np.maximum(1 - 2 * cross + np.outer(time.power, frequency.power), 0))
        self._noise, self._missed = (
            tf.constant(np.reshape(part, (grid.num_tx_ant, 1, -1))[..., : grid.num_res], dtype.real_dtype)
            for part in (noise, missed)
        )

    def __call__(self, y_pilot, no):
        """Estimate the channel on the data resource elements.

        Parameters
        ----------
        y_pilot : tf.Tensor, [num_rx_ant, batch, num_pilots], complex
        no : tf.Tensor, [batch, 1], real

        Returns
        -------
        h_hat : tf.Tensor, [num_rx_ant, num_tx_ant, batch, num_res], complex
        err_var : tf.Tensor, [num_tx_ant, batch, num_res], real
        """
        num_rx_ant, batch = y_pilot.shape[0], tf.shape(y_pilot)[1]
        at_pilots = tf.reshape(y_pilot * self._conjugate, [num_rx_ant, batch, self._num_pilot_symbols, -1])
        h_hat = []
        for comb, weights in zip(self._combs, self._in_frequency, strict=True):
            over_frequency = tf.gather(at_pilots, comb, axis=3) @ weights
            over_time = self._in_time @ over_frequency  # [num_rx_ant, batch, num_data_symbols, num_subcarriers]
            h_hat.append(tf.reshape(over_time, [num_rx_ant, batch, -1])[:, :, : self._num_res])
        return tf.stack(h_hat, 1), no * self._noise + self._missed


class LMMSEEstimator:
    r"""Linear MMSE over subcarriers and OFDM symbols at once, from the channel's delay and Doppler profile.

    The correlation of pilots is the Kronecker product of one in time and one in frequency. With eigenvectors U and
    eigenvalues λ of that product and the correlation r of a target with the pilots,

    .. math:: \hat h = r U (\Lambda + N_0 I)^{-1} U^H \hat h_p, \qquad
        \sigma^2 = 1 - \sum_i |(r U)_i|^2 / (\lambda_i + N_0)

    so that the noise variance of an example enters in one division and the products stay small.

    Parameters
    ----------
    grid, channel, pilots, dtype : see `LSEstimator`

    Source: O. Edfors et al., "OFDM channel estimation by singular value decomposition", IEEE Trans. Commun. 46(7),
    1998.
    """

    def __init__(self, *, grid, channel, pilots, dtype):
        self._num_res, self._num_pilot_symbols = grid.num_res, len(grid.pilot_symbols)
        self._conjugate = tf.constant(pilots.conj().ravel(), dtype)
        self._combs = _combs(grid)
        time = _Eigen(grid.data_symbols, grid.pilot_symbols, channel.time_correlation, dtype)
        subcarriers = np.arange(len(grid.subcarriers))
        frequency = [_Eigen(subcarriers, comb, channel.frequency_correlation, dtype) for comb in self._combs]
        self._time, self._frequency = time, frequency

    def __call__(self, y_pilot, no):
        """Estimate the channel on the data resource elements; shapes as for `LSEstimator`."""
        num_rx_ant, batch = y_pilot.shape[0], tf.shape(y_pilot)[1]
        at_pilots = tf.reshape(y_pilot * self._conjugate, [num_rx_ant, batch, self._num_pilot_symbols, -1])
        h_hat, err_var = [], []
        for comb, frequency in zip(self._combs, self._frequency, strict=True):
            weight = 1 / (self._time.values[:, None] * frequency.values + no[..., None])  # [batch, times, frequencies]
            modes = self._time.analysis @ (tf.gather(at_pilots, comb, axis=3) @ frequency.analysis_t)
            h = self._time.synthesis @ (modes * tf.cast(weight, modes.dtype)) @ frequency.synthesis_t
            explained = self._time.power @ weight @ frequency.power_t
            h_hat.append(tf.reshape(h, [num_rx_ant, batch, -1])[:, :, : self._num_res])
            err_var.append(1 - tf.reshape(explained, [batch, -1])[:, : self._num_res])
        return tf.stack(h_hat, 1), tf.maximum(tf.stack(err_var, 0), 0)


class _Eigen:
    """One axis of `LMMSEEstimator`: to the eigenvectors of the pilots' correlation, and from there to the targets."""

    def __init__(self, targets, pilots, correlation, dtype):
        values, vectors = np.linalg.eigh(correlation(pilots[:, None] - pilots))
        synthesis = correlation(targets[:, None] - pilots) @ vectors
        self.values = tf.constant(np.maximum(values, 0), dtype.real_dtype)
        self.analysis, self.analysis_t = (tf.constant(m, dtype) for m in (vectors.conj().T, vectors.conj()))
        self.synthesis, self.synthesis_t = (tf.constant(m, dtype) for m in (synthesis, synthesis.T))
        power = np.abs(synthesis) ** 2
        self.power, self.power_t = (tf.constant(m, dtype.real_dtype) for m in (power, power.T))


def _combs(grid):
    """Subcarriers on which each antenna is sounded."""
    antenna = pilot_antenna(grid.num_tx_ant, len(grid.subcarriers))
    return [np.flatnonzero(antenna == a) for a in range(grid.num_tx_ant)]


class Sounding:
    """Pilots over the channel and what the receiver makes of them.

    Parameters
    ----------
    config : LinkConfig
        Its `estimator` says how.
    channel : Channel
    grid : ResourceGrid

    Attributes
    ----------
    pilots : tf.Tensor, [num_pilots], complex
    """

    def __init__(self, *, config, channel, grid):
        self._channel, self._estimator = channel, None
        dtype = tf.complex64 if config.precision == "single" else tf.complex128
        pilots = pilot_sequence(grid)
        self.pilots = tf.constant(pilots.ravel(), dtype)
        facts = {"grid": grid, "channel": channel, "pilots": pilots, "dtype": dtype}
        if config.estimator == "lmmse":
            self._estimator = LMMSEEstimator(**facts)
        elif config.estimator != "perfect":
            weights = linear_weights if config.estimator == "ls-linear" else nearest_weights
            self._estimator = LSEstimator(**facts, weights=weights)

    def __call__(self, fades, no):
        """Estimate the channel at the data from received pilots, with its error variance; or be told the channel.

        Parameters
        ----------
        fades : Fades of tf.Tensor
        no : tf.Tensor, [batch, 1], real

        Returns
        -------
        h_hat, err_var : see `LSEstimator`
        """
        if self._estimator is None:
            return fades.h, tf.zeros(tf.shape(fades.h)[1:], no.dtype)
        return self._estimator(self._channel.sound(self.pilots, fades, no), no)


class _Moments(NamedTuple):
    """Of one axis: |w|², w^T r* and w^T R w. Those of the grid are products over both axes."""

    noise: np.ndarray
    cross: np.ndarray
    power: np.ndarray


def _second_moments(weights, targets, pilots, correlation):
    to_target, among = correlation(targets[:, None] - pilots), correlation(pilots[:, None] - pilots)
    power = np.real(((weights @ among) * weights).sum(1))
    return _Moments((weights**2).sum(1), (weights * np.conj(to_target)).sum(1), power)
