"""Channel estimates that know how antennas are correlated, and what that correlation says of those that do not."""

import numpy as np
import tensorflow as tf

from phy.complex_numbers import to_complex
from phy.estimation import Modes, inverse_pilots, multiplied, power_of, real_product, turned

LEAST_MODE = 1e-9  # of the strongest mode: nothing weaker can be seen, and its power is part of the declared error


class SpatialLMMSEEstimator:
    r"""Linear MMSE over transmit antennas, subcarriers and OFDM symbols at once, for each beam of the receiver.

    The beams are the eigenvectors of the receive antennas' correlation, so that they fade without correlation. In a
    beam b, path p has a delay and a covariance :math:`T_{bp}` of the transmit antennas, and

    .. math:: \operatorname{E}[h_{baf}(t) h_{ba'f'}^*(t')] =
        r_t(t - t') \sum_p [T_{bp}]_{aa'} e^{-j 2 \pi \tau_p (f - f')}

    Pilots of all transmit antennas tell of each of them. The correlation of the pilots is the Kronecker product of one
    in time and one in frequency and antennas. With its eigenvectors U and eigenvalues :math:`\lambda`, and with the
    correlation r of a target with the pilots,

    .. math:: \hat h = r U (\Lambda + N_0 / E)^{-1} U^H \hat h_p, \qquad
        \sigma^2 = \operatorname{E}|h|^2 - r U (\Lambda + N_0 / E)^{-1} U^H r^H

    The sum over paths has a low rank, from which the eigenvectors come without the whole correlation.

    Parameters
    ----------
    grid, channel, pilots, combs, age, dtype, turn : see `LSEstimator`
        `channel.spatial` may not be None.

    Source: O. Edfors et al., "OFDM channel estimation by singular value decomposition", IEEE Trans. Commun. 46(7),
    1998, with transmit antennas as a further axis; beams as in W. Weichselberger et al., "A stochastic MIMO channel
    model with joint correlation of both link ends", IEEE Trans. Wireless Commun. 5(1), 2006.
    """

    def __init__(self, *, grid, channel, pilots, combs, age, dtype, turn=None):
        self._turn, self._num_res, self._num_pilot_symbols = turn, grid.num_res, len(grid.pilot_symbols)
        self._energy, self._inverse = inverse_pilots(pilots, dtype)
        self._num_tx_ant, spatial, real = grid.num_tx_ant, channel.spatial, dtype.real_dtype
        in_time = Modes.of(grid.data_symbols + age, grid.pilot_symbols, channel.time_correlation)
        self._times = [tf.constant(np.real(part), real) for part in in_time]  # correlations in time are real
        sounded = np.concatenate(combs)
        antenna = np.repeat(np.arange(len(combs)), [len(comb) for comb in combs])[np.argsort(sounded)]
        self._sounded = np.sort(sounded)
        steering = np.exp(-2j * np.pi * np.outer(grid.subcarriers, spatial.delays))
        beams = [_beam_modes(covariances, steering, antenna, self._sounded) for covariances in spatial.covariances]
        most = max(modes.values[0] for modes in beams)
        beams = [modes.strongest(LEAST_MODE * most) for modes in beams]
        size = max(len(modes.values) for modes in beams)
        values, analysis, synthesis = (
            np.stack(part) for part in zip(*(modes.padded(len(self._sounded), size) for modes in beams), strict=True)
        )
        self._values = tf.constant(values[:, None], real)
        self._analysis = tf.constant(real_product(analysis.swapaxes(1, 2)), real)
        self._synthesis = tf.constant(real_product(synthesis.swapaxes(1, 2)), real)
        self._spread = tf.constant(power_of(synthesis), real)
        power = np.einsum("bpaa->ba", spatial.covariances).real
        self._power = tf.constant(np.repeat(power, len(grid.subcarriers), 1)[:, None], real)  # [beams, 1, targets]

    def __call__(self, y_pilot, no):
        """Estimate the channel on the data resource elements.

        Parameters
        ----------
        y_pilot : tf.Tensor, [num_rx_ant, batch, num_pilots], complex
            Received pilots in beams.
        no : tf.Tensor, [batch, 1], real

        Returns
        -------
        h_hat : tf.Tensor, [batch, num_rx_ant, num_tx_ant, num_res], complex
            Channel from the antennas to the beams; whole OFDM symbols stay apart, see `LSEstimator`.
        err_var : tf.Tensor, [batch, num_rx_ant, num_tx_ant, num_res], real
        """
        num_beams, batch, tones = y_pilot.shape[0], tf.shape(y_pilot)[1], y_pilot.shape[2] // self._num_pilot_symbols
        time_values, time_analysis, time_synthesis = self._times
        own = tf.reshape(y_pilot * self._inverse, [num_beams, batch, self._num_pilot_symbols, tones])
        own = tf.transpose(tf.gather(own, self._sounded, axis=3), [1, 0, 2, 3])
        modes = multiplied(tf.concat([tf.math.real(own), tf.math.imag(own)], 3), self._analysis)
        modes = time_analysis @ modes
        weight = 1 / (time_values[:, None] * self._values + no[:, :, None, None] / self._energy)
        rows = multiplied(modes * tf.concat([weight, weight], 3), self._synthesis)  # [batch, beams, times, 2 * targets]
        rows = tf.reshape(rows, [batch, num_beams, len(time_values), 2, self._num_tx_ant, tones])
        rows = time_synthesis @ tf.transpose(rows, [0, 1, 3, 4, 2, 5])
        h_hat = tf.complex(rows[:, :, 0], rows[:, :, 1])
        error = tf.maximum(self._power - multiplied(time_synthesis**2 @ weight, self._spread), 0)
        num_symbols = len(time_synthesis)
        error = tf.reshape(error, [batch, num_beams, num_symbols, self._num_tx_ant, tones])
        error = tf.transpose(error, [0, 1, 3, 2, 4])
        error = tf.reshape(error, [batch, num_beams, self._num_tx_ant, num_symbols * tones])
        return turned(h_hat, self._turn, self._num_res), error[..., : self._num_res]


