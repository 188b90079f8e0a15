"""Benchmark 1: the noiseless image and the detailed question, answered by the sensor's own model. An upper bound."""

from typing import TYPE_CHECKING, Any

from studies.questions import Batch
from studies.schemes.scheme import Scheme, weights_hash
from studies.workbench import Workbench

if TYPE_CHECKING:
    from torch import Tensor

    from semantic import AgentLink


class RawImage(Scheme):
    """Every pixel reaches the multimodal model; what that would cost on the air is not counted.

    Parameters
    ----------
    agents : AgentLink
    """

    def __init__(self, agents: "AgentLink"):
        self.agents = agents

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights, which include the sensor's."""
        return {"agents": weights_hash(self.agents)}

    def answer(self, batch: Batch, received: "Tensor | None") -> list[str]:
        """Answer from the image itself."""
        return self.agents.sensor.answer(batch.images, batch.texts)


def build(workbench: Workbench) -> RawImage:
    """Build the scheme from a run's configuration."""
    return RawImage(workbench.agents(workbench.config.models.machine_tokens))
