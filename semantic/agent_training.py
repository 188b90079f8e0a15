"""End-to-end training of the agents through the channel: LoRA, slots and code learn; both large models stay frozen.

The loss is the task agent's answer. At first the received tokens are also pulled towards the scene's objects as they
are dealt out in the task agent's pretraining, which it is known to read; this pull fades away.

A nested code is trained by dropout over tokens (Rippel, Gelbart, Adams, "Learning ordered representations with nested
dropout", ICML 2014): in each step only the first few are sent, a number drawn at random, so that the first have to say
what matters most, and later ones refine it.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LlamaForCausalLM,
)

from semantic.adapters import add_lora, lora_parameters, start_lora
from semantic.agent_link import AgentLink, hash_of
from semantic.data.clevr import ClevrDataset
from semantic.data.packing import Packed, answer_loss, attention_mask, pack
from semantic.endpoints.language import Reader, TextScene, normalize_tokens
from semantic.endpoints.sensor import SceneTurns
from semantic.endpoints.vision import normalize
from semantic.jtcc import JTCC, build_code
from semantic.sensor_agent import SensorAgent
from semantic.task_agent import TaskAgent, input_embeddings
from semantic.training import Metrics, fit, mixed_precision, write_card

TRAINING_REALISATIONS = 1_000_000  # studies meet realisations from 0; training meets fades from here on
NUM_FADES = 16_384  # different ones, each met several times


def build_agents(
    sensor: Path, task: Path, *, num_tokens: int, width: int | None, r: int = 16, nested: bool = False
) -> AgentLink:
    """Put untrained LoRA, slots and code between two pretrained models; `width` None means uncompressed."""
    if nested and width is None:
        raise ValueError("only a compressed code can be nested; give a width, or leave nested out")
    model = AutoModelForImageTextToText.from_pretrained(sensor, dtype=torch.float32)
    add_lora(model, r=r, lora_alpha=2 * r)
    processor = AutoProcessor.from_pretrained(sensor, backend="pil")
    agent = SensorAgent(model, processor, num_tokens=num_tokens)
    task_agent = TaskAgent(
        AutoModelForCausalLM.from_pretrained(task, dtype=torch.float32), AutoTokenizer.from_pretrained(task)
    )
    slot_ids = processor.tokenizer.convert_tokens_to_ids([f"<slot{i}>" for i in range(num_tokens)])
    with torch.no_grad():
        agent.slots.copy_(input_embeddings(model).weight[slot_ids])
    hidden = agent.hidden_size
    settings = (
        {"kind": "uncompressed", "hidden_size": hidden}
        if width is None
        else {"kind": "jtcc", "hidden_size": hidden, "width": width, "nested_tokens": num_tokens if nested else None}
    )
    return AgentLink(agent, build_code(settings), task_agent)


class CachedTurns:
    """A split's image tokens, computed once by the frozen tower, and its questions grouped by vague description."""

    def __init__(self, turns: SceneTurns, agents: AgentLink, mirrored: bool) -> None:
        self.turns, self.sensor = turns, agents.sensor
        self.image_tokens = {m: self._features(turns.images, m) for m in ((False, True) if mirrored else (False,))}
        self.groups: list[dict[str, list[int]]] = []
        for records in turns.records:
            groups: dict[str, list[int]] = {}
            for k, description in enumerate(agents.describe([record["question"] for record in records])):
                groups.setdefault(description, []).append(k)
            self.groups.append(groups)

    @torch.no_grad()
    def _features(self, images: Tensor, mirror: bool) -> Tensor:
        parts = []
        for start in range(0, len(images), 32):
            pixels = normalize(images[start : start + 32])
            pixels = pixels.flip(-1) if mirror else pixels
            parts.append(torch.stack(list(self.sensor.project(pixels))).half())
        return torch.cat(parts)

    def batch(
        self, chosen: list[tuple[int, bool, str]], length: int, rng: random.Random
    ) -> tuple[Tensor, list[str], Packed]:
        """Return image tokens, descriptions and packed questions of (scene, mirrored, description) triples."""
        features = torch.stack([self.image_tokens[m][i].float() for i, m, _ in chosen])  # autocast stacks no halves
        rows = []
        for i, m, description in chosen:
            asked = self.groups[i][description]
            questions = [self.turns.questions[i][k] for k in rng.sample(asked, len(asked))]
            rows.append([self.turns.mirror_question(q) if m else q for q in questions])
        return features, [d for _, _, d in chosen], pack(rows, length)


