"""A small image-text model of LLaVA's classes for any data set, trained from nothing on its questions.

It becomes the sensor of a pair whose task agent may be any language model. Its vocabulary is that of the training
questions, their answers and their vague descriptions, so answers have to be single words.

A few thousand images are too few for a vision tower to learn shapes through a language model alone. Classifiers, which
are thrown away afterwards, therefore also read the answers from the mean of the image tokens.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from semantic.data import load_dataset
from semantic.data.dataset import Dataset, Question
from semantic.data.packing import encode_question, pack
from semantic.endpoints.architecture import BOS, IMAGE, build_tokenizer, single_precision, token_id
from semantic.endpoints.sensor import answer_from_image, build_processor, projected
from semantic.obfuscation import obfuscate
from semantic.training import LICENCE_OF_OTHERS, Metrics, fit, mixed_precision, save_half, write_card

LENGTH = 60  # of an image's packed questions [words]


@single_precision()
def main(
    out: Path,
    data: Path | None = None,
    layout: str = "clevr",
    steps: int = 3000,
    seed: int = 0,
    batch: int = 16,
    lr: float = 1e-3,
    hidden_size: int = 128,
    image_size: int = 64,
    patch_size: int = 8,
    mirrored: bool = False,
) -> None:
    """Train a small sensor for a data set on its images and questions.

    Parameters
    ----------
    out : Path
        Folder for model, processor, the log and the model card.
    data : Path, optional
        Folder with the splits `train` and `val`; easy-vqa needs none where its package is installed.
    layout : str
        Layout of the folder: clevr, easy-vqa, …
    steps : int
        Number of training steps.
    seed : int
        Seed of the training.
    batch : int
        Images per step.
    lr : float
        Peak learning rate.
    hidden_size : int
        Length of the model's tokens: a multiple of 32.
    image_size : int
        Side of the square that images are resized to [pixels].
    patch_size : int
        Side of a patch [pixels].
    mirrored : bool
        Also show mirrored images: only where no answer depends on left and right.
    """
    options = dict(locals())
    torch.manual_seed(seed)
    rng = random.Random(seed)
    learned, held_out = (load_dataset(data, split, layout) for split in ("train", "val"))
    tokenizer = build_tokenizer(words_of(learned.questions))
    processor = build_processor(tokenizer, image_size, patch_size)
    model = build_model(tokenizer, hidden_size, image_size, patch_size)
    bos = token_id(tokenizer, BOS)
    asked, targets = by_image(learned, processor, tokenizer), answer_targets(learned)
    heads = torch.nn.ModuleList(torch.nn.Linear(hidden_size, target.shape[1]) for target in targets)

    def step(share: float) -> tuple[torch.Tensor, Metrics]:
        chosen = [rng.randrange(len(asked)) for _ in range(batch)]
        mirror = [mirrored and rng.random() < 0.5 for _ in chosen]
        pixels = [asked[i].pixels.flip(-1) if m else asked[i].pixels for i, m in zip(chosen, mirror, strict=True)]
        rows = [rng.sample(asked[i].encoded, len(asked[i].encoded)) for i in chosen]
        image_tokens = projected(model, torch.stack(pixels).float())
        loss, accuracy, _ = answer_from_image(model, image_tokens, pack(rows, LENGTH), bos)
        seen = torch.zeros(())
        for head, target in zip(heads, targets, strict=True):  # rows of zeros, where no answer is known, add nothing
            seen = seen + torch.nn.functional.cross_entropy(head(image_tokens.mean(1)), target[chosen])
        return loss + seen, {"accuracy": accuracy.item(), "classifiers": seen.item()}

    def save() -> None:
        save_half(model, out)
        processor.save_pretrained(out)
        results = evaluate(model, by_image(held_out, processor, tokenizer), bos)
        print("val", results, flush=True)
        title = "A small LLaVA, trained from nothing"
        write_card(out, title=title, stage="vqa", options=options, results=results, licence=LICENCE_OF_OTHERS)

    fit(
        step,
        [*model.parameters(), *heads.parameters()],
        steps=steps,
        lr=lr,
        log=Path(out) / "training.jsonl",
        rng=rng,
        seed=seed,
        save=save,
        precision=mixed_precision(model),
    )


def words_of(questions: Iterable[Question]) -> list[str]:
    """Return every word of questions, of their answers and of their vague descriptions, in alphabetical order."""
    texts = {text.lower() for q in questions for text in (q.question, q.answer, obfuscate(q.question))}
    split: Callable = Whitespace().pre_tokenize_str
    return sorted({word for text in texts for word, _ in split(text)})


def open_answers(questions: Sequence[Question], descriptions: Sequence[str]) -> dict[str, dict[int, list[str]]]:
    """Return the answers beyond yes and no, by the vague description of their questions and by image.

    Images are numbered in the order in which the questions come to them. Both the descriptions and the answers of an
    image are in alphabetical order.
    """
    numbers: dict[int, int] = {}
    answers: dict[str, dict[int, set[str]]] = {}
    for question, description in zip(questions, descriptions, strict=True):
        number = numbers.setdefault(question.image_index, len(numbers))
        if question.answer not in ("yes", "no"):
            answers.setdefault(description, {}).setdefault(number, set()).add(question.answer)
    return {kind: {i: sorted(given) for i, given in of_image.items()} for kind, of_image in sorted(answers.items())}


def answer_targets(dataset: Dataset) -> list[torch.Tensor]:
    """Return each image's answers, for every kind of question, as shares [num_images, num_answers]; zeros if none."""
    num_images = len({question.image_index for question in dataset.questions})
    targets = []
    for of_image in open_answers(dataset.questions, [obfuscate(q.question) for q in dataset.questions]).values():
        words = sorted({answer for given in of_image.values() for answer in given})
        target = torch.zeros(num_images, len(words))
        for number, given in of_image.items():
            target[number, [words.index(answer) for answer in given]] = 1 / len(given)
        targets.append(target)
    return targets


