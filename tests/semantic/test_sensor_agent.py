from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from semantic.endpoints.architecture import GRID, token_ids
from semantic.endpoints.sensor import build_processor
from semantic.sensor_agent import SensorAgent
from semantic.tasks import normalize_answer
from tests.semantic.models import HIDDEN, QUESTIONS, changed, parameters_of, pictures

IMAGES = pictures(3)
DESCRIPTIONS = [
    "this is a question about two numbers .",
    "this is a question about the color of a thing and same material .",
    "this is a question about the presence of a thing and position .",
]


@pytest.fixture
def sensor(agents):
    return agents.sensor


def calls_of(module):
    """Count the examples that go through a module."""
    seen = []

    def count(module, args, kwargs):
        seen.append(len(next(iter(kwargs.values()))) if not args else len(args[0]))

    module.register_forward_pre_hook(count, with_kwargs=True)
    return seen


# --- what the tokens are -----------------------------------------------------------------------------------------


def test_tokens_are_the_last_hidden_states_of_the_final_block(sensor):
    """The whole LLaVA, from pixels and ids of its own processor, says the same."""
    names = [f"<slot{i}>" for i in range(sensor.num_tokens)]
    with torch.no_grad():
        table = sensor.model.get_input_embeddings().weight
        sensor.slots.copy_(table[token_ids(sensor.processor.tokenizer, names)])
    for image, description in zip(IMAGES, DESCRIPTIONS, strict=True):
        text = "<image>" + description + " ".join(names)
        inputs = sensor.processor(images=[image], text=[text], return_tensors="pt")
        with torch.no_grad():
            whole = sensor.model(**inputs, output_hidden_states=True).hidden_states[-1]
        tokens = sensor.tokens([image], [description])
        assert tokens.shape == (1, sensor.num_tokens, HIDDEN)
        assert torch.allclose(tokens, whole[:, -sensor.num_tokens :], atol=1e-4)
        assert tokens.std() > 0.1


def test_tokens_depend_on_image_and_on_description(sensor):
    first, other_image, other_text = (
        sensor.tokens([IMAGES[i]], [DESCRIPTIONS[k]]) for i, k in ((0, 0), (1, 0), (0, 1))
    )
    assert (first - other_image).abs().max() > 1e-2
    assert (first - other_text).abs().max() > 1e-2


