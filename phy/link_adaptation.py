"""Link adaptation: how many bytes a payload has, and which modulation carries it in a budget of resource elements.

The transmitter knows the mean SNR and how often payloads of each size are lost at that SNR. It knows nothing of the
fade to come, unless the receiver reports it (CQI). A payload fills its budget, so that fewer bytes mean a lower code
rate.
"""

import functools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.optimize import isotonic_regression

from phy.bit_transmission import num_streams
from phy.channel import Channel
from phy.coding_bounds import calibrated_density
from phy.config import LinkConfig
from phy.digital_link import LOW_RATE_MCS, MCS, Answer, DigitalLink, check_max_transmissions
from phy.ledger import Ledger, grid_ledger
from phy.resource_grid import ResourceGrid

Item = TypeVar("Item")
QPSK = 2
HIGHEST_RATE = {2: 602, 4: 658, 6: 873, 8: 948}  # by bits per symbol [1/1024]; TS 38.214, table 5.1.3.1-2
SMALL = 8  # bytes; every size up to it is worth a try
FIRST_REALISATION = 3_000_000  # of the fades that loss rates are measured on
NUM_PAYLOADS = 400  # at each SNR, of each size
NUM_FIRST = 200  # that say whether a size is lost always or never
HOPELESS = 0.5  # loss rate from which on a size is not considered


@dataclass(frozen=True)
class Received(Generic[Item]):
    """A batch of payloads behind the link.

    Attributes
    ----------
    items : list
        Content of each payload; None where it was lost.
    undetected : list of bool
        True for a payload that passed the CRC and was read, but differs from what was sent.
    num_transmissions : list of int
        How often each payload was sent.
    """

    items: list[Item | None]
    undetected: list[bool]
    num_transmissions: list[int]


