"""Link adaptation: which modulation and code rate carries a payload in a budget of resource elements.

The transmitter knows the mean SNR and how often each modulation and coding scheme (MCS) loses a payload at that SNR. It
knows nothing of the fade to come.
"""

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from phy.config import LinkConfig
from phy.digital_link import MCS, DigitalLink
from phy.ledger import Ledger, grid_ledger
from phy.resource_grid import ResourceGrid

Mcs = tuple[int, float]  # bits per symbol, code rate
Item = TypeVar("Item")
QPSK: Mcs = (2, 0.5)
HIGHEST_RATE = {2: 602, 4: 658, 6: 873, 8: 948}  # by bits per symbol [1/1024]; TS 38.214, table 5.1.3.1-2
FIRST_REALISATION = 3_000_000  # of the fades that loss rates are measured on
NUM_PAYLOADS = 200  # at each SNR, with each MCS
HOPELESS = 0.5  # loss rate from which on an MCS is not considered


@dataclass(frozen=True)
class Received(Generic[Item]):
    """A batch of payloads behind the link.

    Attributes
    ----------
    items : list
        Content of each payload; None where it was lost.
    undetected : list of bool
        True for a payload that passed the CRC and was read, but differs from what was sent.
    """

    items: list[Item | None]
    undetected: list[bool]


class PayloadLink:
    """Payloads over the digital link, each within a budget of data resource elements.

    Parameters
    ----------
    link_of : callable
        Returns the `DigitalLink` of an MCS.
    data_res : int
        Budget of one payload. All of it is reserved and charged.
    known : callable, optional
        Returns loss rates at a mean SNR in the form of `loss_rates`, or None where they have to be measured.
    """

    def __init__(
        self,
        link_of: Callable[[Mcs], DigitalLink],
        data_res: int,
        known: Callable[[float], dict[Mcs, float] | None] = lambda snr_db: None,
    ):
        self._link_of, self.data_res = link_of, data_res
        self._loss_rates = functools.cache(lambda snr_db: known(snr_db) or self.measure(snr_db))
        self.capacity = functools.cache(self._capacity)
        self.most_robust = functools.cache(self._most_robust)

    def measure(self, snr_db: float) -> dict[Mcs, float]:
        """Measure the loss rates of NR's MCS table with payloads that fill the budget.

        Raises
        ------
        ValueError
            If no MCS carries a byte in the budget.
        """
        table = [mcs for mcs in MCS if self.capacity(mcs)]
        if not table:
            raise ValueError(
                f"{self.data_res} data resource elements hold not a byte, whatever the MCS; send more tokens"
            )
        return loss_rates(self._link_of, table, self.capacity, snr_db)

    def adapted(self, snr_db: float, error: Callable[[int], float]) -> Mcs:
        r"""Return the MCS with the least expected error at a mean SNR.

        .. math:: \arg\min_m \; P_m + (1 - P_m) \, e(C_m)

        P is the loss rate, C the capacity in bytes, and e the error of a payload that arrives. A lost payload has
        error 1.

        Parameters
        ----------
        snr_db : float, [dB]
        error : callable
            Share of a source's variance that a given number of bytes leaves out.
        """
        lost = self._loss_rates(snr_db)
        return min(lost, key=lambda mcs: lost[mcs] + (1 - lost[mcs]) * error(self.capacity(mcs)))

    def _capacity(self, mcs: Mcs) -> int:
        """Return the bytes of the largest payload within the budget; 0 if the overhead alone exceeds it."""
        largest = 1
        while self._fits(mcs, 2 * largest):
            largest *= 2
        return bisect_right(range(1, 2 * largest + 1), False, key=lambda num_bytes: not self._fits(mcs, num_bytes))

    def _most_robust(self, num_bytes: int) -> Mcs:
        """Return the MCS of fewest bits per symbol, and of these the lowest code rate, that carries a payload.

        Raises
        ------
        ValueError
            If none does.
        """
        for bits_per_symbol, highest in HIGHEST_RATE.items():
            rates = [step / 1024 for step in range(11, highest + 1)]
            first = bisect_right(rates, False, key=lambda rate: self._fits((bits_per_symbol, rate), num_bytes))
            if first < len(rates):
                return bits_per_symbol, rates[first]
        raise ValueError(
            f"a payload of {num_bytes} bytes does not fit {self.data_res} data resource elements, whatever the "
            "modulation. Send less, or raise the budget."
        )

    def _fits(self, mcs: Mcs, num_bytes: int) -> bool:
        return self._link_of(mcs).ledger(payload_bytes=num_bytes).data_res <= self.data_res

    def send(
        self,
        payloads: Sequence[bytes],
        mcs: Mcs,
        snr_db: float,
        realisation: np.ndarray,
        read: Callable[[bytes], Item],
    ) -> Received[Item]:
        """Send payloads, each over the fade of its number, and read what arrives.

        Zeros fill the payloads up to one size, since each size is a code of its own at both ends.

        Parameters
        ----------
        payloads : sequence of bytes
        mcs : (bits per symbol, code rate)
        snr_db : float, [dB]
        realisation : int [len(payloads)]
        read : callable
            Turns a received payload, padding included, into its content. A ValueError is a noticed error: the payload
            counts as lost.

        Raises
        ------
        ValueError
            If a payload exceeds the budget.
        """
        size = max(map(len, payloads))
        if size > self.capacity(mcs):
            raise ValueError(
                f"a payload of {size} bytes exceeds the {self.capacity(mcs)} that fit {self.data_res} data "
                f"resource elements with MCS {mcs}"
            )
        padded = [payload.ljust(size, b"\0") for payload in payloads]
        received = self._link_of(mcs)(padded, snr_db=snr_db, realisation=realisation)
        items = [None if payload is None else _read(read, payload) for payload in received]
        wrong = [
            item is not None and payload != sent for item, payload, sent in zip(items, received, padded, strict=True)
        ]
        return Received(items, wrong)

    def ledger(self) -> Ledger:
        """Return what one payload is charged: the whole budget, and the pilots of its slots."""
        return grid_ledger(ResourceGrid(self._link_of(QPSK).config, self.data_res), data_energy=self.data_res)


