"""As many tokens as SNR and task call for, of one code whose first tokens suffice, over the analog link.

A table says how many; it was measured on other questions (`semantic/token_choice.py`). It takes the mean SNR, which the
transmitter is assumed to know, and the kind of the vague description; the receiver knows both as well. On average they
are never more than those of `machine-tokens`.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.carriers.analog import make_channel, send
from studies.schemes.scheme import Delivery, ledger_scalars, mean_of
from studies.workbench import load_agents

if TYPE_CHECKING:
    from bridge import TokenChannel
    from semantic import AgentLink
    from semantic.token_choice import TokenChoice
    from studies.questions import Batch
    from studies.workbench import Workbench


class FirstTokens:
    """The first tokens of each question's codes over the analog link.

    Parameters
    ----------
    channel : TokenChannel
    agents : AgentLink
        A pair with a nested code.
    choice : TokenChoice
    descriptions : sequence of str
        Vague description of each question of the study.
    budget : float
        Largest number of tokens per question, on average over the table's questions.
    """

    crosses_link = True

    def __init__(
        self,
        channel: "TokenChannel",
        agents: "AgentLink",
        choice: "TokenChoice",
        descriptions: Sequence[str],
        budget: float,
    ):
        self.channel, self.agents, self.choice = channel, agents, choice
        self.descriptions, self.budget = list(descriptions), budget

    def num_tokens(self, snr_db: float) -> np.ndarray:
        """Return the number of tokens of each question of the study: int64 [num_questions]."""
        texts, index = np.unique(self.descriptions, return_inverse=True)
        numbers = [self.choice.num_tokens(snr_db, text, budget=self.budget) for text in texts.tolist()]
        return np.array(numbers, dtype=np.int64)[index]

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the numbers of tokens at each SNR of the table."""
        table = np.array([self.num_tokens(at) for at in self.choice.snr_db])
        return {"num_tokens": hashlib.sha256(repr([self.choice.snr_db, table.tolist()]).encode()).hexdigest()[:32]}

    def deliver(self, codes: np.ndarray | None, batch: "Batch", snr_db: float) -> Delivery:
        """Send each question's first tokens.

        The link carries the whole batch once for each number that occurs, and what was not to be sent is dropped behind
        it: every other batch size would be traced anew.
        """
        import torch

        assert codes is not None
        all_tokens, numbers = torch.as_tensor(codes[batch.numbers]), self.num_tokens(snr_db)[batch.numbers]
        sent, codes_hat, error_var = ([np.empty(0)] * len(numbers) for _ in range(3))
        peaks = np.zeros(len(numbers))
        for number in np.unique(numbers).tolist():
            first = self.agents.first(all_tokens, number).numpy(force=True)
            received, variance = send(self.channel, first, snr_db, batch.numbers)
            peaks[numbers == number] = self.channel.link.peak_power(first)[numbers == number]
            for index in np.flatnonzero(numbers == number).tolist():
                sent[index], codes_hat[index], error_var[index] = first[index], received[index], variance[index]
        return Delivery(items=codes_hat, codes=sent, codes_hat=codes_hat, error_var=error_var, peaks=peaks)

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the mean cost over the questions."""
        counts = Counter(self.num_tokens(snr_db).tolist())
        ledger = self.channel.link.ledger
        costs = {n: ledger_scalars(ledger(num_tokens=n, width=self.agents.width)) for n in counts}
        return mean_of(costs, counts)


@functools.cache
def load_token_choice(name: str) -> "TokenChoice":
    """Load the table that lies next to a pair of agents."""
    from semantic.token_choice import TokenChoice

    return TokenChoice.from_pretrained(name, load_agents(name))


def first_tokens(workbench: "Workbench", weights: str) -> FirstTokens:
    """Build the carrier from a run's configuration; its budget is the number of tokens of the proposal."""
    agents, channel = workbench.agents(weights), make_channel(workbench.config.link)
    descriptions = agents.describe([question.question for question in workbench.questions])
    budget = workbench.agents("machine_tokens").num_tokens
    return FirstTokens(channel, agents, load_token_choice(workbench.weights(weights)), descriptions, budget)
