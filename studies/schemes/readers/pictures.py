"""The sensor's own model, at the receiver."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studies.schemes.readers.answering import Answering

if TYPE_CHECKING:
    from studies.workbench import Workbench


class Pictures(Answering):
    """The sensor's own model, without LoRA, looks at the image that arrived and reads the detailed question."""

    def read_items(self, items: Sequence[Any], questions: list[str], error_var: Any) -> list[str]:
        """Answer from images, uint8 [height, width, 3]."""
        return self.agents.sensor.answer(list(items), questions)


def pictures(workbench: "Workbench", weights: str) -> Pictures:
    """Build the reader of images: in every curve the model of the proposal's sensor."""
    return Pictures(workbench.agents("machine_tokens"))
