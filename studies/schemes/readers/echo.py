"""Nobody any more: the answer itself arrives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studies.schemes.readers.answering import Answering

if TYPE_CHECKING:
    from studies.workbench import Workbench


class Echo(Answering):
    """What arrived is the answer."""

    def read_items(self, items: Sequence[Any], questions: list[str], error_var: Any) -> list[str]:
        """Return the texts."""
        return list(items)


def echo(workbench: "Workbench", weights: str) -> Echo:
    """Build the reader of answers."""
    return Echo(workbench.agents(weights))
