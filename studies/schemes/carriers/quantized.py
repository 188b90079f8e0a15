"""The proposal's own codes as bits: quantised, over the digital link, in the resource elements of machine tokens.

Sensor, code, task agent, grid, pilots and fades are those of the proposal. At each mean SNR, which the transmitter is
assumed to know, the number of bytes, and thus the code rate, has the highest expected accuracy. Quantisers are learned
once, from codes of training images, and the accuracy of each size is measured on validation questions; their file lies
next to the weights (`digital/quantizer_file.py`).
"""

import functools
import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from studies.schemes.digital.payload_link import payload_link
from studies.schemes.digital.quantizer_file import KINDS, Tables, load_tables
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from phy.link_adaptation import PayloadLink
    from studies.questions import Batch
    from studies.workbench import Workbench


class Quantizer(Protocol):
    """Codes to payloads and back."""

    def encode(self, codes: np.ndarray) -> list[bytes]:
        """Return the payload of each example, [batch, num_tokens, width]."""
        ...

    def decode(self, payload: bytes) -> np.ndarray:
        """Return the codes of one example, float32 [num_tokens, width]."""
        ...


class QuantizerKind(Protocol):
    """Makes a quantiser for payloads of a given size from learned tables."""

    def __call__(self, tables: Tables, num_bytes: int) -> Quantizer:
        """Make the quantiser."""
        ...

    def most_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the largest payload that it can use for codes of a shape, [num_tokens, width]."""
        ...


class QuantizedCodes:
    """Each question's codes as a payload.

    Parameters
    ----------
    link : PayloadLink
    kind : QuantizerKind
    tables : dict of numpy.ndarray
        Learned from codes of other images.
    """

    crosses_link = True

    def __init__(self, link: "PayloadLink", kind: QuantizerKind, tables: Tables):
        self.link, self._kind, self._tables = link, kind, tables
        self._quantizer = functools.cache(functools.partial(kind, tables))

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the quantiser's tables."""
        digest = hashlib.sha256(b"".join(self._tables[name].tobytes() for name in sorted(self._tables)))
        return {"quantizer": digest.hexdigest()}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Quantise, send, and return the codes that arrive."""
        assert codes is not None
        sent = codes[batch.numbers]
        quantizer = self._quantizer(self.num_bytes(snr_db, sent.shape[1:]))
        payloads = quantizer.encode(sent)
        received = self.link.send(payloads, snr_db, batch.numbers, quantizer.decode)
        arrived = [index for index, item in enumerate(received.items) if item is not None]
        return Delivery(
            items=received.items,
            lost=np.array([item is None for item in received.items]),
            undetected=np.array(received.undetected),
            codes=[sent[index] for index in arrived],
            codes_hat=[item for item in received.items if item is not None],
            payload=self.link.on_air([*map(len, payloads)]),
            peaks=self.link.peak_power([*map(len, payloads)], batch.numbers),
        )

    def num_bytes(self, snr_db: float, shape: tuple[int, ...]) -> int:
        """Return the size of the payloads at an SNR for codes of a shape, [num_tokens, width]."""
        sizes, reached = self._tables["accuracy_bytes"], np.maximum.accumulate(self._tables["accuracy"])
        size = self.link.adapted(
            snr_db, lambda num_bytes: float(np.interp(num_bytes, sizes, reached)), self._tables["accuracy_lost"].item()
        )
        return min(size, self._kind.most_bytes(shape))  # what is left of the budget goes into robustness

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of the budget."""
        return ledger_scalars(self.link.ledger())


def transform(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with transform coding: decorrelated coefficients, each with bits of its own."""
    return _quantized(workbench, weights, "transform")


def vector(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with token indices: each token the index of its nearest codeword, 256 at most."""
    return _quantized(workbench, weights, "vector")


def _quantized(workbench: "Workbench", weights: str, kind: str) -> QuantizedCodes:
    tables = load_tables(workbench.weights(weights), kind, workbench.agents(weights))
    return QuantizedCodes(payload_link(workbench), KINDS[kind], tables)
