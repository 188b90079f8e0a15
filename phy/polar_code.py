"""5G's polar code for short blocks, with its CRC and rate matching, and successive cancellation with a list of paths.

Construction and interleavers are Sionna's. The decoder is our own: it treats a batch in NumPy, where Sionna's copies
the state of every path at every bit or builds a graph of thousands of operations.
"""

import contextlib
import io

import numpy as np
from sionna.phy.fec.crc import CRCEncoder
from sionna.phy.fec.polar.encoding import Polar5GEncoder

LIST_SIZE = 8
MIN_BITS, MIN_CODED_BITS = 12, 18  # of 3GPP TS 38.212; fewer bits are filled up with zeros that both ends know
MAX_CODED_BITS = 1088  # of Sionna's encoder; from 1024 on, all words are repetitions of one mother code
_CERTAIN = 1e4  # log-likelihood ratio of a bit that is known


def polar_crc_bits(num_bits: int) -> int:
    """Return the length of the CRC behind a number of bits. Source: 3GPP TS 38.212, section 6.3.1.2.1."""
    return 6 if num_bits <= 19 else 11


class PolarCode:
    """The polar code of uplink control information in one size, without segmentation.

    Up to 19 bits, 38.212 has three parity bits more; they are left out, as in Sionna. Blocks of less than twelve bits
    begin with zeros; the decoder knows them, so that they cost little.

    Parameters
    ----------
    num_bits : int
        Bits of a block without its CRC.
    n : int
        Bits on the air.

    Source: 3GPP TS 38.212, sections 5.3.1, 5.4.1 and 6.3.1; A. Balatsoukas-Stimming, M. Bastani Parizi, A. Burg,
    "LLR-based successive cancellation list decoding of polar codes", IEEE Trans. Signal Processing 63(19), 2015; S. A.
    Hashemi, C. Condo, W. J. Gross, "Fast and flexible successive-cancellation list decoders for polar codes", IEEE
    Trans. Signal Processing 65(21), 2017, for the pruned tree.
    """

    def __init__(self, num_bits: int, n: int):
        num_zeros = max(0, MIN_BITS - num_bits)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that parity bits are missing
            encoder = Polar5GEncoder(num_bits + num_zeros, min(n, MAX_CODED_BITS))
        self._num_bits = num_bits
        self._used = np.setdiff1d(np.arange(encoder.n_polar), encoder.frozen_pos)[num_zeros:]
        self._frozen = np.ones(encoder.n_polar, bool)
        self._frozen[self._used] = False
        self._order, self._known = _rate_matching(encoder, n)
        crc = CRCEncoder(f"CRC{polar_crc_bits(num_bits)}")
        self._parity = crc(np.eye(num_bits, dtype=np.float32)).numpy()[:, num_bits:]  # [num_bits, crc_bits]

    def encode(self, bits: np.ndarray) -> np.ndarray:
        """Return coded bits, float32 [batch, n], of blocks [batch, num_bits]."""
        word = np.zeros((len(bits), len(self._frozen)), bool)
        word[:, self._used] = np.concatenate([bits, bits @ self._parity % 2], axis=1)
        return _transform(word)[:, self._order].astype(np.float32)

    def decode(self, llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the likeliest path of the list whose CRC holds.

        Parameters
        ----------
        llr : [batch, n], float32
            Log-likelihood ratios of ones against zeros.

        Returns
        -------
        bits : uint8, [batch, num_bits]
        valid : bool, [batch]
            Whether the CRC of any path holds; bits are of no use otherwise.
        """
        zeros = np.zeros((len(llr), len(self._frozen)), np.float32)  # of zeros against ones, as decoders have it
        zeros[:, self._known] = _CERTAIN
        np.add.at(zeros, (slice(None), self._order), -llr)
        words, penalty, _ = self._descend(zeros[:, None], np.zeros((len(llr), 1), np.float32), 0)
        paths = _transform(words)[..., self._used].astype(np.float32)
        bits, crc = paths[..., : self._num_bits], paths[..., self._num_bits :]
        holds = np.all(bits @ self._parity % 2 == crc, axis=-1)
        best = np.argmin(np.where(holds, penalty, np.inf), axis=1)
        return np.take_along_axis(bits, best[:, None, None], 1)[:, 0].astype(np.uint8), np.any(holds, axis=1)

    def _descend(self, llr, penalty, first):
        """Decode the part of the tree above the inputs from `first` on.

        Parameters
        ----------
        llr : [batch, num_paths, size]
        penalty : [batch, num_paths]
            Negative log-likelihood of each path so far.
        first : int

        Returns
        -------
        word : bool, [batch, new_num_paths, size]
            Coded bits of this part on the paths that are kept.
        penalty : [batch, new_num_paths]
        origin : int, [batch, new_num_paths]
            Path that each one continues; None if each continues itself.
        """
        size = llr.shape[-1]
        frozen = self._frozen[first : first + size]
        if frozen[:-1].all():
            as_zeros = penalty + np.sum(_softplus(-llr), axis=-1)
            if frozen[-1]:
                return np.zeros(llr.shape, bool), as_zeros, None
            both = np.concatenate([as_zeros, as_zeros + np.sum(llr, axis=-1)], axis=1)  # all zeros, all ones
            kept = np.argsort(both, axis=1, kind="stable")[:, :LIST_SIZE]
            word = np.broadcast_to((kept >= penalty.shape[1])[..., None], (*kept.shape, size))
            return word, np.take_along_axis(both, kept, 1), kept % penalty.shape[1]
        left, right = llr[..., : size // 2], llr[..., size // 2 :]
        sums, penalty, origin = self._descend(_box_plus(left, right), penalty, first)
        left, right = _take(left, origin), _take(right, origin)
        word, penalty, later = self._descend(right + np.where(sums, -left, left), penalty, first + size // 2)
        sums = _take(sums, later)
        if origin is not None and later is not None:
            origin = np.take_along_axis(origin, later, 1)
        return np.concatenate([sums ^ word, word], axis=-1), penalty, later if origin is None else origin


def _rate_matching(encoder: Polar5GEncoder, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which mother bit is on the air at each of n places, and which ones are zero and need not be sent."""
    size, places = encoder.n_polar, np.arange(n)
    mother = encoder.subblock_interleaving(np.arange(size))
    if n >= size:  # repetition
        return mother[places % size][encoder.channel_interleaver(places)], mother[:0]
    if encoder.k_polar / n <= 7 / 16:  # puncturing
        return mother[size - n :][encoder.channel_interleaver(places)], mother[:0]
    return mother[:n][encoder.channel_interleaver(places)], mother[n:]  # shortening


def _transform(bits: np.ndarray) -> np.ndarray:
    """Multiply bool [..., size] by the polar matrix, which is its own inverse."""
    bits = bits.copy()
    for step in (2**i for i in range(bits.shape[-1].bit_length() - 1)):
        pairs = bits.reshape(*bits.shape[:-1], -1, 2, step)
        pairs[..., 0, :] ^= pairs[..., 1, :]
    return bits


def _take(rows, origin):
    return rows if origin is None else np.take_along_axis(rows, origin[..., None], 1)


def _softplus(x):
    return np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))


def _box_plus(a, b):
    """Log-likelihood ratio of the sum of two bits."""
    least = np.minimum(np.abs(a), np.abs(b))
    correction = np.log((1 + np.exp(-np.abs(a + b))) / (1 + np.exp(-np.abs(a - b))))
    return np.where((a < 0) == (b < 0), least, -least) + correction