class PayloadLink:
    """Payloads over the digital link, each in the same number of data resource elements.

    Parameters
    ----------
    link_of : callable
        Returns the `DigitalLink` of a number of bits per symbol; payloads fill the budget.
    data_res : int
        Budget of one payload. All of it is used and charged.
    known : callable, optional
        Returns loss rates at a mean SNR in the form of `loss_rates`, or None where they have to be measured. They are
        those of the first `max_transmissions` together.
    max_transmissions : int
        Transmissions of a payload at most, combined as by `DigitalLink.harq`.
    cqi : bool
        Whether bytes, and with them modulation and code rate, are chosen for the fade that a payload meets first. The
        receiver reports the fade before, as it measures it from the very pilots that come with the payload, without
        delay or error of the report: the best that a report can do. It knows the choice, which follows from its report.
    """

    def __init__(
        self,
        link_of: Callable[[int], DigitalLink],
        data_res: int,
        known: Callable[[float], dict[int, float] | None] = lambda snr_db: None,
        *,
        max_transmissions: int = 1,
        cqi: bool = False,
    ):
        check_max_transmissions(max_transmissions)
        self._link_of, self.data_res, self.max_transmissions, self.cqi = link_of, data_res, max_transmissions, cqi
        self._densities = functools.cache(
            lambda bits_per_symbol, snr_db, num_words: calibrated_density(
                *link_of(bits_per_symbol).soft_bits(snr_db, np.arange(num_words))
            )
        )
        self._loss_rates = functools.cache(lambda snr_db: known(snr_db) or self.measure(snr_db))
        self._margin_losses = functools.cache(self.measure_margins)

    def bits_per_symbol(self, num_bytes: int) -> int:
        """Return the lowest modulation that carries a payload at a code rate that NR has with it.

        Raises
        ------
        ValueError
            If none does.
        """
        for bits in HIGHEST_RATE:
            if self._link_of(bits).carries(num_bytes):
                return bits
        raise ValueError(
            f"a payload of {num_bytes} bytes does not fit {self.data_res} data resource elements, whatever the "
            "modulation. Send less, or raise the budget."
        )

    @functools.cached_property
    def most_bytes(self) -> int:
        """Size of the largest payload that fits; 0 if none does."""
        return _largest(self._link_of(max(HIGHEST_RATE)).carries)

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Sizes in bytes that are worth a try: small ones, and those of the rates of NR's MCS tables."""
        finest = max(HIGHEST_RATE)
        num_symbols = self._link_of(finest).ledger(payload_bytes=self.most_bytes).coded_bits / finest
        sizes = {int(num_symbols * bits * rate / 8) for bits, rate in (*MCS, *LOW_RATE_MCS)}
        return sorted(size for size in {*sizes, *range(1, SMALL + 1), self.most_bytes} if 0 < size <= self.most_bytes)

    def measure(self, snr_db: float, num_payloads: int = NUM_PAYLOADS) -> dict[int, float]:
        """Measure the loss rates of `sizes`.

        Raises
        ------
        ValueError
            If the budget holds not a byte.
        """
        self._check_budget()
        return loss_rates(lambda *sent: self._send(*sent).payloads, self.sizes, snr_db, num_payloads)

    def measure_margins(self, snr_db: float, num_payloads: int = NUM_PAYLOADS) -> tuple[np.ndarray, np.ndarray]:
        """Measure how often payloads are lost, by the margin that their first fade leaves; see `margin_losses`.

        Raises
        ------
        ValueError
            If the budget holds not a byte.
        """
        self._check_budget()
        return margin_losses(lambda *sent: self._send(*sent).payloads, self.margins, self.sizes, snr_db, num_payloads)

    def margins(self, num_bytes: Sequence[int], snr_db: float, realisation: np.ndarray) -> np.ndarray:
        r"""Return how far payloads are from what each fade carries, in standard deviations, [len(num_bytes), batch].

        .. math:: (I - k) / \sqrt{V + 1}

        with mean and variance of the information density (`DigitalLink.information`) and the bits k that are coded,
        CRC included. Normally distributed densities would be lost as often as a standard normal number exceeds it. The
        bit² that is added keeps fades finite that carry every bit.

        Source: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength regime", IEEE
        Trans. Inf. Theory 56, 2010, eq. (223).
        """
        modulation = [self.bits_per_symbol(size) for size in num_bytes]
        information = {bits: self._link_of(bits).information(snr_db, realisation) for bits in set(modulation)}
        margins = []
        for bits, size in zip(modulation, num_bytes, strict=True):
            (mean, variance), ledger = information[bits], self._link_of(bits).ledger(payload_bytes=size)
            margins.append((mean - ledger.payload_bits - ledger.overhead_bits) / np.sqrt(variance + 1))
        return np.array(margins)

    def chosen(
        self, snr_db: float, realisation: np.ndarray, quality: Callable[[int], float], if_lost: float
    ) -> np.ndarray:
        """Return the bytes of each payload, int [batch]: `adapted` to the mean SNR, or with `cqi` to its fade.

        Parameters
        ----------
        realisation : int [batch]
            Numbers of the fades that the payloads meet first.
        snr_db, quality, if_lost : see `adapted`
        """
        if not self.cqi:
            return np.full(len(realisation), self.adapted(snr_db, quality, if_lost))
        margins, losses = self._margin_losses(snr_db)
        lost = np.interp(self.margins(self.sizes, snr_db, realisation), margins, losses)  # [num_sizes, batch]
        reached = np.array([quality(size) for size in self.sizes])[:, None]
        return np.array(self.sizes)[np.argmax((1 - lost) * reached + lost * if_lost, axis=0)]

    def adapted(self, snr_db: float, quality: Callable[[int], float], if_lost: float) -> int:
        r"""Return the number of bytes with the best expected quality at a mean SNR, the least of equals.

        .. math:: \arg\max_n \; (1 - P_n) \, q(n) + P_n \, q_0

        Parameters
        ----------
        snr_db : float, [dB]
        quality : callable
            Quality q of a payload of so many bytes that arrives.
        if_lost : float
            Quality :math:`q_0` of one that is lost.
        """
        lost = self._loss_rates(snr_db)
        return max(sorted(lost), key=lambda size: (1 - lost[size]) * quality(size) + lost[size] * if_lost)

    def send(
        self,
        payloads: Sequence[bytes],
        snr_db: float,
        realisation: np.ndarray,
        read: Callable[[bytes], Item],
    ) -> Received[Item]:
        """Send payloads, each over the fade of its number, and read what arrives. The receiver knows their sizes.

        Parameters
        ----------
        payloads : sequence of bytes
        snr_db : float, [dB]
        realisation : int [len(payloads)]
        read : callable
            Turns a received payload into its content. A ValueError is a noticed error: the payload counts as lost.

        Raises
        ------
        ValueError
            If a payload exceeds the budget.
        """
        received, num_transmissions = self._send(payloads, snr_db, realisation)
        items = [None if payload is None else _read(read, payload) for payload in received]
        wrong = [
            item is not None and payload != sent for item, payload, sent in zip(items, received, payloads, strict=True)
        ]
        return Received(items, wrong, num_transmissions.tolist())

    @property
    def options(self) -> dict[str, Any]:
        """How payloads are sent, as JSON content."""
        return {"max_transmissions": self.max_transmissions, "cqi": self.cqi}

    @property
    def modulations(self) -> tuple[int, ...]:
        """Bits per symbol of the modulations."""
        return tuple(HIGHEST_RATE)

    @property
    def num_symbols(self) -> int:
        """QAM symbols of the budget."""
        config = self._link_of(QPSK).config
        return self.data_res * num_streams(config)

    def on_air(self, num_bytes: Sequence[int]) -> dict[str, np.ndarray]:
        """Return what payloads of these sizes are on the air.

        Returns
        -------
        dict
            `payload_bytes`, `payload_bits`, `bits_per_symbol` and `code_rate`, CRC included: [len(num_bytes)] each.
        """
        sizes, index = np.unique(num_bytes, return_inverse=True)
        bits = [self.bits_per_symbol(size) for size in sizes.tolist()]
        ledgers = [self._link_of(b).ledger(payload_bytes=size) for b, size in zip(bits, sizes.tolist(), strict=True)]
        of_size = {
            "payload_bytes": sizes,
            "payload_bits": 8 * sizes,
            "bits_per_symbol": np.array(bits),
            "code_rate": np.array([ledger.code_rate for ledger in ledgers]),
        }
        return {name: values[index].astype(float) for name, values in of_size.items()}

    def peak_power(self, num_bytes: Sequence[int], realisation: np.ndarray) -> np.ndarray:
        """Return the largest power of payloads of these sizes over the ensemble's mean, for random bits."""
        bits, peaks = np.array([self.bits_per_symbol(size) for size in num_bytes]), np.zeros(len(num_bytes))
        for bits_per_symbol in np.unique(bits).tolist():
            chosen = bits == bits_per_symbol
            peaks[chosen] = self._link_of(bits_per_symbol).peak_power(realisation[chosen])
        return peaks

    def density(self, bits_per_symbol: int, snr_db: float, num_words: int) -> np.ndarray:
        """Return the information density of words that fill the budget over the first fades, in bits, [num_words]."""
        return self._densities(bits_per_symbol, snr_db, num_words)

    def ledger(self) -> Ledger:
        """Return what one transmission of a payload is charged: the whole budget, and the pilots of its slots."""
        return grid_ledger(ResourceGrid(self._link_of(QPSK).config, self.data_res), data_energy=self.data_res)

    def _check_budget(self) -> None:
        if not self.most_bytes:
            raise ValueError(
                f"{self.data_res} data resource elements hold not a byte, whatever the modulation; send more tokens"
            )

    def _send(self, payloads: Sequence[bytes], snr_db: float, realisation: np.ndarray) -> Answer:
        modulation = {size: self.bits_per_symbol(size) for size in set(map(len, payloads))}
        used = np.array([modulation[len(payload)] for payload in payloads])
        received: list[bytes | None] = [None] * len(payloads)
        num_transmissions = np.ones(len(payloads), np.int64)
        for bits in sorted(set(modulation.values())):
            chosen = np.flatnonzero(used == bits).tolist()
            some, numbers = [payloads[i] for i in chosen], realisation[chosen]
            answers, num_transmissions[chosen] = self._link_of(bits).harq(
                some, snr_db, numbers, max_transmissions=self.max_transmissions
            )
            for index, answer in zip(chosen, answers, strict=True):
                received[index] = answer
        return Answer(received, num_transmissions)


