"""Bytes to coded bits and back: length header, CRC, and the code that 5G has for that size.

Blocks that 38.212 gives to one polar code word take it; there it loses fewer payloads than LDPC on the same soft bits.
Others are segmented for LDPC, and repeated below its lowest rate.
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from sionna.phy.fec.crc import CRCDecoder, CRCEncoder
from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

from phy.graphs import graph
from phy.polar_code import MIN_CODED_BITS, PolarCode, polar_crc_bits

HEADER_BITS = 24  # length of the payload in bytes
BLOCK_CRC_BITS = 24
MAX_RATE, MIN_RATE = 0.95, 0.01
MAX_POLAR_BITS = 1013  # header and payload in one word of the polar code
POLAR_SEGMENTS = (360, 1088)  # from so many bits and coded bits on, 38.212 would cut them into two words
_DECODED_TOGETHER = 256  # code blocks; bounds the decoder's memory


@dataclass(frozen=True, kw_only=True, slots=True)
class TransportFormat:
    """Format of coded payloads of one size.

    Attributes
    ----------
    code : {"polar", "ldpc"}
    block_bits : int
        Header, payload and padding.
    crc_bits : int
        CRC of the whole transport block.
    num_blocks : int
        Number of code blocks; each has a CRC if there are several.
    k : int
        Bits of a code block at the input of the encoder, with all CRCs.
    mother_bits, n : int
        Bits of a code block behind the encoder, and on the air. Below the lowest rate of LDPC, repetition adds bits;
        the polar code has its own rate matching.
    payload_bytes : int or None
        Size of every payload, if the receiver knows it; None if a header tells it.
    """

    code: str
    block_bits: int
    crc_bits: int
    num_blocks: int
    k: int
    mother_bits: int
    n: int
    payload_bytes: int | None = None

    @classmethod
    def of(
        cls,
        num_bytes: int,
        *,
        bits_per_symbol: int,
        code_rate: float = 0.5,
        length_header: bool = True,
        coded_bits: int | None = None,
    ) -> "TransportFormat":
        """Choose code and format for a payload, at a code rate or for a number of coded bits."""
        wanted = HEADER_BITS + 8 * num_bytes if length_header else max(8, 8 * num_bytes)
        size = {"code_rate": code_rate, "coded_bits": coded_bits, "payload_bytes": None if length_header else num_bytes}
        polar = cls.polar(wanted, bits_per_symbol, **size)
        if wanted < POLAR_SEGMENTS[0] or (wanted <= MAX_POLAR_BITS and polar.n < POLAR_SEGMENTS[1]):
            return polar
        return cls.ldpc(wanted, bits_per_symbol, **size)

    @classmethod
    def polar(
        cls,
        block_bits: int,
        bits_per_symbol: int,
        *,
        code_rate: float = 0.5,
        coded_bits: int | None = None,
        payload_bytes: int | None = None,
    ) -> "TransportFormat":
        """Return the format of one polar word, for any number of bits. Source: 3GPP TS 38.212, section 6.3.1.2.1."""
        crc_bits = polar_crc_bits(block_bits)
        k = block_bits + crc_bits
        if coded_bits is None:
            coded_bits = _whole_symbols(max(MIN_CODED_BITS, math.ceil(k / code_rate)), bits_per_symbol)
        return cls(
            code="polar",
            block_bits=block_bits,
            crc_bits=crc_bits,
            num_blocks=1,
            k=k,
            mother_bits=coded_bits,
            n=coded_bits,
            payload_bytes=payload_bytes,
        )

    @classmethod
    def ldpc(
        cls,
        wanted_bits: int,
        bits_per_symbol: int,
        *,
        code_rate: float = 0.5,
        coded_bits: int | None = None,
        payload_bytes: int | None = None,
    ) -> "TransportFormat":
        """Return the format of as many LDPC blocks as are needed; sizes have steps of a sixteenth to an eighth.

        The steps are coarser than NR's. Source: 3GPP TS 38.212, sections 5.1, 5.2.2, 7.2.1 and 7.2.2; TS 38.214,
        section 5.1.3.2, for sizes in steps.
        """
        step = 2 ** max(3, int(math.log2(wanted_bits)) - 3)
        wanted_bits = -(-wanted_bits // step) * step
        crc_bits = 16 if wanted_bits <= 3824 else 24
        total = wanted_bits + crc_bits
        if coded_bits is not None:
            code_rate = total / coded_bits
        largest = 3840 if _second_graph(wanted_bits, code_rate) else 8448
        num_blocks = 1 if total <= largest else -(-total // (largest - BLOCK_CRC_BITS))
        share = -(-total // num_blocks)
        k = share + (BLOCK_CRC_BITS if num_blocks > 1 else 0)
        if coded_bits is None:
            n = _whole_symbols(math.ceil(k / code_rate), bits_per_symbol)
        else:
            n = coded_bits // num_blocks // bits_per_symbol * bits_per_symbol
        lowest_rate = 1 / 5 if _second_graph(k, code_rate) else 1 / 3
        return cls(
            code="ldpc",
            block_bits=share * num_blocks - crc_bits,
            crc_bits=crc_bits,
            num_blocks=num_blocks,
            k=k,
            mother_bits=min(n, int(k / lowest_rate) // bits_per_symbol * bits_per_symbol),
            n=n,
            payload_bytes=payload_bytes,
        )

    @property
    def code_rate(self) -> float:
        """Bits at the input of the encoder, CRCs included, over bits on the air; infinite for words too short."""
        return math.inf if self.n < MIN_CODED_BITS else self.k / self.n

    @property
    def coded_bits(self) -> int:
        """Bits on the air for one payload."""
        return self.num_blocks * self.n


class TransportCoder:
    """Encode and decode payloads of one `TransportFormat`.

    Parameters
    ----------
    form : TransportFormat
    bits_per_symbol : int
    num_iterations : int
        Iterations of belief propagation for LDPC, for payloads that still have errors after a quarter of them.
    """

    def __init__(self, form: TransportFormat, *, bits_per_symbol: int, num_iterations: int):
        self._form = form
        if form.code == "polar":
            self._code = PolarCode(form.block_bits, form.n)
        else:
            self._code = LDPCBlocks(form, bits_per_symbol=bits_per_symbol, num_iterations=num_iterations)

    def encode(self, payloads: list[bytes]) -> tf.Tensor:
        """Coded bits [batch, coded_bits], 0.0 or 1.0."""
        form = self._form
        bits = np.zeros((len(payloads), form.block_bits), np.uint8)
        for row, payload in zip(bits, payloads, strict=True):
            header = len(payload).to_bytes(HEADER_BITS // 8, "big") if form.payload_bytes is None else b""
            sent = np.unpackbits(np.frombuffer(header + payload, np.uint8))
            row[: len(sent)] = sent
        return tf.convert_to_tensor(self._code.encode(bits))

    def decode(self, llr: tf.Tensor) -> list[bytes | None]:
        """Payloads from log-likelihood ratios [batch, coded_bits] of ones against zeros; None where the CRC fails."""
        bits, valid = self._code.decode(np.asarray(llr))
        octets = np.packbits(bits[:, : self._form.block_bits // 8 * 8], axis=1)
        size = self._form.payload_bytes
        return [_payload(row, size) if ok else None for row, ok in zip(octets, valid, strict=True)]


class LDPCBlocks:
    """The CRCs, the segments and the LDPC code of a `TransportFormat`.

    Parameters
    ----------
    form : TransportFormat
    bits_per_symbol, num_iterations : int
        See `TransportCoder`.
    """

    def __init__(self, form: TransportFormat, *, bits_per_symbol: int, num_iterations: int):
        self._form = form
        self._crc = CRCEncoder(f"CRC{form.crc_bits}" + ("A" if form.crc_bits == 24 else ""))
        self._block_crc = CRCEncoder("CRC24B")
        self._ldpc = LDPC5GEncoder(form.k, form.mother_bits, num_bits_per_symbol=bits_per_symbol)
        self._check, self._repeat = CRCDecoder(self._crc), np.arange(form.n) % form.mother_bits
        self._try, self._insist = (
            self._decoder(iterations) for iterations in (max(1, num_iterations // 4), num_iterations)
        )

    def encode(self, bits: np.ndarray) -> tf.Tensor:
        """Return coded bits [batch, coded_bits] of transport blocks [batch, block_bits]."""
        form = self._form
        blocks = tf.reshape(self._crc(tf.constant(bits, tf.float32)), [len(bits), form.num_blocks, -1])
        if form.num_blocks > 1:
            blocks = self._block_crc(blocks)
        coded = self._ldpc(tf.reshape(blocks, [-1, form.k]))
        return tf.reshape(tf.gather(coded, self._repeat, axis=1), [len(bits), form.coded_bits])

    def decode(self, llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return transport blocks [batch, block_bits], and whether the CRC of each holds."""
        form = self._form
        copies = -(-form.n // form.mother_bits)
        sums = np.pad(llr.reshape(-1, form.n), [(0, 0), (0, copies * form.mother_bits - form.n)])
        sums = sums.reshape(-1, copies, form.mother_bits).sum(1)
        sums = sums.reshape(-1, form.num_blocks, form.mother_bits)
        bits, valid = self._decoded(self._try, sums)
        lost = np.flatnonzero(~valid)
        if len(lost):
            bits[lost], valid[lost] = self._decoded(self._insist, sums[lost])
        return bits, valid

    def _decoder(self, iterations):
        decoder = LDPC5GDecoder(self._ldpc, num_iter=iterations, hard_out=True, return_infobits=True)
        llr = tf.TensorSpec([None, self._form.mother_bits], tf.float32)
        return graph(lambda llr: decoder(llr), signature=[llr])

    def _decoded(self, decode, sums):
        form, flat = self._form, sums.reshape(-1, self._form.mother_bits)
        hard = [decode(flat[i : i + _DECODED_TOGETHER]) for i in range(0, len(flat), _DECODED_TOGETHER)]
        blocks = tf.reshape(tf.concat(hard, 0), [-1, form.num_blocks, form.k])
        if form.num_blocks > 1:
            blocks = blocks[:, :, :-BLOCK_CRC_BITS]  # the CRC of the whole decides
        bits, valid = self._check(tf.reshape(blocks, [-1, form.block_bits + form.crc_bits]))
        return bits.numpy().astype(np.uint8), valid.numpy().ravel()


def _second_graph(num_bits, code_rate):
    """Whether the second of the code's two graphs applies: it goes down to rate 1/5, the first one to 1/3."""
    return num_bits <= 292 or (num_bits <= 3824 and code_rate <= 0.67) or code_rate <= 0.25


def _whole_symbols(num_bits, bits_per_symbol):
    return -(-num_bits // bits_per_symbol) * bits_per_symbol


def _payload(octets, size):
    if size is not None:
        return octets[:size].tobytes()
    header = HEADER_BITS // 8
    length = int.from_bytes(octets[:header].tobytes(), "big")
    return octets[header : header + length].tobytes()
