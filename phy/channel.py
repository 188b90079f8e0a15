"""Numbered fades and noise, and what they do to a signal: y = H x + n on the resource elements in use.

`(seed, realisation)` alone decides H and n. Realisations are made in blocks of 64 links, each from its own key, so that
neither the batch, nor the order of the calls, nor the process matters. A bounded cache holds the blocks used last;
a folder, if one is given, holds all of them.
"""

import functools
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sionna
import tensorflow as tf

from phy.cir import CDLModel, TDLModel, expj, keyed
from phy.config import LinkConfig
from phy.fade_store import FadeStore
from phy.impairments import Transmitter, phase_noise_steps
from phy.pilots import pilot_antenna
from phy.resource_grid import ResourceGrid
from phy.scenarios import SCENARIOS, ScenarioModel

BLOCK = 64  # links made together; part of what a seed means
_FADING, _NOISE, _PHASE = 0, 1, 2  # keys of the random streams
_FACTS_OF_FADES = (
    *("channel", "num_tx_ant", "num_rx_ant", "carrier_frequency", "delay_spread", "speed", "direction", "seed"),
    *("fft_size", "subcarrier_spacing", "num_guard_carriers", "dc_null", "cyclic_prefix_length"),
    *("pilots", "pilot_spacing", "csi_delay", "phase_noise_linewidth"),
)


class Fades(NamedTuple):
    """Channels and unit-variance noise of some realisations, complex64.

    Antennas come first, then the batch, then the resource elements: what is done at every resource element runs over
    long contiguous rows, and the size of the batch changes no result.

    Attributes
    ----------
    h : [num_rx_ant, num_tx_ant, batch, num_res]
        Frequency response on the data resource elements.
    noise : [num_rx_ant, batch, num_res]
    h_pilot : [num_rx_ant, batch, num_pilots]
        Frequency response on the pilot symbols' subcarriers, symbol by symbol, of the antenna that sounds each. Where
        transmitters leak beside their own subcarriers: [num_rx_ant, num_tx_ant, batch, num_pilots], of all antennas.
    noise_pilot : [num_rx_ant, batch, num_pilots]
    h_told : same shape as `h`, or ()
        What the perfect estimator is told, where it is not `h`: the channel as it was `csi_delay` ago.
    phase : [num_symbols, batch, fft_size], float32, or ()
        Phase noise [rad] of the receiver on all OFDM symbols.
    """

    h: Any
    noise: Any
    h_pilot: Any
    noise_pilot: Any
    h_told: Any = ()
    phase: Any = ()

    def cast(self, dtype) -> "Fades":
        """The same in the precision of `dtype`, complex."""
        return tf.nest.map_structure(
            lambda part: tf.cast(part, dtype if part.dtype.is_complex else dtype.real_dtype), self
        )


