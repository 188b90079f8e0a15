"""End-to-end training of agents through a channel: LoRA, slots and code learn; both large models stay frozen.

The loss is the task agent's answer. A teacher, if there is one, says which tokens the task agent is known to read; at
first the received tokens are also pulled towards these, and the pull fades away.

A nested code is trained by dropout over tokens (Rippel, Gelbart, Adams, "Learning ordered representations with nested
dropout", ICML 2014): each step sends only the first few tokens, a number drawn at random. The first tokens therefore
learn to say what matters most, and later ones refine it.
"""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semantic.adapters import lora_parameters, start_lora
from semantic.agent_link import AgentLink, Channel, hash_of
from semantic.code_moments import Running
from semantic.data.packing import Packed, answer_loss, attention_mask, pack
from semantic.jtcc import JTCC, TokenScaler
from semantic.task_agent import TaskAgent, input_embeddings, normalize_tokens
from semantic.training import Metrics, fit, mixed_precision
from semantic.turns import Turn, Turns

TRAINING_REALISATIONS = 1_000_000  # studies meet realisations from 0; training meets fades from here on
NUM_FADES = 16_384  # number of different fades; each is met several times

Teacher = Callable[[Turn, int], Tensor]  # (examples, num_tokens) -> [batch, num_tokens, hidden], mean 0 and variance 1


