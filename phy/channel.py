"""Numbered fades and noise, and what they do to a signal: y = H x + n on the resource elements in use.

`(seed, realisation)` alone decides H and n. Realisations are made in blocks of 64 links, each from its own key, so that
neither the batch, nor the order of the calls, nor the process matters. A bounded cache holds the blocks used last;
a folder, if one is given, holds all of them.
"""

import math
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
MAX_BLOCK_BYTES = 2 * 2**30  # that one block of realisations may hold; while it is made it takes a few times as much
GENERATOR = 1  # version of the random streams; raised with every change to what a seed means, for fades kept on disk
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
    config : LinkConfig
    next_realisation : int
        What `number` hands out next.
    """

    def __init__(self, config: LinkConfig, *, cache_bytes: int, cache_dir: str | Path | None = None):
        self.config = config
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
        config, num_pilots = self.config, len(grid.pilot_symbols) * len(grid.subcarriers)
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

    def check_size(self, grid: ResourceGrid, what: str) -> None:
        """Refuse a grid of which one block of realisations exceeds `MAX_BLOCK_BYTES`.

        Parameters
        ----------
        grid : ResourceGrid
        what : str
            Needs that grid; opens the message.

        Raises
        ------
        ValueError
        """
        shapes = [
            ([BLOCK if n is None else n for n in s.shape], s.dtype) for s in tf.nest.flatten(self.signature(grid))
        ]
        block_bytes = sum(math.prod(shape) * dtype.size for shape, dtype in shapes)
        if block_bytes > MAX_BLOCK_BYTES:
            config = self.config
            raise ValueError(
                f"{what} needs {grid.num_res} resource elements: a block of {BLOCK} realisations for num_tx_ant="
                f"{config.num_tx_ant}, num_rx_ant={config.num_rx_ant} would take {block_bytes / 2**30:.1f} GiB of "
                f"memory, the limit is {MAX_BLOCK_BYTES / 2**30:g} GiB. Send less at a time, in several calls, or "
                "lower num_tx_ant or num_rx_ant."
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
        Fades of tf.Tensor
        """
        blocks, rows = np.divmod(realisation, BLOCK)
        numbers = np.unique(blocks) if len(blocks) else [0]
        pieces = [_take(self._block(int(number), grid), rows[blocks == number]) for number in numbers]
        if len(pieces) == 1:
            return pieces[0]
        together = tf.nest.map_structure(lambda *parts: tf.concat(parts, -2), *pieces)
        return _take(together, np.argsort(np.argsort(blocks, kind="stable")))

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
                self._cache[key] = self._find(number, grid)
                self._held_bytes += _nbytes(self._cache[key])
            self._cache.move_to_end(key)
            while self._held_bytes > self._cache_bytes and len(self._cache) > 1:
                self._held_bytes -= _nbytes(self._cache.popitem(last=False)[1])
            return self._cache[key]

    def _find(self, number, grid):
        """Make a block; with a store, load it, or make and save it."""
        if self._store is None:
            return self._make(number, grid)
        facts = {name: getattr(self.config, name) for name in _FACTS_OF_FADES}
        facts |= {"leaky": self._leaky, "told late": self._is_told_late(), "block": [BLOCK, number]}
        facts |= {"slots": grid.num_slots, "resource elements": grid.num_res, "generator": GENERATOR}
        facts |= {library.__name__: library.__version__ for library in (np, tf, sionna)}  # they draw, or could
        stored = self._store.load(facts)
        if stored is None:
            made = self._make(number, grid)
            parts = {name: part.numpy() for name, part in made._asdict().items() if not isinstance(part, tuple)}
            self._store.save(facts, parts)
            return made
        return Fades(**{name: tf.constant(part) for name, part in stored.items()})

    def _make(self, number, grid):
        config, age = self.config, self._age
        told = grid.data_symbols - age if self._is_told_late() else np.zeros(0)
        symbols = grid.data_symbols, grid.pilot_symbols - age, told
        h, h_pilot, h_told = self.fading.at(symbols, _key(config.seed, _FADING, number))
        if not self._leaky:
            sounding = np.asarray(h_pilot)[:, self._pilot_antenna, :, :, np.arange(config.num_subcarriers)]
            h_pilot = np.moveaxis(sounding, 0, -1)
        return Fades(
            _rows(h, grid.num_res),
            _rows(self._noise(number, grid.data_symbols), grid.num_res),
            _rows(h_pilot, None),
            _rows(self._noise(number, grid.pilot_symbols), None),
            _rows(h_told, grid.num_res) if len(told) else (),
            tf.constant(self._phase(number, grid.num_symbols)) if self._has_phase_noise() else (),
        )

    def _noise(self, number, symbols):
        """Unit variance, [num_rx_ant, BLOCK, num_symbols, num_subcarriers]; that of a symbol has its own key."""
        shape = (self.config.num_rx_ant, BLOCK, self.config.num_subcarriers, 2)
        noise = np.empty((*shape[:2], len(symbols), *shape[2:]), np.float32)
        for place, symbol in enumerate(symbols):
            key = np.random.SeedSequence((self.config.seed, _NOISE, number, int(symbol)))
            # twice as fast as TensorFlow's own generator
            drawn = np.random.Generator(np.random.SFC64(key)).standard_normal(shape, np.float32)
            np.multiply(drawn, np.float32(0.5**0.5), out=noise[:, :, place])
        return noise.view(np.complex64)[..., 0]

    def _phase(self, number, num_symbols):
        """Wiener phase [num_symbols, BLOCK, fft_size], whose steps on a symbol do not depend on how many follow."""
        shape = (BLOCK, self.config.fft_size)
        keys = [_key(self.config.seed, _PHASE, number, symbol) for symbol in range(num_symbols)]
        steps = np.stack([tf.random.stateless_normal(shape, key, alg="philox").numpy() for key in keys], 1)
        path = np.cumsum((steps * phase_noise_steps(self.config)).reshape(BLOCK, -1), 1)
        return path.reshape(BLOCK, num_symbols, -1).swapaxes(0, 1).astype(np.float32)

    def _is_told_late(self):
        return self.config.estimator == "perfect" and self._age > 0

    def _has_phase_noise(self):
        return self.config.phase_noise_linewidth > 0


