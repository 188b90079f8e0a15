"""The digital link: bytes in, the same bytes or a declared loss out, over the grid and fades of the analog link."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from phy.bit_transmission import BitTransmission, num_streams
from phy.channel import CACHE_BYTES, Channel
from phy.coding_bounds import bit_information
from phy.config import REPEATED_FADES, LinkConfig
from phy.impairments import peak_power
from phy.ledger import Ledger, grid_ledger
from phy.noise import check_snr_db
from phy.resource_grid import ResourceGrid
from phy.transport_block import MAX_RATE, MIN_RATE, TransportCoder, TransportFormat

MAX_PAYLOAD_BYTES = 2**20
_SENT_TOGETHER = 32  # payloads; bounds the memory that their channels take
_BITS_SEED = 38_212  # of bits in the place of coded ones

# (bits per symbol, code rate) by index. Source: 3GPP TS 38.214, tables 5.1.3.1-2 and, for low rates, 5.1.3.1-3.
MCS = (
    *((2, rate / 1024) for rate in (120, 193, 308, 449, 602)),
    *((4, rate / 1024) for rate in (378, 434, 490, 553, 616, 658)),
    *((6, rate / 1024) for rate in (466, 517, 567, 616, 666, 719, 772, 822, 873)),
    *((8, rate / 1024) for rate in (682.5, 711, 754, 797, 841, 885, 916.5, 948)),
)
LOW_RATE_MCS = (
    *((2, rate / 1024) for rate in (30, 40, 50, 64, 78, 99, 120, 157, 193, 251, 308, 379, 449, 526, 602)),
    *((4, rate / 1024) for rate in (340, 378, 434, 490, 553, 616)),
    *((6, rate / 1024) for rate in (438, 466, 517, 567, 616, 666, 719, 772)),
)


class Answer(NamedTuple):
    """Payloads behind the link, retransmissions included.

    Attributes
    ----------
    payloads : list of bytes or None
        Received payloads; None is a declared loss: the CRC of the last transmission failed.
    num_transmissions : np.ndarray, [len(payloads)], int
        How often each payload was sent.
    """

    payloads: list[bytes | None]
    num_transmissions: np.ndarray


class DigitalLink:
    """5G's channel codes, scrambling and QAM, one stream per antenna that the receiver can tell apart, linear MMSE.

    Short payloads take a polar code with a CRC of 6 or 11 bits and list decoding, longer ones LDPC: see
    `TransportFormat`.

    `modulation`, `phase_mask` and `recovery` of the config concern analog codes and are ignored. `min(num_tx_ant,
    num_rx_ant)` antennas send, and share the unit power of a resource element. `snr_db` and the fades are thus the same
    as for `AnalogLink`.

    Parameters
    ----------
    config : LinkConfig
    bits_per_symbol : {2, 4, 6, 8}
        QPSK, 16-, 64-, 256-QAM.
    code_rate : float, 0.01 … 0.95
        Code rate. `MCS` and `LOW_RATE_MCS` list the pairs that NR uses.
    data_res : int, optional
        Data resource elements that every payload fills. The code rate follows from its size, `code_rate` at most.
    num_iterations : int
        Iterations of the LDPC decoder.
    length_header : bool
        Whether three bytes in front of each payload tell the receiver its size. Without them the receiver has to know
        it, for example from a scheduler.
    cache_bytes : int
        Memory for fades that were used before.
    channel : Channel, optional
        Channel of another link with the same config, whose fades are shared.

    Examples
    --------
    >>> link = DigitalLink(LinkConfig(), bits_per_symbol=2, code_rate=0.5)
    >>> link([b"two cubes", b"a red sphere"], snr_db=10.0, realisation=[0, 1])
    """

    def __init__(
        self,
        config: LinkConfig | None = None,
        *,
        bits_per_symbol: int = 2,
        code_rate: float = 0.5,
        data_res: int | None = None,
        num_iterations: int = 20,
        length_header: bool = True,
        cache_bytes: int = CACHE_BYTES,
        channel: Channel | None = None,
    ):
        if bits_per_symbol not in (2, 4, 6, 8):
            raise ValueError(f"bits_per_symbol must be one of 2, 4, 6, 8; got {bits_per_symbol!r}")
        if not MIN_RATE <= code_rate <= MAX_RATE:
            raise ValueError(f"code_rate must be between {MIN_RATE} and {MAX_RATE}, got {code_rate!r}")
        if not isinstance(num_iterations, int) or num_iterations < 1:
            raise ValueError(f"num_iterations must be a positive whole number, got {num_iterations!r}")
        self.config = LinkConfig() if config is None else config
        if channel is not None:
            check_same_config("channel", channel.config, self.config)
        self.channel = Channel(self.config, cache_bytes=cache_bytes) if channel is None else channel
        self.bits_per_symbol, self.code_rate, self.data_res = bits_per_symbol, code_rate, data_res
        self._num_iterations, self._cache_bytes = num_iterations, cache_bytes
        self._length_header = length_header
        self._coders: dict[TransportFormat, TransportCoder] = {}
        self._transmissions: dict[int, BitTransmission] = {}

    def __call__(self, payloads: list[bytes], snr_db=10.0, realisation=None) -> list[bytes | None]:
        """Send payloads.

        Parameters
        ----------
        payloads : list of bytes
            Payloads of any size, zero included.
        snr_db : float or array of shape [len(payloads)], [dB]
        realisation : array of shape [len(payloads)], int, optional
            Numbers of the fade-and-noise draws; the same numbers meet the same fades as in `AnalogLink`.

        Returns
        -------
        list
            Received payloads; None is a declared loss: the CRC failed.

        Raises
        ------
        ValueError, TypeError
            If an argument has the wrong shape or kind, or a payload is too large.
        """
        return self.harq(payloads, snr_db, realisation, max_transmissions=1).payloads

    def harq(self, payloads: list[bytes], snr_db=10.0, realisation=None, *, max_transmissions: int = 2) -> Answer:
        r"""Send payloads, and those whose CRC fails once more, up to a number of times: HARQ with Chase combining.

        The same coded bits travel over another fade, and what is decoded are the sums of the log-likelihood ratios,

        .. math:: L = \sum_k L_k

        A retransmission of number i meets the fade of `REPEATED_FADES` + i, the next one that of twice as much, and so
        on. A CRC that holds by mistake ends the transmissions of its payload.

        Parameters
        ----------
        payloads, snr_db, realisation : see `__call__`
        max_transmissions : int
            Transmissions of a payload at most, the first one included.

        Returns
        -------
        Answer

        Raises
        ------
        ValueError, TypeError
            As `__call__`, or if `max_transmissions` is no positive whole number.

        Source: D. Chase, "Code combining", IEEE Trans. Commun. 33, 1985; 3GPP TS 38.212, 5.4.2.1, with one redundancy
        version.
        """
        check_max_transmissions(max_transmissions)
        for payload in payloads:
            if not isinstance(payload, bytes):
                raise TypeError(f"payloads must be bytes, got {type(payload).__name__}")
        snr_db = check_snr_db(snr_db, len(payloads))
        numbers = self.channel.number(realisation, len(payloads))
        received: list[bytes | None] = [None] * len(payloads)
        num_transmissions = np.ones(len(payloads), np.int64)
        alike: dict[TransportFormat, list[int]] = {}
        for index, payload in enumerate(payloads):
            alike.setdefault(self._format(len(payload)), []).append(index)
        for form, indices in alike.items():
            self.channel.check_size(self._grid(form), f"a payload of {len(payloads[indices[0]])} bytes")
            coder, transmission = self._coder(form), self._transmission(form.coded_bits)
            for start in range(0, len(indices), _SENT_TOGETHER):
                some = indices[start : start + _SENT_TOGETHER]
                bits = coder.encode([payloads[i] for i in some])
                llr = np.array(transmission(bits, snr_db[some], numbers[some]))
                asked = np.arange(len(some))  # rows that have not arrived
                for attempt in range(1, max_transmissions + 1):
                    for row, answer in zip(asked, coder.decode(llr[asked]), strict=True):
                        received[some[row]] = answer
                    asked = asked[[received[some[row]] is None for row in asked]]
                    if attempt == max_transmissions or not len(asked):
                        break
                    again = np.array(some)[asked]
                    fades = attempt * REPEATED_FADES + numbers[again]
                    llr[asked] += transmission(tf.gather(bits, asked), snr_db[again], fades).numpy()
                    num_transmissions[again] += 1
        return Answer(received, num_transmissions)

    def carries(self, payload_bytes: int) -> bool:
        """Whether a payload of this size fits `data_res`; any does where that is not given."""
        return self.data_res is None or self._form(payload_bytes).code_rate <= self.code_rate

    def ledger(self, *, payload_bytes: int) -> Ledger:
        """Resource elements, energy, time and bits of one payload of `payload_bytes` bytes."""
        form = self._format(payload_bytes)
        return grid_ledger(
            self._grid(form),
            data_energy=form.coded_bits / self.bits_per_symbol / num_streams(self.config),
            payload_bits=8 * payload_bytes,
            overhead_bits=form.num_blocks * form.k - 8 * payload_bytes,
            coded_bits=form.coded_bits,
        )

    def soft_bits(self, snr_db, realisation) -> tuple[np.ndarray, np.ndarray]:
        """Send random bits in the place of coded ones, as many as fill `data_res`.

        Parameters
        ----------
        snr_db : float or array of shape [batch], [dB]
        realisation : array of shape [batch], int
            Numbers of the fade-and-noise draws; they decide the bits as well.

        Returns
        -------
        llr, bits : numpy.ndarray, [batch, num_bits]
            Log-likelihood ratios of ones, and the bits.
        """
        numbers = self.channel.number(realisation, len(realisation))
        snr_db, bits = check_snr_db(snr_db, len(numbers)), self._random_bits(numbers)
        transmission = self._transmission(bits.shape[1])
        parts = [slice(start, start + _SENT_TOGETHER) for start in range(0, len(numbers), _SENT_TOGETHER)]
        llr = [transmission(tf.constant(bits[part]), snr_db[part], numbers[part]).numpy() for part in parts]
        return np.concatenate(llr), bits

    def information(self, snr_db, realisation) -> tuple[np.ndarray, np.ndarray]:
        """Information that the soft bits of `data_res` carry over each fade, as the receiver's own estimate has it.

        It follows from the error variances of the symbols, thus from the fade and its pilots, and not from the noise of
        the data: what a receiver can report. See `coding_bounds.bit_information`.

        Parameters
        ----------
        snr_db : float or array of shape [batch], [dB]
        realisation : array of shape [batch], int

        Returns
        -------
        mean, variance : numpy.ndarray, [batch]
            Mean of the information density [bits], and its variance [bits²].
        """
        numbers = self.channel.number(realisation, len(realisation))
        snr_db, transmission = check_snr_db(snr_db, len(numbers)), self._transmission(self._num_bits())
        parts = [slice(start, start + _SENT_TOGETHER) for start in range(0, len(numbers), _SENT_TOGETHER)]
        variance = [transmission.error_variance(snr_db[part], numbers[part]).numpy() for part in parts]
        mean, spread = bit_information(self.bits_per_symbol, np.concatenate(variance))
        return mean.sum(-1), spread.sum(-1)

    def peak_power(self, realisation) -> np.ndarray:
        """Largest power of a payload's waveform over the ensemble's mean, for random bits of each number, [batch]."""
        bits = self._random_bits(self.channel.number(realisation, len(realisation)))
        return peak_power(self._transmission(bits.shape[1]).waveform(tf.constant(bits)), self.config)

    def __reduce__(self):
        options = {
            "bits_per_symbol": self.bits_per_symbol,
            "code_rate": self.code_rate,
            "data_res": self.data_res,
            "num_iterations": self._num_iterations,
            "length_header": self._length_header,
            "cache_bytes": self._cache_bytes,
        }
        return _rebuild, (type(self), self.config, options, self.channel.next_realisation)

    def _format(self, payload_bytes):
        if not isinstance(payload_bytes, int) or not 0 <= payload_bytes <= MAX_PAYLOAD_BYTES:
            raise ValueError(
                f"payload_bytes must be a whole number from 0 to {MAX_PAYLOAD_BYTES}, got {payload_bytes!r}"
            )
        form = self._form(payload_bytes)
        if not self.carries(payload_bytes):
            raise ValueError(
                f"a payload of {payload_bytes} bytes does not fit {self.data_res} data resource elements with "
                f"{self.bits_per_symbol} bits per symbol and code rate {self.code_rate:.3f}. Send less, or raise "
                "data_res."
            )
        return form

    def _form(self, payload_bytes):
        symbols = None if self.data_res is None else self.data_res * num_streams(self.config)
        return TransportFormat.of(
            payload_bytes,
            bits_per_symbol=self.bits_per_symbol,
            code_rate=self.code_rate,
            length_header=self._length_header,
            coded_bits=None if symbols is None else symbols * self.bits_per_symbol,
        )

    def _grid(self, form):
        return ResourceGrid(self.config, -(-form.coded_bits // (self.bits_per_symbol * num_streams(self.config))))

    def _random_bits(self, numbers):
        """Draw bits [batch, num_bits] that fill `data_res`."""
        size = self._num_bits()
        drawn = [np.random.default_rng((_BITS_SEED, int(number))).integers(0, 2, size) for number in numbers]
        return np.stack(drawn).astype(np.float32)

    def _num_bits(self):
        """Coded bits that fill `data_res`."""
        if self.data_res is None:
            raise ValueError("random bits fill data_res, which this link has not; give it")
        return self.data_res * num_streams(self.config) * self.bits_per_symbol

    def _coder(self, form):
        if form not in self._coders:
            self._coders[form] = TransportCoder(
                form, bits_per_symbol=self.bits_per_symbol, num_iterations=self._num_iterations
            )
        return self._coders[form]

    def _transmission(self, coded_bits):
        if coded_bits not in self._transmissions:
            self._transmissions[coded_bits] = BitTransmission(
                self.config, self.channel, num_bits=coded_bits, bits_per_symbol=self.bits_per_symbol
            )
        return self._transmissions[coded_bits]


def check_same_config(name: str, its: LinkConfig, config: LinkConfig) -> None:
    """Refuse a part that was made from another config than its link; the message names the fields that differ."""
    if its != config:
        fields = [
            (field.name, getattr(its, field.name), getattr(config, field.name)) for field in dataclasses.fields(its)
        ]
        differing = ", ".join(f"{field}={other!r} instead of {own!r}" for field, other, own in fields if other != own)
        raise ValueError(f"{name}= comes from another config: {differing}. Make it from this one.")


def check_max_transmissions(max_transmissions: int) -> None:
    """Refuse what is no number of transmissions."""
    if not isinstance(max_transmissions, int) or isinstance(max_transmissions, bool) or max_transmissions < 1:
        raise ValueError(f"max_transmissions must be a positive whole number, got {max_transmissions!r}")


def _rebuild(kind, config, options, next_realisation):
    link = kind(config, **options)
    link.channel.next_realisation = next_realisation
    return link
