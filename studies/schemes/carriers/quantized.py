"""The proposal's own codes as bits: quantised, over the digital link, in the resource elements of machine tokens.

Sensor, code, task agent, grid, pilots and fades are those of the proposal. At each mean SNR, which the transmitter is
assumed to know, or on each fade, if the receiver reports it, the number of bytes, and thus the code rate, has the
highest expected accuracy. Quantisers are learned
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
        """Return the hash of the quantiser's tables, and the link's options."""
        digest = hashlib.sha256(b"".join(self._tables[name].tobytes() for name in sorted(self._tables)))
        return {"quantizer": digest.hexdigest(), **self.link.options}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Quantise, send, and return the codes that arrive."""
        assert codes is not None
        sent = codes[batch.numbers]
        sizes, payloads = self.num_bytes(snr_db, batch.numbers, sent.shape[1:]), [b""] * len(sent)
        for size in np.unique(sizes).tolist():
            chosen = np.flatnonzero(sizes == size)
            for index, payload in zip(chosen, self._quantizer(size).encode(sent[chosen]), strict=True):
                payloads[index] = payload
        received = self.link.send(payloads, snr_db, batch.numbers, self._decode)
        arrived = [index for index, item in enumerate(received.items) if item is not None]
        return Delivery(
            items=received.items,
            lost=np.array([item is None for item in received.items]),
            undetected=np.array(received.undetected),
            codes=[sent[index] for index in arrived],
            codes_hat=[item for item in received.items if item is not None],
            payload=self.link.on_air(sizes.tolist()),
            num_transmissions=np.array(received.num_transmissions),
            peaks=self.link.peak_power(sizes.tolist(), batch.numbers),
        )

    def num_bytes(self, snr_db: float, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the sizes of the payloads of some questions at an SNR for codes of a shape, [num_tokens, width]."""
        sizes, reached = self._tables["accuracy_bytes"], np.maximum.accumulate(self._tables["accuracy"])
        chosen = self.link.chosen(
            snr_db,
            numbers,
            lambda num_bytes: float(np.interp(num_bytes, sizes, reached)),
            self._tables["accuracy_lost"].item(),
        )
        return np.minimum(chosen, self._kind.most_bytes(shape))  # what is left of the budget goes into robustness

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of the budget, once."""
        return ledger_scalars(self.link.ledger())

    def _decode(self, payload: bytes) -> np.ndarray:
        return self._quantizer(len(payload)).decode(payload)  # the receiver knows the size


def transform(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with transform coding: decorrelated coefficients, each with bits of its own."""
    return _quantized(workbench, weights, "transform")


def vector(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with token indices: each token the index of its nearest codeword, 256 at most."""
    return _quantized(workbench, weights, "vector")


def transform_harq(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with transform coding, and at most one retransmission."""
    return _quantized(workbench, weights, "transform", max_transmissions=2)


def vector_harq(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with token indices, and at most one retransmission."""
    return _quantized(workbench, weights, "vector", max_transmissions=2)


def transform_cqi(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with transform coding, adapted to each fade."""
    return _quantized(workbench, weights, "transform", cqi=True)


def vector_cqi(workbench: "Workbench", weights: str) -> QuantizedCodes:
    """Build the carrier with token indices, adapted to each fade."""
    return _quantized(workbench, weights, "vector", cqi=True)


def _quantized(
    workbench: "Workbench", weights: str, kind: str, *, max_transmissions: int = 1, cqi: bool = False
) -> QuantizedCodes:
    tables = load_tables(workbench.weights(weights), kind, workbench.agents(weights))
    link = payload_link(workbench, max_transmissions=max_transmissions, cqi=cqi)
    return QuantizedCodes(link, KINDS[kind], tables)
