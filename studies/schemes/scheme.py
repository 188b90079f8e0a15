"""What a curve is: an encoder, a carrier and a reader, joined by one final `Scheme`.

    images, descriptions ─► Encoder ─► codes ─► Carrier, at an SNR ─► Delivery ─► Reader ─► answers

The encoder works once per question, the carrier and the reader at every SNR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np

if TYPE_CHECKING:
    from phy import Ledger
    from studies.questions import Batch

# What the archive keeps of a ledger: grid and time, from `phy.Ledger`; then the payload, the peaks and the downlink.
GRID = {
    "resource_elements": "total_res",
    "data_res": "data_res",
    "pilot_res": "pilot_res",
    "guard_res": "guard_res",
    "idle_res": "idle_res",
    "energy": "energy",
    "duration_s": "duration_s",
    "active_s": "active_s",
    "mini_slots": "mini_slots",
    "span_s": "span_s",
}
PAYLOAD = ("payload_bytes", "payload_bits", "bits_per_symbol", "code_rate")
LEDGER = (*GRID, "num_transmissions", *PAYLOAD, "peak_db", "prompt_bits")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What arrived of a batch.

    Attributes
    ----------
    items : sequence
        What the reader reads, one item a question: received codes [num_tokens, width], an image (uint8 [height, width,
        3]) or a text; None where nothing arrived.
    lost : bool [batch], optional
        Declared losses; None from a carrier that cannot declare one.
    undetected : bool [batch], optional
        Payloads that passed the CRC with errors; None where `lost` is.
    codes, codes_hat : sequence of float arrays, optional
        Numbers as they were sent and as they were received, of the questions whose numbers arrived.
    error_var : sequence of float arrays, optional
        Error variance that the link declares for each of `codes_hat`.
    item_var : sequence of float arrays, optional
        Error variance of items that are codes other than `codes_hat`.
    payload : mapping of arrays [batch], optional
        Sizes and rates of payloads, by the names of `PAYLOAD`.
    num_transmissions : int [batch], optional
        How often each question's codes or payload were sent; once if it is None.
    peaks : float [batch], optional
        Largest power of each question's waveform on an antenna, over the mean of all questions.
    """

    items: Sequence[Any] | np.ndarray
    lost: np.ndarray | None = None
    undetected: np.ndarray | None = None
    codes: Sequence[np.ndarray] | np.ndarray | None = None
    codes_hat: Sequence[np.ndarray] | np.ndarray | None = None
    error_var: Sequence[np.ndarray] | np.ndarray | None = None
    item_var: Sequence[np.ndarray] | np.ndarray | None = None
    payload: Mapping[str, np.ndarray] | None = None
    num_transmissions: np.ndarray | None = None
    peaks: np.ndarray | None = None

    def check_finite(self, batch: "Batch", snr_db: float) -> None:
        """Refuse NaN and infinite values, which a reader would turn into some answer.

        Raises
        ------
        ValueError
            If there are any.
        """
        for name in ("items", "codes_hat", "error_var", "item_var"):
            for part in getattr(self, name) if getattr(self, name) is not None else ():
                if isinstance(part, np.ndarray) and part.dtype.kind == "f" and not np.isfinite(part).all():
                    first, last = batch.numbers[[0, -1]]
                    raise ValueError(
                        f"{name} of questions {first} to {last} hold NaN or infinite values at snr_db={snr_db:g}: no "
                        "answer can be read from them. Take another link.recovery, or link.precision=double"
                    )


class Part(Protocol):
    """What every part of a curve says of itself."""

    def determined_by(self) -> dict[str, Any]:
        """Return what it depends on beside questions, SNR, link and source code: hashes of its models, as JSON."""
        ...


