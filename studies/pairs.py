"""`tokenlink agents` and `tokenlink train pair`: agents between any two models, and their training on any data set."""

from pathlib import Path
from typing import Any


def make_agents(
    sensor: str,
    task_agent: str,
    out: Path,
    num_tokens: int = 5,
    width: int = 64,
    uncompressed: bool = False,
    r: int = 16,
    nested: bool = False,
    sensor_prompt: str | None = None,
    task_prompt: str | None = None,
    sensor_revision: str | None = None,
    task_revision: str | None = None,
    seed: int = 0,
) -> None:
    """Put untrained LoRA, slots and code between two models: a folder that `tokenlink train pair` trains.

    Parameters
    ----------
    sensor : str
        Folder or hub id of an image-text model, with its processor.
    task_agent : str
        Folder or hub id of a causal language model, with its tokenizer.
    out : Path
        Folder for the agents; it refers to both models.
    num_tokens : int
        Machine-language tokens per question; the largest number, if the code is nested.
    width : int
        Real numbers per token.
    uncompressed : bool
        Leave the code out: tokens are sent at their full length.
    r : int
        Rank of LoRA; its `lora_alpha` is twice that.
    nested : bool
        Make a code whose first tokens may be sent alone.
    sensor_prompt : str, optional
        Input of the sensor, with {text} and its image token; by default by its chat template.
    task_prompt : str, optional
        Input of the task agent, with {question}, and {tokens} where tokens stand; by default by its chat template.
    sensor_revision, task_revision : str, optional
        Commit, tag or branch of a hub id.
    seed : int
        Seed of the fresh weights.
    """
    import torch

    from semantic.adapters import lora_parameters
    from semantic.agent_link import build_agents

    torch.manual_seed(seed)
    agents = build_agents(
        sensor,
        task_agent,
        num_tokens=num_tokens,
        width=None if uncompressed else width,
        r=r,
        nested=nested,
        sensor_prompt=sensor_prompt,
        task_prompt=task_prompt,
        sensor_revision=sensor_revision,
        task_revision=task_revision,
    )
    agents.seed = seed
    agents.save_pretrained(out)
    trained = [*lora_parameters(agents.sensor.model), agents.sensor.slots, *agents.code.parameters()]
    count, total = sum(p.numel() for p in trained), sum(p.numel() for p in agents.parameters())
    print(f"sensor reads     {agents.sensor.prompt!r}")
    print(f"task agent reads {agents.task_agent.prompt!r}")
    code = agents.code
    print(f"tokens of {code.hidden_size} numbers, sent as {code.width}, received as {code.received_size}")
    print(f"{count:,} trainable parameters of {total:,} ({count / total:.3%})")


def train_pair(
    agents: Path,
    out: Path,
    channel: Any,
    steps: int,
    data: Path | None = None,
    layout: str = "clevr",
    split: str = "train",
    held_out: str = "val",
    num_questions: int | None = None,
    num_held_out: int | None = None,
    min_snr_db: float = -10.0,
    max_snr_db: float = 20.0,
    seed: int = 0,
    batch: int = 24,
    lr: float = 1e-3,
    length: int = 60,
    sparsity: float = 0.0,
    frozen_lora: bool = False,
    taught_share: float = 0.0,
    taught_batch: int = 24,
    instruction: str = "one word answer",
    save_steps: int = 500,
    dtype: str = "float32",
    device: str = "cpu",
    checkpointing: bool = False,
) -> None:
    """Train agents between any two models end to end over the link, on the questions of any data set.

    Parameters
    ----------
    agents : Path
        Folder of agents, trained or not: of `tokenlink agents`, or of an earlier training.
    out : Path
        Folder for the trained agents, the log and the model card.
    channel : callable
        ``channel(codes, snr_db=…, realisation=…) -> codes_hat, error_var``, with a gradient.
    steps : int
        Number of training steps.
    data : Path, optional
        Folder of the data set; easy-vqa needs none where its package is installed.
    layout : str
        Layout of the data set; `semantic/data` has a reader for each.
    split, held_out : str
        Splits to learn from, and to measure on.
    num_questions, num_held_out : int, optional
        Questions to learn from and to measure on, the first ones of each split.
    min_snr_db, max_snr_db : float
        Range of the SNR [dB]; each example's is drawn uniformly from it.
    seed : int
        Seed of the training.
    batch : int
        Examples per step.
    lr : float
        Peak learning rate.
    length : int
        Word pieces of an example: its questions with prompt, answer and end.
    sparsity : float
        Weight of the mean absolute value of the codes' numbers in the loss, for links with too few receive antennas.
    frozen_lora : bool
        Train code and slots alone; LoRA stays as it is.
    taught_share : float
        Share of the steps, the first ones, in which the sensor learns to send the task agent's own words for the
        answers about an image. The task agent reads nothing in them, so they are cheap.
    taught_batch : int
        Examples per step in these.
    instruction : str
        Words of the tokens that answer nothing, in these.
    save_steps : int
        Steps between checkpoints, from which a training that was stopped goes on; with each it is measured.
    dtype : str
        Precision of both large models: float32, bfloat16 or float16. What is trained is float32.
    device : str
        Device of the agents: cpu, cuda, or one of several such as cuda:1.
    checkpointing : bool
        Keep the activations between the large models' layers alone, and compute the others again on the way back.

    Raises
    ------
    ValueError
        If there is no such precision or device.
    """
    options = {name: value for name, value in locals().items() if name != "channel"} | {"sparsity": sparsity or None}
    from semantic import AgentLink
    from semantic.agent_training import check_trainable, train
    from semantic.answer_teacher import AnswerTeacher
    from semantic.data import load_dataset
    from semantic.loading import device_of, precision_of
    from semantic.training import LICENCE_OF_OTHERS, described, write_card
    from semantic.turns import turns_about

    pair = AgentLink.from_pretrained(agents, dtype=precision_of(dtype)).to(device_of(device))
    if checkpointing:
        for model in (pair.sensor.model, pair.task_agent.model):
            model.get_decoder().activation_checkpointing_enable()
    check_trainable(pair)  # before all images are seen
    dataset = load_dataset(data, split, layout)
    measured = turns_about(pair, load_dataset(data, held_out, layout), length=length, num_questions=num_held_out)
    train(
        pair,
        turns_about(pair, dataset, length=length, num_questions=num_questions),
        channel,
        held_out=measured,
        out=out,
        steps=steps,
        teacher=AnswerTeacher(pair, dataset, instruction) if taught_share else None,
        taught_share=taught_share,
        taught_batch=taught_batch,
        snr_db=(min_snr_db, max_snr_db),
        seed=seed,
        batch=batch,
        lr=lr,
        sparsity=sparsity,
        frozen_lora=frozen_lora,
        save_steps=save_steps,
        report=lambda results: write_card(
            out,
            title="Machine-language tokens between two models: LoRA, slots and code",
            stage="pair",
            options=options,
            results={"link": described(channel), **results},
            licence=LICENCE_OF_OTHERS,
        ),
    )
