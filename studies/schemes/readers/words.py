"""The task agent behind words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studies.schemes.readers.answering import Answering

if TYPE_CHECKING:
    from studies.workbench import Workbench


class Words(Answering):
    """The task agent reads received words in front of the detailed question."""

    def read_items(self, items: Sequence[Any], questions: list[str], error_var: Any) -> list[str]:
        """Answer from texts."""
        return self.agents.task_agent.answer(
            [f"{text} {question}" for text, question in zip(items, questions, strict=True)]
        )


def words(workbench: "Workbench", weights: str) -> Words:
    """Build the reader of captions."""
    return Words(workbench.agents(weights))