def train(
    agents: AgentLink,
    turns: Turns,
    channel: Channel,
    *,
    held_out: Turns,
    out: Path,
    steps: int,
    teacher: Teacher | None = None,
    taught_share: float = 0.0,
    taught_batch: int | None = None,
    snr_db: tuple[float, float] = (-10.0, 20.0),
    seed: int = 0,
    batch: int = 24,
    lr: float = 1e-3,
    sparsity: float = 0.0,
    frozen_lora: bool = False,
    save_steps: int = 500,
    report: Callable[[Mapping[str, object]], None] | None = None,
) -> None:
    """Train agents end to end through a channel and save them to a folder.

    Parameters
    ----------
    agents : AgentLink
        Agents as `build_agents` or `AgentLink.from_pretrained` returns them; trained in place.
    turns : Turns
        Source of the examples to learn from.
    channel : callable
        ``channel(codes, snr_db=…, realisation=…) -> codes_hat, error_var``, with a gradient to the codes (the paper's
        is straight-through).
    held_out : Turns
        Source of the examples that are only measured on.
    out : Path
        Folder for the agents and the log, training.jsonl.
    steps : int
        Number of training steps.
    teacher : callable, optional
        Tokens that the task agent is known to read, for a batch of examples.
    taught_share : float
        Share of the steps, the first ones, that learn from the teacher alone. The task agent, which takes nearly all
        of the time if it is large, reads nothing in them.
    taught_batch : int, optional
        Examples per step in these; by default `batch`.
    snr_db : (low, high)
        Range of the SNR; each example's is drawn uniformly from it, by torch's global generator.
    seed : int
        Seed of everything else that is drawn; the agents keep it.
    batch : int
        Examples per step.
    lr : float
        Peak learning rate of LoRA and slots; the code's is twice that.
    sparsity : float
        Weight, in the loss, of the mean absolute value of the codes' numbers. Codes have unit power, so that this
        rewards few large numbers, which `omp`, `fista` and `vamp` recover over too few receive antennas.
    frozen_lora : bool
        Train slots and code alone; LoRA stays as it is.
    save_steps : int
        Steps between checkpoints, from which a training that was stopped goes on; with each the agents are saved.
    report : callable, optional
        Gets the held-out accuracies whenever the agents are saved.

    Raises
    ------
    ValueError
        If the task agent reads questions differently in training and in use, or if the teacher's tokens do not fit.
    RuntimeError
        If the task agent changed during training.
    """
    check_trainable(agents)
    agents.seed, rng = seed, random.Random(seed)
    agents.save_pretrained(out, dtype=torch.float16)  # a folder that cannot be written fails now, not at the end
    agents.sensor.model.requires_grad_(False)
    lora = [] if frozen_lora else lora_parameters(agents.sensor.model)
    trained, code = [*lora, agents.sensor.slots], list(agents.code.parameters())
    total = sum(p.numel() for p in agents.parameters())
    print(f"{sum(p.numel() for p in trained + code):,} trainable parameters of {total:,}")
    frozen_hash = hash_of({"task_agent": agents.task_agent})
    nested, moments = is_nested(agents), agents.code.moments

    def step(share: float) -> tuple[Tensor, Metrics]:
        agents.train()
        only_taught = teacher is not None and share < taught_share
        size = taught_batch or batch if only_taught else batch
        examples = turns.draw(size, rng)
        snr = torch.empty(size, dtype=torch.float32).uniform_(*snr_db)
        first = TRAINING_REALISATIONS + rng.randrange(NUM_FADES // size) * size
        sent = rng.randint(1, agents.num_tokens) if nested else agents.num_tokens
        codes = encode(agents, examples, sent)
        tokens_hat = decode(agents, channel, codes, snr, torch.arange(first, first + size))
        if only_taught:
            loss, metrics = tokens_hat.new_zeros(()), {}
        else:
            loss, accuracy = answer_from_tokens(agents.task_agent, tokens_hat, examples.packed)
            metrics = {"accuracy": accuracy.item()}
        if sparsity:
            amplitude = codes.abs().mean()
            metrics["amplitude"] = amplitude.item()
            loss = loss + sparsity * amplitude
        pull = 1.0 if only_taught else max(0.0, 1 - share / 0.5)
        if teacher is not None and pull:
            error = distance_from_taught(tokens_hat, teacher(examples, agents.num_tokens), agents.num_tokens)
            metrics["pull"] = error.item()
            loss = loss + pull * error
        return loss, metrics

    def save() -> None:
        agents.save_pretrained(out, dtype=torch.float16)
        results = {f"accuracy at {at:g} dB": evaluate(agents, channel, held_out, rng, at) for at in (20.0, 5.0, -5.0)}
        if nested:
            results["accuracy at 5 dB, first token alone"] = evaluate(agents, channel, held_out, rng, 5.0, sent=1)
        print("val", results, flush=True)
        if report is not None:
            report(results)

    groups = [{"params": trained, "lr": lr}, {"params": code, "lr": 2 * lr}]
    fit(
        step,
        [group for group in groups if group["params"]],
        steps=steps,
        lr=lr,
        log=Path(out) / "training.jsonl",
        rng=rng,
        seed=seed,
        state={"code": agents.code} | ({"moments": Running(moments)} if moments else {}),
        save=save,
        save_steps=save_steps,
        weight_decay=0.0,
        precision=mixed_precision(agents.sensor.model, agents.task_agent.model),
    )
    if hash_of({"task_agent": agents.task_agent}) != frozen_hash:
        raise RuntimeError("the task agent's parameters changed during training; nothing may train them")


def receive(
    agents: AgentLink, channel: Channel, examples: Turn, snr_db: Tensor, realisation: Tensor, sent: int
) -> Tensor:
    """Return the tokens that the task agent receives of the first `sent` ones, with gradient."""
    return decode(agents, channel, encode(agents, examples, sent), snr_db, realisation)


def encode(agents: AgentLink, examples: Turn, sent: int) -> Tensor:
    """Return the codes of the first `sent` tokens, with gradient."""
    ids, mask = agents.sensor.tokenize(examples.descriptions, examples.image_tokens.shape[1])
    image_tokens = examples.image_tokens.to(ids.device)
    layouts = None if examples.layouts is None else examples.layouts.to(ids.device)
    tokens = agents.sensor.express(image_tokens, ids, mask, layouts)[:, :sent]
    with torch.autocast(tokens.device.type, enabled=False):  # code and link stay in float32
        return agents.code.encode(tokens)


def decode(agents: AgentLink, channel: Channel, codes: Tensor, snr_db: Tensor, realisation: Tensor) -> Tensor:
    """Send codes, and return the tokens that they are decoded to, with gradient."""
    with torch.autocast(codes.device.type, enabled=False):
        codes_hat, error_var = channel(codes, snr_db=snr_db, realisation=realisation)
        return agents.code.decode(codes_hat, error_var)


def answer_from_tokens(task_agent: TaskAgent, tokens_hat: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Return loss and accuracy of packed questions behind received tokens, with the gradient to the tokens."""
    packed = packed.to(tokens_hat.device)
    return answer_loss(read_packed(task_agent, tokens_hat, packed), packed, task_agent.logits)


def read_packed(task_agent: TaskAgent, tokens_hat: Tensor, packed: Packed) -> Tensor:
    """Return the last hidden states at packed questions behind received tokens, laid out as `TaskAgent.answer` does."""
    model: Any = task_agent.model
    embed = input_embeddings(model)
    batch, num_tokens, _ = tokens_hat.shape
    head = embed(torch.tensor(task_agent.layout.head, dtype=torch.long, device=embed.weight.device).expand(batch, -1))
    embeds = torch.cat([head, task_agent.prefix(tokens_hat), embed(packed.input_ids)], dim=1)
    start = head.shape[1] + num_tokens
    device = packed.segment.device
    positions = torch.cat([torch.arange(start, device=device).expand(batch, -1), start + packed.offset], dim=1)
    mask = attention_mask(torch.ones(batch, start, dtype=torch.bool, device=device), packed.segment)
    if model.config._attn_implementation == "eager":  # which adds its mask
        mask = torch.zeros(mask.shape, dtype=embeds.dtype, device=device).masked_fill(
            ~mask, torch.finfo(embeds.dtype).min
        )
    return model.get_decoder()(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state[:, start:]


def distance_from_taught(tokens_hat: Tensor, taught: Tensor, num_tokens: int) -> Tensor:
    """Return the mean squared distance of received tokens, normalised, from the first ones of a teacher.

    Raises
    ------
    ValueError
        If the teacher's tokens are of another number or length.
    """
    needed = (len(tokens_hat), num_tokens, tokens_hat.shape[2])
    if tuple(taught.shape) != needed:
        raise ValueError(
            f"the teacher's tokens are {tuple(taught.shape)}, training needs {needed} ([batch, num_tokens, "
            "hidden_size]); take a teacher of these agents' num_tokens and hidden_size, or none"
        )
    taught = taught[:, : tokens_hat.shape[1]].detach().to(tokens_hat.device)
    return (normalize_tokens(tokens_hat) - taught).square().mean()


@torch.no_grad()
def evaluate(
    agents: AgentLink, channel: Channel, held_out: Turns, rng: random.Random, snr_db: float, sent: int | None = None
) -> float:
    """Return the share of right answers at an SNR over fades that training has not met."""
    agents.eval()
    right = total = 0.0
    start = TRAINING_REALISATIONS + NUM_FADES
    for examples in held_out.each(rng):
        count = len(examples.descriptions)
        snr, numbers = torch.full((count,), snr_db, dtype=torch.float32), torch.arange(start, start + count)
        tokens_hat = receive(agents, channel, examples, snr, numbers, sent or agents.num_tokens)
        num_answers = float(examples.packed.num_answers)
        right += answer_from_tokens(agents.task_agent, tokens_hat, examples.packed)[1].item() * num_answers
        total += num_answers
        start += count
    return round(right / total, 4)


def start_from(agents: AgentLink, earlier: AgentLink) -> bool:
    """Take over the weights of earlier agents, as far as they fit; return whether nothing is left to be taught.

    LoRA of the same rank or a lower one always fits. Slots fit if their number is the same, a code if its width and its
    lengths of a token are. Uncompressed tokens have no code to learn, but for the map to tokens of another length.
    """
    start_lora(agents.sensor.model, earlier.sensor.model)
    same_tokens = earlier.num_tokens == agents.num_tokens
    if same_tokens:
        agents.sensor.slots.data.copy_(earlier.sensor.slots.data)
    code, before = agents.code, earlier.code
    same_code = isinstance(code, TokenScaler) and code.map is None
    if (before.width, before.hidden_size, before.received_size) == (code.width, code.hidden_size, code.received_size):
        if isinstance(code, JTCC) and isinstance(before, JTCC):
            code.start_from(before)
            same_code = True
        elif isinstance(code, TokenScaler) and isinstance(before, TokenScaler):
            code.load_state_dict({**code.state_dict(), **before.state_dict()})
            same_code = True
    return same_tokens and same_code


def is_nested(agents: AgentLink) -> bool:
    """Return whether the first tokens of these agents may be sent alone."""
    return isinstance(agents.code, JTCC) and agents.code.nested_tokens is not None


@torch.no_grad()
def check_trainable(agents: AgentLink) -> None:
    """Refuse a task agent that reads packed questions, as training has them, differently from one question in use.

    It is asked: two questions behind one prefix, packed and one by one. Models that attend to some positions only, that
    keep a state, or whose last hidden states do not alone make the logits, would learn something else than they use.

    Raises
    ------
    ValueError
        If it does, or if its model has no output embeddings.
    """
    task_agent = agents.task_agent
    model: Any = task_agent.model
    name = type(model).__name__
    if model.get_output_embeddings() is None:
        raise ValueError(f"{name} has no output embeddings, which the loss needs; take a causal LM")
    task_agent.train()
    generator = torch.Generator().manual_seed(0)
    tokens_hat = torch.randn(1, agents.num_tokens, task_agent.hidden_size, generator=generator).to(model.device)
    layout = task_agent.layout
    tails = layout.tails(["a b c", "d e"])
    rows = [np.array([*ids, ids[-1], ids[-1]], dtype=np.int32) for ids in tails]  # an answer and an end follow
    packed = pack([rows], sum(map(len, rows))).to(model.device)
    try:
        hidden = read_packed(task_agent, tokens_hat, packed)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} cannot read packed questions, as training has them: {error}") from error
    for number, ids in enumerate(tails, start=1):
        row = torch.tensor([[*layout.head, *ids]], device=model.device)
        embeds, mask = task_agent.with_prefix(row, torch.ones_like(row), tokens_hat)
        expected = model(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits[0, -len(ids) :].float()
        found = task_agent.logits(hidden[packed.segment == number][: len(ids)])
        difference = (found - expected).abs().max().item()
        tolerance = 0.01 if model.dtype == torch.float32 else 0.2
        if not difference <= tolerance * expected.std().item():
            raise ValueError(
                f"{name} reads packed questions, as training has them, differently from one question in use (logits "
                f"differ by {difference:.2g}); take a model whose layers attend to all positions before one"
            )
