"""Benchmark 1: the noiseless image and the detailed question, answered by the sensor's own model. An upper bound.

Every pixel reaches the multimodal model; what that would cost on the air is not counted.
"""

from studies.questions import Batch
from studies.schemes.scheme import WithoutLink
from studies.workbench import Workbench


def build(workbench: Workbench) -> WithoutLink:
    """Build the scheme from a run's configuration."""
    agents = workbench.agents(workbench.config.models.machine_tokens)

    def respond(batch: Batch) -> list[str]:
        return agents.sensor.answer(batch.images, batch.texts)

    return WithoutLink(agents, respond)
