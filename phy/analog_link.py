"""The analog link: codes in, codes and their error variance out."""

import weakref
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.channel import Channel, Fades
from phy.config import LinkConfig
from phy.estimation import Sounding
from phy.impairments import Modulator, Receiver, Transmitter, ofdm_symbols
from phy.ledger import Ledger, grid_ledger
from phy.noise import snr_db_to_no
from phy.recovery import CodePrior, LinearRecovery, PriorRecovery, SparseRecovery
from phy.resource_grid import ResourceGrid
from phy.token_grid import TokenGrid

CACHE_BYTES = 256 * 2**20
SPARSE_RECOVERIES = ("omp", "fista", "vamp")
LARGE_GRID = 512  # resource elements; from here on XLA earns back the second or two that it takes for each batch size


class LinkOutput(NamedTuple):
    """What the receiver hands on.

    Attributes
    ----------
    codes_hat : tf.Tensor, [batch, num_tokens, width]
        Recovered codes.
    error_var : tf.Tensor, [batch, num_tokens, width]
        Variance of their error as the receiver knows it: noise and channel estimate through the recovery.
    """

    codes_hat: tf.Tensor
    error_var: tf.Tensor


class AnalogLink:
    """Codes over a MIMO-OFDM channel as amplitudes, without bits.

    Parameters
    ----------
    config : LinkConfig
    prior : CodePrior, optional
        What is known of the codes, for recovery lmmse, lmmse-unbiased, omp, fista and vamp. None: mean zero and unit
        variance, and no basis but the code's own for the last three.
    cache_bytes : int
        Memory for fades that were used before.
    cache_dir : str or Path, optional
        Folder for fades that later runs and other processes find again.

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
            With unit mean power per element over the ensemble; the link never looks at the power of an example.
        snr_db : float or array of shape [batch], [dB]
        realisation : array of shape [batch], int, optional
            Numbers of the fade-and-noise draws, one per example. None: the next ones that this link has not used so.

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
        """Send codes, and say how a gradient comes back from what was received to what was sent.

        The chain runs once more for the gradient, both compiled together. That takes a third of the time of
        TensorFlow's tape around `__call__`, which has to keep all that is in between; the gradient is the same.

        Parameters
        ----------
        codes, snr_db, realisation : see `__call__`

        Returns
        -------
        output : LinkOutput
        pull_back : callable
            Takes the gradient with respect to `codes_hat`, returns the one with respect to `codes` (None where the link
            has no derivative). It may be called any number of times, and holds on to codes and fades.
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
        """What the antennas are asked to send for codes, before any hardware; `papr_db` says how it peaks.

        Parameters
        ----------
        codes : see `__call__`

        Returns
        -------
        tf.Tensor, [num_tx_ant, batch, num_symbols, 4 * fft_size], complex
            The OFDM symbols that carry codes, without prefix, four times oversampled. The last may be filled in part.
        """
        codes = self._check_codes(codes)
        grid = self.transmission(num_tokens=codes.shape[1], width=codes.shape[2]).grid
        return Modulator(self.config)(ofdm_symbols(grid.map(codes), self.config.num_subcarriers))

    def transmission(self, *, num_tokens: int, width: int) -> "Transmission":
        """The grid and the boxes that carry `num_tokens` codes of `width` numbers, made once."""
        for name, value in (("num_tokens", num_tokens), ("width", width)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive whole number, got {value!r}")
        key = (num_tokens, width)
        if key not in self._transmissions:
            num_res = -(-num_tokens * width // self.config.reals_per_re)
            self.channel.check_size(ResourceGrid(self.config, num_res), f"a code of shape {key}")
            grid = TokenGrid(self.config, *key)
            prior = self.prior
            if prior is None and self.config.recovery in SPARSE_RECOVERIES:
                prior = CodePrior.white(*key)
            self._transmissions[key] = Transmission(self.config, self.channel, grid, prior)
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
    """

    def __init__(self, config: LinkConfig, channel: Channel, grid: TokenGrid, prior: CodePrior | None):
        self.grid, self.channel = grid, channel
        self._complex = tf.complex64 if config.precision == "single" else tf.complex128
        self.sounding = Sounding(config=config, channel=channel, grid=grid.resources)
        self.transmit, self._receiver = Transmitter(config), Receiver(config, grid.resources.data_symbols)
        self._recovery = _recovery(config, grid, prior, self._complex.real_dtype)
        self._is_large = prior is None and grid.num_res >= LARGE_GRID
        self._noise_error = 10 ** (config.noise_error_db / 10)
        num_subcarriers = len(grid.resources.subcarriers)
        self._row = num_subcarriers if grid.num_res % num_subcarriers == 0 else grid.num_res
        real = self._complex.real_dtype
        signature = [
            tf.TensorSpec([None, grid.num_tokens, grid.width], real),
            tf.TensorSpec([None], real),
            channel.signature(grid.resources),
        ]
        this = weakref.proxy(self)  # or the graph would keep its own owner, and with it the cached fades, alive

        def gradient(codes, no, fades, upstream):
            with tf.GradientTape() as tape:
                tape.watch(codes)
                codes_hat, _ = this.call(codes, no, fades)
            return tape.gradient(codes_hat, codes, upstream)

        self._compiled = tf.function(lambda *args: this.call(*args), input_signature=signature, autograph=False)
        self._gradient = tf.function(gradient, input_signature=[*signature, signature[0]], autograph=False)

    def __call__(self, codes, no, fades: Fades):
        """Run the compiled chain; see `call`."""
        return self._compiled(codes, no, fades)

    def gradient(self, codes, no, fades: Fades, upstream):
        """Gradient with respect to the codes, from that with respect to the recovered ones; compiled as well."""
        return self._gradient(codes, no, fades, upstream)

    def call(self, codes, no, fades: Fades):
        """Send codes [batch, num_tokens, width] at noise variances [batch]; return them with their error variance."""
        no = no[:, None]
        fades = fades.cast(self._complex)
        x = self.transmit(self._fused(self.map_tokens)(codes))  # [num_tx_ant, batch, num_res]
        y = self.receive(self._fused(self.channel)(x, fades, no), fades, no)  # [num_rx_ant, batch, num_res]
        h_hat, err_var = self._fused(self.estimate_masked)(fades, no)  # [batch, num_rx_ant, num_tx_ant, num_res]
        reals, variance = self._fused(self.recover)(y, h_hat, err_var, no)  # [reals_per_re, batch, num_res]
        return self.read_tokens(reals, variance)

    def _fused(self, stage):
        """Compile a large stage by XLA; each for itself, or XLA would compute what they share several times."""
        return tf.function(stage, jit_compile=True, autograph=False) if self._is_large else stage

    def map_tokens(self, codes):
        """Place the codes on antennas and resource elements."""
        return self.grid.map(codes)

    def receive(self, y, fades: Fades, no):
        """What the receiver's hardware makes of the signal."""
        return self._receiver(y, fades.phase, no)

    def estimate(self, fades: Fades, no):
        """Estimate the channel at the data from received pilots, with its error variance; or be told the channel."""
        return self.sounding(fades, no)

    def estimate_masked(self, fades: Fades, no):
        """Estimate the channel from the codes' point of view: with the phase mask that turns them.

        The batch comes first here: what `recover` does with an example's matrices then stays in the processor's cache.
        """
        h_hat, err_var = self.sounding(fades, no, self.grid.mask)
        h_hat = tf.transpose(h_hat, [2, 0, 1, 3])
        return tf.reshape(h_hat, [-1, *h_hat.shape[1:3], self.grid.num_res // self._row, self._row]), err_var

    def recover(self, y, h_hat, err_var, no):
        """Recover the real numbers on each resource element, with the variance of their errors."""
        h_hat = tf.transpose(tf.reshape(h_hat, [-1, *h_hat.shape[1:3], self.grid.num_res]), [1, 2, 0, 3])
        return self._recovery(y, h_hat, err_var, self._noise_error * no)

    def read_tokens(self, reals, variance):
        """Bring both back to the shape and the units of the codes."""
        return self.grid.read(reals), self.grid.read_variance(variance)


def _recovery(config, grid, prior, dtype):
    kind, noisy_channel = config.recovery, config.estimator in ("ls-nearest", "ls-linear")
    if prior is None:
        return LinearRecovery(
            num_reals=2 * config.num_tx_ant if kind.startswith("complex-") else config.reals_per_re,
            num_kept=config.reals_per_re,
            prior_variance=grid.scale**2,
            kind=kind.removeprefix("complex-"),
            noisy_channel=noisy_channel,
        )
    if prior.mean.shape != (grid.num_tokens, grid.width):
        raise ValueError(
            f"the prior was fitted to codes of shape {prior.mean.shape}, these are {(grid.num_tokens, grid.width)}; "
            "fit one to codes of the same encoder"
        )
    facts = {"grid": grid, "prior": prior, "noisy_channel": noisy_channel, "dtype": dtype}
    if kind.startswith("lmmse"):
        return PriorRecovery(**facts, unbiased=kind == "lmmse-unbiased")
    return SparseRecovery(**facts, kind=kind)


def check_snr_db(snr_db, batch: int) -> np.ndarray:
    """SNR [dB] of each of `batch` examples, or an error that says what is wrong."""
    value = np.asarray(snr_db, np.float64)
    if value.shape not in ((), (batch,)):
        raise ValueError(f"snr_db must be a number or one per example, shape ({batch},); got shape {value.shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"snr_db must be finite, got {snr_db}")
    return np.broadcast_to(value, (batch,))


def _check_prior(recovery, prior):
    if prior is not None and recovery not in ("lmmse", "lmmse-unbiased", *SPARSE_RECOVERIES):
        raise ValueError(
            f"recovery={recovery!r} makes no use of a prior; take recovery='lmmse', 'omp', 'fista' or 'vamp'"
        )


def _rebuild(kind, config, prior, cache, next_realisation):
    link = kind(config, prior=prior, **cache)
    link.channel.next_realisation = next_realisation
    return link
