"""Families of models with small random configurations: one row each. A new family is one more row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers as tf

from semantic.processors import ImagesAlone
from tests.semantic.byte_tokenizers import CHAT, byte_tokenizer

SIZE, PATCH = 28, 7
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
UNTIED = {"tie_word_embeddings": False}  # Gemma's random models repeat the last word otherwise
VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": PATCH,
    "initializer_range": 0.3,
}
IMAGE_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Sensor:
    """A family of image-text models: a model and a processor."""

    name: str
    special: tuple[str, ...] | dict[str, str]  # of its tokenizer; the first one stands for an image in a prompt
    build: Callable[[Any], tuple[Any, Any]]  # tokenizer to model and processor
    chat: str = "IMAGE"  # what stands for an image in its chat template; empty for a family without one

    def __str__(self) -> str:
        """Return the name of a case."""
        return self.name

    def made(self) -> tuple[Any, Any]:
        """Return a model and its processor."""
        named = isinstance(self.special, dict)
        tokenizer = byte_tokenizer(**self.special) if named else byte_tokenizer(special=self.special)
        model, processor = self.build(tokenizer)
        if self.chat:
            first = next(iter(self.special.values() if isinstance(self.special, dict) else self.special))
            template = IMAGE_CHAT.replace("IMAGE", self.chat.replace("IMAGE", first))
            processor.chat_template = processor.tokenizer.chat_template = template
        return model.eval(), processor


def text_config(kind: Any, tokenizer: Any, **more: Any) -> Any:
    """Return a small configuration of a language model."""
    return kind(vocab_size=len(tokenizer), **{**TEXT, **more})


def clip_processor(kind: Any, **more: Any) -> Any:
    """Return an image processor of small images."""
    return kind(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, **more)


def squared(kind: Any, **more: Any) -> Any:
    """Return an image processor of small squares."""
    return kind(size={"height": SIZE, "width": SIZE}, **more)


def llava(tokenizer: Any, text: Any = tf.LlamaConfig) -> tuple[Any, Any]:
    """LLaVA-1.5."""
    config = tf.LlavaConfig(
        text_config=text_config(text, tokenizer),
        vision_config=tf.CLIPVisionConfig(**VISION),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=(SIZE // PATCH) ** 2,
    )
    processor = tf.LlavaProcessor(
        clip_processor(tf.CLIPImageProcessorPil),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return tf.LlavaForConditionalGeneration(config), processor


def llava_next(tokenizer: Any) -> tuple[Any, Any]:
    """LLaVA-NeXT: an image in tiles, as many as its shape wants, and the ends of its rows."""
    grids = [[SIZE, 2 * SIZE], [2 * SIZE, SIZE], [2 * SIZE, 2 * SIZE]]
    config = tf.LlavaNextConfig(
        text_config=text_config(tf.MistralConfig, tokenizer, sliding_window=None),
        vision_config=tf.CLIPVisionConfig(**VISION),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
        image_seq_length=70,
    )
    processor = tf.LlavaNextProcessor(
        clip_processor(tf.LlavaNextImageProcessorPil, image_grid_pinpoints=grids),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return tf.LlavaNextForConditionalGeneration(config), processor


def qwen(tokenizer: Any) -> tuple[Any, Any]:
    """Qwen2.5-VL: an image in a plane."""
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start")}
    config = tf.Qwen2_5_VLConfig(
        text_config={
            **text_config(tf.Qwen2Config, tokenizer).to_dict(),
            "model_type": "qwen2_5_vl_text",
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": TEXT["hidden_size"],
            "window_size": 4 * PATCH,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.3,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
    )
    images = tf.Qwen2VLImageProcessorPil(
        min_pixels=SIZE * SIZE, max_pixels=8 * SIZE * SIZE, patch_size=PATCH, merge_size=2, temporal_patch_size=2
    )
    return tf.Qwen2_5_VLForConditionalGeneration(config), ImagesAlone(tf.Qwen2_5_VLProcessor, images, tokenizer)


def idefics(tokenizer: Any) -> tuple[Any, Any]:
    """Idefics3: an image in tiles, with marks of rows and columns; SmolVLM's processor needs num2words, torchvision."""
    config = tf.Idefics3Config(
        text_config=text_config(tf.LlamaConfig, tokenizer).to_dict(),
        vision_config={**VISION, "model_type": "idefics3_vision"},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=2,
    )
    images = tf.Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIZE}, max_image_size={"longest_edge": SIZE})
    return tf.Idefics3ForConditionalGeneration(config), tf.Idefics3Processor(images, tokenizer, image_seq_len=4)


