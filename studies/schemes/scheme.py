"""What a curve is: who encodes, what crosses the link, who answers, and what it costs."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from studies.archive import LEDGER
from studies.questions import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from phy import Ledger
    from semantic import AgentLink


class Scheme(ABC):
    """One curve. What a scheme leaves as it is here is that of one that puts nothing on the air.

    A study calls `encode` once per question, and `send`, `deliver` and `answer` in this order at every SNR.

    Attributes
    ----------
    crosses_link : bool
        False: its answers are the same at every SNR, so that they are computed once.
    ignores : frozenset of str
        Axes of studies that change nothing for it, though it crosses the link.
    """

    crosses_link: ClassVar[bool] = False
    ignores: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def determined_by(self) -> dict[str, Any]:
        """Return what its answers depend on beside questions, SNR and link: hashes of its models, as JSON content."""

    @abstractmethod
    def answer(self, batch: Batch, received: Any) -> list[str]:
        """Answer a batch of questions from what `deliver` returned, an answer each."""

    def encoded_by(self) -> dict[str, Any] | None:
        """Return what its codes depend on beside the questions; None where there are no codes.

        Schemes with equal content here share the files of their codes: the sensor looks at each image once.
        """
        return None

    def encode(self, batch: Batch) -> np.ndarray:
        """Turn images and vague task descriptions into codes, float32 [batch, num_tokens, width], or texts, [batch]."""
        raise TypeError(f"{type(self).__name__} has no codes")

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray | None:
        """Pick what goes on the air for a batch out of the codes of all questions."""
        return None

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> Any:
        """Put a batch on the air, each question over the fade of that number, and return what is received.

        Codes as a tensor; images, uint8 [batch, height, width, 3]; or, by a scheme that can lose what it sends, a list
        in which None is a declared loss.
        """
        return None

    def ledger(self) -> "Ledger | None":
        """Return the resources that one question takes; None where nothing crosses the link."""
        return None

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return what the archive says of the ledger, `archive.LEDGER`: means over the questions, where they differ."""
        return ledger_scalars(self.ledger())


class WithoutLink(Scheme):
    """A curve that puts nothing on the air.

    Parameters
    ----------
    agents : AgentLink
        Whose weights the answers depend on.
    respond : answers a batch of questions
    """

    def __init__(self, agents: "AgentLink", respond: Callable[[Batch], list[str]]):
        self.agents = agents
        self.respond = respond

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return {"agents": weights_hash(self.agents)}

    def answer(self, batch: Batch, received: "Tensor | None") -> list[str]:
        """Answer a batch of questions; nothing was received."""
        return self.respond(batch)


@functools.cache
def weights_hash(agents: "AgentLink") -> str:
    """Hash of all weights of a pair of agents, read once per process."""
    return agents.model_hash


def ledger_scalars(ledger: "Ledger | None") -> dict[str, float]:
    """Return what the archive says of a ledger; NaN where there is none."""
    if ledger is None:
        return dict.fromkeys(LEDGER, float("nan"))
    return {
        "resource_elements": ledger.total_res,
        "data_res": ledger.data_res,
        "pilot_res": ledger.pilot_res,
        "payload_bits": float("nan"),
        "duration_s": ledger.duration_s,
    }