def sum_paths(a, tau, tones: np.ndarray):
    """Frequency response of paths, each turned by its delay.

    A matrix product of real numbers, real and imaginary parts side by side: faster than one of complex ones.

    Parameters
    ----------
    a : tf.Tensor, [num_rx_ant, num_tx_ant, num_links, num_times, num_paths], complex64
    tau : tf.Tensor, [num_links, num_paths], or [1, num_paths] where links share their delays, [s]
    tones : np.ndarray, [num_tones], [Hz]

    Returns
    -------
    tf.Tensor, [num_rx_ant, num_tx_ant, num_links, num_times, num_tones], complex64
    """
    steering = expj(-2 * np.pi * tf.cast(tau, tf.float64)[..., None] * tones)
    turned = tf.cast(tf.stack([steering, 1j * steering], 2), tf.complex64)
    matrix = tf.reshape(tf.bitcast(turned, tf.float32), [-1, 2 * a.shape[-1], 2 * len(tones)])
    rows = tf.reshape(tf.bitcast(a, tf.float32), [*a.shape[:3], -1, 2 * a.shape[-1]])
    if tau.shape[0] == 1:
        product = tf.reshape(rows, [-1, rows.shape[-1]]) @ matrix[0]
    else:
        product = rows @ matrix
    return tf.bitcast(tf.reshape(product, [*a.shape[:3], -1, len(tones), 2]), tf.complex64)


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
        this = weakref.proxy(self)  # or the graph would keep its own owner alive
        self._responses = tf.function(lambda *args: this.responses(*args), reduce_retracing=True, autograph=False)

    def __call__(self, symbols: np.ndarray, key: np.ndarray):
        """Frequency response, [num_rx_ant, num_tx_ant, BLOCK, num_symbols, num_subcarriers], complex64.

        Parameters
        ----------
        symbols : np.ndarray, [num_symbols]
            Times in OFDM symbols.
        key : np.ndarray, [2], int64
            Decides the draw.
        """
        return self.at((symbols,), key)[0]

    def at(self, symbols, key: np.ndarray):
        """Responses of one draw at several sets of times, not all of them empty."""
        times, places = np.unique(np.concatenate(symbols), return_inverse=True)
        groups = np.split(places, np.cumsum([len(some) for some in symbols])[:-1])
        # TensorFlow aborts on products without rows
        with keyed(key):
            found = self._responses(self._times(times), [tf.constant(some) for some in groups if len(some)])
        none, rest = found[0][:, :, :, :0], iter(found)
        return [next(rest) if len(some) else none for some in groups]

    def paths(self, symbols: np.ndarray, key: np.ndarray):
        """What the response is made of: coefficients [..., num_paths, num_symbols] and delays [BLOCK, num_paths]."""
        with keyed(key):
            a, tau = self._model(BLOCK, self._times(symbols))
        a = tf.linalg.matrix_transpose(a) / tf.cast(self._model.mean_gain**0.5, a.dtype)
        return a, tf.cast(tf.broadcast_to(tau, [BLOCK, tau.shape[1]]), tf.float32)

    def responses(self, times, groups):
        """Responses at each of the groups of `times`, given by places in them."""
        a, tau = self._model(BLOCK, times)
        a = tf.transpose(a, [1, 2, 0, 3, 4]) / tf.cast(self._model.mean_gain**0.5, a.dtype)
        return [sum_paths(tf.gather(a, places, axis=3), tau, self._tones) for places in groups]

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
        self._shape = (config.num_rx_ant, config.num_tx_ant, BLOCK)
        self._num_subcarriers, self._fixed = config.num_subcarriers, config.channel == "awgn"

    def __call__(self, symbols: np.ndarray, key: np.ndarray):
        """Frequency response; see `MultipathFading`."""
        return self.at((symbols,), key)[0]

    def at(self, symbols, key: np.ndarray):
        """Responses of one draw at several sets of times."""
        matrix = _flat_matrix(*self._shape[:2])[..., None] if self._fixed else _complex_normal(self._shape, key)
        return [
            tf.broadcast_to(matrix[..., None, None], (*self._shape, len(some), self._num_subcarriers))
            for some in symbols
        ]

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


def _rows(parts, num_res):
    """[antennas…, BLOCK, symbols, subcarriers] to [antennas…, BLOCK, the first num_res resource elements]."""
    *antennas, num_symbols, num_subcarriers = parts.shape
    return tf.reshape(parts, [*antennas, num_symbols * num_subcarriers])[..., :num_res]


def _take(fades, rows):
    """Some links of a block, or the block itself."""
    if len(rows) == BLOCK and np.array_equal(rows, np.arange(BLOCK)):
        return fades
    return tf.nest.map_structure(lambda part: tf.gather(part, rows, axis=-2), fades)


def _key(*numbers):
    return np.random.SeedSequence(numbers).generate_state(2, np.uint64).view(np.int64)


def _complex_normal(shape, key):
    pairs = tf.random.stateless_normal((*shape, 2), key, stddev=0.5**0.5, alg="philox")
    return pairs.numpy().view(np.complex64)[..., 0]


def _nbytes(fades):
    return sum(part.shape.num_elements() * part.dtype.size for part in tf.nest.flatten(fades))