def loss_rates(
    link_of: Callable[[Mcs], DigitalLink],
    table: Sequence[Mcs],
    capacity: Callable[[Mcs], int],
    snr_db: float,
    num_payloads: int = NUM_PAYLOADS,
) -> dict[Mcs, float]:
    """Measure the loss rates that matter at an SNR, on fades from `FIRST_REALISATION` on.

    Parameters
    ----------
    link_of : callable
        Returns the digital link of an MCS.
    table : sequence of MCS
        Candidates; later ones are faster and lose more.
    capacity : callable
        Returns the bytes of the payload that fills the budget with an MCS.
    snr_db : float, [dB]
    num_payloads : int

    Returns
    -------
    dict
        Loss rate by MCS: the fastest one without losses and every faster one that loses less than half. If all lose
        more, only the slowest.
    """
    numbers = np.arange(FIRST_REALISATION, FIRST_REALISATION + num_payloads)

    @functools.cache
    def lost(index: int) -> float:
        size = capacity(table[index])
        payloads = [np.random.default_rng(i).bytes(size) for i in range(num_payloads)]
        return link_of(table[index])(payloads, snr_db, numbers).count(None) / num_payloads

    rates: dict[Mcs, float] = {}
    for index in reversed(range(bisect_left(range(len(table)), HOPELESS, key=lost))):
        rates[table[index]] = lost(index)
        if not rates[table[index]]:
            break
    return rates or {table[0]: lost(0)}


@functools.cache
def digital_link(config: LinkConfig, mcs: Mcs) -> DigitalLink:
    """Return the digital link of an MCS without length header; all of a config share their fades."""
    channel = digital_link(config, QPSK).channel if mcs != QPSK else None
    return DigitalLink(config, bits_per_symbol=mcs[0], code_rate=mcs[1], length_header=False, channel=channel)


def _read(read: Callable[[bytes], Item], payload: bytes) -> Item | None:
    try:
        return read(payload)
    except ValueError:  # an error that the CRC missed, or nothing that could be sent: the receiver cannot read it
        return None