def test_tokens_do_not_depend_on_batch_padding_or_neighbours(sensor):
    lengths = {len(sensor.processor.tokenizer(d)["input_ids"]) for d in DESCRIPTIONS}
    assert len(lengths) > 1  # so that some are padded
    together = sensor.tokens(IMAGES, DESCRIPTIONS)
    alone = torch.cat([sensor.tokens([i], [d]) for i, d in zip(IMAGES, DESCRIPTIONS, strict=True)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(sensor.tokens(IMAGES, DESCRIPTIONS, batch_size=2), alone, atol=1e-4)


def test_tokens_are_the_same_for_an_array_and_a_pil_image(sensor):
    assert torch.equal(
        sensor.tokens([Image.fromarray(IMAGES[0])], DESCRIPTIONS[:1]), sensor.tokens(IMAGES[:1], DESCRIPTIONS[:1])
    )


def test_every_image_and_every_pair_is_computed_once(sensor):
    seen, expressed = calls_of(sensor.model.model.vision_tower), calls_of(sensor.model.get_decoder())
    order = [0, 1, 0, 0, 2, 1]
    texts = [DESCRIPTIONS[k] for k in (0, 0, 1, 0, 2, 0)]
    tokens = sensor.tokens([IMAGES[i] for i in order], texts)
    assert sum(seen) == 3
    assert sum(expressed) == 1 + 3 + 4  # a probe of the model; the images; (0, 0), (1, 0), (0, 1), (2, 2)
    assert torch.equal(tokens[0], tokens[3])
    assert torch.equal(tokens[1], tokens[5])
    for row, (i, text) in enumerate(zip(order, texts, strict=True)):
        assert torch.allclose(tokens[row], sensor.tokens([IMAGES[i]], [text])[0], atol=1e-4)


class ReadAnew(Sequence):
    """A folder of images as data sets hold it: each access decodes a file and makes a new array."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index >= 6:
            raise IndexError
        return IMAGES[index % 3].copy()


def test_images_that_are_read_anew_at_every_access_are_not_confused(sensor):
    expected = sensor.tokens([IMAGES[i % 3] for i in range(6)], [DESCRIPTIONS[0]] * 6)
    assert torch.allclose(sensor.tokens(ReadAnew(), [DESCRIPTIONS[0]] * 6), expected, atol=1e-4)
    held = sensor.answer([IMAGES[i % 3] for i in range(6)], QUESTIONS)
    assert sensor.answer(ReadAnew(), QUESTIONS) == held


# --- its own answers ---------------------------------------------------------------------------------------------


def test_answers_are_those_of_the_pretrained_model_by_transformers_own_generate(sensor, pair):
    model = AutoModelForImageTextToText.from_pretrained(pair / "sensor").eval()
    processor = AutoProcessor.from_pretrained(pair / "sensor", backend="pil")
    expected = []
    for k, question in enumerate(QUESTIONS):
        inputs = processor(images=[IMAGES[k % 3]], text=["<image>" + question], return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        length = inputs["input_ids"].shape[1]
        expected.append(normalize_answer(processor.tokenizer.decode(out[0, length:], skip_special_tokens=True)))
    images = [IMAGES[k % 3] for k in range(len(QUESTIONS))]
    assert sensor.answer(images, QUESTIONS) == expected
    assert sensor.answer(images, QUESTIONS, batch_size=4) == expected
    assert len(set(expected)) > 3


def test_answering_leaves_the_adapter_on(sensor):
    before = sensor.tokens(IMAGES, DESCRIPTIONS)
    sensor.answer(IMAGES, QUESTIONS[:3])
    assert torch.equal(sensor.tokens(IMAGES, DESCRIPTIONS), before)


# --- training ----------------------------------------------------------------------------------------------------


def test_the_gradient_reaches_slots_and_lora_only(sensor):
    sensor.train()
    assert sensor.training
    assert not sensor.model.training
    features = torch.stack(sensor.image_tokens(IMAGES))
    sensor.express(features, *sensor.tokenize(DESCRIPTIONS, GRID * GRID)).square().sum().backward()
    for name, parameter in sensor.named_parameters():
        if name == "slots" or "lora_" in name:
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


def test_asking_changes_nothing(sensor):
    before = parameters_of(sensor)
    sensor.tokens(IMAGES, DESCRIPTIONS)
    sensor.answer(IMAGES, QUESTIONS[:3])
    assert not changed(before, sensor)


# --- refusals ----------------------------------------------------------------------------------------------------


def test_one_image_per_text_is_needed(sensor):
    with pytest.raises(ValueError, match="3 images came with 2 descriptions; one each is needed"):
        sensor.tokens(IMAGES, DESCRIPTIONS[:2])
    with pytest.raises(ValueError, match="1 images came with 6 questions; one each is needed"):
        sensor.answer(IMAGES[:1], QUESTIONS)


def test_at_least_one_token_is_needed(sensor):
    with pytest.raises(ValueError, match="num_tokens must be at least 1, got 0"):
        SensorAgent(sensor.model, sensor.processor, num_tokens=0)


@pytest.mark.parametrize("prompt", ["{text}", "<image>", "USER: <image>\n{question}"])
def test_a_prompt_needs_a_place_for_the_image_and_one_for_the_text(sensor, prompt):
    with pytest.raises(ValueError, match=r"prompt must contain {text} and <image>, got"):
        SensorAgent(sensor.model, sensor.processor, prompt=prompt)


def test_a_worded_prompt_surrounds_image_and_text(sensor):
    worded = SensorAgent(sensor.model, sensor.processor, num_tokens=3, prompt="question : <image> {text} ?")
    ids, mask = worded.tokenize(["two things", "two"], 5)
    words = worded.processor.tokenizer.convert_ids_to_tokens(ids[0].tolist())
    assert words == ["<s>", "question", ":", *["<image>"] * 5, "two", "things", "?"]
    assert mask.tolist() == [[1] * 11, [0] + [1] * 10]


def test_the_processor_squeezes_the_whole_image_to_the_towers_square(sensor):
    pixels = build_processor(sensor.processor.tokenizer).image_processor(
        [np.full((128, 192, 3), 255, dtype=np.uint8)], return_tensors="pt"
    )["pixel_values"]
    assert pixels.shape == (1, 3, 192, 192)
    assert torch.allclose(pixels, torch.ones(()))
