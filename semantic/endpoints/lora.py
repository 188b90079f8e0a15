"""LoRA on keys and values of one model of the embedded pair, trained on that model's own answers, without a link.

It is what the agents' training is compared with. The sensor's model answers questions about noiseless images: the same
rank, and with the same seed and batch the same questions at every step, as in `semantic.endpoints.agents`. With `blind`
the task agent's model answers the same questions without any image, which shows what a world's answers alone tell.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semantic.adapters import add_lora, lora_parameters, merge_lora
from semantic.agent_link import build_agents
from semantic.agent_training import answer_from_tokens
from semantic.endpoints.agents import turns_about_scenes
from semantic.endpoints.architecture import BOS, single_precision, token_id
from semantic.endpoints.sensor import answer_from_image, load_turns
from semantic.loading import load_model, without_progress_bar
from semantic.training import Metrics, fit, mixed_precision, write_card
from semantic.turns import Turn, Turns

Answer = Callable[[Turn], tuple[Tensor, Tensor]]  # examples to loss and accuracy


@single_precision()
def main(
    out: Path,
    data: Path,
    sensor: Path,
    task: Path,
    steps: int,
    blind: bool = False,
    seed: int = 0,
    batch: int = 24,
    lr: float = 1e-3,
    r: int = 16,
    max_images: int | None = None,
    families: list[str] | None = None,
) -> None:
    """Train LoRA of the sensor, or of the task agent, on its own answers, without a link.

    The tuned model lies in ``out/sensor`` or ``out/task``, with LoRA merged into its weights. `out` itself holds a pair
    of it and of the other model, through which studies reach both: `raw-image` and `question-only` are their answers.
    The tokens of that pair are not trained.

    Parameters
    ----------
    out : Path
        Folder for the tuned model, the pair, the log and the model card.
    data : Path
        Folder with the splits `train` and `val`, their scenes included.
    sensor, task : Path
        Folders of the pretrained models.
    steps : int
        Number of training steps.
    blind : bool
        Tune the task agent, on questions alone, instead of the sensor.
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
    families : list of str, optional
        Families of the questions; by default all six.
    """
    options = dict(locals())
    torch.manual_seed(seed)
    rng = random.Random(seed)
    agents = build_agents(sensor, task, width=None, r=r)
    train, val = load_turns(data, agents.task_agent.tokenizer, max_images, families)
    learned = turns_about_scenes(agents, train, mirrored=True)
    held_out = turns_about_scenes(agents, val, mirrored=False)
    model: Any = (agents.task_agent if blind else agents.sensor).model
    if blind:
        add_lora(model, r=r, lora_alpha=2 * r)
    bos = token_id(agents.task_agent.tokenizer, BOS)

    def answer(examples: Turn) -> tuple[Tensor, Tensor]:
        if blind:
            return answer_from_tokens(agents.task_agent, examples.image_tokens[:, :0], examples.packed)
        loss, accuracy, _ = answer_from_image(model, examples.image_tokens, examples.packed, bos)
        return loss, accuracy

    def step(share: float) -> tuple[Tensor, Metrics]:
        loss, accuracy = answer(learned.draw(batch, rng))
        return loss, {"accuracy": accuracy.item()}

    @without_progress_bar()
    def save() -> None:
        folder = out / ("task" if blind else "sensor")
        tuned = load_model(type(model), task if blind else sensor)
        merge_lora(tuned, model)
        tuned.save_pretrained(folder)
        reads: Any = agents.task_agent.tokenizer if blind else agents.sensor.processor
        reads.save_pretrained(folder)
        pair = build_agents(*((sensor, folder) if blind else (folder, task)), width=None)
        pair.seed = seed
        pair.save_pretrained(out, dtype=torch.float16)
        results = {"accuracy": evaluate(answer, held_out, rng)}
        print("val", results, flush=True)
        title = f"LoRA of the {'task agent' if blind else 'sensor'}, trained on its own answers; tokens are not trained"
        write_card(out, title=title, stage="lora", options=options, results=results)

    log = Path(out) / "training.jsonl"
    fit(
        step,
        lora_parameters(model),
        steps=steps,
        lr=lr,
        log=log,
        rng=rng,
        seed=seed,
        save=save,
        weight_decay=0.0,
        precision=mixed_precision(model),
    )


@torch.no_grad()
def evaluate(answer: Answer, held_out: Turns, rng: random.Random) -> float:
    """Return the share of right answers to questions that training has not met."""
    right = total = 0.0
    for examples in held_out.each(rng):
        count = float(examples.packed.num_answers)
        right += answer(examples)[1].item() * count
        total += count
    return round(right / total, 4)
