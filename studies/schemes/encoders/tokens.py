"""Machine tokens, the proposal's own language."""

from typing import TYPE_CHECKING, Any

import numpy as np

from studies.workbench import weights_hash

if TYPE_CHECKING:
    from semantic import AgentLink
    from studies.questions import Batch
    from studies.workbench import Workbench


class Tokens:
    """Machine tokens: the sensor agent looks at each image with the vague description of its question in mind.

    Parameters
    ----------
    agents : AgentLink
        Its weights decide whether a JTCC compresses the tokens.
    """

    def __init__(self, agents: "AgentLink"):
        self.agents = agents

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return {"agents": weights_hash(self.agents)}

    def encoded_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return self.determined_by()

    def encode(self, batch: "Batch") -> np.ndarray:
        """Return codes, float32 [batch, num_tokens, width]."""
        return self.agents.encode(batch.images, batch.texts).numpy(force=True)

    def prompts(self, questions: list[str]) -> list[str]:
        """Return the vague descriptions."""
        return self.agents.describe(questions)


def tokens(workbench: "Workbench", weights: str) -> Tokens:
    """Build the encoder of machine tokens from a run's configuration."""
    return Tokens(workbench.agents(weights))
