"""The proposal with as many tokens as SNR and task call for, of one code whose first tokens suffice.

How many, a table says that was measured on other questions (`semantic/token_choice.py`). It takes the mean SNR, which
the transmitter is assumed to know, and the kind of the vague description; the receiver knows both as well. On average
they are never more than those of `machine-tokens`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from studies.config import content_hash
from studies.questions import Batch
from studies.schemes.machine_tokens import MachineTokens
from studies.schemes.scheme import Scheme, ledger_scalars
from studies.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from phy import Ledger
    from semantic.token_choice import TokenChoice

Received = dict[int, "tuple[np.ndarray, Tensor]"]  # by number of tokens: whose places in the batch, and their codes


class MachineTokensAdaptive(Scheme):
    """Machine tokens, a number of them for each question.

    Parameters
    ----------
    proposal : MachineTokens
        With a nested code.
    choice : TokenChoice
    descriptions : sequence of str
        The vague description of each question of the study.
    budget : float
        Tokens per question, on average over the table's questions.
    """

    crosses_link: ClassVar[bool] = True
    ignores: ClassVar[frozenset[str]] = frozenset({"width", "seed"})  # of other weights

    def __init__(self, proposal: MachineTokens, choice: "TokenChoice", descriptions: Sequence[str], budget: float):
        self.proposal, self.choice, self.descriptions, self.budget = proposal, choice, list(descriptions), budget

    def num_tokens(self, snr_db: float) -> np.ndarray:
        """Return the number of tokens that each question of the study gets: int64 [num_questions]."""
        texts, places = np.unique(self.descriptions, return_inverse=True)
        numbers = [self.choice.num_tokens(snr_db, text, budget=self.budget) for text in texts.tolist()]
        return np.array(numbers, dtype=np.int64)[places]

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights, and what the table says."""
        table = [self.num_tokens(at).tolist() for at in self.choice.snr_db]
        return {**self.proposal.determined_by(), "num_tokens": content_hash(table)}

    def encoded_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return self.proposal.encoded_by()

    def encode(self, batch: Batch) -> np.ndarray:
        """Encode all tokens: the first ones do not depend on how many follow."""
        return self.proposal.encode(batch)

    def send(self, codes: np.ndarray | None, batch: Batch) -> np.ndarray:
        """Send each question's own codes."""
        return self.proposal.send(codes, batch)

    def deliver(self, sent: np.ndarray | None, snr_db: float, realisation: np.ndarray) -> Received:
        """Send each question's first tokens over the analog link.

        The link carries the whole batch for each number that occurs, and what was not to be sent is dropped behind it:
        every other batch size would be traced anew.
        """
        import torch

        codes, numbers = torch.as_tensor(sent), self.num_tokens(snr_db)[realisation]
        received: Received = {}
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            first = self.proposal.agents.first(codes, number).numpy(force=True)
            received[number] = places, self.proposal.deliver(first, snr_db, realisation)[places]
        return received

    def answer(self, batch: Batch, received: Received) -> list[str]:
        """Answer as the proposal does, from however many tokens."""
        answers: dict[int, str] = {}
        for places, codes_hat in received.values():
            texts = [batch.texts[place] for place in places]
            answers |= zip(places.tolist(), self.proposal.agents.answer_codes(codes_hat, texts), strict=True)
        return [answers[place] for place in range(len(batch.questions))]

    def ledger(self) -> "Ledger":
        """Return the ledger of the largest number of tokens; `cost` has the mean."""
        return self.proposal.ledger()

    def cost(self, snr_db: float) -> dict[str, float]:
        """Return the means over the questions of what the archive says of the ledger."""
        numbers = Counter(self.num_tokens(snr_db).tolist())
        costs = {number: ledger_scalars(self._ledger(number)) for number in numbers}
        weights = list(numbers.values())
        return {
            name: float(np.average([costs[number][name] for number in numbers], weights=weights))
            for name in next(iter(costs.values()))
        }

    def _ledger(self, num_tokens: int) -> "Ledger":
        return self.proposal.channel.link.ledger(num_tokens=num_tokens, width=self.proposal.agents.width)


def build(workbench: Workbench) -> MachineTokensAdaptive:
    """Build the scheme from a run's configuration."""
    from semantic.obfuscation import obfuscate

    models = workbench.config.models
    name, budget = models.machine_tokens_adaptive, workbench.agents(models.machine_tokens).num_tokens
    descriptions = [obfuscate(workbench.dataset.questions[index].question) for index in workbench.chosen]
    return MachineTokensAdaptive(
        MachineTokens(workbench.agents(name), workbench.channel), workbench.token_choice(name), descriptions, budget
    )
