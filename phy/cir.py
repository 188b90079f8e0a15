"""Channel impulse responses of Sionna's 3GPP TR 38.901 models: the same draws, summed over rays by matrix products.

Sionna evaluates every ray for every antenna pair and time, and adds them up afterwards. This module makes the same
numbers several times sooner, at any set of times, by two observations. Each path pairs its 20 azimuths with its 20
zeniths at random, so a table holds all angles, patterns and array phases. The phase of a ray is one factor per receive
position and time, times one per transmit position and polarisation pair, so the sum over the rays of a path is one
small matrix product.

One thing differs from Sionna 1.2.2, as in later versions of it: Doppler shifts follow the terminal, which moves. Its
rays arrive in the downlink and depart in the uplink. Sionna 1.2.2 takes the angles of arrival in both directions.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import j0
from sionna.phy import SPEED_OF_LIGHT, config
from sionna.phy.channel.tr38901 import CDL, TDL

from phy.antennas import panel
from phy.complex_numbers import expj


class CDLModel:
    """Clustered delay line (3GPP TR 38.901, section 7.7.1) between two panels.

    The mobile terminal has omnidirectional elements, the base station has elements of table 7.3-1. The ends have
    Sionna's default orientations, which turn panels about the vertical axis only, not polarisation vectors.

    Parameters
    ----------
    profile : {"A", "B", "C", "D", "E"}
    num_tx_ant, num_rx_ant : int
    carrier_frequency, delay_spread, speed : float, [Hz], [s], [m/s]
    direction : {"uplink", "downlink"}

    Attributes
    ----------
    mean_gain : float
        E|h|² over the ensemble and the antenna pairs, from powers, element patterns and cross-polarisation.
    delays, powers : np.ndarray, [num_paths]
        Excess delays [s] and the share of each path in the mean gain.
    """

    def __init__(self, *, profile, num_tx_ant, num_rx_ant, carrier_frequency, delay_spread, speed, direction):
        uplink = direction == "uplink"
        mobile, base = (num_tx_ant, num_rx_ant) if uplink else (num_rx_ant, num_tx_ant)
        ut, bs = panel(mobile, carrier_frequency, "omni"), panel(base, carrier_frequency, "38.901")
        model = CDL(profile, delay_spread, carrier_frequency, ut, bs, direction, min_speed=speed, precision="single")
        self._model, self._wavenumber, self._speed = model, 2 * np.pi * carrier_frequency / SPEED_OF_LIGHT, speed
        self._uplink = uplink
        tx = _End(ut if uplink else bs, model._tx_orientation, self._wavenumber)
        rx = _End(bs if uplink else ut, model._rx_orientation, self._wavenumber)
        self._antennas = (rx.num_polarisations, rx.num_positions, tx.num_polarisations, tx.num_positions)
        self._slants = rx.polarisations if rx.num_polarisations == 2 else np.eye(1)
        self.delays = model.delays.numpy().astype(np.float64)
        self._set_rays(tx, rx)
        self._set_line_of_sight(tx, rx)
        self.mean_gain = self._ray_power.sum()
        self.powers = np.bincount(self._ray_path, self._ray_power) / self.mean_gain

    def __call__(self, num_links, times):
        """Path coefficients at `times`.

        Parameters
        ----------
        num_links : int
        times : tf.Tensor, [num_times], float32, [s]

        Returns
        -------
        a : tf.Tensor, [num_links, num_rx_ant, num_tx_ant, num_times, num_paths], complex64
        tau : tf.Tensor, [1, num_paths], float64, [s]
            Delays, equal for all links.
        """
        return self.coefficients(self.draw(num_links), times), tf.constant(self.delays[None])

    def draw(self, num_links):
        """Random numbers of `num_links` links, in the order and the sizes of Sionna's draws."""
        rng, num_paths, num_rays = config.tf_rng, len(self.delays), CDL.NUM_RAYS
        speed = rng.uniform([num_links, 1], self._speed, self._speed)
        azimuth = rng.uniform([num_links, 1], 0.0, 2 * np.pi)
        zenith = rng.uniform([num_links, 1], 0.0, np.pi)
        aoa, aod, zoa, zod = (tf.argsort(rng.normal([num_links, num_paths, num_rays])) for _ in range(4))
        phase = rng.uniform([num_links, num_paths, num_rays, 4], -np.pi, np.pi)
        velocity = speed * tf.concat(
            [tf.cos(azimuth) * tf.sin(zenith), tf.sin(azimuth) * tf.sin(zenith), tf.cos(zenith)], 1
        )
        return CDLDraw(velocity, aoa, aod, zoa, zod, phase)

    def coefficients(self, draw, times):
        """Path coefficients of drawn links at `times`; see `__call__`."""
        num_links, num_paths, num_rays = draw.aoa.shape
        turning = self._wavenumber * tf.expand_dims(draw.velocity, -1) * times  # [num_links, 3, num_times]
        first = num_rays**2 * tf.range(num_paths)[:, None]
        arrival, departure = first + num_rays * draw.zoa + draw.aoa, first + num_rays * draw.zod + draw.aod  # rows
        directions = tf.gather(self._directions, departure if self._uplink else arrival)  # at the terminal
        doppler = tf.matmul(directions, turning[:, None])
        left = tf.gather(self._arrivals, arrival)[..., None] * expj(doppler)[..., None, :]
        right = (expj(draw.phase) @ self._mixing)[..., None] * tf.gather(self._departures, departure)[..., None, :]
        rx_pol, rx_pos, tx_pol, tx_pos = self._antennas
        num_times = tf.size(times)
        left = tf.reshape(left, [num_links, num_paths, num_rays, rx_pos * num_times])
        right = tf.reshape(right, [num_links, num_paths, num_rays, rx_pol * tx_pol * tx_pos])
        a = tf.matmul(left, right, transpose_a=True)
        if self._specular is not None:
            sight = expj(tf.tensordot(turning, self._sight, [[1], [0]]))[:, None, None, :, None]
            sight *= self._specular[:, None]  # [num_links, 1, rx_pos, num_times, pairs]
            sight = tf.reshape(sight, [num_links, 1, rx_pos * num_times, rx_pol * tx_pol * tx_pos])
            a = tf.concat([a[:, :1] + sight, a[:, 1:]], 1)
        a = tf.reshape(a, [num_links, num_paths, rx_pos, num_times, rx_pol, tx_pol, tx_pos])
        a = tf.transpose(a, [0, 4, 2, 5, 6, 3, 1])
        return tf.reshape(a, [num_links, rx_pol * rx_pos, tx_pol * tx_pos, num_times, num_paths])

    def frequency_correlation(self, lag):
        """E[h(f + lag) h*(f)] / E|h|², for `lag` [Hz] of any shape."""
        return _profile_correlation(lag, self.delays, self.powers)

    def time_correlation(self, lag):
        """E[h(t + lag) h*(t)] / E|h|² for the velocities that Sionna draws, uniform in azimuth and in zenith.

        Parameters
        ----------
        lag : np.ndarray, any shape, [s]

        Returns
        -------
        np.ndarray, same shape
        """
        return self._turning(lag) @ self._ray_power / self.mean_gain

    def correlation(self, time, frequency):
        """E[h(t + time, f + frequency) h*(t, f)] / E|h|², a sum over paths; lags [n] in s and [m] in Hz give [n, m]."""
        of_path = self._ray_path == np.arange(len(self.delays))[:, None]
        of_paths = self._turning(time) * self._ray_power @ of_path.T / self.mean_gain
        return of_paths @ np.exp(-2j * np.pi * self.delays[:, None] * np.asarray(frequency))

    def spatial(self):
        r"""Correlation of the antennas at both ends by paths, over random pairs of angles and random phases.

        The beams are eigenvectors of the receive positions' correlation, for the vertical and the horizontal component,
        which have random phases of their own. With receive and transmit correlations R and T of the positions in path
        p, and with C of the polarisations,

        .. math:: \operatorname{E}[h_{ca,di} h_{c'b,d'j}^*] = C_{cd,c'd'} R_{ab} T_{ij}

        between polarisations c, d and positions a, i. The line of sight adds the product of its amplitudes to the first
        path.
        """
        rx_pol, rx_pos, tx_pol, tx_pos = self._antennas
        num_paths, num_rx_ant, num_tx_ant = len(self.delays), rx_pol * rx_pos, tx_pol * tx_pos
        arrivals, departures = (
            part.numpy().astype(np.complex128).reshape(num_paths, -1, part.shape[1])
            for part in (self._arrivals, self._departures)
        )
        receive = np.einsum("pra,prb->pab", arrivals, arrivals.conj()) * CDL.NUM_RAYS / arrivals.shape[1]
        transmit = np.einsum("pri,prj->pij", departures, departures.conj()) / departures.shape[1]
        mixing = np.real(self._mixing.numpy().T)
        polarised = (mixing @ mixing.T).reshape(rx_pol, tx_pol, rx_pol, tx_pol)
        sight = np.zeros((rx_pos, rx_pol, num_tx_ant), np.complex128)
        if self._specular is not None:
            sight = self._specular.numpy().astype(np.complex128).reshape(sight.shape)
        scattered = np.einsum("cdcd,pii,pab->ab", polarised, transmit, receive)
        _, of_positions = np.linalg.eigh(scattered + np.einsum("aci,bci->ab", sight, sight.conj()))
        seen = np.einsum("am,pab,bm->pm", of_positions.conj(), receive, of_positions).real
        own = np.einsum("cn,cdkl,kn->ndl", self._slants, polarised, self._slants)
        covariances = np.einsum("ndl,pm,pij->nmpdilj", own, seen, transmit)
        covariances = covariances.reshape(num_rx_ant, num_paths, num_tx_ant, num_tx_ant)
        amplitudes = np.einsum("am,cn,aci->nmi", of_positions.conj(), self._slants, sight)
        amplitudes = amplitudes.reshape(num_rx_ant, num_tx_ant)
        covariances[:, 0] += amplitudes[:, :, None] * amplitudes[:, None].conj()
        return SpatialPaths(np.kron(self._slants, of_positions), self.delays, covariances / self.mean_gain)

    def _turning(self, lag):
        """Correlation in time of each ray, [..., rays]."""
        zenith = (np.arange(64) + 0.5) * np.pi / 64
        phase = self._wavenumber * self._speed * np.asarray(lag, np.float64)[..., None, None]
        across = np.sin(zenith) * np.sin(self._ray_zenith[:, None])
        along = np.cos(zenith) * np.cos(self._ray_zenith[:, None])
        return (j0(phase * across) * np.cos(phase * along)).mean(-1)

    def _set_rays(self, tx, rx):
        model = self._model
        leakage = float(model._xpr[0, 0, 0, 0, 0]) ** -0.5
        mixing = np.kron(rx.polarisations, tx.polarisations) * [1, leakage, leakage, 1]
        k_factor = float(model._k_factor[0, 0, 0]) if model.los else 0.0
        powers = model._powers.numpy()[0, 0, 0].astype(np.float64) / (1 + k_factor)
        arrivals, departures = rx.all_pairs(model._zoa, model._aoa), tx.all_pairs(model._zod, model._aod)
        amplitude = np.sqrt(powers / CDL.NUM_RAYS)[:, None, None, None]
        self._mixing = tf.constant(mixing.T, tf.complex64)
        self._arrivals = tf.constant((amplitude * arrivals.response).reshape(-1, rx.num_positions), tf.complex64)
        self._departures = tf.constant(departures.response.reshape(-1, tx.num_positions), tf.complex64)
        terminal, base = (departures, arrivals) if self._uplink else (arrivals, departures)
        zenith = model._zod if self._uplink else model._zoa
        self._directions = tf.constant(terminal.direction.reshape(-1, 3), tf.float32)
        # second moments, over random pairs of angles and random phases
        gain = terminal.gain.mean(2) * base.gain.mean((1, 2))[:, None] * (mixing**2).sum(1).mean()
        self._ray_power = (powers[:, None] * gain / CDL.NUM_RAYS).ravel()  # by path and zenith at the terminal
        self._ray_zenith = zenith.numpy()[0, 0, 0].astype(np.float64).ravel()
        self._ray_path = np.repeat(np.arange(len(powers)), CDL.NUM_RAYS)

    def _set_line_of_sight(self, tx, rx):
        model, self._specular = self._model, None
        if not model.los:
            return
        k_factor = float(model._k_factor[0, 0, 0])
        arrival = rx.look(*(angle.numpy()[0, 0, 0] for angle in (model._los_zoa, model._los_aoa)))
        departure = tx.look(*(angle.numpy()[0, 0, 0] for angle in (model._los_zod, model._los_aod)))
        polarised = np.kron(rx.polarisations, tx.polarisations) @ [1, 0, 0, -1]
        specular = np.outer(arrival.response, np.outer(polarised, departure.response))
        specular *= np.sqrt(k_factor / (1 + k_factor))
        self._specular = tf.constant(specular, tf.complex64)  # [rx_pos, pairs of polarisations x tx_pos]
        self._sight = tf.constant((departure if self._uplink else arrival).direction, tf.float32)
        self._ray_power = np.append(self._ray_power, np.mean(np.abs(specular) ** 2))
        zenith = model._los_zod if self._uplink else model._los_zoa
        self._ray_zenith = np.append(self._ray_zenith, float(zenith[0, 0, 0]))
        self._ray_path = np.append(self._ray_path, 0)


