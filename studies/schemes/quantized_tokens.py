"""The proposal's own codes as bits: quantised, over the digital link, in the resource elements of machine tokens.

It isolates what analog transmission brings: sensor, code, task agent, grid, pilots and fades are those of the proposal.
It is as strong as a separate design gets without training anything anew: transform coding, with as many bits per
question as the most efficient MCS carries that gets through at the mean SNR, which the transmitter is assumed to know.

The quantiser is learned, without a look at what is sent with it, from the study's codes of the other half of the
images: those of even number are sent with what those of odd number taught, and the other way round.
"""

import functools
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from studies.questions import Batch
from studies.schemes import machine_tokens
from studies.schemes.digital.payload_link import DigitalScheme, PayloadLink, payload_link
from studies.schemes.digital.quantizers import TransformQuantizer
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
    """Learns a quantiser from codes, for payloads of so many bytes."""

    def __call__(self, training: np.ndarray, num_bytes: int) -> Quantizer:
        """Learn from codes, [num_examples, num_tokens, width]."""
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
    image_index : int [num_questions]
        The image of each of the study's questions.
    fit : QuantizerKind
    """

    def __init__(
        self,
        proposal: "MachineTokens",
        link: PayloadLink,
        image_index: np.ndarray,
        fit: QuantizerKind,
    ):
        super().__init__(proposal.agents, link)
        self.proposal, self._half, self._fit = proposal, image_index % 2, fit
        if len(set(self._half)) < 2:
            raise ValueError("all images have even numbers, or all odd ones: raise num_questions, or take more images")
        self._training: np.ndarray | None = None
        self._quantizer = functools.cache(self._fit_half)

    def encoded_by(self) -> dict[str, Any]:
        """Return what the proposal's codes depend on: they are the same files."""
        return self.proposal.encoded_by()

    def encode(self, batch: Batch) -> np.ndarray:
        """Encode as the proposal does."""
        return self.proposal.encode(batch)

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send each question's own codes; all others of the study are there to learn from."""
        assert codes is not None
        self._training = codes
        return codes[batch.numbers]

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> list[np.ndarray | None]:
        """Quantise, send, and return the codes that arrive."""
        assert sent is not None
        mcs = self.link.adapted(snr_db)
        most = self._fit.most_bytes(sent.shape[1:])
        if most < self.link.capacity(mcs):  # what is left of the budget goes into robustness
            mcs = self.link.most_robust(most)
        num_bytes = min(most, self.link.capacity(mcs))
        received: list[np.ndarray | None] = [None] * len(sent)
        for half in (0, 1):
            where = np.flatnonzero(self._half[realisation] == half)
            if not len(where):
                continue
            quantizer = self._quantizer(half, num_bytes)
            payloads = quantizer.encode(sent[where])
            arrived = self.link.send(payloads, mcs, snr_db, realisation[where], quantizer.decode)
            for place, codes in zip(where, arrived, strict=True):
                received[place] = codes
        return received

    def answer_arrived(self, batch: Batch, where: list[int], items: list[np.ndarray]) -> list[str]:
        """Decode the codes into a prefix, as the proposal does."""
        import torch

        return self.agents.answer_codes(torch.as_tensor(np.stack(items)), [batch.texts[place] for place in where])

    def _fit_half(self, half: int, num_bytes: int) -> Quantizer:
        """Learn the quantiser for the images of one half from the codes of the other."""
        assert self._training is not None
        return self._fit(self._training[self._half != half], num_bytes)


def build(workbench: Workbench) -> QuantizedTokens:
    """Build the scheme from a run's configuration."""
    return build_with(workbench, TransformQuantizer)


def build_with(workbench: Workbench, fit: QuantizerKind) -> QuantizedTokens:
    """Build the scheme with some kind of quantiser."""
    image_index = workbench.question_facts()["image_index"]
    return QuantizedTokens(machine_tokens.build(workbench), payload_link(workbench), image_index, fit)
