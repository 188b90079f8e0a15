"""Channel estimates at the data, from pilots, and the variance of their error."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.complex_numbers import to_complex
from phy.impairments import Receiver, Transmitter, transmitter_leaks
from phy.pilots import pilot_antenna, pilot_combs, pilot_sequence


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

    With :math:`\hat h_p = y_p / p` at pilots of energy E and interpolation weights w, the estimate :math:`w^T \hat h_p`
    has the error variance

    .. math:: N_0 \|w\|^2 / E + 1 - 2 \operatorname{Re}(w^T r^*) + w^T R w

    where R and r are the channel's correlations among the pilots and with the target. The first term is noise, the
    others are the error of interpolation and age. R and r are sums over the scattered and the specular part.

    Parameters
    ----------
    grid : ResourceGrid
    weights : callable
        `linear_weights` or `nearest_weights`.
    channel : Channel
        Source of the correlations.
    pilots : np.ndarray, [num_pilot_symbols, num_subcarriers], complex
        Pilots of one energy, or zero.
    combs : list of np.ndarray
        Indices of each antenna's pilots among the subcarriers in use.
    age : float
        Age of the estimate when it is used, in OFDM symbols.
    dtype : tf.DType, complex
    turn : tf.Tensor, [num_tx_ant, 1, num_res], complex, optional
        Phases that the data meets before the channel; the estimate includes them.
    """

    def __init__(self, *, grid, weights, channel, pilots, combs, age, dtype, turn=None):
        self._turn = turn
        self._num_res, self._num_pilot_symbols = grid.num_res, len(grid.pilot_symbols)
        energy, self._inverse = _inverse(pilots, dtype)
        subcarriers, symbols = grid.subcarriers, grid.data_symbols
        in_time = weights(symbols, grid.pilot_symbols)
        in_frequency = [weights(subcarriers, subcarriers[comb]) for comb in combs]
        length = max(map(len, combs))  # pilots without weight fill up the shorter combs
        self._sounded = np.stack([np.pad(comb, (0, length - len(comb)), mode="edge") for comb in combs])
        spread = [np.pad(w.T, ((0, length - len(comb)), (0, 0))) for w, comb in zip(in_frequency, combs, strict=True)]
        self._in_frequency = tf.constant(np.stack(spread), dtype.real_dtype)  # [num_tx_ant, length, num_subcarriers]
        near = np.sort(np.argsort(-np.abs(in_time), 1, kind="stable")[:, :2], 1)  # the others have no weight
        shares = np.take_along_axis(in_time, near, 1).T[..., None]
        self._neighbours = near.T
        self._shares = tf.constant(shares, dtype.real_dtype)  # [neighbours, num_data_symbols, 1]
        noise, missed = [], []
        for w, comb in zip(in_frequency, combs, strict=True):
            noise.append(np.outer((in_time**2).sum(1), (w**2).sum(1)) / energy)
            cross = power = 0.0
            for share, of_time, of_frequency in _parts(channel):
                time = _second_moments(in_time, symbols + age, grid.pilot_symbols, of_time)
                frequency = _second_moments(w, subcarriers, subcarriers[comb], of_frequency)
                cross = cross + share * np.real(np.outer(time.cross, frequency.cross))
                power = power + share * np.outer(time.power, frequency.power)
            missed.append(np.maximum(1 - 2 * cross + power, 0))
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
        h_hat : tf.Tensor, [batch, num_rx_ant, num_tx_ant, num_res], complex
            Whole OFDM symbols stay apart, [..., num_data_symbols, num_subcarriers]; `in_one_row` joins them.
        err_var : tf.Tensor, [num_tx_ant, batch, num_res], real
        """
        num_rx_ant, batch = y_pilot.shape[0], tf.shape(y_pilot)[1]
        # the batch comes first: the matrices of an example then lie close together in memory
        at_pilots = tf.transpose(y_pilot * self._inverse, [1, 0, 2])
        at_pilots = tf.reshape(at_pilots, [batch * num_rx_ant * self._num_pilot_symbols, -1])
        own = tf.transpose(tf.gather(at_pilots, self._sounded, axis=1), [1, 0, 2])  # [num_tx_ant, …, length]
        parts = [self._interpolate(part, batch, num_rx_ant) for part in (tf.math.real(own), tf.math.imag(own))]
        h_hat = tf.complex(*parts)  # [batch, num_rx_ant, num_tx_ant, num_data_symbols, num_subcarriers]
        if self._turn is not None:
            missing = h_hat.shape[3] * h_hat.shape[4] - self._num_res
            h_hat *= tf.reshape(tf.pad(self._turn[:, 0], [[0, 0], [0, missing]]), h_hat.shape[2:])
        if self._num_res < h_hat.shape[3] * h_hat.shape[4]:  # the last symbol is filled in part
            h_hat = tf.reshape(h_hat, [batch, num_rx_ant, h_hat.shape[2], -1])[..., : self._num_res]
        return h_hat, no * self._noise + self._missed

    def _interpolate(self, own, batch, num_rx_ant):
        """Real or imaginary part of the estimate in whole OFDM symbols, from the same part at the pilots."""
        rows = own @ self._in_frequency
        rows = tf.reshape(rows, [rows.shape[0], batch, num_rx_ant, self._num_pilot_symbols, rows.shape[2]])
        rows = tf.transpose(rows, [1, 2, 0, 3, 4])  # [batch, num_rx_ant, num_tx_ant, num_pilot_symbols, …]
        near = [
            share * _pick(rows, symbols)
            for symbols, share in zip(self._neighbours, tf.unstack(self._shares), strict=True)
        ]
        return sum(near[1:], near[0])


def _pick(rows, symbols):
    """Rows of the pilot symbol for each data symbol; within a slot it is one for all, and needs no gather."""
    if np.all(symbols == symbols[0]):
        return rows[:, :, :, symbols[0], None]
    return tf.gather(rows, symbols, axis=3)


class LMMSEEstimator:
    r"""Linear MMSE over subcarriers and OFDM symbols at once, from the channel's delay and Doppler profile.

    The correlation of pilots is that of the scattered part, the Kronecker product of one in time and one in frequency,
    plus that of the specular part, of power P and steering vectors v at the pilots and u at a target. With eigenvectors
    U and eigenvalues λ of the product, the correlation r of a target with the pilots in it, and :math:`M = U (\Lambda +
    N_0 / E)^{-1} U^H`,

    .. math:: \hat h = r M \hat h_p + d\, q\, v^H M \hat h_p, \qquad
        \sigma^2 = 1 - P - r M r^H + q |d|^2, \qquad d = u - r M v, \quad q = \frac{P}{1 + P v^H M v}

    The noise variance of an example enters in one division only, and the products stay small. Without a specular part
    the second terms vanish.

    Parameters
    ----------
    grid, channel, pilots, combs, age, dtype, turn : see `LSEstimator`

    Source: O. Edfors et al., "OFDM channel estimation by singular value decomposition", IEEE Trans. Commun. 46(7),
    1998; the specular part by the Sherman-Morrison formula.
    """

    def __init__(self, *, grid, channel, pilots, combs, age, dtype, turn=None):
        self._turn = turn
        self._num_res, self._num_pilot_symbols, self._combs = grid.num_res, len(grid.pilot_symbols), combs
        self._energy, self._inverse = _inverse(pilots, dtype)
        power, of_time, of_frequency = channel.scattered
        self._time = _Eigen(grid.data_symbols + age, grid.pilot_symbols, lambda lag: power * of_time(lag), dtype)
        tones = grid.subcarriers
        self._frequency = [_Eigen(tones, tones[comb], of_frequency, dtype) for comb in combs]
        self._scattered_power, self._specular = power, channel.specular
        if self._specular is not None:
            at_pilots = np.exp(1j * self._specular.turn * grid.pilot_symbols)[:, None]
            in_time = self._time.analysis.numpy() @ at_pilots  # the steering vectors are flat over the subcarriers
            self._steering = [
                tf.constant(in_time * f.analysis_t.numpy().sum(0), dtype) for f in self._frequency
            ]  # U^H v, [times, frequencies]
            at_targets = np.exp(1j * self._specular.turn * (grid.data_symbols + age))[:, None]
            self._at_targets = tf.constant(np.repeat(at_targets, len(tones), 1), dtype)

    def __call__(self, y_pilot, no):
        """Estimate the channel on the data resource elements; arguments and results as for `LSEstimator`."""
        num_rx_ant, batch = y_pilot.shape[0], tf.shape(y_pilot)[1]
        at_pilots = tf.reshape(y_pilot * self._inverse, [num_rx_ant, batch, self._num_pilot_symbols, -1])
        h_hat, err_var = [], []
        for index, (comb, frequency) in enumerate(zip(self._combs, self._frequency, strict=True)):
            weight = 1 / (
                self._time.values[:, None] * frequency.values + no[..., None] / self._energy
            )  # [batch, times, frequencies]
            modes = self._time.analysis @ (tf.gather(at_pilots, comb, axis=3) @ frequency.analysis_t)
            weighted = modes * to_complex(weight)
            h = self._synthesise(weighted, frequency)
            error = self._scattered_power - self._time.power @ weight @ frequency.power_t
            if self._specular is not None:
                steering = self._steering[index]
                gap = self._at_targets - self._synthesise(steering * to_complex(weight), frequency)
                seen = tf.reduce_sum(tf.abs(steering) ** 2 * weight, [1, 2], keepdims=True)  # v^H M v
                share = self._specular.power / (1 + self._specular.power * seen)
                amplitude = tf.reduce_sum(tf.math.conj(steering) * weighted, [2, 3], keepdims=True)
                h += gap * to_complex(share) * amplitude
                error += share * tf.abs(gap) ** 2
            h_hat.append(tf.reshape(h, [num_rx_ant, batch, -1])[:, :, : self._num_res])
            err_var.append(tf.reshape(error, [batch, -1])[:, : self._num_res])
        return _batch_first(tf.stack(h_hat, 1), self._turn), tf.maximum(tf.stack(err_var, 0), 0)

    def _synthesise(self, modes, frequency):
        """From weighted modes to the targets, [..., num_data_symbols, num_subcarriers]."""
        return self._time.synthesis @ modes @ frequency.synthesis_t


class _Eigen:
    """One axis of `LMMSEEstimator`: onto the eigenvectors of the pilots' correlation, and from there to the targets."""

    def __init__(self, targets, pilots, correlation, dtype):
        values, vectors = np.linalg.eigh(correlation(pilots[:, None] - pilots))
        synthesis = correlation(targets[:, None] - pilots) @ vectors
        self.values = tf.constant(np.maximum(values, 0), dtype.real_dtype)
        self.analysis, self.analysis_t = (tf.constant(m, dtype) for m in (vectors.conj().T, vectors.conj()))
        self.synthesis, self.synthesis_t = (tf.constant(m, dtype) for m in (synthesis, synthesis.T))
        power = np.abs(synthesis) ** 2
        self.power, self.power_t = (tf.constant(m, dtype.real_dtype) for m in (power, power.T))


