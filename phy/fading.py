"""Fading models: frequency responses of a block of realisations, drawn from a key.

A model offers `at` (responses at several sets of times), `frequency_correlation` and `time_correlation`.
`fading_model` chooses the one that `LinkConfig.channel` names.
"""

import functools
import weakref

import numpy as np
import tensorflow as tf

from phy.cir import CDLModel, Scattered, Specular, TDLModel, keyed
from phy.complex_numbers import expj
from phy.config import LinkConfig
from phy.graphs import graph
from phy.scenarios import SCENARIOS, ScenarioModel

# Fields of `LinkConfig` that a model depends on. It holds no fades, only what does not change, and compiled graphs.
_FACTS_OF_MODELS = (
    *("channel", "num_tx_ant", "num_rx_ant", "carrier_frequency", "delay_spread", "speed", "direction"),
    *("fft_size", "subcarrier_spacing", "num_guard_carriers", "dc_null", "cyclic_prefix_length"),
)
_MODELS, _MOST_MODELS = {}, 32
BLOCK = 64  # realisations drawn together: one draw of many is cheaper than many of one; part of what a seed means


def sum_paths(a, tau, tones: np.ndarray):
    """Frequency response of paths, each turned by its delay.

    The sum is one matrix product of real numbers, with real and imaginary parts side by side. TensorFlow computes it
    faster than the product of complex numbers.

    Parameters
    ----------
    a : tf.Tensor, [num_rx_ant, num_tx_ant, num_links, num_times, num_paths], complex64
    tau : tf.Tensor, [num_links, num_paths], [s]
        [1, num_paths] if all links have the same delays.
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
    """A 3GPP model, evaluated on the subcarriers in use.

    Parameters
    ----------
    config : LinkConfig
    model : CDLModel, TDLModel or ScenarioModel
        Source of the paths.
    """

    def __init__(self, config: LinkConfig, model: CDLModel | TDLModel | ScenarioModel):
        self._model, self._spacing, self._symbol_duration = model, config.subcarrier_spacing, config.symbol_duration
        self._tones = self._spacing * (config.subcarriers - config.fft_size // 2)
        this = weakref.proxy(self)  # the graph would keep its own owner alive otherwise
        self._responses = graph(lambda *args: this.responses(*args), generalize=True)

    def __call__(self, symbols: np.ndarray, key: np.ndarray):
        """Frequency response, [num_rx_ant, num_tx_ant, BLOCK, num_symbols, num_subcarriers], complex64.

        Parameters
        ----------
        symbols : np.ndarray, [num_symbols]
            Times, in OFDM symbols.
        key : np.ndarray, [2], int64
            Key of the random stream.
        """
        return self.at((symbols,), key)[0]

    def at(self, symbols, key: np.ndarray):
        """Responses of one draw at several sets of times; at least one set is not empty."""
        times, index = np.unique(np.concatenate(symbols), return_inverse=True)
        groups = np.split(index, np.cumsum([len(group) for group in symbols])[:-1])
        # empty groups stay out of the graph: TensorFlow aborts on products without rows
        with keyed(key):
            responses = self._responses(self._times(times), [tf.constant(group) for group in groups if len(group)])
        empty, rest = responses[0][:, :, :, :0], iter(responses)
        return [next(rest) if len(group) else empty for group in groups]

    def paths(self, symbols: np.ndarray, key: np.ndarray):
        """Coefficients [..., num_paths, num_symbols] and delays [BLOCK, num_paths] of the paths in the response."""
        with keyed(key):
            a, tau = self._model(BLOCK, self._times(symbols))
        a = tf.linalg.matrix_transpose(a) / tf.cast(self._model.mean_gain**0.5, a.dtype)
        return a, tf.cast(tf.broadcast_to(tau, [BLOCK, tau.shape[1]]), tf.float32)

    def responses(self, times, groups):
        """Responses for each group of indices into `times`."""
        a, tau = self._model(BLOCK, times)
        a = tf.transpose(a, [1, 2, 0, 3, 4]) / tf.cast(self._model.mean_gain**0.5, a.dtype)
        return [sum_paths(tf.gather(a, group, axis=3), tau, self._tones) for group in groups]

    def _times(self, symbols):
        return tf.constant(symbols * self._symbol_duration, tf.float32)

    def frequency_correlation(self, lag):
        """Correlation over the ensemble; see `Channel`."""
        return self._model.frequency_correlation(self._spacing * np.asarray(lag))

    def time_correlation(self, lag):
        """Correlation over the ensemble; see `Channel`."""
        return self._model.time_correlation(self._symbol_duration * np.asarray(lag))

    def correlation(self, time, frequency):
        """Correlation over the ensemble; see `Channel`."""
        return self._model.correlation(self._symbol_duration * np.asarray(time), self._spacing * np.asarray(frequency))

    @property
    def specular(self):
        """See `Channel.specular`. The line of sight of other models than TDL has a random Doppler shift, and fades."""
        if not isinstance(self._model, TDLModel) or self._model.specular is None:
            return None
        power, turn = self._model.specular
        return Specular(power, turn * self._symbol_duration)

    @functools.cached_property
    def spatial(self):
        """See `Channel.spatial`; delays are in turns per subcarrier."""
        if not isinstance(self._model, CDLModel):
            return None
        paths = self._model.spatial()
        return paths._replace(delays=paths.delays * self._spacing)

    @property
    def scattered(self):
        """See `Channel.scattered`."""
        if not isinstance(self._model, TDLModel):
            return Scattered(1.0, self.time_correlation, self.frequency_correlation)
        power, time, frequency = self._model.scattered
        return Scattered(
            power,
            lambda lag: time(self._symbol_duration * np.asarray(lag)),
            lambda lag: frequency(self._spacing * np.asarray(lag)),
        )


class FlatFading:
    """One matrix for all times and subcarriers: drawn from a key (rayleigh), or fixed (awgn).

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
        """Responses of one draw at several sets of times; see `MultipathFading`."""
        matrix = _flat_matrix(*self._shape[:2])[..., None] if self._fixed else _complex_normal(self._shape, key)
        return [
            tf.broadcast_to(matrix[..., None, None], (*self._shape, len(times), self._num_subcarriers))
            for times in symbols
        ]

    def frequency_correlation(self, lag):
        """Correlation over the ensemble; see `Channel`."""
        return np.ones(np.shape(lag))

    time_correlation = frequency_correlation
    specular = spatial = None

    def correlation(self, time, frequency):
        """Correlation over the ensemble; see `Channel`."""
        return np.ones((len(time), len(frequency)))

    @property
    def scattered(self):
        """See `Channel.scattered`."""
        return Scattered(1.0, self.time_correlation, self.frequency_correlation)


