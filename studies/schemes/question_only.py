"""The blind line and the control "no prefix": the task agent reads the question alone."""

from typing import TYPE_CHECKING, Any

from studies.questions import Batch
from studies.schemes.scheme import Scheme, weights_hash
from studies.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from semantic import AgentLink


class QuestionOnly(Scheme):
    """What can be answered without having seen anything.

    Parameters
    ----------
    agents : AgentLink
    """

    def __init__(self, agents: "AgentLink"):
        self.agents = agents

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights, which include the task agent's."""
        return {"agents": weights_hash(self.agents)}

    def answer(self, batch: Batch, received: "Tensor | None") -> list[str]:
        """Answer from the question, with no prefix in front of it."""
        return self.agents.task_agent.answer(batch.texts)


def build(workbench: Workbench) -> QuestionOnly:
    """Build the scheme from a run's configuration."""
    return QuestionOnly(workbench.agents(workbench.config.models.machine_tokens))
