"""Control: the receiver listens to silence. Its prefix is decoded from codes that are all zero."""

from typing import TYPE_CHECKING, Any

from studies.questions import Batch
from studies.schemes.scheme import Scheme, weights_hash
from studies.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from semantic import AgentLink


class SilentLink(Scheme):
    """What the decoder alone adds to the question: nothing, if the study measures what was sent.

    Parameters
    ----------
    agents : AgentLink
    """

    def __init__(self, agents: "AgentLink"):
        self.agents = agents

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return {"agents": weights_hash(self.agents)}

    def answer(self, batch: Batch, received: "Tensor | None") -> list[str]:
        """Answer with a prefix decoded from zeros."""
        import torch

        silence = torch.zeros(len(batch.questions), self.agents.num_tokens, self.agents.width)
        return self.agents.answer_codes(silence, batch.texts)


def build(workbench: Workbench) -> SilentLink:
    """Build the scheme from a run's configuration."""
    return SilentLink(workbench.agents(workbench.config.models.machine_tokens))
