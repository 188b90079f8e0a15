"""What a language model that was never shown a token is known to read: the embeddings of its own words.

They are the first thing that a sensor may learn to send to it. In each of the first tokens stand the words that answer
one kind of question about the image, in the others those of an instruction. Learning this takes no answer of the large
model, and so costs little; the training on answers starts from there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from semantic.agent_link import AgentLink
from semantic.data.dataset import Dataset
from semantic.endpoints.vqa import open_answers
from semantic.task_agent import input_embeddings, normalize_tokens
from semantic.turns import Turn

INSTRUCTION = "one word answer"


class AnswerTeacher:
    """The answers to an image's questions, put as the task agent's own word embeddings.

    The questions that share a vague description are a kind. Kinds that are answered by more than yes and no have a
    token each, in alphabetical order: the sum of the embeddings of all answers that the split gives about the image.
    Embeddings of words of a kind resemble each other, so half of a token's variance is made of what sets the sum apart
    from its mean over all images. Where the split gives no answer, that mean stands alone. Tokens beyond these hold the
    words of an instruction, the same for every image, and those beyond the instruction its last word.

    Parameters
    ----------
    agents : AgentLink
    dataset : Dataset
        Split that the turns are about.
    instruction : str

    Raises
    ------
    ValueError
        If no kind of question has answers beyond yes and no, or there are more kinds than tokens.
    """

    def __init__(self, agents: AgentLink, dataset: Dataset, instruction: str = INSTRUCTION) -> None:
        self._agents, num_tokens = agents, agents.num_tokens
        descriptions = agents.describe([question.question for question in dataset.questions])
        answers = open_answers(dataset.questions, descriptions)
        num_images = len({question.image_index for question in dataset.questions})
        if not 1 <= len(answers) <= num_tokens:
            raise ValueError(
                f"{len(answers)} kinds of questions have answers beyond yes and no, {num_tokens} tokens can hold 1 to "
                f"{num_tokens}; make agents of another number, or leave taught_share out"
            )
        words = instruction.split() or ["answer"]
        rest = [words[min(k, len(words) - 1)] for k in range(num_tokens - len(answers))]
        device = input_embeddings(agents.task_agent.model).weight.device
        self.tokens = torch.empty(num_images, num_tokens, agents.task_agent.hidden_size, device=device)
        for place, of_image in enumerate(answers.values()):
            given = {number: self._vector(texts) for number, texts in of_image.items()}
            usual = torch.stack(list(given.values())).mean(0)
            vectors = torch.stack([given.get(number, usual) for number in range(num_images)])
            self.tokens[:, place] = normalize_tokens(usual) + normalize_tokens(vectors - usual)
        for place, word in enumerate(rest, start=len(answers)):
            self.tokens[:, place] = self._vector([word])
        self.tokens = normalize_tokens(self.tokens)

    @torch.no_grad()
    def _vector(self, texts: Sequence[str]) -> Tensor:
        """Sum the embeddings of texts, each as it stands behind a space."""
        tokenizer, embed = self._agents.task_agent.tokenizer, input_embeddings(self._agents.task_agent.model)
        ids = [piece for text in texts for piece in tokenizer(" " + text, add_special_tokens=False)["input_ids"]]
        return embed(torch.tensor(ids, device=embed.weight.device)).float().sum(0)

    def __call__(self, examples: Turn, num_tokens: int) -> Tensor:
        """Return the tokens of each example's image: [batch, num_tokens, hidden]."""
        return self.tokens[[number for number, _ in examples.images], :num_tokens]
