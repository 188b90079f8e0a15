"""Drops of a terminal into the sector of a cell: the scenarios UMi, UMa and RMa of Sionna's 3GPP TR 38.901.

Three things differ from Sionna 1.2.2, as in later versions of it. Doppler shifts follow the terminal also in the uplink
(see `phy.cir`). The offset of one ray of every cluster is that of TR 38.901. The line of sight arrives at the terminal
from the base station; in Sionna 1.2.2 its horizontal direction is the opposite one.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import j0
from sionna.phy import SPEED_OF_LIGHT, config
from sionna.phy.channel import gen_single_sector_topology
from sionna.phy.channel.tr38901 import RMa, UMa, UMi

from phy.antennas import panel
from phy.cir import keyed
from phy.complex_numbers import expj
from phy.graphs import graph

SCENARIOS = ("umi", "uma", "rma")
_NUM_RAYS = 20
# Offsets of the rays of a cluster, for unit rms: table 7.5-3. Sionna 1.2.2 has -0.1481 in place of -1.1481.
_RAY_OFFSETS = np.kron([0.0447, 0.1413, 0.2492, 0.3715, 0.5129, 0.6797, 0.8844, 1.1481, 1.5195, 2.1551], [1, -1])
# The two strongest clusters fall into three parts: delays in cluster delay spreads, and rays. Source: table 7.5-5.
_PARTS = ((0.0, (*range(8), 18, 19)), (1.28, (8, 9, 10, 11, 16, 17)), (2.56, (12, 13, 14, 15)))
# Few drops have most of the long delays, and of an estimate's error: fewer of them, and it declares what is not so.
_ENSEMBLE_DROPS, _ENSEMBLE_BATCHES, _ENSEMBLE_KEY = 2048, 8, np.array([38901, 0])
_ENSEMBLES = {}  # by what they depend on
# E|h|² over drops, antenna pairs and phases: with dual-polarised elements at one end or both, and with vertical ones at
# both. Measured on 73 728 drops at 3.5 GHz by `second_moments`, standard errors 0.2 and 0.26 %; 30 GHz adds 0 to 2 %.
_MEAN_GAIN = {"umi": (1.817, 1.627), "uma": (1.800, 1.618), "rma": (2.101, 1.866)}


class ScenarioModel:
    """A terminal dropped anew for every link into a sector (3GPP TR 38.901, section 7.5), as Sionna draws it.

    Position, indoor and line-of-sight state, orientation of the terminal, delay and angular spreads, K factor, clusters
    and rays are Sionna's own draws for a single sector. Path loss and shadowing are off, as for a terminal whose
    power is controlled. The gain of the antennas towards each other remains; its mean over the ensemble is `mean_gain`.

    Parameters
    ----------
    scenario : {"umi", "uma", "rma"}
    num_tx_ant, num_rx_ant : int
    carrier_frequency, speed : float, [Hz], [m/s]
        The terminal moves horizontally. Rays meet its velocity with their angles at the terminal.
    direction : {"uplink", "downlink"}

    Attributes
    ----------
    mean_gain : float
        E|h|² over the ensemble and the antenna pairs.
    """

    def __init__(self, *, scenario, num_tx_ant, num_rx_ant, carrier_frequency, speed, direction):
        self._uplink = direction == "uplink"
        mobile, base = (num_tx_ant, num_rx_ant) if self._uplink else (num_rx_ant, num_tx_ant)
        options = {
            "carrier_frequency": carrier_frequency,
            "ut_array": panel(mobile, carrier_frequency, "omni"),
            "bs_array": panel(base, carrier_frequency, "38.901"),
            "direction": direction,
            "enable_pathloss": False,
            "enable_shadow_fading": False,
            "precision": "single",
        }
        self._name, self._speed = scenario, speed
        self._wavenumber = 2 * np.pi * carrier_frequency / SPEED_OF_LIGHT
        self._model = (
            RMa(**options) if scenario == "rma" else {"umi": UMi, "uma": UMa}[scenario](o2i_model="low", **options)
        )
        # Sionna branches on a tensor here, which no graph can; the same number without a tensor compiles
        self._model._scenario._carrier_frequency = np.float32(carrier_frequency)
        self._model._ray_sampler._ray_offsets = tf.constant(_RAY_OFFSETS, tf.float32)
        self._geometry = self._model._cir_sampler
        self._tx, self._rx = self._geometry._tx_array, self._geometry._rx_array
        self.mean_gain = _MEAN_GAIN[scenario]["single" == self._tx.polarization == self._rx.polarization]
        self._kind = scenario, carrier_frequency, direction, self._tx.polarization, self._rx.polarization

    def __call__(self, num_links, times):
        """Path coefficients at `times`, and the delays of the paths, which differ between links.

        Parameters
        ----------
        num_links : int
        times : tf.Tensor, [num_times], float32, [s]

        Returns
        -------
        a : tf.Tensor, [num_links, num_rx_ant, num_tx_ant, num_times, num_paths], complex64
        tau : tf.Tensor, [num_links, num_paths], float32, [s]
        """
        drop = self._drop(num_links)
        field = drop.arrival.field @ drop.mixing @ tf.linalg.matrix_transpose(drop.departure.field)
        doppler = self._wavenumber * tf.reduce_sum(drop.terminal.direction * drop.velocity, -1, keepdims=True) * times
        left = (drop.arrival.phase * tf.complex(drop.amplitude, 0.0)[..., None])[..., None] * expj(doppler)[
            ..., None, :
        ]
        right = field[..., None] * drop.departure.phase[..., None, None, :]
        num_paths, (rx_pol, tx_pol) = left.shape[1], field.shape[-2:]
        rx_pos, tx_pos, num_times = left.shape[-2], right.shape[-1], tf.size(times)
        left = tf.reshape(left, [num_links, num_paths, _NUM_RAYS, rx_pos * num_times])
        right = tf.reshape(right, [num_links, num_paths, _NUM_RAYS, rx_pol * tx_pol * tx_pos])
        a = tf.matmul(left, right, transpose_a=True)  # the sum over the rays of each path
        a = tf.reshape(a, [num_links, num_paths, rx_pos, num_times, rx_pol, tx_pol, tx_pos])
        a = tf.transpose(a, [0, 4, 2, 5, 6, 3, 1])
        return tf.reshape(a, [num_links, rx_pol * rx_pos, tx_pol * tx_pos, num_times, num_paths]), drop.tau

    def frequency_correlation(self, lag):
        """E[h(f + lag) h*(f)] / E|h|² over drops, for `lag` [Hz] of any shape."""
        values, index = np.unique(np.abs(lag), return_inverse=True)
        sums = np.sum([np.exp(-2j * np.pi * values[:, None] * tau) @ share for share, tau, _ in self._ensemble], 0)
        found = sums[index].reshape(np.shape(lag))
        return np.where(np.asarray(lag) < 0, found.conj(), found)

    def time_correlation(self, lag):
        """E[h(t + lag) h*(t)] / E|h|² over drops, for `lag` [s] of any shape; all directions are equally likely."""
        values, index = np.unique(np.abs(lag), return_inverse=True)
        turn = self._wavenumber * self._speed * values[:, None]
        sums = np.sum([j0(turn * across) @ share for share, _, across in self._ensemble], 0)
        return sums[index].reshape(np.shape(lag))

    def correlation(self, time, frequency):
        """E[h(t + time, f + frequency) h*(t, f)] / E|h|² over drops; lags [n] in s and [m] in Hz give [n, m]."""
        turn = self._wavenumber * self._speed * np.asarray(time)[:, None]
        parts = [
            j0(turn * across) * share @ np.exp(-2j * np.pi * tau[:, None] * np.asarray(frequency))
            for share, tau, across in self._ensemble
        ]
        return np.sum(parts, 0)

    @property
    def _ensemble(self):
        """Shares of power, delays and sines of the zenith at the terminal of all paths of many drops, in batches."""
        if self._kind not in _ENSEMBLES:  # made in seconds, and the same for every number of antennas
            draw = graph(lambda: self.second_moments(_ENSEMBLE_DROPS))
            with keyed(_ENSEMBLE_KEY):
                batches = [[part.numpy().astype(np.float64) for part in draw()] for _ in range(_ENSEMBLE_BATCHES)]
            total = sum(gain.sum() for gain, _, _ in batches)
            _ENSEMBLES[self._kind] = [
                (gain[gain > 0] / total, tau[gain > 0], across[gain > 0]) for gain, tau, across in batches
            ]
        return _ENSEMBLES[self._kind]

    def second_moments(self, num_drops):
        """Gain, delay and sine of the zenith at the terminal of the paths of new drops, each [num_drops, num_paths].

        The gain is averaged over antennas and phases, and not divided by `mean_gain`.
        """
        drop = self._drop(num_drops)
        f_rx, f_tx = drop.arrival.field, drop.departure.field
        scattered = tf.abs(f_rx) ** 2 @ tf.abs(drop.mixing) ** 2 @ tf.abs(tf.linalg.matrix_transpose(f_tx)) ** 2
        specular = tf.abs(f_rx @ drop.mixing @ tf.linalg.matrix_transpose(f_tx)) ** 2
        gain = tf.concat([scattered[:, :-1], specular[:, -1:]], 1)  # the last path is the line of sight
        power = tf.reduce_mean(gain, [-2, -1]) * drop.amplitude**2
        across = tf.sqrt(1 - drop.terminal.direction[..., 2] ** 2)
        total = tf.reduce_sum(power, -1)
        return total, drop.tau, tf.math.divide_no_nan(tf.reduce_sum(power * across, -1), total)

    def _drop(self, num_links):
        """Draw everything that decides a link, in the order of Sionna's draws."""
        model = self._model
        topology = gen_single_sector_topology(
            num_links, 1, self._name, min_ut_velocity=self._speed, max_ut_velocity=self._speed, precision="single"
        )
        model.set_topology(*topology)
        scenario = model._scenario
        scenario._los_zoa = 180 - scenario.los_zod  # Sionna 1.2.2 has los_zod - 180, past the vertical
        rays = model._ray_sampler(model._lsp)
        phase = config.tf_rng.uniform([num_links, *rays.aoa.shape[3:], 4], -np.pi, np.pi)
        powers, delays, leakage, aoa, zoa, aod, zod = (
            part[:, 0, 0]  # Sionna's only base station and only terminal
            for part in (rays.powers, rays.delays, rays.xpr**-0.5, rays.aoa, rays.zoa, rays.aod, rays.zod)
        )
        one = tf.ones_like(leakage)
        mixing = expj(phase) * tf.complex(tf.stack([one, leakage, leakage, one], -1), 0.0)
        cluster, weights, offsets = _paths(powers)

        def with_sight(scattered, specular):
            """Clusters by path; the line of sight comes last, as one ray."""
            last = tf.broadcast_to(specular, [num_links, 1, *scattered.shape[2:]])
            return tf.concat([tf.gather(scattered, cluster, batch_dims=1), last], 1)

        los = tf.cast(scenario.los[:, 0], tf.float32)  # [num_links, 1]
        k_factor = los * model._lsp.k_factor[:, 0]
        sight = _SIGHT * expj(2 * np.pi * scenario.distance_3d[:, 0] / self._geometry._lambda_0)[..., None, None]
        mixing = with_sight(mixing, sight)
        power = tf.concat([tf.gather(powers, cluster, batch_dims=1) / _NUM_RAYS, k_factor], 1) / (1 + k_factor)
        tau = tf.gather(delays, cluster, batch_dims=1) + offsets * scenario.get_param("cDS")[:, 0] * 1e-9
        tau = tf.where(power > 0, tf.pad(tau, [[0, 0], [0, 1]]), 0)  # clusters that a scenario lacks have no power
        degrees = (scenario.los_aoa, scenario.los_zoa, scenario.los_aod, scenario.los_zod)
        sights = (angle * (np.pi / 180) for angle in degrees)
        angles = [with_sight(*pair) for pair in zip((aoa, zoa, aod, zod), sights, strict=True)]
        ends = scenario.bs_orientations[:, 0], scenario.ut_orientations[:, 0]
        if self._uplink:
            angles = angles[2:] + angles[:2]  # Sionna draws them for the downlink
        else:
            ends = ends[::-1]
        arrival = self._look(self._rx, ends[0], *angles[:2])
        departure = self._look(self._tx, ends[1], *angles[2:])
        return _Drop(
            arrival=arrival,
            departure=departure,
            terminal=departure if self._uplink else arrival,
            mixing=tf.reshape(mixing, [*mixing.shape[:3], 2, 2]),
            amplitude=tf.sqrt(power)[..., None] * weights,
            tau=tau,
            velocity=scenario.ut_velocities[:, 0, None, None],
        )

    def _look(self, array, orientation, azimuth, zenith):
        """Response of an end to rays: equations 7.1-11 and 7.5-22 of TR 38.901."""
        geometry, turned = self._geometry, orientation[:, None, None]
        elements = [array.ant_pol1] if array.polarization == "single" else [array.ant_pol1, array.ant_pol2]
        local = geometry._gcs_to_lcs(turned, zenith, azimuth)
        fields = [
            geometry._l2g_response(tf.stack(element.field(*local), -1), turned, zenith, azimuth)[..., 0]
            for element in elements
        ]
        num_positions = int(array.num_ant) // len(elements)
        # entry by entry: TensorFlow's threads write beside the result of [3, 3] matrices times one vector
        rotation = geometry._forward_rotation_matrix(orientation)[:, None]
        positions = tf.reduce_sum(rotation * array.ant_pos[:num_positions, None], -1)
        direction = geometry._unit_sphere_vector(zenith, azimuth)[..., 0]
        phase = self._wavenumber * tf.einsum("lprd,lad->lpra", direction, positions)
        return _Look(tf.complex(tf.stack(fields, -2), 0.0), expj(phase), direction)


