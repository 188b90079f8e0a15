"""Numbered fades and noise, and their effect on a signal: y = H x + n on the resource elements in use.

`(seed, realisation)` alone decides H and n. Realisations are made in blocks of 64. Each block has its own key, so
neither the batch, nor the order of the calls, nor the process changes a fade. A bounded cache holds the blocks used
last. A folder, if one is given, holds all of them.
"""

import math
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sionna
import tensorflow as tf

from phy.cir import Scattered, SpatialPaths, Specular
from phy.complex_numbers import to_complex
from phy.config import LinkConfig
from phy.fade_store import FadeStore
from phy.fading import BLOCK, fading_model
from phy.impairments import phase_noise_steps, transmitter_leaks
from phy.pilots import pilot_antenna
from phy.resource_grid import ResourceGrid

CACHE_BYTES = 256 * 2**20
MAX_BLOCK_BYTES = 2 * 2**30  # largest size of a finished block; building one needs several times more memory
GENERATOR = 2  # version of the random streams; raise it when a seed comes to mean other fades, for the fades on disk
ABSENT = ()  # a field of `Fades` without a tensor: TensorFlow's nests find no leaf in it, so casts and gathers skip it
_FADING, _NOISE, _PHASE = 0, 1, 2  # keys of the random streams
# Fields of `LinkConfig` that decide a block; every other field leaves it bit-identical, and a test walks over them.
_FACTS_OF_FADES = (
    *("channel", "num_tx_ant", "num_rx_ant", "carrier_frequency", "delay_spread", "speed", "direction", "seed"),
    *("fft_size", "subcarrier_spacing", "num_guard_carriers", "dc_null", "cyclic_prefix_length"),
    *("pilots", "pilot_spacing", "csi_delay", "phase_noise_linewidth"),
)


class Fades(NamedTuple):
    """Channels and unit-variance noise of some realisations, complex64.

    Antennas come first, then the batch, then the resource elements. An operation at every resource element then runs
    over long contiguous rows, and the size of the batch changes no result.

    Attributes
    ----------
    h : [num_rx_ant, num_tx_ant, batch, num_res]
        Frequency response on the data resource elements.
    noise : [num_rx_ant, batch, num_res]
    h_pilot : [num_rx_ant, batch, num_pilots]
        Frequency response on the subcarriers of the pilot symbols, symbol by symbol, of the antenna that sounds each.
        With transmitters that leak beside their own subcarriers: of all antennas, [num_rx_ant, num_tx_ant, batch,
        num_pilots].
    noise_pilot : [num_rx_ant, batch, num_pilots]
    h_told : same shape as `h`, or ABSENT
        Channel `csi_delay` ago, which the perfect estimator is told; ABSENT if it is told `h`.
    phase : [num_symbols, batch, fft_size], float32, or ABSENT
        Phase noise [rad] of the receiver on all OFDM symbols.
    """

    h: Any
    noise: Any
    h_pilot: Any
    noise_pilot: Any
    h_told: Any = ABSENT
    phase: Any = ABSENT

    def present(self) -> dict[str, Any]:
        """Tensors by the name of their field, without the absent ones."""
        return {name: part for name, part in self._asdict().items() if part is not ABSENT}

    def cast(self, dtype) -> "Fades":
        """Fades in the precision of `dtype`, complex."""
        return tf.nest.map_structure(
            lambda part: tf.cast(part, dtype if part.dtype.is_complex else dtype.real_dtype), self
        )