def loss_rates(
    send: Callable[[list[bytes], float, np.ndarray], list[bytes | None]],
    sizes: Sequence[int],
    snr_db: float,
    num_payloads: int,
) -> dict[int, float]:
    """Measure the loss rates that matter at an SNR, on fades from `FIRST_REALISATION` on.

    Parameters
    ----------
    send : callable
        Sends payloads at an SNR over the fades of given numbers; returns those that arrive, None for others.
    sizes : sequence of int
        Candidates in bytes, rising.
    snr_db : float, [dB]
    num_payloads : int
        Payloads of each size. Fewer are sent where the first ones are all lost, or none.

    Returns
    -------
    dict
        Loss rate by size: the largest one without losses and every larger one that loses less than half. If all lose
        more, only the smallest.
    """

    @functools.cache
    def lost(size: int, first: int, last: int) -> int:
        payloads = [np.random.default_rng(i).bytes(size) for i in range(first, last)]
        return send(payloads, snr_db, np.arange(FIRST_REALISATION + first, FIRST_REALISATION + last)).count(None)

    def rate(size: int) -> float:
        few = min(NUM_FIRST, num_payloads)
        count = lost(size, 0, few)
        if count in (0, few) or few == num_payloads:
            return count / few
        return (count + lost(size, few, num_payloads)) / num_payloads

    few, rates = min(NUM_FIRST, num_payloads), dict[int, float]()
    hopeless = bisect_left(sizes, HOPELESS, key=lambda size: lost(size, 0, few) / few)
    for size in reversed(sizes[:hopeless]):
        rates[size] = rate(size)
        if not rates[size]:
            break
    return rates or {sizes[0]: rate(sizes[0])}