def _beam_modes(covariances, steering, antenna, sounded):
    """Modes of one beam over antennas and subcarriers, from the factors of its paths.

    Parameters
    ----------
    covariances : np.ndarray, [num_paths, num_tx_ant, num_tx_ant]
    steering : np.ndarray, [num_subcarriers, num_paths]
    antenna, sounded : np.ndarray, [num_pilots]
        Antenna and subcarrier, by its number among those in use, of each pilot.
    """
    values, vectors = np.linalg.eigh(covariances)
    factors = vectors * np.sqrt(np.maximum(values, 0))[:, None]  # [num_paths, num_tx_ant, rank]
    at_targets = np.einsum("par,fp->afpr", factors, steering).reshape(factors.shape[1], len(steering), -1)
    at_pilots = at_targets[antenna, sounded]
    values, vectors = np.linalg.eigh(at_pilots.conj().T @ at_pilots)
    kept = values > 1e-14 * values[-1]
    values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
    analysis = (at_pilots @ vectors / np.sqrt(values)).conj().T
    return Modes(values, analysis, at_targets.reshape(-1, vectors.shape[0]) @ vectors * np.sqrt(values))


class SpatialFilter:
    r"""What estimates of single antenna pairs say of the channel, given how the antennas are correlated.

    An estimate is :math:`\hat h = \alpha h + w` with white w of variance :math:`\omega`. With an error of variance
    :math:`\sigma^2`, least squares has :math:`\alpha = 1` and :math:`\omega = \sigma^2`, linear MMSE has :math:`\alpha
    = 1 - \sigma^2` and :math:`\omega = \alpha \sigma^2`. In a beam, with the transmit antennas' covariance :math:`V
    \Lambda V^H`,

    .. math:: \operatorname{E}[h | \hat h] = V \frac{\alpha \Lambda}{\alpha^2 \Lambda + \omega} V^H \hat h

    and the error has the covariance :math:`V \Lambda \omega / (\alpha^2 \Lambda + \omega) V^H`.

    Parameters
    ----------
    spatial : SpatialPaths
    num_streams : int or None
        Number of antennas that send, the first ones; None for all.
    noisy_channel : bool
        Whether estimates are those of least squares.
    dtype : tf.DType, complex
    """

    def __init__(self, spatial, *, num_streams, noisy_channel, dtype):
        covariances = spatial.covariances.sum(1)[:, :num_streams, :num_streams]
        values, vectors = np.linalg.eigh(covariances)
        self._values = tf.constant(np.maximum(values, 0)[:, :, None], dtype.real_dtype)  # [beams, tx, 1]
        self._vectors, self._noisy_channel = tf.constant(vectors, dtype), noisy_channel

    def __call__(self, h_hat, err_var):
        """Filter estimates.

        Parameters
        ----------
        h_hat : tf.Tensor, [batch, num_rx_ant, num_tx_ant, num_res], complex
            In beams, of the antennas that send, without phases of the data.
        err_var : tf.Tensor, [num_tx_ant, batch, num_res], real

        Returns
        -------
        h_hat : same shape
        err_var : tf.Tensor, [batch, num_rx_ant, num_tx_ant, num_res]
            Variances along the eigenvectors; their sum is that of the antennas.
        """
        error = tf.reduce_mean(err_var, 0)[:, None, None]
        alpha, noise = (1.0, error) if self._noisy_channel else (1 - error, error * (1 - error))
        total = alpha**2 * self._values + noise + 1e-30
        modes = tf.einsum("bak,nbar->nbkr", tf.math.conj(self._vectors), h_hat)
        h_hat = tf.einsum("bak,nbkr->nbar", self._vectors, to_complex(alpha * self._values / total) * modes)
        return h_hat, self._values * noise / total