def _batch_first(h, turn):
    """Turn [num_rx_ant, num_tx_ant, batch, num_res] by the phases of the data, and bring the batch to the front."""
    return tf.transpose(h if turn is None else h * turn, [2, 0, 1, 3])


def _inverse(pilots, dtype):
    """Energy of the pilots, and the factors that turn received ones into the channel; zero for pilots that are zero."""
    energy = float(np.abs(pilots).max() ** 2) if pilots.size else 1.0
    return energy, tf.constant(pilots.conj().ravel() / energy, dtype)


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
        if config.estimator == "lmmse":
            self._estimator = LMMSEEstimator(combs=pilot_combs(config), **options)
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
        """
        if self._estimator is None:
            told = fades.h_told if self._is_told_late else fades.h
            return _batch_first(told, self._turn), tf.fill(
                tf.shape(told)[1:], tf.constant(self._told_variance, no.dtype)
            )
        y_pilot = self._receive(self._channel.sound(self._sent, fades, no), fades.phase, no)
        return self._estimator(y_pilot, self._noise_error * no)

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


class _Moments(NamedTuple):
    """w^T r* and w^T R w of one axis; those of a part of the channel are products over both axes."""

    cross: np.ndarray
    power: np.ndarray


def _second_moments(weights, targets, pilots, correlation):
    to_target, among = correlation(targets[:, None] - pilots), correlation(pilots[:, None] - pilots)
    power = np.real(((weights @ among) * weights).sum(1))
    return _Moments((weights * np.conj(to_target)).sum(1), power)


def _parts(channel):
    """Parts of a channel whose correlations are products: power, correlation in time, correlation in frequency."""
    parts = [channel.scattered]
    if channel.specular is not None:
        power, turn = channel.specular
        parts.append((power, lambda lag: np.exp(1j * turn * np.asarray(lag)), lambda lag: np.ones(np.shape(lag))))
    return parts
