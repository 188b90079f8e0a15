r"""Codes over the analog link once more where the answer is unsure and the link may be the reason.

An answer that is sure needs no better codes, however noisy they are, and an unsure one is not helped by codes that are
known already. The receiver therefore asks again where two things meet: the task agent gives its own answer a
probability below `SURE`, and on average over the codes' numbers more than `WORTH` of the variance is unknown.
Transmissions are combined as in `arq`. Every one is charged, with its pilots; the request, one bit, is not.
"""

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from phy.config import REPEATED_FADES
from studies.schemes.carriers.analog import make_channel, send
from studies.schemes.carriers.arq import check_unbiased
from studies.schemes.scheme import Delivery, ledger_scalars

if TYPE_CHECKING:
    from bridge import TokenChannel
    from semantic import AgentLink
    from semantic.task_agent import Answer
    from studies.questions import Batch
    from studies.workbench import Workbench

SURE = 0.8  # probability of an answer that is good enough
WORTH = 0.1  # unknown share of a number's variance from which on another transmission tells much


class RepeatedIfUnsure:
    """Codes over as many fades as their answers need, up to a number.

    Parameters
    ----------
    channel : TokenChannel
        Its recovery returns unbiased codes.
    agents : AgentLink
        Receiver that answers after every transmission.
    most : int
        Largest number of transmissions.
    """

    crosses_link = True

    def __init__(self, channel: "TokenChannel", agents: "AgentLink", most: int):
        self.channel, self.agents, self.most = channel, agents, most

    def determined_by(self) -> dict[str, Any]:
        """Return the largest number of transmissions; the agents are also those of encoder and reader."""
        return {"most_transmissions": self.most}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Send each question's codes, and again where that is worth it; combine what arrives.

        The link carries the whole batch every time, and what was not asked for is dropped behind it: every other batch
        size would be traced anew.
        """
        assert codes is not None
        sent = codes[batch.numbers]
        codes_hat, error_var = send(self.channel, sent, snr_db, batch.numbers)
        num_transmissions = np.ones(len(sent), np.int64)
        for number in range(1, self.most):
            asked = (num_transmissions == number) & self._asks_again(codes_hat, error_var, batch.texts)
            if not asked.any():
                break
            again, its_var = send(self.channel, sent, snr_db, number * REPEATED_FADES + batch.numbers)
            both_var = 1 / (1 / error_var + 1 / its_var)
            both = both_var * (codes_hat / error_var + again / its_var)
            codes_hat, error_var = (
                np.where(asked[:, None, None], *pair) for pair in ((both, codes_hat), (both_var, error_var))
            )
            num_transmissions += asked
        return Delivery(
            items=codes_hat,
            codes=sent,
            codes_hat=codes_hat,
            error_var=error_var,
            num_transmissions=num_transmissions,
            peaks=self.channel.link.peak_power(sent),
        )

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the cost of one transmission."""
        return ledger_scalars(self.channel.link.ledger(num_tokens=self.agents.num_tokens, width=self.agents.width))

    def _asks_again(self, codes_hat: np.ndarray, error_var: np.ndarray, questions: list[str]) -> np.ndarray:
        import torch

        unknown = (error_var / (1 + error_var)).mean((1, 2))  # of numbers of unit variance
        blamed = np.flatnonzero(unknown > WORTH)
        unsure = np.zeros(len(unknown), bool)
        if len(blamed):
            codes, variance = (torch.as_tensor(part[blamed]) for part in (codes_hat, error_var))
            answers = self.agents.answer_codes(codes, [questions[index] for index in blamed.tolist()], variance)
            unsure[blamed] = [cast("Answer", answer).confidence < SURE for answer in answers]
        return unsure


def twice(workbench: "Workbench", weights: str) -> RepeatedIfUnsure:
    """Build the carrier with a second transmission where it is worth it."""
    check_unbiased(workbench.config.link)
    return RepeatedIfUnsure(make_channel(workbench.config.link), workbench.agents(weights), 2)
