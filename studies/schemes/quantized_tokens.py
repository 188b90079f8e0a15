"""The proposal's own codes as bits: quantised, over the digital link, in the resource elements of machine tokens.

It isolates what analog transmission brings: sensor, code, task agent, grid, pilots and fades are those of the proposal.
It is as strong as a separate design gets without training anything anew: transform coding, and at each mean SNR, which
the transmitter is assumed to know, the MCS with which bits that are too few and payloads that are lost cost least.

The quantiser is learned once, from codes of training images; its file lies next to the weights
(`digital/quantizer_file.py`).
"""

import functools
import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from studies.questions import Batch
from studies.schemes import machine_tokens
from studies.schemes.digital.payload_link import DigitalScheme, PayloadLink, payload_link
from studies.schemes.digital.quantizer_file import KINDS, Tables, load_tables
from studies.workbench import Workbench

if TYPE_CHECKING:
    from studies.schemes.machine_tokens import MachineTokens


class Quantizer(Protocol):
    """Codes to payloads and back."""

    def encode(self, codes: np.ndarray) -> list[bytes]:
        """Return the payload of each example, [batch, num_tokens, width]."""
        ...

    def decode(self, payload: bytes) -> np.ndarray:
        """Return the codes of one example, float32 [num_tokens, width]."""
        ...


class QuantizerKind(Protocol):
    """Makes a quantiser of learned tables, for payloads of so many bytes."""

    def __call__(self, tables: Tables, num_bytes: int) -> Quantizer:
        """Make the quantiser."""
        ...

    def error(self, tables: Tables, num_bytes: int) -> float:
        """Return the share of the codes' variance that so many bytes leave out."""
        ...

    def most_bytes(self, shape: tuple[int, ...]) -> int:
        """Return how many bytes it can use for codes of a shape, [num_tokens, width]."""
        ...


class QuantizedTokens(DigitalScheme):
    """Machine tokens over the digital link.

    Parameters
    ----------
    proposal : MachineTokens
        Whose codes are sent.
    link : PayloadLink
    kind : QuantizerKind
    tables : dict of numpy.ndarray
        What it learned from the proposal's codes of other images.
    """

    def __init__(self, proposal: "MachineTokens", link: PayloadLink, kind: QuantizerKind, tables: Tables):
        super().__init__(proposal.agents, link)
        self.proposal, self._kind, self._tables = proposal, kind, tables
        self._quantizer = functools.cache(functools.partial(kind, tables))

    def determined_by(self) -> dict[str, Any]:
        """Return the hashes of the agents' weights and of the quantiser's tables."""
        digest = hashlib.sha256(b"".join(self._tables[name].tobytes() for name in sorted(self._tables)))
        return {**super().determined_by(), "quantizer": digest.hexdigest()}

    def encoded_by(self) -> dict[str, Any]:
        """Return what the proposal's codes depend on: they are the same files."""
        return self.proposal.encoded_by()

    def encode(self, batch: Batch) -> np.ndarray:
        """Encode as the proposal does."""
        return self.proposal.encode(batch)

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send each question's own codes."""
        assert codes is not None
        return codes[batch.numbers]

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> list[np.ndarray | None]:
        """Quantise, send, and return the codes that arrive."""
        assert sent is not None
        mcs = self.link.adapted(snr_db, functools.partial(self._kind.error, self._tables))
        most = self._kind.most_bytes(sent.shape[1:])
        if most < self.link.capacity(mcs):  # what is left of the budget goes into robustness
            mcs = self.link.most_robust(most)
        quantizer = self._quantizer(min(most, self.link.capacity(mcs)))
        return self.link.send(quantizer.encode(sent), mcs, snr_db, realisation, quantizer.decode)

    def answer_arrived(self, batch: Batch, where: list[int], items: list[np.ndarray]) -> list[str]:
        """Decode the codes into a prefix, as the proposal does."""
        import torch

        return self.agents.answer_codes(torch.as_tensor(np.stack(items)), [batch.texts[place] for place in where])


def build(workbench: Workbench) -> QuantizedTokens:
    """Build the scheme from a run's configuration."""
    return build_with(workbench, "transform")


def build_with(workbench: Workbench, kind: str) -> QuantizedTokens:
    """Build the scheme with some kind of quantiser."""
    proposal = machine_tokens.build(workbench)
    tables = load_tables(workbench.config.models.machine_tokens, kind, proposal.agents)
    return QuantizedTokens(proposal, payload_link(workbench), KINDS[kind], tables)