class _Look(NamedTuple):
    """Field [..., polarisations, 2], array phases [..., positions] and direction [..., 3] of the rays at an end."""

    field: Any
    phase: Any
    direction: Any


class _Drop(NamedTuple):
    """Everything that decides a link: rays [num_links, num_paths, 20]; the last path is the line of sight."""

    arrival: _Look
    departure: _Look
    terminal: _Look  # one of the two
    mixing: Any  # [..., 2, 2], random phases and cross-polarisation
    amplitude: Any
    tau: Any  # [num_links, num_paths]
    velocity: Any  # [num_links, 1, 1, 3]


_SIGHT = tf.constant([1, 0, 0, -1], tf.complex64)


def _paths(powers):
    """Cluster of each path, weights of its rays, and the delay that it adds in cluster delay spreads."""
    order = tf.argsort(powers, direction="DESCENDING")
    cluster = tf.concat([order[:, :2]] * len(_PARTS) + [order[:, 2:]], 1)
    weights = np.ones((cluster.shape[1], _NUM_RAYS), np.float32)
    offsets = np.zeros(cluster.shape[1], np.float32)
    for part, (offset, rays) in enumerate(_PARTS):
        rows = slice(2 * part, 2 * part + 2)
        weights[rows], offsets[rows] = np.isin(np.arange(_NUM_RAYS), rays), offset
    return cluster, np.concatenate([weights, np.eye(1, _NUM_RAYS, dtype=np.float32)]), offsets
