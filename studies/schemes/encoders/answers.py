"""The answer alone."""

from typing import TYPE_CHECKING, Any

import numpy as np

from studies.workbench import weights_hash

if TYPE_CHECKING:
    from semantic import AgentLink
    from studies.questions import Batch
    from studies.workbench import Workbench


class Answers:
    """The answer alone, by a sensor that is told the detailed question: a bound that breaks the privacy rule.

    Parameters
    ----------
    agents : AgentLink
    """

    def __init__(self, agents: "AgentLink"):
        self.agents = agents

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return {"agents": weights_hash(self.agents)}

    def encoded_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights, and what is written."""
        return {**self.determined_by(), "text": "answer"}

    def encode(self, batch: "Batch") -> np.ndarray:
        """Return answers, str [batch]."""
        return np.array(self.agents.sensor.answer(batch.images, batch.texts), dtype=str)

    def prompts(self, questions: list[str]) -> None:
        """Return nothing: the sensor is told the question itself."""


def answers(workbench: "Workbench", weights: str) -> Answers:
    """Build the encoder of answers."""
    return Answers(workbench.agents(weights))
