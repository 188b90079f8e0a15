"""Training of the embedded pair's agents on rendered scenes: the source of questions, the slots and the teacher.

The training itself is `semantic.agent_training.train`, which knows none of these.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from semantic.agent_link import AgentLink, Channel, build_agents
from semantic.agent_training import start_from, train
from semantic.endpoints.architecture import BOS, MAX_SLOTS, NOTHING, OBJECT, SLOTS, single_precision, token_ids
from semantic.endpoints.language import Reader, TextScene
from semantic.endpoints.sensor import SceneTurns, load_turns
from semantic.endpoints.vision import normalize
from semantic.sensor_agent import SensorAgent
from semantic.task_agent import input_embeddings
from semantic.training import described, write_card
from semantic.turns import CachedTurns, Turn


@single_precision()
def main(
    out: Path,
    data: Path,
    sensor: Path,
    task: Path,
    channel: Channel,
    steps: int,
    num_tokens: int = 5,
    width: int = 64,
    uncompressed: bool = False,
    min_snr_db: float = -10.0,
    max_snr_db: float = 20.0,
    seed: int = 0,
    batch: int = 24,
    lr: float = 1e-3,
    r: int = 16,
    max_images: int | None = None,
    init: Path | None = None,
    nested: bool = False,
    sparsity: float = 0.0,
    families: list[str] | None = None,
    answers_only: bool = False,
    frozen_lora: bool = False,
) -> None:
    """Train sensor adapter and code end to end over the link.

    Parameters
    ----------
    out : Path
        Folder for the trained agents, the log and the model card.
    data : Path
        Folder with the splits `train` and `val`, their scenes included.
    sensor, task : Path
        Folders of the pretrained models; `out` refers to them by relative path.
    channel : callable
        ``channel(codes, snr_db=…, realisation=…) -> codes_hat, error_var``, with a gradient (the paper's is
        straight-through).
    steps : int
        Number of training steps.
    num_tokens : int
        Machine-language tokens per question; the largest number, if the code is nested.
    width : int
        Real numbers per token.
    uncompressed : bool
        Leave the code out: tokens are sent at their full length.
    min_snr_db, max_snr_db : float
        Range of the SNR [dB]; each example's is drawn uniformly from it.
    seed : int
        Seed of the training.
    batch : int
        Examples per step.
    lr : float
        Peak learning rate.
    r : int
        Rank of LoRA; its `lora_alpha` is twice that.
    max_images : int, optional
        Number of images of each split to use, the first ones.
    init : Path, optional
        Trained agents to start from, as far as they fit: see `semantic.agent_training.start_from`.
    nested : bool
        Train a code whose first tokens suffice.
    sparsity : float
        Weight of the mean absolute value of the codes' numbers in the loss, for links with too few receive antennas.
    families : list of str, optional
        Families of the questions; by default all six.
    answers_only : bool
        Learn from answers alone: nothing says which tokens the task agent is known to read.
    frozen_lora : bool
        Train code and slots alone; LoRA stays as it starts, at zero.
    """
    options = {name: value for name, value in locals().items() if name != "channel"} | {"sparsity": sparsity or None}
    torch.manual_seed(seed)
    agents = build_agents(
        sensor, task, num_tokens=num_tokens, width=None if uncompressed else width, r=r, nested=nested
    )
    start_slots(agents)
    taught = init is not None and start_from(agents, AgentLink.from_pretrained(init))
    learned, held_out = load_turns(data, agents.task_agent.tokenizer, max_images, families)
    train(
        agents,
        turns_about_scenes(agents, learned, mirrored=True),
        channel,
        held_out=turns_about_scenes(agents, held_out, mirrored=False),
        out=out,
        steps=steps,
        teacher=None if taught or answers_only else SceneTeacher(agents, learned),
        snr_db=(min_snr_db, max_snr_db),
        seed=seed,
        batch=batch,
        lr=lr,
        sparsity=sparsity,
        frozen_lora=frozen_lora,
        report=lambda results: write_card(
            out,
            title="Machine-language tokens: LoRA, slots and code",
            stage="agents",
            options=options,
            results={"link": described(channel), **results},
        ),
    )


def start_slots(agents: AgentLink) -> None:
    """Start the slots as the words that the sensor's language model learned to write tokens at.

    Raises
    ------
    ValueError
        If the tokenizer has no such words, or fewer than there are tokens.
    """
    tokenizer = agents.sensor.processor.tokenizer
    _require(tokenizer, SLOTS[: agents.num_tokens])
    if agents.num_tokens > MAX_SLOTS:
        raise ValueError(f"num_tokens must be {MAX_SLOTS} at most for the embedded pair, got {agents.num_tokens}")
    ids = token_ids(tokenizer, list(SLOTS[: agents.num_tokens]))
    with torch.no_grad():
        agents.sensor.slots.copy_(input_embeddings(agents.sensor.model)(torch.tensor(ids)))


def turns_about_scenes(agents: AgentLink, scenes: SceneTurns, mirrored: bool) -> CachedTurns:
    """Make turns of the questions that are drawn about rendered scenes, with the mirrored images if so asked."""
    return CachedTurns(
        agents,
        {m: image_tokens(agents.sensor, scenes.images, m) for m in ((False, True) if mirrored else (False,))},
        [[record["question"] for record in records] for records in scenes.records],
        scenes.questions,
        mirror_question=scenes.mirror_question,
    )


@torch.no_grad()
def image_tokens(sensor: SensorAgent, images: Tensor, mirror: bool) -> Tensor:
    """Return the projected features of images, or of the mirrored images: float16 [num_images, patches, hidden]."""
    parts = []
    for start in range(0, len(images), 32):
        pixels = normalize(images[start : start + 32])
        pixels = pixels.flip(-1) if mirror else pixels
        parts.append(torch.stack(list(sensor.project(pixels))).half())
    return torch.cat(parts)


class SceneTeacher:
    """The scenes' objects as they are dealt to tokens in the task agent's pretraining, which it is known to read.

    Parameters
    ----------
    agents : AgentLink
        The embedded pair.
    scenes : SceneTurns
        Scenes that the turns are about.

    Raises
    ------
    ValueError
        If the task agent does not know the words of that pretraining.
    """

    def __init__(self, agents: AgentLink, scenes: SceneTurns) -> None:
        tokenizer = agents.task_agent.tokenizer
        _require(tokenizer, (BOS, OBJECT, NOTHING, *SLOTS))
        self.reader = Reader(cast(LlamaForCausalLM, agents.task_agent.model), tokenizer)
        self.scenes = scenes

    @torch.no_grad()
    def __call__(self, examples: Turn, num_tokens: int) -> Tensor:
        """Return the dealt objects of each example's scene: [batch, num_tokens, hidden]."""
        return self.reader.deal([TextScene(*self.scenes.scene(i, mirror)) for i, mirror in examples.images], num_tokens)


def _require(tokenizer: PreTrainedTokenizerBase, words: tuple[str, ...]) -> None:
    """Refuse a tokenizer that is not the embedded pair's."""
    missing = [word for word in words if word not in tokenizer.get_vocab()]
    if missing:
        raise ValueError(
            f"the tokenizer does not know {', '.join(missing)}, words of the embedded pair. Agents of other models are "
            "trained in Python: semantic.agent_training.train(agents, turns, channel, …), with a teacher of their own "
            "or none"
        )
