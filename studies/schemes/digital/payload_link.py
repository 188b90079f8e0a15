"""The digital benchmarks' common ground: bytes over the digital link, in a budget of resource elements.

A payload that the receiver declares lost is answered from the question alone, by the task agent, in every scheme.
"""

import functools
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from studies.questions import Batch
from studies.schemes.digital.mcs_losses import Mcs, kept_loss_rates, loss_rates
from studies.schemes.scheme import Scheme, weights_hash
from studies.workbench import Workbench

if TYPE_CHECKING:
    from phy import DigitalLink, Ledger, LinkConfig
    from semantic import AgentLink

Item = TypeVar("Item")
QPSK: Mcs = (2, 0.5)
HIGHEST_RATE = {2: 602, 4: 658, 6: 873, 8: 948}  # by bits per symbol [1/1024]; TS 38.214, table 5.1.3.1-2


class Delivered(list[Any]):
    """What was read of each payload; None where it was lost.

    Parameters
    ----------
    items : sequence
    undetected : sequence of bool
        Which of them passed the CRC and were read, yet are not what was sent. The receiver takes them for right.
    """

    def __init__(self, items: Sequence[Any], undetected: Sequence[bool]):
        super().__init__(items)
        self.undetected = list(undetected)


class PayloadLink:
    """Payloads over the digital link, in at most so many data resource elements each.

    Parameters
    ----------
    link_of : the `DigitalLink` of a modulation and coding scheme (MCS): bits per symbol, code rate
    data_res : int
        The budget. It is reserved, and charged, whatever a payload leaves of it.
    known : loss rates at a mean SNR as `loss_rates` returns them, where they are known; None where they are not
    """

    def __init__(
        self,
        link_of: "Callable[[Mcs], DigitalLink]",
        data_res: int,
        known: Callable[[float], dict[Mcs, float] | None] = lambda snr_db: None,
    ):
        self._link_of, self.data_res = link_of, data_res
        self._loss_rates = functools.cache(lambda snr_db: known(snr_db) or self.measure(snr_db))
        self.capacity = functools.cache(self._capacity)
        self.most_robust = functools.cache(self._most_robust)

    def measure(self, snr_db: float) -> dict[Mcs, float]:
        """Measure how often the MCS of NR's table lose a payload that fills the budget."""
        from phy.digital_link import MCS

        table = [mcs for mcs in MCS if self.capacity(mcs)]
        if not table:
            raise ValueError(
                f"{self.data_res} data resource elements hold not a byte, whatever the MCS; send more tokens"
            )
        return loss_rates(self._link_of, table, self.capacity, snr_db)

    def adapted(self, snr_db: float, error: Callable[[int], float]) -> Mcs:
        r"""Return the MCS that the transmitter takes, which knows the mean SNR and what a byte is worth.

        .. math:: \arg\min_m \; P_m + (1 - P_m) \, e(C_m)

        with the loss rate P, the capacity C in bytes and the error e: everything of a lost payload is missing, of one
        that arrives what its size leaves out.

        Parameters
        ----------
        snr_db : float, [dB]
        error : the share of a source's variance that is missing when it is given so many bytes
        """
        lost = self._loss_rates(snr_db)
        return min(lost, key=lambda mcs: lost[mcs] + (1 - lost[mcs]) * error(self.capacity(mcs)))

    def _capacity(self, mcs: Mcs) -> int:
        """Bytes of the largest payload within the budget; 0 if the overhead alone exceeds it."""
        largest = 1
        while self._fits(mcs, 2 * largest):
            largest *= 2
        return bisect_right(range(1, 2 * largest + 1), False, key=lambda num_bytes: not self._fits(mcs, num_bytes))

    def _most_robust(self, num_bytes: int) -> Mcs:
        """The MCS with the fewest bits per symbol, and of these the lowest code rate, that fits so many bytes.

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
    ) -> Delivered:
        """Send payloads, each over the fade of its number, and read what arrives.

        They are padded with zeros to one size: each size would be a code of its own, to be set up at both ends.

        Parameters
        ----------
        payloads : sequence of bytes
        mcs : (bits per symbol, code rate)
        snr_db : float, [dB]
        realisation : int [len(payloads)]
        read : turns a received payload, padding included, into what it says; a ValueError is a noticed error

        Returns
        -------
        Delivered
            None where a payload was lost.

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
        return Delivered(items, wrong)

    def ledger(self) -> "Ledger":
        """Return what one payload is charged: the whole budget, and the pilots of its slots."""
        from phy.ledger import grid_ledger
        from phy.resource_grid import ResourceGrid

        return grid_ledger(ResourceGrid(self._link_of(QPSK).config, self.data_res), data_energy=self.data_res)


class DigitalScheme(Scheme):
    """A curve whose payload is bytes; subclasses say what is in them.

    Parameters
    ----------
    agents : AgentLink
    link : PayloadLink
    """

    crosses_link: ClassVar[bool] = True

    def __init__(self, agents: "AgentLink", link: PayloadLink):
        self.agents, self.link = agents, link

    @abstractmethod
    def answer_arrived(self, batch: Batch, where: list[int], items: list[Any]) -> list[str]:
        """Answer the questions at places `where` of a batch from what arrived for each of them."""

    def answer(self, batch: Batch, received: list[Any]) -> list[str]:
        """Answer from what arrived, and from the question alone where nothing did."""
        arrived = [place for place, item in enumerate(received) if item is not None]
        lost = [place for place, item in enumerate(received) if item is None]
        answers = dict(zip(lost, self.agents.task_agent.answer([batch.texts[place] for place in lost]), strict=True))
        if arrived:
            items = [received[place] for place in arrived]
            answers |= zip(arrived, self.answer_arrived(batch, arrived, items), strict=True)
        return [answers[place] for place in range(len(received))]

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return {"agents": weights_hash(self.agents)}

    def ledger(self) -> "Ledger":
        """Return the budget's ledger."""
        return self.link.ledger()


def payload_link(workbench: Workbench, data_res: int | None = None) -> PayloadLink:
    """Return the digital link of a run's configuration, by default with as many elements as machine tokens take."""
    if data_res is None:
        agents = workbench.agents(workbench.config.models.machine_tokens)
        data_res = workbench.channel.link.ledger(num_tokens=agents.num_tokens, width=agents.width).data_res
    return make_payload_link(workbench.config.link, data_res)


@functools.cache
def make_payload_link(config: "LinkConfig", data_res: int) -> PayloadLink:
    """Put a budget in front of the digital links of a configuration, which share their fades."""
    known = functools.partial(kept_loss_rates, config, data_res)
    return PayloadLink(functools.partial(_digital_link, config), data_res, known)


@functools.cache
def _digital_link(config: "LinkConfig", mcs: Mcs) -> "DigitalLink":
    from phy import DigitalLink

    channel = _digital_link(config, QPSK).channel if mcs != QPSK else None
    # payloads of a point have one size, which both ends know
    return DigitalLink(config, bits_per_symbol=mcs[0], code_rate=mcs[1], length_header=False, channel=channel)


def _read(read: Callable[[bytes], Item], payload: bytes) -> Item | None:
    try:
        return read(payload)
    except ValueError:  # an error that the CRC missed, or nothing that could be sent: the receiver cannot read it
        return None
