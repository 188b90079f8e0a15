"""Channel estimates at the data from least squares at the pilots, and the variance of their error."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.pilots import pilot_antenna


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
    grid : TokenGrid
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
        antenna = pilot_antenna(grid.num_tx_ant, len(subcarriers))
        combs = [np.flatnonzero(antenna == a) for a in range(grid.num_tx_ant)]
        in_time = weights(symbols, grid.pilot_symbols)
        in_frequency = [weights(subcarriers, comb) for comb in combs]
        self._combs = combs
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
            h_hat.append(tf.reshape(over_time, [num_rx_ant, batch, -1])[..., : self._num_res])
        return tf.stack(h_hat, 1), no * self._noise + self._missed


class _Moments(NamedTuple):
    """Of one axis: |w|², w^T r* and w^T R w. Those of the grid are products over both axes."""

    noise: np.ndarray
    cross: np.ndarray
    power: np.ndarray


def _second_moments(weights, targets, pilots, correlation):
    to_target, among = correlation(targets[:, None] - pilots), correlation(pilots[:, None] - pilots)
    power = np.real(((weights @ among) * weights).sum(1))
    return _Moments((weights**2).sum(1), (weights * np.conj(to_target)).sum(1), power)
