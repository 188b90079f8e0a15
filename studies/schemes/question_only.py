"""The blind line and the control "no prefix": the task agent reads the question alone."""

from studies.questions import Batch
from studies.schemes.scheme import WithoutLink
from studies.workbench import Workbench


def build(workbench: Workbench) -> WithoutLink:
    """Build the scheme from a run's configuration."""
    agents = workbench.agents(workbench.config.models.machine_tokens)

    def respond(batch: Batch) -> list[str]:
        return agents.task_agent.answer(batch.texts)

    return WithoutLink(agents, respond)
