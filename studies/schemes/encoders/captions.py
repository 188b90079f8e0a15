"""Words: the sensor's own model describes the image."""

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.workbench import weights_hash

if TYPE_CHECKING:
    from semantic import AgentLink
    from studies.questions import Batch
    from studies.workbench import Workbench


PROMPT = "describe the scene :"  # what the embedded sensor has learned to continue; "{vague}" would be filled in
MAX_NEW_TOKENS = 96


class Captions:
    """Words: the sensor's own model, without LoRA, describes the image (the paper's benchmark 3).

    It sees the image and a prompt in which only the vague description may stand for the question. An image and prompt
    that several questions share are described once.

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
        return {**self.determined_by(), "text": "caption"}

    def encode(self, batch: "Batch") -> np.ndarray:
        """Return captions, str [batch]."""
        writer = copy.copy(self.agents.sensor)  # the same weights; it may write more words
        writer.max_new_tokens = MAX_NEW_TOKENS
        prompts = self.prompts(batch.texts)
        keys = list(zip((question.image_index for question in batch.questions), prompts, strict=True))
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        images = batch.images
        texts = writer.answer([images[index] for index in first.values()], [prompt for _, prompt in first])
        written = dict(zip(first, texts, strict=True))
        return np.array([written[key] for key in keys], dtype=str)

    def prompts(self, questions: list[str]) -> list[str]:
        """Return the prompts: one and the same, unless `PROMPT` holds the vague description."""
        return [PROMPT.format(vague=description) for description in self.agents.describe(questions)]


def captions(workbench: "Workbench", weights: str) -> Captions:
    """Build the encoder of captions."""
    return Captions(workbench.agents(weights))
