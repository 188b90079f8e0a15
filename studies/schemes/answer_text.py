"""A bound that breaks the privacy rule: the sensor is told the detailed question and sends nothing but its answer.

The answer is that of `raw-image`, in a byte over the digital link, in the resource elements of machine tokens. No
scheme that has to serve the question without knowing it can be asked to beat this.
"""

from studies.questions import Batch
from studies.schemes.caption import Text
from studies.schemes.digital.payload_link import payload_link
from studies.schemes.digital.text_code import TextCode
from studies.workbench import Workbench


def sample_answers() -> list[str]:
    """Return every answer of the task world once; others can be sent too, in more bytes."""
    from semantic.tasks import ATTRIBUTES

    values = [value for values in ATTRIBUTES.values() for value in values]
    return ["yes", "no", *values, *map(str, range(11))]


def build(workbench: Workbench) -> Text:
    """Build the scheme from a run's configuration."""
    agents = workbench.agents(workbench.config.models.machine_tokens)

    def write(batch: Batch) -> list[str]:
        return agents.sensor.answer(batch.images, batch.texts)

    def read(texts: list[str], questions: list[str]) -> list[str]:
        return texts

    code = TextCode(sample_answers())
    return Text(agents, payload_link(workbench), code, name="answer", write=write, read=read)
