"""The analog link: codes in, codes and their error variance out."""

import weakref
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.channel import CACHE_BYTES, Channel, Fades
from phy.config import LinkConfig
from phy.graphs import graph
from phy.impairments import Modulator, Receiver, Transmitter, ofdm_symbols, peak_power
from phy.ledger import Ledger, grid_ledger
from phy.noise import check_snr_db, snr_db_to_no
from phy.recovery import RECOVERIES, CodePrior, LinearRecovery, build_recovery
from phy.recovery.linear import effective_channel, scaled_channel
from phy.resource_grid import ResourceGrid
from phy.sounding import Sounding, in_one_row
from phy.token_grid import TokenGrid

LARGE_GRID = 512  # resource elements; from here on XLA earns back the second or two that it takes for each batch size


class LinkOutput(NamedTuple):
    """Result of a transmission.

    Attributes
    ----------
    codes_hat : tf.Tensor, [batch, num_tokens, width]
        Recovered codes.
    error_var : tf.Tensor, [batch, num_tokens, width]
        Variance of their error as the receiver knows it, from noise, channel estimate and recovery.
    """

    codes_hat: tf.Tensor
    error_var: tf.Tensor


class AnalogLink:
    """Codes over a MIMO-OFDM channel as amplitudes, without bits.

    Parameters
    ----------
    config : LinkConfig
    prior : CodePrior, optional
        Knowledge of the codes, for recovery lmmse, lmmse-unbiased, omp, fista and vamp. Without one, codes have mean
        zero and unit variance, and the last three use the code's own coordinates as their basis.
    cache_bytes : int
        Memory for fades that were used before.
    cache_dir : str or Path, optional
        Folder in which later runs and other processes find the fades.

    Examples
    --------
    >>> link = AnalogLink(LinkConfig(channel="cdl-c", num_tx_ant=4, num_rx_ant=8))
    >>> out = link(codes, snr_db=10.0, realisation=tf.range(batch))
    >>> out.codes_hat, out.error_var
    """

    def __init__(
        self,
        config: LinkConfig | None = None,
        *,
        prior: CodePrior | None = None,
        cache_bytes: int = CACHE_BYTES,
        cache_dir: str | Path | None = None,
    ):
        self.config = LinkConfig() if config is None else config
        _check_prior(self.config.recovery, prior)
        self.prior = prior
        self._cache = {"cache_bytes": cache_bytes, "cache_dir": cache_dir}
        self.channel = Channel(self.config, **self._cache)
        self._dtype = tf.float32 if self.config.precision == "single" else tf.float64
        self._transmissions = {}

    def __call__(self, codes, snr_db=10.0, realisation=None) -> LinkOutput:
        """Send codes.

        Parameters
        ----------
        codes : array, [batch, num_tokens, width], floating
            Unit mean power per element over the ensemble; the link never looks at the power of an example.
        snr_db : float or array of shape [batch], [dB]
        realisation : array of shape [batch], int, optional
            Numbers of the fade-and-noise draws, one per example; by default the next unused ones of this link.

        Returns
        -------
        LinkOutput

        Raises
        ------
        ValueError, TypeError
            If an argument has the wrong shape or kind, or is not finite, or the codes are too large.
        """
        transmission, *sent = self._prepare(codes, snr_db, realisation)
        return LinkOutput(*transmission(*sent))

    def vjp(self, codes, snr_db=10.0, realisation=None):
        """Send codes, and return the function that pulls a gradient back through the link.

        The pull-back runs the chain once more, compiled together with its gradient. That takes a third of the time of
        TensorFlow's tape around `__call__`, which has to keep every intermediate tensor. The gradient is the same.

        Parameters
        ----------
        codes, snr_db, realisation : see `__call__`

        Returns
        -------
        output : LinkOutput
        pull_back : callable
            Maps the gradient with respect to `codes_hat` to the one with respect to `codes`; None if the link has no
            derivative. It may be called any number of times. It keeps codes and fades alive.
        """
        transmission, *sent = self._prepare(codes, snr_db, realisation)
        return LinkOutput(*transmission(*sent)), partial(transmission.gradient, *sent)

    def _prepare(self, codes, snr_db, realisation):
        if not tf.executing_eagerly():
            raise RuntimeError("AnalogLink draws numbered fades: call it eagerly, its own graph is compiled already")
        codes = self._check_codes(codes)
        batch, num_tokens, width = codes.shape.as_list()
        no = snr_db_to_no(check_snr_db(snr_db, batch), self._dtype)
        transmission = self.transmission(num_tokens=num_tokens, width=width)
        fades = self.channel.fades(self.channel.number(realisation, batch), transmission.grid.resources)
        return transmission, codes, no, tf.nest.map_structure(tf.convert_to_tensor, fades)

    def ledger(self, *, num_tokens: int, width: int) -> Ledger:
        """Resource elements, energy and time of one example of `num_tokens` codes of `width` numbers."""
        grid = self.transmission(num_tokens=num_tokens, width=width).grid
        num_reals = num_tokens * width
        return grid_ledger(grid.resources, data_energy=num_reals * grid.scale**2, num_reals=num_reals)

    def waveform(self, codes):
        """Signals that the antennas are asked to send for codes, before any hardware; `papr_db` measures their peaks.

        Parameters
        ----------
        codes : see `__call__`

        Returns
        -------
        tf.Tensor, [num_tx_ant, batch, num_symbols, 4 * fft_size], complex
            OFDM symbols that carry codes, without prefix, four times oversampled. The last one may be filled in part.
        """
        codes = self._check_codes(codes)
        grid, config = self.transmission(num_tokens=codes.shape[1], width=codes.shape[2]).grid, self.config
        modulate = Modulator(config.subcarriers, config.fft_size)
        return modulate(ofdm_symbols(grid.map(codes), config.num_subcarriers))

    def gain(self, *, num_tokens: int, width: int, snr_db, realisation) -> np.ndarray:
        """Received energy of a unit of sent energy over the noise variance of a real dimension, for each example.

        It is that of the channel as the receiver estimates it, the error of the estimate taken for noise, and the mean
        over antennas and resource elements: what can be known before a fade is met.

        Parameters
        ----------
        num_tokens, width : int
        snr_db : float or array of shape [batch], [dB]
        realisation : array of shape [batch], int

        Returns
        -------
        numpy.ndarray, [batch]
        """
        transmission = self.transmission(num_tokens=num_tokens, width=width)
        numbers = self.channel.number(realisation, len(realisation))
        no = snr_db_to_no(check_snr_db(snr_db, len(numbers)), self._dtype)
        fades = self.channel.fades(numbers, transmission.grid.resources)
        return transmission.gain(no, tf.nest.map_structure(tf.convert_to_tensor, fades)).numpy()

    def peak_power(self, codes) -> np.ndarray:
        """Largest power of each example's `waveform` over the ensemble's mean, [batch]."""
        return peak_power(self.waveform(codes), self.config)

    def transmission(self, *, num_tokens: int, width: int) -> "Transmission":
        """Grid and boxes for `num_tokens` codes of `width` numbers, built once."""
        for name, value in (("num_tokens", num_tokens), ("width", width)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive whole number, got {value!r}")
        key = (num_tokens, width)
        if key not in self._transmissions:
            num_res = -(-num_tokens * width // self.config.reals_per_re)
            self.channel.check_size(ResourceGrid(self.config, num_res), f"a code of shape {key}")
            self._transmissions[key] = Transmission(self.config, self.channel, TokenGrid(self.config, *key), self.prior)
        return self._transmissions[key]

    def __reduce__(self):
        return _rebuild, (type(self), self.config, self.prior, self._cache, self.channel.next_realisation)

    def _check_codes(self, codes):
        codes = tf.convert_to_tensor(codes)
        if not codes.dtype.is_floating:
            raise TypeError(f"codes must be real floating-point numbers, got {codes.dtype.name}")
        if codes.shape.rank != 3:
            raise ValueError(f"codes must have shape [batch, num_tokens, width], got {tuple(codes.shape)}")
        codes = tf.cast(codes, self._dtype)
        if not bool(tf.reduce_all(tf.math.is_finite(codes))):
            raise ValueError("codes hold NaN or infinite values; check the encoder that made them")
        return codes


class Transmission:
    """The link for codes of one shape: the boxes of the figure in their order, compiled once for every batch size.

    Parameters
    ----------
    config : LinkConfig
    channel : Channel
    grid : TokenGrid
    prior : CodePrior or None

    Attributes
    ----------
    map_tokens, transmit, send, receive, estimate, whiten, recover : callable
        The boxes. `estimate` sees the channel as the codes do: it includes the phase mask of the grid.
    """

    def __init__(self, config: LinkConfig, channel: Channel, grid: TokenGrid, prior: CodePrior | None):
        self.grid = grid
        plain = config.recovery in ("ls", "complex-ls")
        self.sounding = Sounding(config=config, channel=channel, grid=grid.resources, turn=grid.mask, plain=plain)
        recovery = build_recovery(config, grid, prior)
        is_large = grid.num_res >= LARGE_GRID and isinstance(recovery, LinearRecovery)
        compiled = _compiled if is_large else _as_it_is
        self.map_tokens = compiled(grid.map)
        self.transmit = Transmitter(config)
        self.send = compiled(channel)
        self.receive = Receiver(config, grid.resources.data_symbols)
        self.estimate = in_one_row(compiled(self.sounding))
        self.whiten = compiled(self.sounding.whiten) if self.sounding.weighs_beams else self.sounding.whiten
        self.recover = compiled(recovery)

        self._complex = tf.complex64 if config.precision == "single" else tf.complex128
        self._noise_error = 10 ** (config.noise_error_db / 10)
        real = self._complex.real_dtype
        signature = [
            tf.TensorSpec([None, grid.num_tokens, grid.width], real),
            tf.TensorSpec([None], real),
            channel.signature(grid.resources),
        ]
        this = weakref.proxy(self)  # the graph would keep its own owner, and the cached fades, alive otherwise

        def gradient(codes, no, fades, upstream):
            with tf.GradientTape() as tape:
                tape.watch(codes)
                codes_hat, _ = this.call(codes, no, fades)
            return tape.gradient(codes_hat, codes, upstream)

        self._chain = graph(lambda *args: this.call(*args), signature=signature)
        self._gradient = graph(gradient, signature=[*signature, signature[0]])
        self._noisy_channel = config.has_noisy_estimate
        self.gain = graph(lambda no, fades: this.mean_gain(no, fades), signature=signature[1:])

    def __call__(self, codes, no, fades: Fades):
        """Run the compiled chain; see `call`."""
        return self._chain(codes, no, fades)

    def gradient(self, codes, no, fades: Fades, upstream):
        """Gradient with respect to the codes, from the one with respect to the recovered codes; compiled as well."""
        return self._gradient(codes, no, fades, upstream)

    def call(self, codes, no, fades: Fades):
        """Send codes [batch, num_tokens, width] at noise variances [batch]; return them with their error variance."""
        no = no[:, None]
        fades = fades.cast(self._complex)
        x = self.transmit(self.map_tokens(codes))  # [num_tx_ant, batch, num_res]
        y = self.receive(self.send(x, fades, no), fades.phase, no)  # [num_rx_ant, batch, num_res]
        h_hat, err_var = self.estimate(fades, no)  # [batch, num_rx_ant, num_tx_ant, num_res]
        no = self._noise_error * no
        reals, variance = self.recover(*self.whiten(y, h_hat, err_var, no), no)  # [reals_per_re, batch, num_res]
        return self.read_tokens(reals, variance)

    def mean_gain(self, no, fades: Fades):
        """Gain of the estimated channel over its noise, [batch], at noise variances [batch]; see `AnalogLink.gain`."""
        no = no[:, None]
        fades = fades.cast(self._complex)
        h_hat, err_var = self.estimate(fades, no)
        no = self._noise_error * no
        received = tf.zeros_like(tf.transpose(h_hat[:, :, 0], [1, 0, 2]))
        _, h_hat, err_var = self.whiten(received, h_hat, err_var, no)
        shrinkage, no_real = effective_channel(err_var, no, noisy_channel=self._noisy_channel)
        h_hat = scaled_channel(h_hat, shrinkage)
        energy = tf.reduce_mean(tf.reduce_sum(tf.math.real(h_hat * tf.math.conj(h_hat)), 1), 1)  # [batch, num_res]
        return tf.reduce_mean(energy / no_real, 1)

    def read_tokens(self, reals, variance):
        """Bring both back to the shape and the units of the codes."""
        return self.grid.read(reals), self.grid.read_variance(variance)


def _compiled(box):
    """Compile a box by XLA; each box on its own, or XLA would compute shared parts several times."""
    return graph(box, xla=True)


def _as_it_is(box):
    return box


def _check_prior(recovery, prior):
    if prior is not None and not RECOVERIES[recovery].takes_prior:
        raise ValueError(
            f"recovery={recovery!r} makes no use of a prior; take recovery='lmmse', 'omp', 'fista' or 'vamp'"
        )


def _rebuild(kind, config, prior, cache, next_realisation):
    link = kind(config, prior=prior, **cache)
    link.channel.next_realisation = next_realisation
    return link
