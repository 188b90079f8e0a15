"""The digital link with link adaptation: the transmitter knows the mean SNR and takes the scheme that gets through."""

from dataclasses import dataclass, replace

import numpy as np

from phy.analog_link import check_snr_db
from phy.config import LinkConfig
from phy.digital_link import MCS, DigitalLink, check_same_config
from phy.ledger import Ledger

LOWEST_SNR_DB, HIGHEST_SNR_DB = -20.0, 50.0


@dataclass(frozen=True, kw_only=True, slots=True)
class McsThresholds:
    """The lowest SNR at which each entry of `MCS` gets through one channel: the envelope of their curves.

    Attributes
    ----------
    snr_db : tuple of float, one per entry of `MCS`, [dB]
        Never falling; infinite where no SNR that was tried is enough.
    config : LinkConfig, optional
        That they were measured with; None vouches for any.
    """

    snr_db: tuple[float, ...]
    config: LinkConfig | None = None

    def __post_init__(self):
        found = np.asarray(self.snr_db, np.float64)
        if found.shape != (len(MCS),):
            raise ValueError(f"snr_db must hold one threshold for each of the {len(MCS)} entries of MCS")
        if np.isnan(found).any() or (found[1:] < found[:-1]).any():
            raise ValueError(f"snr_db must hold thresholds that never fall along the table, got {self.snr_db}")

    @classmethod
    def measure(
        cls,
        config: LinkConfig,
        *,
        max_loss_rate: float = 0.1,
        num_payloads: int = 64,
        payload_bytes: int = 100,
        step_db: float = 1.0,
    ) -> "McsThresholds":
        """Send payloads with one scheme after the other, and raise the SNR until few enough are lost.

        Parameters
        ----------
        config : LinkConfig
        max_loss_rate : float, 0 … 1
            What still counts as getting through; 0.1 is what NR's link adaptation aims at.
        num_payloads : int
            At each SNR, over the realisations 0 … num_payloads - 1.
        payload_bytes : int
            A hundred bytes make about the code blocks of long payloads, which lose more often as they have many.
        step_db : float
            Of the SNR, from -20 to 50 dB.
        """
        if not 0 < max_loss_rate < 1:
            raise ValueError(f"max_loss_rate must be between 0 and 1, got {max_loss_rate!r}")
        for name, value in (("num_payloads", num_payloads), ("step_db", step_db)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0, got {value!r}")
        payloads = [np.random.default_rng(i).bytes(payload_bytes) for i in range(num_payloads)]
        snr_db, found, channel = LOWEST_SNR_DB, [], DigitalLink(config).channel
        for bits_per_symbol, code_rate in MCS:
            link = DigitalLink(config, bits_per_symbol=bits_per_symbol, code_rate=code_rate, channel=channel)
            while snr_db <= HIGHEST_SNR_DB and _loss_rate(link, payloads, snr_db) > max_loss_rate:
                snr_db += step_db
            found.append(snr_db if snr_db <= HIGHEST_SNR_DB else float("inf"))
        return cls(snr_db=tuple(found), config=config)

    def choose(self, snr_db: float) -> int:
        """Index of the most efficient scheme that gets through at `snr_db`; the most robust one where none does."""
        return max(0, int(np.searchsorted(self.snr_db, snr_db, side="right")) - 1)


class EnvelopeLink:
    """`DigitalLink` with the best entry of `MCS` for the SNR of each payload, used as it is.

    Parameters
    ----------
    config : LinkConfig
    thresholds : McsThresholds
        Of this config, but for its seed; `McsThresholds.measure(config)` finds them.

    Raises
    ------
    ValueError
        If the thresholds were measured with another config.

    Examples
    --------
    >>> config = LinkConfig()
    >>> link = EnvelopeLink(config, thresholds=McsThresholds.measure(config))
    >>> link([b"two cubes", b"a red sphere"], snr_db=[0.0, 20.0], realisation=[0, 1])
    """

    def __init__(self, config: LinkConfig, *, thresholds: McsThresholds):
        if thresholds.config is not None:
            check_same_config("thresholds", replace(thresholds.config, seed=config.seed), config)
        self.config, self.thresholds = config, thresholds
        self.channel = DigitalLink(config).channel
        self._links: dict[int, DigitalLink] = {}

    def __call__(self, payloads: list[bytes], snr_db=10.0, realisation=None) -> list[bytes | None]:
        """Send payloads; arguments, result and errors as for `DigitalLink`."""
        snr_db = check_snr_db(snr_db, len(payloads))
        numbers = self.channel.number(realisation, len(payloads))
        chosen = np.array([self.thresholds.choose(value) for value in snr_db], np.int64)
        received: list[bytes | None] = [None] * len(payloads)
        for index in np.unique(chosen):
            rows = np.flatnonzero(chosen == index)
            answers = self._link(int(index))([payloads[row] for row in rows], snr_db[rows], numbers[rows])
            for row, answer in zip(rows, answers, strict=True):
                received[row] = answer
        return received

    def ledger(self, *, payload_bytes: int, snr_db: float) -> Ledger:
        """Resource elements, energy, time and bits of one payload of `payload_bytes` bytes at `snr_db`."""
        return self._link(self.thresholds.choose(float(check_snr_db(snr_db, 1)[0]))).ledger(payload_bytes=payload_bytes)

    def __reduce__(self):
        return _rebuild, (type(self), self.config, self.thresholds, self.channel.next_realisation)

    def _link(self, index):
        if index not in self._links:
            bits_per_symbol, code_rate = MCS[index]
            self._links[index] = DigitalLink(
                self.config, bits_per_symbol=bits_per_symbol, code_rate=code_rate, channel=self.channel
            )
        return self._links[index]


def _loss_rate(link, payloads, snr_db):
    return link(payloads, snr_db, np.arange(len(payloads))).count(None) / len(payloads)


def _rebuild(kind, config, thresholds, next_realisation):
    link = kind(config, thresholds=thresholds)
    link.channel.next_realisation = next_realisation
    return link