class CDLDraw(NamedTuple):
    """Random numbers of links between two panels: 20 rays in each path, with angles in random pairs."""

    velocity: Any  # of the terminal, [num_links, 3], [m/s]
    aoa: Any  # which of its path's 20 angles each ray has, [num_links, num_paths, 20]
    aod: Any
    zoa: Any
    zod: Any
    phase: Any  # by polarisation at the receiver and the transmitter, [num_links, num_paths, 20, 4], [rad]


class _End:
    """A panel and its response to rays: equations 7.5-22 and 7.5-29 of 3GPP TR 38.901 for one end of the link."""

    def __init__(self, array, orientation, wavenumber):
        yaw = float(orientation[0])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        elements = [array.ant_pol1] if array.polarization == "single" else [array.ant_pol1, array.ant_pol2]
        slants = np.array([float(element._slant_angle) for element in elements])
        self.polarisations = np.stack([np.cos(slants), np.sin(slants)], 1)  # one row per polarisation
        self.num_polarisations, self.num_positions = len(elements), int(array.num_ant) // len(elements)
        self._positions = array.ant_pos.numpy().astype(np.float64)[: self.num_positions] @ turn.T
        self._pattern, self._yaw, self._wavenumber = elements[0]._radiation_pattern, yaw, wavenumber

    def look(self, zenith, azimuth):
        """Gain, direction and complex amplitude at every position of rays from these angles [rad]."""
        zenith, azimuth = np.broadcast_arrays(zenith, azimuth)
        local = np.mod(azimuth - self._yaw + np.pi, 2 * np.pi) - np.pi
        gain = self._pattern(tf.constant(zenith, tf.float32), tf.constant(local, tf.float32)).numpy().astype(np.float64)
        across = np.sin(zenith)
        direction = np.stack([across * np.cos(azimuth), across * np.sin(azimuth), np.cos(zenith)], -1)
        phase = self._wavenumber * direction @ self._positions.T
        return _Response(gain, direction, np.sqrt(gain)[..., None] * np.exp(1j * phase))

    def all_pairs(self, zenith, azimuth):
        """`look` for every zenith with every azimuth of each path: axes [paths, zeniths, azimuths]."""
        zenith, azimuth = (angle.numpy()[0, 0, 0].astype(np.float64) for angle in (zenith, azimuth))
        return self.look(zenith[:, :, None], azimuth[:, None, :])