class Channel:
    """The propagation channel of a `LinkConfig`: E|h|² = 1 over the ensemble, no realisation is normalised.

    Parameters
    ----------
    config : LinkConfig
    cache_bytes : int
        Largest size of the cache of blocks.
    cache_dir : str or Path, optional
        Folder in which blocks outlive the process and serve other processes.

    Attributes
    ----------
    config : LinkConfig
    fading : FlatFading or MultipathFading
    next_realisation : int
        First number that `number` hands out next.
    """

    def __init__(self, config: LinkConfig, *, cache_bytes: int = CACHE_BYTES, cache_dir: str | Path | None = None):
        self.config = config
        self._store = None if cache_dir is None else FadeStore(cache_dir)
        self.fading = fading_model(config)
        self._pilot_antenna = pilot_antenna(config.num_tx_ant, config.num_subcarriers, config.pilot_spacing)
        self._leaky = transmitter_leaks(config)
        self._age = config.csi_delay / config.symbol_duration  # of the channel estimate, in OFDM symbols
        self._cache, self._cache_bytes, self._held_bytes = OrderedDict(), cache_bytes, 0
        self.next_realisation = 0
        self._lock = threading.Lock()  # guards the cache and Sionna's generator, of which a process has one

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
        return tf.reduce_sum(fades.h * x, 1) + to_complex(tf.sqrt(no)) * fades.noise

    def sound(self, pilots, fades: Fades, no):
        """Received pilots, [num_rx_ant, batch, num_pilots].

        `pilots` are the ones sent: [num_pilots], each from the antenna that sounds its subcarrier; or [num_tx_ant, 1,
        num_pilots], from all antennas.
        """
        clean = fades.h_pilot * pilots if len(pilots.shape) == 1 else tf.reduce_sum(fades.h_pilot * pilots, 1)
        return clean + to_complex(tf.sqrt(no)) * fades.noise_pilot

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
            h_told=tf.TensorSpec(pairs + data, tf.complex64) if told else ABSENT,
            phase=tf.TensorSpec([grid.num_symbols, None, config.fft_size], tf.float32) if noisy else ABSENT,
        )

    def check_size(self, grid: ResourceGrid, what: str) -> None:
        """Refuse a grid whose blocks of realisations exceed `MAX_BLOCK_BYTES`.

        Parameters
        ----------
        grid : ResourceGrid
        what : str
            Thing that needs the grid; the message opens with it.

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
        """Check the realisation numbers of a batch; for None, hand out the next unused ones.

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
        """Fades of the numbered realisations, from the cache, from disk, or made now.

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

    def correlation(self, time: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        """E[h(t + time, f + frequency) h*(t, f)], for lags in OFDM symbols [n] and in subcarriers [m]: [n, m].

        With several paths that have Doppler spectra of their own it is no product of the two correlations above, which
        the estimators take it for; what that costs is what `tokenlink bench estimation` measures.
        """
        return self.fading.correlation(time, frequency)

    @property
    def specular(self) -> Specular | None:
        r"""Path that does not fade, if there is one: share of the gain, and phase [rad] per OFDM symbol.

        With `scattered` it gives the correlation of two resource elements. With a line of sight at speed that is no
        product of the two correlations above, but a sum of two products,

        .. math:: P_s e^{j \omega \Delta t} + (1 - P_s) r_t(\Delta t) r_f(\Delta f)
        """
        return self.fading.specular

    @property
    def scattered(self) -> Scattered:
        """Part that fades: share of the gain, and unit correlations for lags in OFDM symbols and in subcarriers."""
        return self.fading.scattered

    @property
    def spatial(self) -> SpatialPaths | None:
        """Correlation of the antennas by paths, or None where antennas fade independently, or it is not known.

        umi, uma and rma drop a terminal into other directions with every realisation; None stands for them too.
        """
        return self.fading.spatial

    def _block(self, number, grid):
        key = (number, grid.num_slots, grid.num_res)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = self._load_or_make(number, grid)
                self._held_bytes += _nbytes(self._cache[key])
            self._cache.move_to_end(key)
            while self._held_bytes > self._cache_bytes and len(self._cache) > 1:
                self._held_bytes -= _nbytes(self._cache.popitem(last=False)[1])
            return self._cache[key]

    def facts(self, number: int, grid: ResourceGrid) -> dict[str, Any]:
        """Everything that decides block `number`, by name: blocks with equal facts are bit-identical."""
        facts = {name: getattr(self.config, name) for name in _FACTS_OF_FADES}
        facts |= {"leaky": self._leaky, "told late": self._is_told_late(), "block": [BLOCK, number]}
        facts |= {"slots": grid.num_slots, "resource elements": grid.num_res, "generator": GENERATOR}
        return facts | {library.__name__: library.__version__ for library in (np, tf, sionna)}  # all three may draw

    def _load_or_make(self, number, grid):
        """Make a block; with a store, load it, or make and save it."""
        if self._store is None:
            return self._make(number, grid)
        facts = self.facts(number, grid)
        stored = self._store.load(facts)
        if stored is not None:
            return Fades(**{name: tf.constant(part) for name, part in stored.items()})
        made = self._make(number, grid)
        self._store.save(facts, {name: part.numpy() for name, part in made.present().items()})
        return made

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
            _rows(h_told, grid.num_res) if len(told) else ABSENT,
            tf.constant(self._phase(number, grid.num_symbols)) if self._has_phase_noise() else ABSENT,
        )

    def _noise(self, number, symbols):
        """Unit-variance noise, [num_rx_ant, BLOCK, num_symbols, num_subcarriers]; each symbol has its own key."""
        shape = (self.config.num_rx_ant, BLOCK, self.config.num_subcarriers, 2)
        noise = np.empty((*shape[:2], len(symbols), *shape[2:]), np.float32)
        for index, symbol in enumerate(symbols):
            key = np.random.SeedSequence((self.config.seed, _NOISE, number, int(symbol)))
            # this generator is twice as fast as TensorFlow's own
            drawn = np.random.Generator(np.random.SFC64(key)).standard_normal(shape, np.float32)
            np.multiply(drawn, np.float32(0.5**0.5), out=noise[:, :, index])
        return noise.view(np.complex64)[..., 0]

    def _phase(self, number, num_symbols):
        """Wiener phase [num_symbols, BLOCK, fft_size]; later symbols do not change the steps of earlier ones."""
        shape = (BLOCK, self.config.fft_size)
        keys = [_key(self.config.seed, _PHASE, number, symbol) for symbol in range(num_symbols)]
        steps = np.stack([tf.random.stateless_normal(shape, key, alg="philox").numpy() for key in keys], 1)
        path = np.cumsum((steps * phase_noise_steps(self.config)).reshape(BLOCK, -1), 1)
        return path.reshape(BLOCK, num_symbols, -1).swapaxes(0, 1).astype(np.float32)

    def _is_told_late(self):
        return self.config.estimator == "perfect" and self._age > 0

    def _has_phase_noise(self):
        return self.config.phase_noise_linewidth > 0


def _rows(parts, num_res):
    """[antennas…, BLOCK, symbols, subcarriers] to [antennas…, BLOCK, the first num_res resource elements]."""
    *leading, num_symbols, num_subcarriers = parts.shape
    return tf.reshape(parts, [*leading, num_symbols * num_subcarriers])[..., :num_res]


def _take(fades, rows):
    """Some realisations of a block, or the block itself."""
    if len(rows) == BLOCK and np.array_equal(rows, np.arange(BLOCK)):
        return fades
    return tf.nest.map_structure(lambda part: tf.gather(part, rows, axis=-2), fades)


def _key(*numbers):
    return np.random.SeedSequence(numbers).generate_state(2, np.uint64).view(np.int64)


def _nbytes(fades):
    return sum(part.shape.num_elements() * part.dtype.size for part in tf.nest.flatten(fades))
