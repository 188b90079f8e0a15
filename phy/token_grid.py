"""Codes on the OFDM grid: antenna, resource element and power of every real number."""

import numpy as np
import tensorflow as tf

from phy.config import LinkConfig
from phy.resource_grid import ResourceGrid

_MASK_SEED = 38211  # part of the standard that both ends share, like a scrambling sequence; not the study's seed


class TokenGrid:
    r"""The grid of one transmission of `num_tokens` codes of `width` real numbers.

    The numbers fill antennas first, then subcarriers, then OFDM symbols (the order of 3GPP TS 38.211, section 7.3.1),
    and take as many slots as they need. The contract with the encoder is unit mean power per number. The antennas of a
    data resource element then radiate

    .. math:: \sum_a \operatorname{E}|x_a|^2 = 1

    The scale is a constant that does not depend on the codes, because a receiver could not know it.

    Parameters
    ----------
    config : LinkConfig
    num_tokens, width : int

    Attributes
    ----------
    resources : ResourceGrid
    num_res : int
        Number of resource elements with codes.
    mask : tf.Tensor, [num_tx_ant, 1, num_res], complex
        Unit-modulus phases.
    scale : float
        Amplitude per unit of code.
    """

    def __init__(self, config: LinkConfig, num_tokens: int, width: int):
        self.num_tokens, self.width = num_tokens, width
        self.num_tx_ant, self.reals_per_re = config.num_tx_ant, config.reals_per_re
        self.num_res = -(-num_tokens * width // self.reals_per_re)
        self.resources = ResourceGrid(config, self.num_res)
        self.scale = self.reals_per_re**-0.5  # the numbers on a resource element share its power
        dtype = tf.complex64 if config.precision == "single" else tf.complex128
        self.mask = tf.constant(self._phases(config.phase_mask)[:, None], dtype)

    def map(self, codes):
        """Place codes on the grid.

        Parameters
        ----------
        codes : tf.Tensor, [batch, num_tokens, width], real

        Returns
        -------
        x : tf.Tensor, [num_tx_ant, batch, num_res], complex
        """
        reals = self.scale * self._spread(codes)
        if self.reals_per_re > self.num_tx_ant:
            symbols = tf.complex(reals[: self.num_tx_ant], reals[self.num_tx_ant :])
        else:
            symbols = tf.complex(reals, tf.zeros_like(reals))
        return symbols * self.mask

    def read(self, reals):
        """Take the codes back: the inverse of `map` without the mask, which recovery has removed with the channel.

        Parameters
        ----------
        reals : tf.Tensor, [reals_per_re, batch, num_res]
            Recovered numbers, in the units of the transmitted symbols.

        Returns
        -------
        codes : tf.Tensor, [batch, num_tokens, width]
        """
        return self._gather(reals) / self.scale

    def read_variance(self, variance):
        """`read` for the variances of the numbers."""
        return self._gather(variance) / self.scale**2

    def _spread(self, codes):
        flat = tf.reshape(codes, [-1, self.num_tokens * self.width])
        flat = tf.pad(flat, [[0, 0], [0, self.num_res * self.reals_per_re - self.num_tokens * self.width]])
        return tf.transpose(tf.reshape(flat, [-1, self.num_res, self.reals_per_re]), [2, 0, 1])

    def _gather(self, reals):
        flat = tf.reshape(tf.transpose(reals, [1, 2, 0]), [-1, self.num_res * self.reals_per_re])
        return tf.reshape(flat[:, : self.num_tokens * self.width], [-1, self.num_tokens, self.width])

    def _phases(self, wanted):
        grid = self.resources
        shape = (self.num_tx_ant, len(grid.data_symbols), len(grid.subcarriers))
        if not wanted:
            return np.ones(shape).reshape(self.num_tx_ant, -1)[:, : self.num_res]
        turns = [  # one stream per symbol: the mask of a symbol does not depend on how many follow
            np.random.Generator(np.random.Philox([_MASK_SEED, symbol])).random((self.num_tx_ant, grid.fft_size))
            for symbol in grid.data_symbols
        ]
        phases = np.exp(2j * np.pi * np.stack(turns, 1))[:, :, grid.subcarriers]
        return phases.reshape(self.num_tx_ant, -1)[:, : self.num_res]
