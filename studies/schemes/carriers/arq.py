r"""Codes over the analog link until the receiver is sure enough: analog retransmission.

The receiver knows from its pilots how large the errors are. While they are too large it asks for the codes once more,
and weighs what arrived by the error variances,

.. math:: \hat c = v \sum_k \hat c_k / v_k, \\qquad 1 / v = \sum_k 1 / v_k

which is the best linear estimate from unbiased ones with independent errors. Every transmission is charged, with its
pilots; the request, one bit, is not.
"""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from phy.config import REPEATED_FADES
from studies.schemes.carriers.analog import make_channel, send
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from bridge import TokenChannel
    from phy import LinkConfig
    from studies.questions import Batch
    from studies.workbench import Workbench

ENOUGH = 1 / 3  # share of a number's variance that may stay unknown; accuracy then is within a point of its best
BATCH = 100  # transmissions at a time, as in a study: another size would be traced anew
UNBIASED = ("lmmse-unbiased", "complex-lmmse-unbiased", "ls", "complex-ls")


class Repeated:
    """Codes over as many fades as they need, up to a number.

    Whether a transmission suffices depends on its fade and on the noise of its pilots, and not on the codes. It is
    found with codes that are zero.

    Parameters
    ----------
    channel : TokenChannel
        Its recovery returns unbiased codes.
    num_tokens, width : int
        Shape of a question's codes.
    num_questions : int
    most : int
        Largest number of transmissions.
    """

    crosses_link = True

    def __init__(self, channel: "TokenChannel", num_tokens: int, width: int, num_questions: int, most: int):
        self.channel, self.num_tokens, self.width, self.most = channel, num_tokens, width, most
        self.num_questions = num_questions
        self.transmissions = functools.cache(self._transmissions)

    def determined_by(self) -> dict[str, Any]:
        """Return the largest number of transmissions."""
        return {"most_transmissions": self.most}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Send each question's codes as often as the receiver asks for them, and combine what arrives.

        The link carries the whole batch every time, and what was not asked for is dropped behind it: every other batch
        size would be traced anew.
        """
        assert codes is not None
        sent, wanted = codes[batch.numbers], self.transmissions(snr_db)[batch.numbers]
        weighted = precision = np.zeros(1)
        for number in range(int(wanted.max())):
            asked = (number < wanted)[:, None, None]
            codes_hat, error_var = send(self.channel, sent, snr_db, number * REPEATED_FADES + batch.numbers)
            weighted, precision = weighted + asked * codes_hat / error_var, precision + asked / error_var
        error_var = (1 / precision).astype(np.float32)
        codes_hat = (weighted / precision).astype(np.float32)
        peaks = self.channel.link.peak_power(sent)
        return Delivery(
            items=codes_hat,
            codes=sent,
            codes_hat=codes_hat,
            error_var=error_var,
            num_transmissions=wanted,
            peaks=peaks,
        )

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of one transmission."""
        return ledger_scalars(self.channel.link.ledger(num_tokens=self.num_tokens, width=self.width))

    def _transmissions(self, snr_db: float) -> np.ndarray:
        """Return how often each question's codes are sent: int64 [num_questions]."""
        count, numbers = np.ones(self.num_questions, np.int64), np.arange(self.num_questions)
        precision = np.zeros((self.num_questions, self.num_tokens, self.width))
        silence = np.zeros((BATCH, self.num_tokens, self.width), np.float32)
        for number in range(self.most - 1):
            for start in range(0, self.num_questions, BATCH):
                part = numbers[start : start + BATCH]
                fades = number * REPEATED_FADES + np.resize(part, BATCH)
                precision[part] += 1 / send(self.channel, silence, snr_db, fades)[1][: len(part)]
            unknown = (1 / (1 + precision)).mean((1, 2))  # of numbers of unit variance
            count[(count == number + 1) & (unknown > ENOUGH)] += 1
        return count


def twice(workbench: "Workbench", weights: str) -> Repeated:
    """Build the carrier with a second transmission where one does not suffice."""
    return _repeated(workbench, weights, 2)


def four_times(workbench: "Workbench", weights: str) -> Repeated:
    """Build the carrier with up to four transmissions."""
    return _repeated(workbench, weights, 4)


def check_unbiased(link: "LinkConfig") -> None:
    """Refuse a link whose codes cannot be combined by their variances.

    Raises
    ------
    ValueError
        If its recovery shrinks codes.
    """
    if link.recovery not in UNBIASED:
        raise ValueError(
            f"link.recovery is {link.recovery!r}; transmissions are combined by their variances, which takes one of "
            f"{', '.join(UNBIASED)}"
        )


def _repeated(workbench: "Workbench", weights: str, most: int) -> Repeated:
    agents, link = workbench.agents(weights), workbench.config.link
    check_unbiased(link)
    return Repeated(make_channel(link), agents.num_tokens, agents.width, len(workbench.questions), most)
