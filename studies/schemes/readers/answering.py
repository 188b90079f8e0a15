"""What all readers share: where nothing arrived the task agent answers from the question alone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studies.workbench import weights_hash

if TYPE_CHECKING:
    from semantic import AgentLink
    from studies.questions import Batch
    from studies.schemes.scheme import Delivery


class Answering(ABC):
    """The rule for losses, around what a reader makes of items that arrived.

    Parameters
    ----------
    agents : AgentLink
    """

    def __init__(self, agents: "AgentLink"):
        self.agents = agents

    @abstractmethod
    def read_items(self, items: Sequence[Any], questions: list[str], error_var: Any) -> list[str]:
        """Answer questions from the item that arrived for each; `error_var` has the error variances of codes."""

    def determined_by(self) -> dict[str, Any]:
        """Return the hash of the agents' weights."""
        return {"agents": weights_hash(self.agents)}

    def read(self, batch: "Batch", delivery: "Delivery") -> list[str]:
        """Answer from what arrived, and from the question alone where nothing did."""
        questions, items = batch.texts, delivery.items
        arrived = [index for index, item in enumerate(items) if item is not None]
        lost = [index for index, item in enumerate(items) if item is None]
        answers = [""] * len(items)
        if lost:
            for index, answer in zip(lost, self.agents.task_agent.answer([questions[i] for i in lost]), strict=True):
                answers[index] = answer
        if arrived:
            variance = delivery.error_var if delivery.item_var is None else delivery.item_var
            read = self.read_items([items[i] for i in arrived], [questions[i] for i in arrived], variance)
            for index, answer in zip(arrived, read, strict=True):
                answers[index] = answer
        return answers
