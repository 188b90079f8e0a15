"""Pretraining of the sensor's own model: vision tower and language model meet in a `LlavaForConditionalGeneration`.

There are many captions and questions per image. The projector is also pulled, at first strongly, towards vectors that
the language model already reads: the superposed description at an object's patch, `<nothing>` elsewhere. The language
model still points at objects (`semantic.endpoints.pointers`), now in an image. It also still writes tokens: its last
hidden states at slots are pulled towards the objects' vectors as they are dealt.
"""

import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from semantic.data.clevr import ClevrDataset
from semantic.data.packing import IGNORE, Packed, answer_loss, attention_mask, encode_question, lay_out, pack
from semantic.data.scenes import NUM_POSITION_BINS, describe, patch_index, questions_for, scene_rng
from semantic.endpoints.architecture import (
    BOS,
    GRID,
    NOTHING,
    PATCH_SIZE,
    build_sensor_model,
    single_precision,
    token_ids,
)
from semantic.endpoints.language import (
    QUESTION_START,
    SLOT_START,
    Reader,
    TextScene,
    draw_num_tokens,
    encode_caption,
    load_language_model,
    object_vectors,
    superpose,
)
from semantic.endpoints.pointers import NO_POINTER, Pointers, encode_targets
from semantic.endpoints.vision import load_images, normalize
from semantic.loading import load_model, load_part, without_progress_bar
from semantic.task_agent import input_embeddings, normalize_tokens
from semantic.tasks import FAMILIES
from semantic.training import Metrics, fit, mixed_precision, save_half, write_card

LENGTH = 200  # of packed questions [words]
CAPTION_SHARE = 0.15  # of images that are also put in words
WRITING = 3.0  # weight of the token loss: most of the agents' remaining error arises here