class Channel:
    """The propagation channel of a `LinkConfig`: E|h|² = 1 over the ensemble, no realisation is normalised.

    Parameters
    ----------
    config : LinkConfig
    cache_bytes : int
        Bound of the cache of blocks.
    cache_dir : str or Path, optional
        Folder in which blocks outlive the process; other links and processes find them there.

    Attributes
    ----------
    next_realisation : int
        What `number` hands out next.
    """

    def __init__(self, config: LinkConfig, *, cache_bytes: int, cache_dir: str | Path | None = None):
        self._config = config
        self._store = None if cache_dir is None else FadeStore(cache_dir)
        self.fading = _fading_model(config)
        self._pilot_antenna = pilot_antenna(config.num_tx_ant, config.num_subcarriers, config.pilot_spacing)
        self._leaky = Transmitter(config).active
        self._age = config.csi_delay / config.symbol_duration  # of the channel estimate, in OFDM symbols
        self._cache, self._cache_bytes, self._held_bytes = OrderedDict(), cache_bytes, 0
        self.next_realisation = 0
        self._lock = threading.Lock()  # of the cache, and of Sionna's generator, which is one for the process

    def __call__(self, x, fades: Fades, no):
        """Received data.

        Parameters
        ----------
        x : tf.Tensor, [num_tx_ant, batch, num_res], complex
        fades : Fades
        no : tf.Tensor, [batch, 1], real
            Noise variance per complex sample.

        Returns
        -------
        y : tf.Tensor, [num_rx_ant, batch, num_res], complex
        """
        return tf.reduce_sum(fades.h * x, 1) + tf.cast(tf.sqrt(no), x.dtype) * fades.noise

    def sound(self, pilots, fades: Fades, no):
        """Received pilots, [num_rx_ant, batch, num_pilots], for those sent.

        `pilots` are [num_pilots], each from the antenna that sounds its subcarrier, or [num_tx_ant, 1, num_pilots].
        """
        clean = fades.h_pilot * pilots if len(pilots.shape) == 1 else tf.reduce_sum(fades.h_pilot * pilots, 1)
        return clean + tf.cast(tf.sqrt(no), pilots.dtype) * fades.noise_pilot

    def signature(self, grid: ResourceGrid) -> Fades:
        """Shapes of the fades of a batch, for a graph that serves every batch size."""
        config, num_pilots = self._config, len(grid.pilot_symbols) * len(grid.subcarriers)
        rx, pairs = [config.num_rx_ant], [config.num_rx_ant, config.num_tx_ant]
        data, pilots = [None, grid.num_res], [None, num_pilots]
        told, noisy = self._is_told_late(), self._has_phase_noise()
        return Fades(
            h=tf.TensorSpec(pairs + data, tf.complex64),
            noise=tf.TensorSpec(rx + data, tf.complex64),
            h_pilot=tf.TensorSpec((pairs if self._leaky else rx) + pilots, tf.complex64),
            noise_pilot=tf.TensorSpec(rx + pilots, tf.complex64),
            h_told=tf.TensorSpec(pairs + data, tf.complex64) if told else (),
            phase=tf.TensorSpec([grid.num_symbols, None, config.fft_size], tf.float32) if noisy else (),
        )

    def number(self, realisation, batch: int) -> np.ndarray:
        """Check the numbers of the realisations of a batch; for None, hand out those that were not handed out before.

        Parameters
        ----------
        realisation : array of shape [batch], int, or None
        batch : int

        Returns
        -------
        np.ndarray, [batch], int64
        """
        if realisation is None:
            with self._lock:
                start, self.next_realisation = self.next_realisation, self.next_realisation + batch
            return np.arange(start, start + batch)
        numbers = np.asarray(realisation)
        if numbers.shape != (batch,) or numbers.dtype.kind not in "iu":
            raise ValueError(
                f"realisation must hold one whole number per example, shape ({batch},); got {numbers.dtype} of shape "
                f"{numbers.shape}"
            )
        if batch and numbers.min() < 0:
            raise ValueError(f"realisation numbers start at 0, got {numbers.min()}")
        return numbers.astype(np.int64)

    def fades(self, realisation: np.ndarray, grid: ResourceGrid) -> Fades:
        """Look up the numbered realisations, or make them.

        Parameters
        ----------
        realisation : np.ndarray, [batch], int, none negative
        grid : ResourceGrid

        Returns
        -------
        Fades of np.ndarray
        """
        blocks, rows = np.divmod(realisation, BLOCK)
        numbers = np.unique(blocks) if len(blocks) else [0]
        pieces = [
            tf.nest.map_structure(
                lambda part, n=number: np.take(part, rows[blocks == n], -2), self._block(int(number), grid)
            )
            for number in numbers
        ]
        if len(pieces) == 1:
            return pieces[0]
        back = np.argsort(np.argsort(blocks, kind="stable"))
        return tf.nest.map_structure(lambda *parts: np.take(np.concatenate(parts, -2), back, -2), *pieces)

    def frequency_correlation(self, lag: np.ndarray) -> np.ndarray:
        """E[h(f + lag) h*(f)] over the ensemble, for `lag` subcarriers of any shape."""
        return self.fading.frequency_correlation(lag)

    def time_correlation(self, lag: np.ndarray) -> np.ndarray:
        """E[h(t + lag) h*(t)] over the ensemble, for `lag` OFDM symbols of any shape."""
        return self.fading.time_correlation(lag)

    def _block(self, number, grid):
        key = (number, grid.num_slots, grid.num_res)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = self._make(number, grid) if self._store is None else self._find(number, grid)
                self._held_bytes += _nbytes(self._cache[key])
            self._cache.move_to_end(key)
            while self._held_bytes > self._cache_bytes and len(self._cache) > 1:
                self._held_bytes -= _nbytes(self._cache.popitem(last=False)[1])
            return self._cache[key]

    def _find(self, number, grid):
        """Load a block, or make and save it."""
        facts = {name: getattr(self._config, name) for name in _FACTS_OF_FADES}
        facts |= {"leaky": self._leaky, "told late": self._is_told_late(), "block": [BLOCK, number]}
        facts |= {"slots": grid.num_slots, "resource elements": grid.num_res, "sionna": sionna.__version__}
        stored = self._store.load(facts)
        if stored is None:
            made = self._make(number, grid)
            self._store.save(
                facts, {name: part for name, part in made._asdict().items() if not isinstance(part, tuple)}
            )
            return made
        return Fades(**stored)

    def _make(self, number, grid):
        config, age = self._config, self._age
        told = grid.data_symbols - age if self._is_told_late() else ()
        times = np.unique(np.concatenate([grid.data_symbols, grid.pilot_symbols - age, told]))
        at = functools.partial(np.searchsorted, times)
        h = self.fading(times, _key(config.seed, _FADING, number))
        noise = {symbol: self._noise(number, symbol) for symbol in (*grid.data_symbols, *grid.pilot_symbols)}
        shape = (BLOCK, config.num_rx_ant, 0, config.num_subcarriers)
        data, pilot = (
            np.stack([noise[symbol] for symbol in symbols], 2) if len(symbols) else np.zeros(shape, np.complex64)
            for symbols in (grid.data_symbols, grid.pilot_symbols)
        )  # [BLOCK, num_rx_ant, num_symbols, num_subcarriers]
        sounded = at(grid.pilot_symbols - age)
        if self._leaky:
            h_pilot = h[:, :, :, sounded]
        else:
            h_pilot = h[:, :, self._pilot_antenna, sounded[:, None], np.arange(config.num_subcarriers)]
        return Fades(
            _antennas_first(h[:, :, :, at(grid.data_symbols)], grid.num_res),
            _antennas_first(data, grid.num_res),
            _antennas_first(h_pilot, None),
            _antennas_first(pilot, None),
            _antennas_first(h[:, :, :, at(told)], grid.num_res) if len(told) else (),
            self._phase(number, grid.num_symbols) if self._has_phase_noise() else (),
        )

    def _noise(self, number, symbol):
        shape = (BLOCK, self._config.num_rx_ant, self._config.num_subcarriers)
        return _complex_normal(shape, _key(self._config.seed, _NOISE, number, int(symbol)))

    def _phase(self, number, num_symbols):
        """Wiener phase [num_symbols, BLOCK, fft_size], whose steps on a symbol do not depend on how many follow."""
        shape = (BLOCK, self._config.fft_size)
        keys = [_key(self._config.seed, _PHASE, number, symbol) for symbol in range(num_symbols)]
        steps = np.stack([tf.random.stateless_normal(shape, key, alg="philox").numpy() for key in keys], 1)
        path = np.cumsum((steps * phase_noise_steps(self._config)).reshape(BLOCK, -1), 1)
        return path.reshape(BLOCK, num_symbols, -1).swapaxes(0, 1).astype(np.float32)

    def _is_told_late(self):
        return self._config.estimator == "perfect" and self._age > 0

    def _has_phase_noise(self):
        return self._config.phase_noise_linewidth > 0