def build_model(
    tokenizer: PreTrainedTokenizerFast, hidden_size: int, image_size: int, patch_size: int
) -> LlavaForConditionalGeneration:
    """Build a model with fresh weights: a vision tower of 3 blocks and a language model of 3.

    Raises
    ------
    ValueError
        If the sizes do not divide each other.
    """
    if hidden_size % 32 or image_size % patch_size:
        raise ValueError(
            f"hidden_size ({hidden_size}) must be a multiple of 32, image_size ({image_size}) one of patch_size "
            f"({patch_size})"
        )
    blocks: dict[str, Any] = {
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_attention_heads": hidden_size // 32,
    }
    vision = CLIPVisionConfig(
        **blocks, num_hidden_layers=3, image_size=image_size, patch_size=patch_size, projection_dim=hidden_size
    )
    language = LlamaConfig(
        **blocks,
        vocab_size=len(tokenizer),
        num_hidden_layers=3,
        num_key_value_heads=hidden_size // 32,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=language,
            image_token_index=token_id(tokenizer, IMAGE),
            image_seq_length=(image_size // patch_size) ** 2,
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
        )
    )


@dataclass(frozen=True)
class Asked:
    """An image and the questions about it."""

    pixels: torch.Tensor  # float16 [3, image_size, image_size], as the processor returns it
    encoded: list[np.ndarray]  # as `encode_question` returns them
    families: list[str]


def by_image(dataset: Dataset, processor: LlavaProcessor, tokenizer: PreTrainedTokenizerBase) -> list[Asked]:
    """Load every image of a split once, with all questions about it."""
    questions: dict[int, list[Question]] = {}
    for question in dataset.questions:
        questions.setdefault(question.image_index, []).append(question)
    encode: dict[tuple[str, str], np.ndarray] = {}
    asked = []
    for index, about in questions.items():
        pixels = processor.image_processor(dataset.image(index), return_tensors="pt")["pixel_values"][0].half()
        for q in about:
            if (q.question, q.answer) not in encode:
                encode[q.question, q.answer] = encode_question(tokenizer, q.question, q.answer)
        asked.append(Asked(pixels, [encode[q.question, q.answer] for q in about], [q.family for q in about]))
    return asked


@torch.no_grad()
def evaluate(model: LlavaForConditionalGeneration, asked: list[Asked], bos: int, batch: int = 32) -> dict[str, float]:
    """Return the share of right answers by family; for one-word answers teacher forcing equals greedy decoding."""
    results: dict[str, float] = {}
    for family in sorted({name for one in asked for name in one.families}):
        right = total = 0.0
        for start in range(0, len(asked), batch):
            part = asked[start : start + batch]
            rows = [
                [ids for ids, name in zip(one.encoded, one.families, strict=True) if name == family] for one in part
            ]
            packed = pack(rows, max(1, *(sum(map(len, row)) for row in rows)))
            pixels = torch.stack([one.pixels for one in part]).float()
            if count := float(packed.num_answers):
                _, accuracy, _ = answer_from_image(model, projected(model, pixels), packed, bos)
                right, total = right + accuracy.item() * count, total + count
        results[f"accuracy, {family}"] = round(right / total, 4)
    return results