class Encoder(Part, Protocol):
    """From images and vague descriptions to what goes on the air, once per question."""

    def encoded_by(self) -> dict[str, Any]:
        """Return what the codes depend on beside the questions. Encoders of equal content share their files."""
        ...

    def encode(self, batch: "Batch") -> np.ndarray:
        """Return the codes of a batch: float32 [batch, num_tokens, width], or texts [batch]."""
        ...

    def prompts(self, questions: list[str]) -> list[str] | None:
        """Return what the sensor is told of each question over the downlink; None if it is told the question itself."""
        ...


class Carrier(Part, Protocol):
    """From codes to what arrives of them.

    Attributes
    ----------
    crosses_link : bool
        False: what arrives is the same at every SNR, and answers are computed once.
    """

    crosses_link: bool

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Carry a batch, each question over the fade of its number.

        Parameters
        ----------
        codes : [num_questions, …], optional
            Codes of all questions of the study; None where the curve has no encoder.
        batch : Batch
        snr_db : float, [dB]
        """
        ...

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the resources of one transmission, named as in `GRID`; means where questions differ.

        What a question is charged is this, times the mean of `Delivery.num_transmissions`.
        """
        ...


class Reader(Part, Protocol):
    """From what arrived to answers."""

    def read(self, batch: "Batch", delivery: Delivery) -> list[str]:
        """Answer the questions of a batch, an answer each."""
        ...


@final
class Scheme:
    """One curve.

    Parameters
    ----------
    encoder : Encoder or None
        None where nothing is encoded ahead: the carrier takes the batch's images, or nothing.
    carrier : Carrier
    reader : Reader

    Raises
    ------
    ValueError
        If two parts disagree about something that both depend on, such as the agents' weights.
    """

    def __init__(self, encoder: Encoder | None, carrier: Carrier, reader: Reader):
        self.encoder, self.carrier, self.reader = encoder, carrier, reader
        self._determined_by: dict[str, Any] = {}
        for part in (encoder, carrier, reader):
            for name, value in (part.determined_by() if part else {}).items():
                if self._determined_by.setdefault(name, value) != value:
                    raise ValueError(f"encoder, carrier and reader of a curve disagree about {name!r}; give it once")

    @property
    def crosses_link(self) -> bool:
        """Return whether its answers depend on SNR and link."""
        return self.carrier.crosses_link

    def determined_by(self) -> dict[str, Any]:
        """Return what its answers depend on beside questions, SNR, link and source code, as JSON content."""
        return dict(self._determined_by)

    def prompt_bits(self, questions: list[str]) -> float:
        """Return the bits that go down to the sensor for each question; NaN if these are the question itself.

        They are charged by `entropy`: both ends know how often each vague description occurs.
        """
        if not self.crosses_link:
            return float("nan")
        prompts = [""] * len(questions) if self.encoder is None else self.encoder.prompts(questions)
        return float("nan") if prompts is None else entropy(prompts)

    def answer(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> tuple[list[str], Delivery]:
        """Carry a batch and answer its questions; `codes` are those of all questions of the study.

        Raises
        ------
        ValueError
            If numbers that arrive, or their error variances, are not finite.
        """
        delivery = self.carrier.deliver(codes, batch, snr_db)
        delivery.check_finite(batch, snr_db)
        return self.reader.read(batch, delivery), delivery


def ledger_scalars(ledger: "Ledger | None") -> dict[str, float]:
    """Return what the archive keeps of a ledger's grid; NaN where there is none."""
    return {name: float("nan") if ledger is None else float(getattr(ledger, field)) for name, field in GRID.items()}


def mean_of(costs: Mapping[Any, Mapping[str, float]], counts: Mapping[Any, int]) -> dict[str, float]:
    """Return the mean cost of questions that differ, from the cost and the count of each kind."""
    return {
        name: float(np.average([costs[kind][name] for kind in counts], weights=list(counts.values()))) for name in GRID
    }


def entropy(texts: Sequence[str]) -> float:
    """Return the bits per text that a code needs which knows how often each of these texts occurs."""
    _, counts = np.unique(np.array(texts), return_counts=True)
    share = counts / counts.sum()
    return float(-share @ np.log2(share)) + 0.0