def fading_model(config: LinkConfig) -> FlatFading | MultipathFading:
    """Return the model that `config.channel` names; links that agree on `_FACTS_OF_MODELS` share one and its graphs."""
    facts = tuple(getattr(config, name) for name in _FACTS_OF_MODELS)
    if facts not in _MODELS:
        while len(_MODELS) >= _MOST_MODELS:
            _MODELS.pop(next(iter(_MODELS)))  # the oldest
        _MODELS[facts] = _build(config)
    return _MODELS[facts]


def _build(config):
    family, _, profile = config.channel.partition("-")
    if config.channel in ("awgn", "rayleigh"):
        return FlatFading(config)
    options = {
        "num_tx_ant": config.num_tx_ant,
        "num_rx_ant": config.num_rx_ant,
        "carrier_frequency": config.carrier_frequency,
        "speed": config.speed,
    }
    if config.channel in SCENARIOS:
        return MultipathFading(config, ScenarioModel(scenario=config.channel, direction=config.direction, **options))
    options |= {"profile": profile.upper(), "delay_spread": config.delay_spread}
    if family == "tdl":
        return MultipathFading(config, TDLModel(**options))
    return MultipathFading(config, CDLModel(direction=config.direction, **options))


def _flat_matrix(num_rx_ant, num_tx_ant):
    """Unit-modulus entries, orthogonal rows or columns: part of the circulant of a Zadoff-Chu sequence."""
    n = max(num_rx_ant, num_tx_ant)
    index = np.arange(n)
    sequence = np.exp(-1j * np.pi * index * (index + n % 2) / n)
    return sequence[(index[:num_rx_ant, None] - index[:num_tx_ant]) % n].astype(np.complex64)


def _complex_normal(shape, key):
    pairs = tf.random.stateless_normal((*shape, 2), key, stddev=0.5**0.5, alg="philox")
    return pairs.numpy().view(np.complex64)[..., 0]
