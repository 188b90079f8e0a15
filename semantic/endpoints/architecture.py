"""The embedded pair's shapes: small configurations of the classes that the full-size pair uses.

Sensor: `LlavaForConditionalGeneration` (CLIP vision tower, projector, Llama), as LLaVA-1.5-7B. Task agent:
`LlamaForCausalLM`, as LLaMA-2-7B. Both share one word-level tokenizer, whose vocabulary is the task world's.
"""

import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from semantic.data.scenes import NUM_POSITION_BINS
from semantic.tasks import ATTRIBUTES, PLURALS, SYNONYMS

PAD, BOS, EOS, UNKNOWN, IMAGE, OBJECT, NOTHING = "<pad>", "<s>", "</s>", "<unk>", "<image>", "<object>", "<nothing>"
SPECIAL = (PAD, BOS, EOS, UNKNOWN, IMAGE, OBJECT, NOTHING)
MAX_SLOTS = 8
SLOTS = tuple(f"<slot{i}>" for i in range(MAX_SLOTS))
GRID = 12  # side of the vision tower's square of patches
PATCH_SIZE = 16  # [pixels] of the square image from the processor

_FUNCTION_WORDS = """
    a about and another are as anything behind color compare describe different does equal exist existence fewer for
    front greater have how in is less likeness made many material more no number numbers object objects of one other
    position presence question same scene shape shapes size than that the there this thing things to two visible what
    whether with yes left right , . ? :
""".split()


def vocabulary() -> list[str]:
    """Return every word of the embedded pair's language, in the fixed order of its token ids."""
    words = set(_FUNCTION_WORDS) | set(string.digits) | set(PLURALS) | set(PLURALS.values())
    words |= {value for values in ATTRIBUTES.values() for value in values}
    words |= {word for words_ in SYNONYMS.values() for word in words_}
    positions = [f"{axis}{i:02d}" for axis in "cr" for i in range(NUM_POSITION_BINS)]
    return [*SPECIAL, *SLOTS, *positions, *sorted(words)]


def build_tokenizer(words: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """Build the word-level tokenizer: lower case, split at white space and punctuation, with `<s>` in front.

    Its words are those of the embedded pair's language, or the given ones behind the special words.
    """
    known = vocabulary() if words is None else [*SPECIAL, *SLOTS, *words]
    ids = {word: i for i, word in enumerate(known)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[IMAGE, OBJECT, NOTHING, *SLOTS],
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def token_ids(tokenizer: PreTrainedTokenizerBase, words: list[str]) -> list[int]:
    """Return the ids of words, with their type; by its own, transformers' method may also return one id."""
    return cast(list[int], tokenizer.convert_tokens_to_ids(words))


def token_id(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    """Return the id of one word."""
    return token_ids(tokenizer, [word])[0]


def language_config(vocab_size: int) -> LlamaConfig:
    """Return the configuration of both language models: 6 blocks of width 256, 8 heads."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def vision_config() -> CLIPVisionConfig:
    """Return the configuration of the vision tower: 12 x 12 patches, 4 blocks of width 192, 6 heads."""
    return CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        image_size=GRID * PATCH_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=192,
    )


@contextmanager
def single_precision() -> Iterator[None]:
    """Let torch make float32 numbers, whatever its default is; for a block, or as a decorator for a function.

    Fresh weights and the noise of trainings are then the same in every program.
    """
    earlier = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(earlier)


@single_precision()
def build_task_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build the task agent's model with fresh weights."""
    return LlamaForCausalLM(language_config(len(tokenizer)))


@single_precision()
def build_sensor_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Build the sensor agent's model with fresh weights; its features come from the tower's last block."""
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=language_config(len(tokenizer)),
        image_token_index=token_id(tokenizer, IMAGE),
        image_seq_length=GRID * GRID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config)