def build_processor(
    tokenizer: PreTrainedTokenizerFast, size: int = GRID * PATCH_SIZE, patch_size: int = PATCH_SIZE
) -> LlavaProcessor:
    """Build a sensor's processor: resize to the tower's square, scale to [-1, 1], expand `<image>`."""
    image_processor = CLIPImageProcessorPil(
        size={"height": size, "width": size},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


class SceneTurns:
    """Images of a split with encoded questions and captions, mirrored on demand.

    Parameters
    ----------
    dataset : ClevrDataset
        Split with scenes. Its questions are not used: new ones are drawn from the scenes, more than its file holds.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the embedded pair.
    per_family : int
        Questions of each family about a scene.
    max_images : int, optional
        Number of images to use, the first ones.
    families : sequence of str
        Families of the questions.
    """

    def __init__(
        self,
        dataset: ClevrDataset,
        tokenizer: PreTrainedTokenizerBase,
        per_family: int,
        max_images: int | None = None,
        families: Sequence[str] = FAMILIES,
    ) -> None:
        self.scenes = dataset.scenes[:max_images]
        self.images = load_images(dataset, [s["image_index"] for s in self.scenes])
        self._tokenizer = tokenizer
        self._left, self._right, self._first_column = token_ids(tokenizer, ["left", "right", "c00"])
        self.records = [
            questions_for(s, scene_rng(1, dataset.split, s["image_index"], "turns"), per_family, families)
            for s in self.scenes
        ]
        self.questions = [
            [encode_question(tokenizer, q["question"], q["answer"]) for q in records] for records in self.records
        ]
        self.pointers = [
            [encode_targets(q, s) for q in records] for s, records in zip(self.scenes, self.records, strict=True)
        ]
        self.words = [
            np.array([tokenizer.convert_tokens_to_ids(words) for words in describe(s)], dtype=np.int64)
            for s in self.scenes
        ]
        self.patches = [np.array(patch_index(s, GRID)) for s in self.scenes]

    def mirror_question(self, ids: np.ndarray) -> np.ndarray:
        """Return the question about the mirrored image with the same answer: left and right are exchanged."""
        out = ids.copy()
        out[ids == self._left], out[ids == self._right] = self._right, self._left
        return out

    def scene(self, index: int, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the description of an image, [num_objects, 6], and its objects' patches, possibly mirrored."""
        words, patches = self.words[index].copy(), self.patches[index]
        if mirror:
            words[:, 4] = 2 * self._first_column + NUM_POSITION_BINS - 1 - words[:, 4]
            patches = patches // GRID * GRID + GRID - 1 - patches % GRID
        return words, patches

    def caption(self, index: int, mirror: bool) -> np.ndarray:
        """Return the ids of ``describe the scene :``, the objects from left to right, and ``</s>``."""
        return encode_caption(self._tokenizer, self.scene(index, mirror)[0])


def load_turns(
    data: Path, tokenizer: PreTrainedTokenizerBase, max_images: int | None, families: Sequence[str] | None
) -> tuple[SceneTurns, SceneTurns]:
    """Return the turns about the splits `train` and `val` of a folder; `families` of None are all."""
    train, val = (
        SceneTurns(ClevrDataset(data, split), tokenizer, per_family, max_images, families or FAMILIES)
        for split, per_family in (("train", 4), ("val", 2))
    )
    return train, val


def projected(model: LlavaForConditionalGeneration, pixel_values: torch.Tensor) -> torch.Tensor:
    """Return the image tokens as the language model gets them: float [batch, patches, hidden]."""
    features = model.model.vision_tower(pixel_values=pixel_values, output_hidden_states=True).hidden_states[-1]
    return model.model.multi_modal_projector(features[:, 1:])


def with_slots(packed: Packed, slots: torch.Tensor) -> Packed:
    """Append slots (word ids), where the model writes tokens; they see the prefix and each other."""
    batch, number = len(packed.segment), len(slots)
    turn = Packed(
        input_ids=slots.expand(batch, -1),
        segment=(packed.segment.max() + 1).expand(batch, number),
        offset=(SLOT_START - QUESTION_START + torch.arange(number)).expand(batch, -1),
        labels=torch.full((batch, number), IGNORE),
        answers=torch.zeros(batch, number, dtype=torch.long),
    )
    return Packed(*(torch.cat(parts, 1) for parts in zip(astuple(packed), astuple(turn), strict=True)))


def answer_from_image(
    model: LlavaForConditionalGeneration, image_tokens: torch.Tensor, packed: Packed, bos: int
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return loss, accuracy and every block's states of packed questions about images."""
    embed = model.get_input_embeddings()
    batch = len(image_tokens)
    embeds = torch.cat([embed(torch.full((batch, 1), bos)), image_tokens, embed(packed.input_ids)], dim=1)
    start = 1 + image_tokens.shape[1]
    positions = torch.cat([torch.arange(start).expand(batch, -1), start + packed.offset], dim=1)
    valid = torch.ones(batch, start, dtype=torch.bool)
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask=attention_mask(valid, packed.segment),
        position_ids=positions,
        use_cache=False,
        output_hidden_states=True,
    ).hidden_states
    states = tuple(part[:, start:] for part in hidden)
    return *answer_loss(states[-1], packed, model.lm_head), states


@dataclass(frozen=True)
class Exercise:
    """A batch of images, possibly mirrored, and the packed questions and captions about them."""

    images: torch.Tensor  # uint8 [batch, 3, size, size]
    packed: Packed
    targets: torch.Tensor  # of the pointers, [batch, LENGTH + num_tokens, 3]
    described: list[tuple[np.ndarray, np.ndarray]]  # each scene's words and patches
    num_tokens: int  # to be written behind the questions


def draw_exercise(turns: SceneTurns, slots: torch.Tensor, batch: int, rng: random.Random) -> Exercise:
    """Draw images, half of them mirrored, the order of their questions, captions, and a number of tokens."""
    index = [rng.randrange(len(turns.scenes)) for _ in range(batch)]
    mirror = [rng.random() < 0.5 for _ in index]
    images = torch.stack(
        [turns.images[i].flip(-1) if m else turns.images[i] for i, m in zip(index, mirror, strict=True)]
    )
    orders = [rng.sample(range(len(turns.questions[i])), len(turns.questions[i])) for i in index]
    rows = [
        [turns.mirror_question(turns.questions[i][k]) if m else turns.questions[i][k] for k in order]
        for i, m, order in zip(index, mirror, orders, strict=True)
    ]
    targets = [[turns.pointers[i][k] for k in order] for i, order in zip(index, orders, strict=True)]
    captions = [
        turns.caption(i, m) if rng.random() < CAPTION_SHARE else None for i, m in zip(index, mirror, strict=True)
    ]
    num_tokens = draw_num_tokens(rng)
    return Exercise(
        images,
        with_slots(pack(rows, LENGTH, captions), slots[:num_tokens]),
        lay_out(targets, LENGTH + num_tokens, NO_POINTER, captions),
        [turns.scene(i, m) for i, m in zip(index, mirror, strict=True)],
        num_tokens,
    )


def alignment(
    image_tokens: torch.Tensor,
    described: list[tuple[np.ndarray, np.ndarray]],
    table: torch.Tensor,
    nothing: int,
    object_id: int,
) -> torch.Tensor:
    """Return the relative squared error of image tokens against the vectors that describe their patches.

    Parameters
    ----------
    image_tokens : float [batch, GRID * GRID, hidden]
    described : each scene's words and patches
    table : float [vocab, hidden]
        Word embeddings; no gradient flows to them.
    nothing, object_id : int
        Ids of the words for an empty patch and for any object.
    """
    target = table.detach()[nothing].expand_as(image_tokens).clone()
    for b, (words, patches) in enumerate(described):
        target[b, patches] = superpose(table.detach(), torch.from_numpy(words), object_id)
    error = (image_tokens - target).square().sum(-1) / target.square().sum(-1)
    weight = torch.ones_like(error)
    for b, (_, patches) in enumerate(described):
        weight[b, patches] = 10.0
    return (error * weight).sum() / weight.sum()


@single_precision()
def main(
    out: Path,
    data: Path,
    vision: Path,
    task: Path,
    steps: int,
    seed: int = 0,
    batch: int = 8,
    lr: float = 5e-4,
    max_images: int | None = None,
    init: Path | None = None,
    families: list[str] | None = None,
    writing: float = WRITING,
) -> None:
    """Train the sensor's own model on images, captions and questions.

    Parameters
    ----------
    out : Path
        Folder for model, processor, pointers, the log and the model card.
    data : Path
        Folder with the splits `train` and `val`, their scenes included.
    vision : Path
        Folder of the pretrained tower to start from.
    task : Path
        Folder of the pretrained language model to start from.
    steps : int
        Number of training steps.
    seed : int
        Seed of the training.
    batch : int
        Images per step.
    lr : float
        Peak learning rate; the projector's is twice that.
    max_images : int, optional
        Number of images of each split to use, the first ones.
    init : Path, optional
        Earlier result of this stage to start from instead.
    families : list of str, optional
        Families of the questions; by default all six.
    writing : float
        Weight of the loss of written tokens; with 0 the sensor is not taught to write any.
    """
    options = dict(locals())
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = load_part(PreTrainedTokenizerFast, task)
    language = load_language_model(task)
    teacher = Reader(language, tokenizer)
    model = assemble(tokenizer, vision, language) if init is None else load_sensor_model(init)
    bos, nothing = token_ids(tokenizer, [BOS, NOTHING])
    train, val = load_turns(data, tokenizer, max_images, families)
    table = input_embeddings(model).weight
    pointers = Pointers(table.shape[1])
    pointers.load(task if init is None else init)

    def step(share: float) -> tuple[torch.Tensor, Metrics]:
        exercise = draw_exercise(train, teacher.slots, batch, rng)
        image_tokens = projected(model, normalize(exercise.images))
        loss, accuracy, states = answer_from_image(model, image_tokens, exercise.packed, bos)
        vectors = object_vectors(table, [words for words, _ in exercise.described], teacher.object_id)
        pointing = pointers(states, *vectors, exercise.targets)
        with torch.no_grad():
            dealt = teacher.deal([TextScene(*scene) for scene in exercise.described], exercise.num_tokens)
        written = (normalize_tokens(states[-1][:, LENGTH:]) - dealt).square().mean()
        aligned = alignment(image_tokens, exercise.described, table, nothing, teacher.object_id)
        pull = max(0.1, 1 - share / 0.5) if init is None else 0.1
        metrics = {"accuracy": accuracy, "pointing": pointing, "writing": written, "alignment": aligned}
        loss = loss + pointing + writing * written + pull * aligned
        return loss, {name: value.item() for name, value in metrics.items()}

    def save() -> None:
        save_half(model, out)
        pointers.save(out)
        build_processor(tokenizer).save_pretrained(out)
        results = evaluate(model, val, bos)
        print("val", results, flush=True)
        write_card(out, title="The embedded sensor's own LLaVA", stage="sensor", options=options, results=results)

    groups = [
        {"params": list(model.model.vision_tower.parameters()), "lr": lr},
        {"params": list(model.model.multi_modal_projector.parameters()), "lr": 2 * lr},
        {"params": [*model.model.language_model.parameters(), *model.lm_head.parameters()], "lr": lr},
        {"params": list(pointers.parameters()), "lr": lr},
    ]
    precision = mixed_precision(model)
    log = Path(out) / "training.jsonl"
    fit(step, groups, steps=steps, lr=lr, log=log, rng=rng, seed=seed, save=save, precision=precision)


@without_progress_bar()
def assemble(
    tokenizer: PreTrainedTokenizerFast, vision: Path, language: LlamaForCausalLM
) -> LlavaForConditionalGeneration:
    """Put a pretrained tower and language model together, with a fresh projector between them."""
    model = build_sensor_model(tokenizer)
    model.model.vision_tower.load_state_dict(load_model(CLIPVisionModel, vision).state_dict())
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    return model


@without_progress_bar()
def load_sensor_model(folder: Path) -> LlavaForConditionalGeneration:
    """Load a result of this stage, in float32."""
    return load_model(LlavaForConditionalGeneration, folder)


@torch.no_grad()
def evaluate(model: LlavaForConditionalGeneration, part: SceneTurns, bos: int, batch: int = 25) -> dict[str, float]:
    """Return the share of right answers over a split; for one-word answers teacher forcing equals greedy decoding."""
    right = total = 0.0
    for start in range(0, len(part.scenes), batch):
        index = range(start, min(start + batch, len(part.scenes)))
        packed = pack([part.questions[i] for i in index], 200)
        image_tokens = projected(model, normalize(part.images[list(index)]))
        _, accuracy, _ = answer_from_image(model, image_tokens, packed, bos)
        count = float(packed.num_answers)
        right, total = right + accuracy.item() * count, total + count
    return {"accuracy": round(right / total, 4), "questions": total}
