"""Training of a pair of any two models on any data set; the task agent has never been shown a token.

What such a model knows to read is the embeddings of its own words. They are the first thing that the sensor learns to
send: in each of the first tokens the words that answer one kind of question about the image, in the others those of an
instruction. This needs no answer of the large model, and so costs little. The rest of the training starts from there,
and learns from the task agent's answers alone.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from semantic.agent_link import AgentLink, Channel, build_agents
from semantic.agent_training import start_from, train
from semantic.data import load_dataset
from semantic.data.dataset import Dataset
from semantic.endpoints.architecture import single_precision
from semantic.endpoints.vqa import open_answers
from semantic.task_agent import input_embeddings, normalize_tokens
from semantic.texts import check_template
from semantic.training import described, write_card
from semantic.turns import Turn, turns_about

INSTRUCTION = "one word answer"


@single_precision()
def main(
    out: Path,
    sensor: Path,
    task: Path,
    channel: Channel,
    steps: int,
    data: Path | None = None,
    layout: str = "clevr",
    prompt: str = "{question} Answer:",
    num_tokens: int = 5,
    width: int = 64,
    min_snr_db: float = -10.0,
    max_snr_db: float = 20.0,
    seed: int = 0,
    batch: int = 8,
    length: int = 40,
    lr: float = 1e-3,
    r: int = 16,
    taught_share: float = 0.5,
    taught_batch: int = 24,
    instruction: str = INSTRUCTION,
    mirrored: bool = False,
    held_out_images: int = 16,
    init: Path | None = None,
) -> None:
    """Train sensor adapter and code for a task agent that is any language model; it stays as it is.

    Parameters
    ----------
    out : Path
        Folder for the trained agents, the log and the model card.
    sensor, task : Path
        Folders of the two models; `out` refers to them by relative path.
    channel : callable
        ``channel(codes, snr_db=…, realisation=…) -> codes_hat, error_var``, with a gradient (the paper's is
        straight-through).
    steps : int
        Number of training steps.
    data : Path, optional
        Folder with the splits `train` and `val`; easy-vqa needs none where its package is installed.
    layout : str
        Layout of the folder: clevr, easy-vqa, …
    prompt : str
        What the task agent reads behind the tokens, with {question}.
    num_tokens : int
        Machine-language tokens per question.
    width : int
        Real numbers per token.
    min_snr_db, max_snr_db : float
        Range of the SNR [dB]; each example's is drawn uniformly from it.
    seed : int
        Seed of the training.
    batch : int
        Examples per step that the task agent reads.
    length : int
        Word pieces of an example's questions; those that do not fit are left out of it.
    lr : float
        Peak learning rate.
    r : int
        Rank of LoRA; its `lora_alpha` is twice that.
    taught_share : float
        Share of the steps, the first ones, in which the sensor learns to send the task agent's own words.
    taught_batch : int
        Examples per step in these.
    instruction : str
        Words of the tokens that answer nothing.
    mirrored : bool
        Also learn from mirrored images: only where no answer depends on left and right.
    held_out_images : int
        Images of the split `val` that are measured on, the first ones.
    init : Path, optional
        Trained agents to start from, as far as they fit: see `semantic.agent_training.start_from`.
    """
    options = {name: value for name, value in locals().items() if name != "channel"}
    check_template(prompt, "question")
    torch.manual_seed(seed)
    agents = build_agents(sensor, task, num_tokens=num_tokens, width=width, r=r)
    agents.task_agent.prompt = prompt
    if init is not None:
        start_from(agents, AgentLink.from_pretrained(init))
    learned, held_out = (load_dataset(data, split, layout) for split in ("train", "val"))
    train(
        agents,
        turns_about(agents, learned, length=length, mirrored=mirrored),
        channel,
        held_out=turns_about(agents, held_out, length=length, max_images=held_out_images),
        out=out,
        steps=steps,
        teacher=AnswerTeacher(agents, learned, instruction) if taught_share else None,
        taught_share=taught_share,
        taught_batch=taught_batch,
        snr_db=(min_snr_db, max_snr_db),
        seed=seed,
        batch=batch,
        lr=lr,
        report=lambda results: write_card(
            out,
            title="Machine-language tokens for a language model that was never shown one: LoRA, slots and code",
            stage="pair",
            options=options,
            results={"link": described(channel), **results},
        ),
    )


class AnswerTeacher:
    """The answers to an image's questions, put as the task agent's own word embeddings.

    The questions that share a vague description are a kind. Kinds that are answered by more than yes and no have a
    token each, in alphabetical order: the sum of the embeddings of all answers that the split gives about the image, or
    the mean over all images where it gives none. Tokens beyond these hold the words of an instruction, the same for
    every image, and those beyond the instruction its last word.

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
                f"{num_tokens}; give another num_tokens, or taught_share 0"
            )
        words = instruction.split() or ["answer"]
        rest = [words[min(k, len(words) - 1)] for k in range(num_tokens - len(answers))]
        self.tokens = torch.empty(num_images, num_tokens, agents.task_agent.hidden_size)
        for place, of_image in enumerate(answers.values()):
            given = {number: self._vector(texts) for number, texts in of_image.items()}
            usual = torch.stack(list(given.values())).mean(0)
            self.tokens[:, place] = torch.stack([given.get(number, usual) for number in range(num_images)])
        for place, word in enumerate(rest, start=len(answers)):
            self.tokens[:, place] = self._vector([word])
        self.tokens = normalize_tokens(self.tokens)

    @torch.no_grad()
    def _vector(self, texts: Sequence[str]) -> Tensor:
        """Sum the embeddings of texts, each as it stands behind a space."""
        tokenizer, embed = self._agents.task_agent.tokenizer, input_embeddings(self._agents.task_agent.model)
        ids = [piece for text in texts for piece in tokenizer(" " + text, add_special_tokens=False)["input_ids"]]
        return embed(torch.tensor(ids)).float().sum(0)

    def __call__(self, examples: Turn, num_tokens: int) -> Tensor:
        """Return the tokens of each example's image: [batch, num_tokens, hidden]."""
        return self.tokens[[number for number, _ in examples.images], :num_tokens]
