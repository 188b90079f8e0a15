"""Tiny agents of the embedded pair's own classes; their random weights are large, so that answers differ."""

import json
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig

from semantic.data.scenes import HEIGHT, WIDTH, pixel_coords, scene_rng
from semantic.data.scenes import draw_scene as draw
from semantic.endpoints import architecture
from semantic.endpoints.sensor import build_processor

HIDDEN = 32
QUESTIONS = [
    "is there a red cube ?",
    "what color is the small ball left of the big shiny thing ?",
    "how many things are there ?",
    "does the red cube have the same size as the ball ?",
    "what number of tiny rubber blocks are visible ?",
    "what is the green cylinder made of ?",
]


def language_config(vocab_size):
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        rms_norm_eps=1e-5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def deep_language_config(vocab_size):
    """As many blocks as the pointing exercise looks at."""
    config = language_config(vocab_size)
    config.num_hidden_layers = 6
    return config


def vision_config():
    return CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=architecture.GRID * architecture.PATCH_SIZE,
        patch_size=architecture.PATCH_SIZE,
        projection_dim=24,
        initializer_range=0.3,
    )


def build_task_model(seed=0):
    torch.manual_seed(seed)
    with patch.object(architecture, "language_config", language_config):
        return architecture.build_task_model(architecture.build_tokenizer()).eval()


def build_sensor_model(seed=1):
    torch.manual_seed(seed)
    with (
        patch.object(architecture, "language_config", language_config),
        patch.object(architecture, "vision_config", vision_config),
    ):
        model = architecture.build_sensor_model(architecture.build_tokenizer()).eval()
    for parameter in model.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def save_pair(folder):
    """Write the two pretrained models as the stages of the training do: `folder`/sensor and `folder`/task."""
    tokenizer = architecture.build_tokenizer()
    build_sensor_model().save_pretrained(folder / "sensor")
    build_processor(tokenizer).save_pretrained(folder / "sensor")
    build_task_model().save_pretrained(folder / "task")
    tokenizer.save_pretrained(folder / "task")


def pictures(count, seed=0):
    """Coarse random patterns, of the scenes' size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) for c in coarse]


def write_split(folder, split, count):
    """Write a split whose scenes are drawn, but whose pictures are random patterns: nothing has to be rendered."""
    (folder / "images" / split).mkdir(parents=True)
    scenes, questions = [], []
    for index, picture in enumerate(pictures(count, seed=len(split))):
        name = f"CLEVR_{split}_{index:06d}.png"
        Image.fromarray(picture).save(folder / "images" / split / name)
        scene = draw(scene_rng(0, split, index, "layout"))
        for obj, place in zip(scene["objects"], pixel_coords(scene), strict=True):
            obj["pixel_coords"] = place
        scenes.append({"image_index": index, "image_filename": name, "split": split, **scene})
        program = [{"function": "scene", "inputs": [], "value_inputs": []}]
        program.append({"function": "count", "inputs": [0], "value_inputs": []})
        questions.append(
            {
                "image_index": index,
                "image_filename": name,
                "question": "how many things are there ?",
                "answer": str(len(scene["objects"])),
                "program": program,
            }
        )
    for kind, content in (("scenes", scenes), ("questions", questions)):
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"CLEVR_{split}_{kind}.json").write_text(json.dumps({kind: content}))


def parameters_of(module):
    """Return a copy of every parameter and buffer."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    """Return the names of the parameters and buffers that are no longer what they were, bit by bit."""
    after = module.state_dict()
    assert before.keys() == after.keys()
    return {name for name, tensor in after.items() if not torch.equal(before[name], tensor)}


class NoisyStraightThrough(torch.autograd.Function):
    """A stand-in for the link: numbered noise on the way there, the gradient as it is on the way back."""

    @staticmethod
    def forward(ctx, codes, noise):
        return codes + noise

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class NoisyChannel:
    """White noise, decided by the realisation's number alone; remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, codes, *, snr_db, realisation=None):
        self.calls.append((codes.detach().clone(), snr_db, realisation))
        numbers = range(len(codes)) if realisation is None else realisation
        noise = np.stack([np.random.default_rng(int(i)).standard_normal(codes.shape[1:]) for i in numbers])
        scale = 10 ** (-torch.as_tensor(snr_db, dtype=torch.float32).reshape(-1, 1, 1) / 20)
        codes_hat = NoisyStraightThrough.apply(codes, scale * torch.as_tensor(noise, dtype=codes.dtype))
        return codes_hat, (scale**2).expand_as(codes)
