"""Channel estimates at the data, from pilots, and the variance of their error."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from sionna.phy import SPEED_OF_LIGHT

from phy.cir import Scattered
from phy.complex_numbers import to_complex
from phy.graphs import exact_inverse


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
        energy, self._inverse = inverse_pilots(pilots, dtype)
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
        own = _own_pilots(y_pilot * self._inverse, self._sounded, self._num_pilot_symbols)
        parts = [self._interpolate(part, batch, num_rx_ant) for part in (tf.math.real(own), tf.math.imag(own))]
        h_hat = tf.complex(*parts)  # [batch, num_rx_ant, num_tx_ant, num_data_symbols, num_subcarriers]
        return turned(h_hat, self._turn, self._num_res), no * self._noise + self._missed

    def _interpolate(self, own, batch, num_rx_ant):
        """Real or imaginary part of the estimate in whole OFDM symbols, from the same part at the pilots."""
        rows = multiplied(own, self._in_frequency)
        rows = tf.reshape(rows, [batch, rows.shape[1], num_rx_ant, self._num_pilot_symbols, rows.shape[3]])
        rows = tf.transpose(rows, [0, 2, 1, 3, 4])  # [batch, num_rx_ant, num_tx_ant, num_pilot_symbols, …]
        near = [
            share * _pick(rows, symbols)
            for symbols, share in zip(self._neighbours, tf.unstack(self._shares), strict=True)
        ]
        return sum(near[1:], near[0])


def _own_pilots(at_pilots, sounded, num_pilot_symbols):
    """Pilots of each transmit antenna, [batch, num_tx_ant, num_rx_ant * num_pilot_symbols, length].

    An example's matrices lie close together in memory, and its products are its own: how a library splits the rows of a
    product then depends on no other example, and the size of the batch changes no bit.

    Parameters
    ----------
    at_pilots : tf.Tensor, [num_rx_ant, batch, num_pilots]
    sounded : np.ndarray, [num_tx_ant, length]
        Indices of each antenna's pilots among the subcarriers in use.
    num_pilot_symbols : int
    """
    num_rx_ant, batch, num_pilots = at_pilots.shape[0], tf.shape(at_pilots)[1], at_pilots.shape[2]
    rows, tones = num_rx_ant * num_pilot_symbols, num_pilots // num_pilot_symbols
    at_pilots = tf.reshape(tf.transpose(at_pilots, [1, 0, 2]), [batch, rows, tones])
    return tf.transpose(tf.gather(at_pilots, sounded, axis=2), [0, 2, 1, 3])


def _pick(rows, symbols):
    """Rows of the pilot symbol for each data symbol; within a slot it is one for all, and needs no gather."""
    if np.all(symbols == symbols[0]):
        return rows[:, :, :, symbols[0], None]
    return tf.gather(rows, symbols, axis=3)


class LMMSEEstimator:
    r"""Linear MMSE over subcarriers and OFDM symbols at once, from a delay and a Doppler profile.

    The correlation of pilots is that of the scattered part, the Kronecker product of one in time and one in frequency,
    plus that of the specular part, of power P and steering vectors v at the pilots and u at a target. With eigenvectors
    U and eigenvalues λ of the product, the correlation r of a target with the pilots in it, and :math:`M = U (\Lambda +
    N_0 / E)^{-1} U^H`,

    .. math:: \hat h = r M \hat h_p + d\, q\, v^H M \hat h_p, \qquad
        \sigma^2 = 1 - P - r M r^H + q |d|^2, \qquad d = u - r M v, \quad q = \frac{P}{1 + P v^H M v}

    The noise variance of an example enters in one division only, and the products stay small. Without a specular part
    the second terms vanish.

    Profiles that are not the channel's own make another filter than the best one. Its error variance is then computed
    with the channel's own correlations, as that of `LSEstimator` is.

    Parameters
    ----------
    grid, channel, pilots, combs, age, dtype, turn : see `LSEstimator`
    profile : Scattered, optional
        Profile to build the filter from; by default the channel's own, its specular part included.

    Source: O. Edfors et al., "OFDM channel estimation by singular value decomposition", IEEE Trans. Commun. 46(7),
    1998; the specular part by the Sherman-Morrison formula.
    """

    def __init__(self, *, grid, channel, pilots, combs, age, dtype, turn=None, profile=None):
        self._turn, self._num_res, self._num_pilot_symbols = turn, grid.num_res, len(grid.pilot_symbols)
        self._energy, self._inverse = inverse_pilots(pilots, dtype)
        self._power, of_time, of_frequency = channel.scattered if profile is None else profile
        self._specular = channel.specular if profile is None else None
        tones, real = grid.subcarriers, dtype.real_dtype
        times = grid.data_symbols + age, grid.pilot_symbols
        in_time = Modes.of(*times, lambda lag: self._power * of_time(lag))
        in_frequency = [Modes.of(tones, tones[comb], of_frequency) for comb in combs]
        self._mismatch = None
        if profile is not None:
            self._mismatch = [
                _Mismatch(channel, in_time, modes, times, (tones, tones[comb]), dtype)
                for comb, modes in zip(combs, in_frequency, strict=True)
            ]
        length, size = max(map(len, combs)), max(len(modes.values) for modes in in_frequency)
        self._sounded = np.stack([np.pad(comb, (0, length - len(comb)), mode="edge") for comb in combs])
        padded = [modes.padded(length, size) for modes in in_frequency]
        self._times = [tf.constant(np.real(part), real) for part in in_time]  # correlations in time are real
        values, analysis, synthesis = (np.stack(part) for part in zip(*padded, strict=True))
        self._values, self._spread = (tf.constant(part, real) for part in (values[:, None], power_of(synthesis)))
        self._analysis, self._synthesis = (
            tf.constant(real_product(part.swapaxes(1, 2)), real) for part in (analysis, synthesis)
        )
        if self._specular is not None:
            turned = np.exp(1j * self._specular.turn * grid.pilot_symbols)[:, None]
            steering = in_time.analysis @ turned * analysis.sum(2)[:, None]  # flat over the subcarriers
            self._steering = tf.constant(steering, dtype)  # U^H v, [num_tx_ant, times, frequencies]
            at_targets = np.exp(1j * self._specular.turn * times[0])[:, None]
            self._at_targets = tf.constant(np.repeat(at_targets, len(tones), 1), dtype)

    def __call__(self, y_pilot, no):
        """Estimate the channel on the data resource elements; arguments and results as for `LSEstimator`."""
        num_rx_ant, batch = y_pilot.shape[0], tf.shape(y_pilot)[1]
        num_tx_ant = len(self._sounded)
        time_values, time_analysis, _ = self._times
        own = _own_pilots(y_pilot * self._inverse, self._sounded, self._num_pilot_symbols)
        modes = multiplied(tf.concat([tf.math.real(own), tf.math.imag(own)], 3), self._analysis)
        modes = tf.reshape(modes, [batch, num_tx_ant, num_rx_ant, self._num_pilot_symbols, -1])
        weight = exact_inverse(time_values[:, None] * self._values + no[:, :, None, None] / self._energy)
        weighted = (time_analysis @ modes) * tf.concat([weight, weight], 3)[:, :, None]
        h_hat, error = self._synthesise(weighted), self._error(weight, no)
        if self._specular is not None:
            gap, share, amplitude = self._sight(self._specular.power, weight, weighted)
            h_hat += to_complex(share[..., None]) * amplitude[..., None, None] * gap[:, :, None]
            error += share * (tf.math.real(gap) ** 2 + tf.math.imag(gap) ** 2)
        h_hat = tf.transpose(h_hat, [0, 2, 1, 3, 4])
        return turned(h_hat, self._turn, self._num_res), _variances_in_one_row(error, self._num_res)

    def _synthesise(self, modes):
        """From weighted modes to the targets, [batch, num_tx_ant, num_rx_ant, num_data_symbols, num_subcarriers].

        Modes hold their real parts first, then their imaginary parts: [batch, num_tx_ant, num_rx_ant, times, ...].
        """
        _, num_tx_ant, num_rx_ant, times, _ = modes.shape
        rows = tf.reshape(modes, [-1, num_tx_ant, num_rx_ant * times, modes.shape[4]])
        rows = multiplied(rows, self._synthesis)
        rows = tf.reshape(rows, [-1, num_tx_ant, num_rx_ant, times, rows.shape[3]])
        return tf.complex(*tf.split(self._times[2] @ rows, 2, 4))

    def _error(self, weight, no):
        """Error variance without the specular part, [batch, num_tx_ant, num_data_symbols, num_subcarriers]."""
        if self._mismatch is None:
            return self._power - multiplied(self._times[2] ** 2 @ weight, self._spread)
        errors = [of(weight[:, i], no[..., None] / self._energy) for i, of in enumerate(self._mismatch)]
        return tf.stack(errors, 1)

    def _sight(self, power, weight, weighted):
        """What the specular part misses at the targets, its weight, and its amplitude at each receive antenna."""
        scaled = self._steering * to_complex(weight)
        scaled = tf.concat([tf.math.real(scaled), tf.math.imag(scaled)], 3)[:, :, None]
        gap = self._at_targets - self._synthesise(scaled)[:, :, 0]
        seen = tf.reduce_sum(tf.abs(self._steering) ** 2 * weight, [2, 3], keepdims=True)  # v^H M v
        share = power / (1 + power * seen)
        modes = tf.complex(*tf.split(weighted, 2, 4))
        return gap, share, tf.reduce_sum(tf.math.conj(self._steering)[:, None] * modes, [3, 4])


class Modes(NamedTuple):
    """One axis of an LMMSE estimator: eigenvalues of the pilots' correlation, onto its eigenvectors, to the targets.

    Attributes
    ----------
    values : np.ndarray, [modes]
    analysis : np.ndarray, [modes, pilots]
    synthesis : np.ndarray, [targets, modes]
    """

    values: np.ndarray
    analysis: np.ndarray
    synthesis: np.ndarray

    @classmethod
    def of(cls, targets, pilots, correlation):
        """Modes of a correlation; those without power are left out, because nothing is received in them."""
        values, vectors = np.linalg.eigh(correlation(pilots[:, None] - pilots))
        kept = values > 1e-12 * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        return cls(values, vectors.conj().T, correlation(targets[:, None] - pilots) @ vectors)

    def strongest(self, least):
        """The same without modes whose eigenvalues are not above `least`."""
        kept = self.values > least
        return Modes(self.values[kept], self.analysis[kept], self.synthesis[:, kept])

    def padded(self, num_pilots, num_modes):
        """The same with pilots and modes that count for nothing."""
        modes, pilots = (whole - own for whole, own in zip((num_modes, num_pilots), self.analysis.shape, strict=True))
        return Modes(
            np.pad(self.values, (0, modes), constant_values=1.0),
            np.pad(self.analysis, ((0, modes), (0, pilots))),
            np.pad(self.synthesis, ((0, 0), (0, modes))),
        )


def multiplied(rows, matrices):
    """Products of rows [batch, n, m, k] with matrices [n, k, l], one by one.

    Where n is 1, TensorFlow 2.21's own product of float32 is wrong, or ends the process, on processors with AMX.
    """
    if matrices.shape[0] == 1:
        return tf.matmul(rows[:, 0], matrices[0])[:, None]
    return tf.matmul(rows, matrices)


def power_of(synthesis):
    """Energy of each mode at the targets, [num_tx_ant, modes, targets]."""
    return (np.abs(synthesis) ** 2).swapaxes(1, 2)


def real_product(matrix):
    """Matrix that acts from the right on real parts, then imaginary parts, as `matrix` does on complex numbers."""
    real, imag = matrix.real, matrix.imag
    return np.concatenate([np.concatenate([real, imag], -1), np.concatenate([-imag, real], -1)], -2)


class _Mismatch:
    r"""Error variance of a linear estimate under correlations that it was not made for.

    With the weights w of the modes, and for each part of the channel with correlations :math:`r_t r_f` in time and in
    frequency,

    .. math:: \sigma^2 = \sum P (1 - 2 \Re\, p_t w p_f^T + q_t (w \otimes w) q_f^T) + \frac{N_0}{E} n_t w^2 n_f^T

    where p, q and n hold products of one axis: of a target's synthesis with the correlations to the pilots, with those
    among the pilots, and with itself.
    """

    def __init__(self, channel, time, frequency, symbols, tones, dtype):
        real = dtype.real_dtype
        self._noise = [tf.constant(np.abs(part) ** 2, real) for part in (time.synthesis, frequency.synthesis.T)]
        self._parts = []
        for share, of_time, of_frequency in _parts(channel):
            in_time, in_frequency = _moments_of(time, symbols, of_time), _moments_of(frequency, tones, of_frequency)
            (cross_t, power_t), (cross_f, power_f) = in_time, in_frequency
            constants = (cross_t, cross_f.T, power_t, power_f.T)
            self._parts.append((tf.constant(share, real), *(tf.constant(part, dtype) for part in constants)))

    def __call__(self, weight, no):
        """Error variance, [batch, num_data_symbols, num_subcarriers].

        Parameters
        ----------
        weight : tf.Tensor, [batch, times, frequencies], real
            Frequencies beyond those of this antenna count for nothing.
        no : tf.Tensor, [batch, 1, 1], real
            Noise variance over the energy of a pilot.
        """
        weight = weight[:, :, : self._noise[1].shape[0]]
        error = no * (self._noise[0] @ weight**2 @ self._noise[1])
        pairs = tf.einsum("bij,bkl->bikjl", weight, weight)
        times, frequencies = weight.shape[1:]
        pairs = to_complex(tf.reshape(pairs, [-1, times**2, frequencies**2]))
        for share, cross_t, cross_f, power_t, power_f in self._parts:
            missed = 1 - 2 * tf.math.real(cross_t @ to_complex(weight) @ cross_f)
            error += share * (missed + tf.math.real(power_t @ pairs @ power_f))
        return error


def _moments_of(modes, points, correlation):
    """Products of one axis for `_Mismatch`: [targets, modes], and [targets, pairs of modes]."""
    targets, pilots = points
    _, analysis, synthesis = modes
    to_pilots = analysis @ correlation(targets[:, None] - pilots).conj().T  # [modes, targets]
    among = analysis @ correlation(pilots[:, None] - pilots) @ analysis.conj().T
    power = synthesis[:, :, None] * among * synthesis.conj()[:, None, :]
    return synthesis * to_pilots.T, power.reshape(len(synthesis), -1)


def bounded_profile(config) -> Scattered:
    r"""Profile of which only bounds are known: no path later than the cyclic prefix, no Doppler shift above v/c f_c.

    Power is taken for uniform within the bounds,

    .. math:: r_f(\Delta f) = e^{-j \pi \Delta f \tau} \operatorname{sinc}(\Delta f \tau), \qquad
        r_t(\Delta t) = \operatorname{sinc}(2 f_D \Delta t)

    Source: Y. Li, L. J. Cimini, N. R. Sollenberger, "Robust channel estimation for OFDM systems with rapid dispersive
    fading channels", IEEE Trans. Commun. 46(7), 1998.
    """
    delay = config.cyclic_prefix_duration * config.subcarrier_spacing  # turns per subcarrier of the latest path
    doppler = config.speed * config.carrier_frequency / SPEED_OF_LIGHT * config.symbol_duration  # turns per symbol
    return Scattered(
        1.0,
        lambda lag: np.sinc(2 * doppler * np.asarray(lag)),
        lambda lag: np.exp(-1j * np.pi * delay * np.asarray(lag)) * np.sinc(delay * np.asarray(lag)),
    )


def turned(h_hat, turn, num_res):
    """Turn whole OFDM symbols by the phases of the data; in one row without the rest of a last one that is not full."""
    missing = h_hat.shape[3] * h_hat.shape[4] - num_res
    if turn is not None:
        h_hat *= tf.reshape(tf.pad(turn[:, 0], [[0, 0], [0, missing]]), h_hat.shape[2:])
    if missing:
        h_hat = tf.reshape(h_hat, [-1, *h_hat.shape[1:3], num_res + missing])[..., :num_res]
    return h_hat


def _variances_in_one_row(error, num_res):
    """Turn error variances, [batch, num_tx_ant, num_data_symbols, num_subcarriers], to [num_tx_ant, batch, num_res]."""
    _, num_tx_ant, num_symbols, num_subcarriers = error.shape
    error = tf.transpose(tf.maximum(error, 0), [1, 0, 2, 3])
    return tf.reshape(error, [num_tx_ant, -1, num_symbols * num_subcarriers])[..., :num_res]


def inverse_pilots(pilots, dtype):
    """Energy of the pilots, and the factors that turn received ones into the channel; zero for pilots that are zero."""
    energy = float(np.abs(pilots).max() ** 2) if pilots.size else 1.0
    return energy, tf.constant(pilots.conj().ravel() / energy, dtype)


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
