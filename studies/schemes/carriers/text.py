"""Words over the digital link, in the resource elements of machine tokens.

A code made for such words compresses them (`digital/text_code.py`). Each text has the length that it needs, which a
scheduler would announce, and fills the budget with the lowest modulation that carries it; anything faster would only
add losses.
"""

import functools
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.digital.payload_link import payload_link
from studies.schemes.digital.text_code import TextCode
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from phy.link_adaptation import PayloadLink
    from studies.questions import Batch
    from studies.workbench import Workbench

NUM_SAMPLES = 1000  # captions of scenes that no split has, from which the code learns


class Texts:
    """Each question's text as a payload.

    Parameters
    ----------
    link : PayloadLink
    code : TextCode
    """

    crosses_link = True

    def __init__(self, link: "PayloadLink", code: TextCode):
        self.link, self.code = link, code
        self._compress = functools.cache(code.encode)

    def determined_by(self) -> dict[str, Any]:
        """Return the link's options; the rest, and the code, follow from configuration and source."""
        return self.link.options

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Send the payloads, and return the texts that arrive."""
        assert codes is not None
        payloads = [self._compress(str(codes[number])) for number in batch.numbers]
        received = self.link.send(payloads, snr_db, batch.numbers, self.code.decode)
        lost = np.array([item is None for item in received.items])
        sizes = [*map(len, payloads)]
        return Delivery(
            items=received.items,
            lost=lost,
            undetected=np.array(received.undetected),
            payload=self.link.on_air(sizes),
            num_transmissions=np.array(received.num_transmissions),
            peaks=self.link.peak_power(sizes, batch.numbers),
        )

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of the budget, once."""
        return ledger_scalars(self.link.ledger())


def sample_captions(count: int = NUM_SAMPLES) -> list[str]:
    """Describe scenes drawn at random, objects from left to right, as the embedded sensor is taught to."""
    from semantic.data.scenes import describe, draw_scene

    rng = random.Random("captions")
    scenes = [sorted(describe(draw_scene(rng)), key=lambda words: words[4]) for _ in range(count)]
    return [" ".join(word for words in scene for word in words) for scene in scenes]


def sample_answers() -> list[str]:
    """Return every answer of the task world once; others can be sent too, in more bytes."""
    from semantic.tasks import ATTRIBUTES

    values = [value for values in ATTRIBUTES.values() for value in values]
    return ["yes", "no", *values, *map(str, range(11))]


def captions(workbench: "Workbench", weights: str) -> Texts:
    """Build the carrier of captions from a run's configuration."""
    return Texts(payload_link(workbench), TextCode(sample_captions()))


def captions_harq(workbench: "Workbench", weights: str) -> Texts:
    """Build the same with at most one retransmission."""
    return Texts(payload_link(workbench, max_transmissions=2), TextCode(sample_captions()))


def answers(workbench: "Workbench", weights: str) -> Texts:
    """Build the carrier of answers."""
    return Texts(payload_link(workbench), TextCode(sample_answers()))