class _Response(NamedTuple):
    gain: np.ndarray
    direction: np.ndarray
    response: np.ndarray


class SpatialPaths(NamedTuple):
    """Correlation of antennas by paths.

    Attributes
    ----------
    beams : np.ndarray, [num_rx_ant, num_rx_ant], complex128
        Eigenvectors of the receive antennas' correlation, in columns.
    delays : np.ndarray, [num_paths]
    covariances : np.ndarray, [num_rx_ant, num_paths, num_tx_ant, num_tx_ant], complex128
        Of the transmit antennas, in each beam and path. Their traces add up to num_rx_ant * num_tx_ant.
    """

    beams: np.ndarray
    delays: np.ndarray
    covariances: np.ndarray


class TDLModel:
    """Tapped delay line (3GPP TR 38.901, section 7.7.2), independent between antennas; same interface as `CDLModel`.

    The taps are sums of 20 sinusoids with Sionna's random angles and phases.
    """

    mean_gain = 1.0

    def __init__(self, *, profile, num_tx_ant, num_rx_ant, carrier_frequency, delay_spread, speed):
        self._model = TDL(
            profile,
            delay_spread,
            carrier_frequency,
            min_speed=speed,
            num_rx_ant=num_rx_ant,
            num_tx_ant=num_tx_ant,
            precision="single",
        )
        self._antennas, self._num_waves = (num_rx_ant, num_tx_ant), int(self._model._num_sinusoids)
        self._doppler = 2 * np.pi * carrier_frequency / SPEED_OF_LIGHT * speed
        self.delays = self._model.delays.numpy().astype(np.float64)
        self.powers = self._model.mean_powers.numpy().astype(np.float64)

    def __call__(self, num_links, times):
        """Path coefficients at `times`; see `CDLModel`."""
        model, rng = self._model, config.tf_rng
        num_paths, num_waves = len(self.delays), self._num_waves
        num_rx_ant, num_tx_ant = self._antennas
        # the order and the shapes of the draws are Sionna's
        doppler = rng.uniform([num_links], model._min_doppler, model._max_doppler)[:, None]
        spread = np.pi / num_waves
        angle = rng.uniform([num_links, num_paths, num_waves], -spread, spread)
        angle += 2 * spread * tf.range(1.0, num_waves + 1)
        phase = rng.uniform([num_links, num_rx_ant * num_tx_ant, num_paths, num_waves], -np.pi, np.pi)
        waves = expj(tf.transpose(phase, [0, 2, 1, 3]))
        motion = expj(tf.expand_dims(doppler[..., None] * tf.cos(angle), -1) * times)
        amplitude = tf.sqrt(model._mean_powers / num_waves)
        a = (waves @ motion) * amplitude[:, None, None]  # [num_links, num_paths, num_rx_ant * num_tx_ant, num_times]
        if model.los:
            start = rng.uniform([num_links, 1], -np.pi, np.pi)
            specular = tf.sqrt(model._los_power) * expj(start + doppler * times * tf.cos(model._los_angle_of_arrival))
            a = tf.concat([a[:, :1] + specular[:, None, None, :], a[:, 1:]], 1)
        a = tf.transpose(a, [0, 2, 3, 1])
        a = tf.reshape(a, [num_links, num_rx_ant, num_tx_ant, tf.size(times), num_paths])
        return a, tf.constant(self.delays[None])

    def frequency_correlation(self, lag):
        """E[h(f + lag) h*(f)], for `lag` [Hz] of any shape."""
        return _profile_correlation(lag, self.delays, self.powers)

    def time_correlation(self, lag):
        """E[h(t + lag) h*(t)]: Clarke's J0 for the waves, a turning phase for the specular part."""
        return self.scattered.power * self.scattered.time(lag) + self._specular_correlation(lag)

    def correlation(self, time, frequency):
        """Scattered and specular part; see `CDLModel.correlation`."""
        power, of_time, of_frequency = self.scattered
        specular = np.broadcast_to(self._specular_correlation(time), np.shape(time))
        return power * np.outer(of_time(time), of_frequency(frequency)) + specular[:, None]

    @property
    def specular(self):
        """Line of sight without fading, at delay zero; None where there is none."""
        if not self._model.los:
            return None
        return Specular(float(self._model.mean_power_los), self._doppler * np.cos(np.pi / 4))

    @property
    def scattered(self):
        """Everything else: its correlation is a product of one in time and one in frequency."""
        power = 1.0 if self.specular is None else 1 - self.specular.power
        powers = self.powers - (1 - power) * (np.arange(len(self.powers)) == 0)  # the line of sight is in the first tap
        return Scattered(
            power,
            lambda lag: j0(self._doppler * np.asarray(lag, np.float64)),
            lambda lag: _profile_correlation(lag, self.delays, powers) / power,
        )

    def _specular_correlation(self, lag):
        if self.specular is None:
            return 0.0
        return self.specular.power * np.exp(1j * self.specular.turn * np.asarray(lag, np.float64))


class Specular(NamedTuple):
    """A path that does not fade: share of the mean gain, and phase per unit of time."""

    power: float
    turn: float


class Scattered(NamedTuple):
    """The fading part of a channel: share of the mean gain, and unit correlations as functions of a lag."""

    power: float
    time: Callable[[Any], Any]
    frequency: Callable[[Any], Any]


def _profile_correlation(lag, delays, powers):
    return np.exp(-2j * np.pi * np.asarray(lag)[..., None] * delays) @ powers


@contextmanager
def keyed(key):
    """Start Sionna's generator from a key; restore its state at the end."""
    before = config.tf_rng.state.numpy()
    try:
        config.tf_rng.reset_from_key_counter(key[0], [0, 0])
        yield
    finally:
        config.tf_rng.state.assign(before)