class MultipathFading:
    """A 3GPP model on the subcarriers in use, from a key.

    Parameters
    ----------
    config : LinkConfig
    model : CDLModel, TDLModel or ScenarioModel
    """

    def __init__(self, config: LinkConfig, model: CDLModel | TDLModel | ScenarioModel):
        self._model, self._spacing, self._symbol_duration = model, config.subcarrier_spacing, config.symbol_duration
        self._tones = self._spacing * (config.subcarriers - config.fft_size // 2)
        times = tf.TensorSpec([None], tf.float32)
        this = weakref.proxy(self)  # or the graph would keep its own owner alive
        self._response = tf.function(lambda times: this.response(times), input_signature=[times], autograph=False)

    def __call__(self, symbols: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Frequency responses [BLOCK, num_rx_ant, num_tx_ant, num_symbols, num_subcarriers]."""
        with keyed(key):
            return self._response(self._times(symbols)).numpy()

    def paths(self, symbols: np.ndarray, key: np.ndarray):
        """What the response is made of: coefficients [..., num_paths, num_symbols] and delays [BLOCK, num_paths]."""
        with keyed(key):
            a, tau = self._model(BLOCK, self._times(symbols))
        a = tf.linalg.matrix_transpose(a) / tf.cast(self._model.mean_gain**0.5, a.dtype)
        return a, tf.cast(tf.broadcast_to(tau, [BLOCK, tau.shape[1]]), tf.float32)

    def response(self, times):
        """Sum of the paths, each turned by its delay, as a matrix product on the subcarriers in use."""
        a, tau = self._model(BLOCK, times)
        steering = expj(-2 * np.pi * tf.cast(tau, tf.float64)[..., None] * self._tones) / self._model.mean_gain**0.5
        rows = tf.reshape(a, [tau.shape[0], -1, a.shape[-1]])  # one product for all links, or one for each
        return tf.reshape(rows @ tf.cast(steering, a.dtype), [*a.shape[:3], -1, len(self._tones)])

    def _times(self, symbols):
        return tf.constant(symbols * self._symbol_duration, tf.float32)

    def frequency_correlation(self, lag):
        """See `Channel`."""
        return self._model.frequency_correlation(self._spacing * np.asarray(lag))

    def time_correlation(self, lag):
        """See `Channel`."""
        return self._model.time_correlation(self._symbol_duration * np.asarray(lag))


class FlatFading:
    """One matrix for all times and subcarriers: drawn from a key (rayleigh) or fixed (awgn).

    Parameters
    ----------
    config : LinkConfig
    """

    def __init__(self, config: LinkConfig):
        self._shape = (BLOCK, config.num_rx_ant, config.num_tx_ant)
        self._num_subcarriers, self._fixed = config.num_subcarriers, config.channel == "awgn"

    def __call__(self, symbols: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Frequency responses [BLOCK, num_rx_ant, num_tx_ant, num_symbols, num_subcarriers]."""
        matrix = _flat_matrix(*self._shape[1:]) if self._fixed else _complex_normal(self._shape, key)
        return np.broadcast_to(matrix[..., None, None], (*self._shape, len(symbols), self._num_subcarriers))

    def frequency_correlation(self, lag):
        """See `Channel`."""
        return np.ones(np.shape(lag))

    time_correlation = frequency_correlation


def _fading_model(config):
    family, _, profile = config.channel.partition("-")
    if config.channel in ("awgn", "rayleigh"):
        return FlatFading(config)
    facts = {
        "num_tx_ant": config.num_tx_ant,
        "num_rx_ant": config.num_rx_ant,
        "carrier_frequency": config.carrier_frequency,
        "speed": config.speed,
    }
    if config.channel in SCENARIOS:
        return MultipathFading(config, ScenarioModel(scenario=config.channel, direction=config.direction, **facts))
    facts |= {"profile": profile.upper(), "delay_spread": config.delay_spread}
    if family == "tdl":
        return MultipathFading(config, TDLModel(**facts))
    return MultipathFading(config, CDLModel(direction=config.direction, **facts))


def _flat_matrix(num_rx_ant, num_tx_ant):
    """Unit-modulus entries, orthogonal rows or columns: part of the circulant of a Zadoff-Chu sequence."""
    n = max(num_rx_ant, num_tx_ant)
    index = np.arange(n)
    sequence = np.exp(-1j * np.pi * index * (index + n % 2) / n)
    return sequence[(index[:num_rx_ant, None] - index[:num_tx_ant]) % n].astype(np.complex64)


def _antennas_first(links, num_res):
    """[BLOCK, antennas…, symbols, subcarriers] to [antennas…, BLOCK, the first num_res resource elements]."""
    rows = np.moveaxis(links, 0, -3)
    return np.ascontiguousarray(rows.reshape(*rows.shape[:-2], -1)[..., :num_res])


def _key(*numbers):
    return np.random.SeedSequence(numbers).generate_state(2, np.uint64).view(np.int64)


def _complex_normal(shape, key):
    pairs = tf.random.stateless_normal((*shape, 2), key, stddev=0.5**0.5, alg="philox")
    return pairs.numpy().view(np.complex64)[..., 0]


def _nbytes(fades):
    return sum(part.nbytes for part in tf.nest.flatten(fades))
