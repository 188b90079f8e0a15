"""The task agent behind a prefix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.schemes.readers.answering import Answering

if TYPE_CHECKING:
    from studies.workbench import Workbench


class Prefix(Answering):
    """The task agent reads decoded codes as a prefix, then the detailed question."""

    def read_items(self, items: Sequence[Any], questions: list[str], error_var: Any) -> list[str]:
        """Answer from received codes, [num_tokens, width] each; questions may have different numbers of tokens."""
        import torch

        codes_hat = [torch.as_tensor(item) for item in items]
        numbers = np.array([len(codes) for codes in codes_hat])
        answers: dict[int, str] = {}
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number).tolist()
            stacked = torch.stack([codes_hat[i] for i in chosen])
            variance = None if error_var is None else torch.stack([torch.as_tensor(error_var[i]) for i in chosen])
            read = self.agents.answer_codes(stacked, [questions[i] for i in chosen], variance)
            answers |= zip(chosen, read, strict=True)
        return [answers[i] for i in range(len(items))]


def prefix(workbench: "Workbench", weights: str) -> Prefix:
    """Build the reader of codes from a run's configuration: the pair that encoded them."""
    return Prefix(workbench.agents(weights))