def paligemma(tokenizer: Any) -> tuple[Any, Any]:
    """PaliGemma: image and prompt attend to each other in both directions."""
    config = tf.PaliGemmaConfig(
        text_config={**text_config(tf.GemmaConfig, tokenizer, head_dim=8).to_dict(), "model_type": "gemma"},
        vision_config={**VISION, "model_type": "siglip_vision_model"},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=TEXT["hidden_size"],
    )
    images = squared(tf.SiglipImageProcessorPil)
    images.image_seq_length = (SIZE // PATCH) ** 2
    return tf.PaliGemmaForConditionalGeneration(config), tf.PaliGemmaProcessor(images, tokenizer)


def gemma3(tokenizer: Any) -> tuple[Any, Any]:
    """Gemma 3: an image's features attend to each other in both directions, in some layers over a window."""
    config = tf.Gemma3Config(
        text_config=text_config(tf.Gemma3TextConfig, tokenizer, head_dim=8, sliding_window=64, **UNTIED).to_dict(),
        vision_config={**VISION, "model_type": "siglip_vision_model"},
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        mm_tokens_per_image=4,
        initializer_range=TEXT["initializer_range"],
        **UNTIED,
    )
    processor = tf.Gemma3Processor(squared(tf.Gemma3ImageProcessorPil), tokenizer, image_seq_length=4)
    return tf.Gemma3ForConditionalGeneration(config), processor


TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
SENSORS = [
    Sensor("LLaVA", ("<image>",), llava),
    Sensor("LLaVA-NeXT", ("<image>",), llava_next),
    Sensor(
        "Qwen2.5-VL",
        ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
        qwen,
        "<|vision_start|>IMAGE<|vision_end|>",
    ),
    Sensor("Idefics3", ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *TILES), idefics),
    Sensor("PaliGemma", ("<image>",), paligemma, ""),
    Sensor(
        "Gemma 3", {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<soft>"}, gemma3
    ),
]


@dataclass(frozen=True)
class Receiver:
    """A family of causal language models."""

    name: str
    model: Any
    config: Any
    more: dict[str, Any]
    front: tuple[str, ...] = ()  # what its tokenizer puts in front of a text
    chat: str | None = CHAT

    def __str__(self) -> str:
        """Return the name of a case."""
        return self.name

    def made(self) -> tuple[Any, Any]:
        """Return a model and its tokenizer."""
        tokenizer = byte_tokenizer(front=self.front, chat=self.chat)
        return self.model(text_config(self.config, tokenizer, **self.more)).eval(), tokenizer


WIDER = {"hidden_size": 48}
RECEIVERS = [
    Receiver("Llama", tf.LlamaForCausalLM, tf.LlamaConfig, WIDER, ("<|im_start|>",), None),
    Receiver("Mistral", tf.MistralForCausalLM, tf.MistralConfig, {"sliding_window": 128}, ("<|im_start|>",)),
    Receiver("Qwen", tf.Qwen2ForCausalLM, tf.Qwen2Config, {"hidden_size": 24}),
    Receiver("Gemma", tf.GemmaForCausalLM, tf.GemmaConfig, {**WIDER, "head_dim": 12}, ("<|im_start|>",)),
    Receiver("Gemma 2", tf.Gemma2ForCausalLM, tf.Gemma2Config, {"head_dim": 8, **UNTIED}),
    Receiver("Gemma 3", tf.Gemma3ForCausalLM, tf.Gemma3TextConfig, {"head_dim": 8, **UNTIED}, ("<|im_start|>",)),
    Receiver("Phi", tf.Phi3ForCausalLM, tf.Phi3Config, {"hidden_size": 24}),
    Receiver("GPT-2", tf.GPT2LMHeadModel, tf.GPT2Config, {"n_inner": 48}, (), None),
]


def save(folder: Any, sensor: Sensor, receiver: Receiver) -> None:
    """Write both models of a pair to ``folder/sensor`` and ``folder/task``."""
    for name, (model, reads) in (("sensor", sensor.made()), ("task", receiver.made())):
        model.save_pretrained(folder / name)
        reads.save_pretrained(folder / name)
