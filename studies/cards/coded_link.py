"""Code words over the digital link, and which of them are lost: what most cards count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from phy.bit_transmission import BitTransmission
from phy.channel import Channel
from phy.config import LinkConfig
from phy.transport_block import LDPCBlocks, TransportFormat

CRC_BITS = 16  # the last bits of a word of `ldpc_code` in front of its encoder
_SEED = 38901

Send = Callable[[np.ndarray, float, int], np.ndarray]


class Uncoded:
    """Bits as they are, decided by the sign of their log-likelihood ratios."""

    def encode(self, bits: np.ndarray) -> np.ndarray:
        """Return bits [words, num_bits] as float32."""
        return bits.astype(np.float32)

    def decode(self, llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return bits [words, num_bits], and that nothing tells that one is wrong."""
        return (llr > 0).astype(np.uint8), np.ones(len(llr), bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedLink:
    """Random words over a link.

    Attributes
    ----------
    code : LDPCBlocks, PolarCode or Uncoded
    block_bits : int
        Bits of a word in front of the encoder, without its CRC.
    fades, words : int
        Fades of a batch, and words on each.
    send : callable
        Takes coded bits [fades, words, n], an SNR [dB] and the number of the batch; returns log-likelihood ratios of
        the same shape.
    """

    code: Any
    block_bits: int
    fades: int
    words: int
    send: Send

    def draw(self, batch: int) -> Callable[[float], np.ndarray]:
        """Encode the words of a batch; return a function from SNR [dB] to the words that are lost, [fades, words]."""
        rng = np.random.default_rng([_SEED, batch])
        bits = rng.integers(2, size=(self.fades * self.words, self.block_bits), dtype=np.uint8)
        coded = np.asarray(self.code.encode(bits)).reshape(self.fades, self.words, -1)

        def lost(snr_db):
            llr = self.send(coded, snr_db, batch)
            decoded, valid = self.code.decode(llr.reshape(len(bits), -1))
            return (~valid | np.any(decoded != bits, axis=1)).reshape(self.fades, self.words)

        return lost


def ldpc_code(k: int, n: int, *, bits_per_symbol: int) -> LDPCBlocks:
    """Return the link's LDPC code with `k` bits, the CRC of 16 bits among them, `n` coded bits and 20 iterations.

    `bits_per_symbol` is that of its interleaver; for 1 there is none.
    """
    form = TransportFormat(
        code="ldpc", block_bits=k - CRC_BITS, crc_bits=CRC_BITS, num_blocks=1, k=k, mother_bits=n, n=n
    )
    return LDPCBlocks(form, bits_per_symbol=bits_per_symbol, num_iterations=20)


def bit_transmission(channel: Channel, *, num_bits: int, bits_per_symbol: int) -> BitTransmission:
    """Return the digital link from coded bits to log-likelihood ratios; the code is with its caller."""
    return BitTransmission(channel.config, channel, num_bits=num_bits, bits_per_symbol=bits_per_symbol)


def one_after_the_other(config: LinkConfig, *, num_bits: int, bits_per_symbol: int) -> Send:
    """Send coded bits one after the other, `num_bits` of them on each realisation of the link's channel."""
    transmission = bit_transmission(Channel(config), num_bits=num_bits, bits_per_symbol=bits_per_symbol)

    def send(coded, snr_db, batch):
        bits = coded.reshape(-1, num_bits)
        numbers = len(bits) * batch + np.arange(len(bits))
        llr = transmission(tf.constant(bits), np.full(len(bits), snr_db), numbers)
        return llr.numpy().reshape(coded.shape)

    return send
