"""Control: the receiver listens to silence. Its prefix is decoded from codes that are all zero.

It shows what the decoder alone adds to the question: nothing, if the study measures what was sent.
"""

from studies.questions import Batch
from studies.schemes.scheme import WithoutLink
from studies.workbench import Workbench


def build(workbench: Workbench) -> WithoutLink:
    """Build the scheme from a run's configuration."""
    agents = workbench.agents(workbench.config.models.machine_tokens)

    def respond(batch: Batch) -> list[str]:
        import torch

        silence = torch.zeros(len(batch.questions), agents.num_tokens, agents.width)
        return agents.answer_codes(silence, batch.texts)

    return WithoutLink(agents, respond)