def answer_from_tokens(task_agent: TaskAgent, tokens_hat: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Return loss and accuracy of packed questions behind received tokens; the gradient flows to the tokens."""
    model = task_agent.model
    embed = input_embeddings(model)
    batch, num_tokens, _ = tokens_hat.shape
    bos = embed(torch.full((batch, 1), cast(int, task_agent.tokenizer.bos_token_id)))
    embeds = torch.cat([bos, task_agent.prefix(tokens_hat), embed(packed.input_ids)], dim=1)
    start = 1 + num_tokens
    positions = torch.cat([torch.arange(start).expand(batch, -1), start + packed.offset], dim=1)
    valid = torch.ones(batch, start, dtype=torch.bool)
    hidden = model.get_decoder()(
        inputs_embeds=embeds,
        attention_mask=attention_mask(valid, packed.segment),
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state[:, start:]
    return answer_loss(hidden, packed, model.lm_head)


def main(
    out: Path,
    data: Path,
    sensor: Path,
    task: Path,
    channel: Callable[..., Tensor],
    minutes: float,
    *,
    num_tokens: int = 5,
    width: int | None = 64,
    snr_db: tuple[float, float] = (-10.0, 20.0),
    seed: int = 0,
    batch: int = 24,
    lr: float = 1e-3,
    r: int = 16,
    max_images: int | None = None,
    init: Path | None = None,
    nested: bool = False,
) -> None:
    """Train the agents end to end through `channel` and save them to `out`.

    Parameters
    ----------
    sensor, task : Path
        The pretrained models; `out` refers to them by relative path.
    channel : callable
        ``channel(codes, snr_db=…, realisation=…)``, with a gradient (the paper's is straight-through).
    width : int or None
        Real numbers per token; None sends the tokens uncompressed.
    snr_db : (low, high)
        Each example's SNR is drawn uniformly between the two.
    r : int
        Rank of LoRA; its `lora_alpha` is twice that.
    init : Path, optional
        Trained agents to go on from: LoRA of this rank or a lower one, slots where they are as many, and the code where
        it has the same width.
    nested : bool
        Train a code whose first tokens suffice; `num_tokens` is the largest number.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    agents = build_agents(sensor, task, num_tokens=num_tokens, width=width, r=r, nested=nested)
    agents.seed = seed
    taught = True  # what the tokens say, and how a code writes it, is still to be learned
    if init is not None:
        earlier = AgentLink.from_pretrained(init)
        same_tokens = earlier.num_tokens == num_tokens
        start_lora(agents.sensor.model, earlier.sensor.model)
        if same_tokens:
            agents.sensor.slots.data.copy_(earlier.sensor.slots.data)
        same_code = width is None  # which has nothing to learn but scales
        if isinstance(agents.code, JTCC) and isinstance(earlier.code, JTCC) and earlier.width == agents.width:
            agents.code.start_from(earlier.code)
            same_code = True
        elif earlier.code.settings() == agents.code.settings():
            agents.code.load_state_dict(earlier.code.state_dict())
        taught = not (same_tokens and same_code)
    trained = [*lora_parameters(agents.sensor.model), agents.sensor.slots]
    everything = trained + list(agents.code.parameters())
    frozen_hash = hash_of({"task_agent": agents.task_agent})
    print(
        f"{sum(p.numel() for p in everything):,} trainable parameters of "
        f"{sum(p.numel() for p in agents.parameters()):,}"
    )
    tokenizer = agents.sensor.processor.tokenizer
    train = CachedTurns(SceneTurns(ClevrDataset(data, "train"), tokenizer, 4, max_images), agents, mirrored=True)
    val = CachedTurns(SceneTurns(ClevrDataset(data, "val"), tokenizer, 2, max_images), agents, mirrored=False)
    teacher = Reader(cast(LlamaForCausalLM, agents.task_agent.model), tokenizer)

    def received(
        image_tokens: Tensor, descriptions: list[str], snr: Tensor, realisation: Tensor, sent: int = num_tokens
    ) -> Tensor:
        ids, mask = agents.sensor.tokenize(descriptions, image_tokens.shape[1])
        tokens = agents.sensor.express(image_tokens, ids, mask)[:, :sent]
        with torch.autocast(tokens.device.type, enabled=False):  # code and link in float32, whatever the models are in
            return agents.code.decode(channel(agents.code.encode(tokens), snr_db=snr, realisation=realisation))

    def teach(chosen: list[tuple[int, bool, str]]) -> Tensor:
        scenes = [TextScene(*train.turns.scene(i, mirror)) for i, mirror, _ in chosen]
        with torch.no_grad():
            return teacher.deal(scenes, num_tokens)

    def step(share: float) -> tuple[Tensor, Metrics]:
        agents.train()
        chosen = []
        for _ in range(batch):
            i = rng.randrange(len(train.groups))
            sizes = {d: len(asked) for d, asked in train.groups[i].items()}
            chosen.append((i, rng.random() < 0.5, rng.choices(list(sizes), list(sizes.values()))[0]))
        features, descriptions, packed = train.batch(chosen, 60, rng)
        snr = torch.empty(batch).uniform_(*snr_db)
        first = TRAINING_REALISATIONS + rng.randrange(NUM_FADES // batch) * batch
        sent = rng.randint(1, num_tokens) if nested else num_tokens
        tokens_hat = received(features, descriptions, snr, torch.arange(first, first + batch), sent)
        loss, accuracy = answer_from_tokens(agents.task_agent, tokens_hat, packed)
        metrics = {"accuracy": accuracy.item()}
        pull = max(0.0, 1 - share / 0.5) if taught else 0.0
        if pull:
            error = (normalize_tokens(tokens_hat) - teach(chosen)[:, :sent]).square().mean()
            metrics["pull"] = error.item()
            loss = loss + pull * error
        return loss, metrics

    @torch.no_grad()
    def evaluate(at: float, sent: int = num_tokens) -> float:
        agents.eval()
        right = total = 0.0
        triples = [(i, False, d) for i, groups in enumerate(val.groups) for d in groups][:1500]
        for start in range(0, len(triples), 50):
            features, descriptions, packed = val.batch(triples[start : start + 50], 60, rng)
            numbers = TRAINING_REALISATIONS + NUM_FADES + start + torch.arange(len(features))
            tokens_hat = received(features, descriptions, torch.full((len(features),), at), numbers, sent)
            count = float(packed.answers.sum())
            right += answer_from_tokens(agents.task_agent, tokens_hat, packed)[1].item() * count
            total += count
        return round(right / total, 4)

    def save() -> None:
        agents.save_pretrained(out, sensor=_relative(sensor, out), task_agent=_relative(task, out), dtype=torch.float16)
        results = {f"accuracy at {at:g} dB": evaluate(at) for at in (20.0, 5.0, -5.0)}
        if nested:
            results["accuracy at 5 dB, first token alone"] = evaluate(5.0, sent=1)
        print("val", results, flush=True)
        options = {
            "out": out,
            "data": data,
            "sensor": sensor,
            "task": task,
            "minutes": minutes,
            "num_tokens": num_tokens,
        }
        options |= {
            "width": width,
            "seed": seed,
            "batch": batch,
            "lr": lr,
            "r": r,
            "max_images": max_images,
            "init": init,
            "nested": nested,
        }
        write_card(
            out, title="Machine-language tokens: LoRA, slots and code", stage="agents", options=options, results=results
        )

    groups = [{"params": trained, "lr": lr}, {"params": list(agents.code.parameters()), "lr": 2 * lr}]
    groups = [group for group in groups if group["params"]]
    fit(
        step,
        groups,
        minutes=minutes,
        lr=lr,
        log=Path(out) / "training.jsonl",
        save=save,
        weight_decay=0.0,
        precision=mixed_precision(agents.sensor.model, agents.task_agent.model),
    )
    if hash_of({"task_agent": agents.task_agent}) != frozen_hash:
        raise RuntimeError("the task agent's parameters changed during training; nothing may train them")


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(Path(path).resolve(), Path(start).resolve())