def margin_losses(
    send: Callable[[list[bytes], float, np.ndarray], list[bytes | None]],
    margins: Callable[[Sequence[int], float, np.ndarray], np.ndarray],
    sizes: Sequence[int],
    snr_db: float,
    num_payloads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Learn the probability of a loss at an SNR from the margin of size and fade, on fades from `FIRST_REALISATION` on.

    It is the falling function of the margin that is nearest to the losses (isotonic regression), of all sizes together:
    those from the largest one without losses to the smallest one that never arrives.

    Parameters
    ----------
    send, sizes, snr_db, num_payloads : see `loss_rates`
    margins : callable
        Returns the margins of payloads of some sizes at an SNR over the fades of given numbers.

    Returns
    -------
    margins, losses : numpy.ndarray, [num_sizes * num_payloads]
        Margins, rising, and the probability of a loss at each of them.

    Source: R. E. Barlow et al., *Statistical Inference under Order Restrictions*, 1972, chapter 1.
    """
    numbers = np.arange(FIRST_REALISATION, FIRST_REALISATION + num_payloads)

    @functools.cache
    def lost(size: int) -> np.ndarray:
        payloads = [np.random.default_rng(i).bytes(size) for i in range(num_payloads)]
        return np.array([payload is None for payload in send(payloads, snr_db, numbers)])

    measured = []
    never = bisect_left(sizes, 1.0, key=lambda size: lost(size).mean())
    for size in reversed(sizes[: never + 1]):
        measured.append(size)
        if not lost(size).any():
            break
    margin = margins(measured, snr_db, numbers).ravel()
    order = np.argsort(margin, kind="stable")
    outcome = np.concatenate([lost(size) for size in measured])[order].astype(float)
    return margin[order], isotonic_regression(outcome, increasing=False).x


@functools.cache
def digital_link(config: LinkConfig, bits_per_symbol: int, data_res: int) -> DigitalLink:
    """Return the digital link whose payloads fill a budget, without length header; links of a config share fades."""
    return DigitalLink(
        config,
        bits_per_symbol=bits_per_symbol,
        code_rate=HIGHEST_RATE[bits_per_symbol] / 1024,
        data_res=data_res,
        length_header=False,
        channel=_channel(config),
    )


@functools.cache
def _channel(config: LinkConfig) -> Channel:
    return Channel(config)


def _largest(carries: Callable[[int], bool]) -> int:
    """Return the largest number for which a falling condition holds; 0 if it holds for none."""
    too_large = 1
    while carries(too_large):
        too_large *= 2
    return bisect_left(range(1, too_large), True, key=lambda number: not carries(number))


def _read(read: Callable[[bytes], Item], payload: bytes) -> Item | None:
    try:
        return read(payload)
    except ValueError:  # an error that the CRC missed, or nothing that could be sent: the receiver cannot read it
        return None
