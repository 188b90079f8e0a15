"""Carriers that use no link: everything arrives, silence does, or nothing."""

from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from studies.questions import Batch
    from studies.workbench import Workbench


class Everything:
    """All of it arrives, at no cost: the images themselves, or the codes of an encoder. It makes bounds."""

    crosses_link = False

    def determined_by(self) -> dict[str, Any]:
        """Return nothing: it has no parameters."""
        return {}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Deliver each question's own codes, or its image where there are none."""
        return Delivery(items=batch.images if codes is None else list(codes[batch.numbers]))

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return NaN: nothing crosses the link."""
        return ledger_scalars(None)


class Nothing(Everything):
    """Nothing arrives: the blind line."""

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Deliver nothing."""
        return Delivery(items=[None] * len(batch.questions))


class Silence(Everything):
    """Codes that are all zero arrive. It shows what a decoder alone adds to the question.

    Parameters
    ----------
    num_tokens, width : int
    """

    def __init__(self, num_tokens: int, width: int):
        self.num_tokens, self.width = num_tokens, width

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Deliver zeros."""
        return Delivery(items=np.zeros((len(batch.questions), self.num_tokens, self.width), np.float32))


def everything(workbench: "Workbench", weights: str) -> Everything:
    """Build the carrier of bounds."""
    return Everything()


def nothing(workbench: "Workbench", weights: str) -> Nothing:
    """Build the carrier of the blind line."""
    return Nothing()


def silence(workbench: "Workbench", weights: str) -> Silence:
    """Build the carrier of the control "silent link"."""
    agents = workbench.agents(weights)
    return Silence(agents.num_tokens, agents.width)
