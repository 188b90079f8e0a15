"""The bound of benchmark 3: the same captions over a link that loses none and costs nothing."""

from typing import Any

import numpy as np

from studies.questions import Batch
from studies.schemes import caption
from studies.schemes.caption import Text
from studies.schemes.scheme import Scheme
from studies.workbench import Workbench


class ErrorFree(Scheme):
    """Texts that all arrive.

    Parameters
    ----------
    texts : Text
        The scheme whose texts these are.
    """

    def __init__(self, texts: Text):
        self.texts = texts

    def determined_by(self) -> dict[str, Any]:
        """Return what the scheme depends on."""
        return self.texts.determined_by()

    def encoded_by(self) -> dict[str, Any]:
        """Return what the scheme's texts depend on: they are the same files."""
        return self.texts.encoded_by()

    def encode(self, batch: Batch) -> np.ndarray:
        """Write as the scheme does."""
        return self.texts.encode(batch)

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send each question's own text."""
        assert codes is not None
        return codes[batch.numbers]

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> list[str]:
        """Return every text."""
        assert sent is not None
        return [str(text) for text in sent]

    def answer(self, batch: Batch, received: list[str]) -> list[str]:
        """Answer as the scheme does."""
        return self.texts.answer(batch, received)


def build(workbench: Workbench) -> ErrorFree:
    """Build the bound from a run's configuration."""
    return ErrorFree(caption.build(workbench))
