"""The mean of agents that were trained apart from a common start: often better than each of them, without training.

Agents that were trained on from one start lie in one valley of the loss: the mean of their weights lies deeper in it,
where the agents themselves have been thrown to its sides by the noise of their last batches. Code powers and moments
are no weights: they are measured anew.

Source: M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", ICML 2022.
"""

from collections.abc import Sequence

import torch

from semantic.adapters import lora_parameters
from semantic.agent_link import AgentLink, hash_of
from semantic.data.dataset import Dataset


@torch.no_grad()
def take_mean(agents: AgentLink, others: Sequence[AgentLink]) -> None:
    """Set what training changes of agents (LoRA, slots, code) to the mean over them and others.

    Measure the code's power and moments anew afterwards: see `measure_code`.

    Raises
    ------
    ValueError
        If the others have other shapes, another code or another task agent: they have no common start.
    """
    settings, task_agent = agents.code.settings(), hash_of({"task_agent": agents.task_agent})
    own = trained_parameters(agents)
    theirs = [trained_parameters(other) for other in others]
    for number, (other, parameters) in enumerate(zip(others, theirs, strict=True), 2):
        shapes = [p.shape for p in parameters] == [p.shape for p in own]
        if other.code.settings() != settings or not shapes or hash_of({"task_agent": other.task_agent}) != task_agent:
            raise ValueError(
                f"agents number {number} have another code, rank or task agent than the first; a mean is taken of "
                "agents that were trained on from one start"
            )
    for parameter, *rest in zip(own, *theirs, strict=True):
        parameter.copy_(torch.stack([parameter, *rest]).mean(0))


def trained_parameters(agents: AgentLink) -> list[torch.nn.Parameter]:
    """Return the parameters that training changes."""
    return [*lora_parameters(agents.sensor.model), agents.sensor.slots, *agents.code.parameters()]


@torch.no_grad()
def measure_code(agents: AgentLink, dataset: Dataset, num_questions: int, batch_size: int = 100) -> int:
    """Measure a code's power and moments on questions spread evenly over a split; return their number."""
    questions = dataset.questions[:: max(1, len(dataset.questions) // num_questions)]
    tokens = []
    for start in range(0, len(questions), batch_size):
        part = questions[start : start + batch_size]
        images = {index: dataset.image(index) for index in {q.image_index for q in part}}
        asked = agents.describe([q.question for q in part])
        tokens.append(agents.sensor.tokens([images[q.image_index] for q in part], asked))
    agents.code.measure(torch.cat(tokens))
    return len(questions)
