"""An image's keys and values are computed once, and every question goes on from them: what comes out is the same."""

import weakref

import pytest
import torch
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
)

from semantic.adapters import add_lora, without_lora
from semantic.endpoints.architecture import GRID, IMAGE, build_tokenizer, token_id
from semantic.endpoints.sensor import build_processor
from semantic.sensor_agent import SensorAgent
from semantic.task_agent import generate
from tests.semantic.models import HIDDEN, QUESTIONS, build_sensor_model, pictures, vision_config

PATCHES = GRID * GRID
IMAGES = pictures(4)
ABOUT = [0, 1, 0, 2, 1, 0, 3]  # two images occur once
TEXTS = [
    "this is a question about two numbers .",
    "this is a question about the color of a thing and same material .",
    "this is a question about the number of things .",
    "this is a question about two numbers .",
    "this is a question about the presence of a thing and position .",
    "this is a question about the same size of two things .",
    "this is a question about the shape of a thing .",
]
ASKED = [QUESTIONS[n % len(QUESTIONS)] for n in range(len(ABOUT))]


def language(config, **given):
    sizes = {"hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return config(**sizes, vocab_size=len(build_tokenizer()), initializer_range=0.3, eos_token_id=2, **given)


LANGUAGES = {
    "llama": lambda: None,
    "grouped queries": lambda: language(MistralConfig, num_key_value_heads=2, sliding_window=None),
    "biases": lambda: language(Qwen2Config, num_key_value_heads=4),
    "window": lambda: language(MistralConfig, num_key_value_heads=4, sliding_window=32),
    "both directions": lambda: language(MistralConfig, num_key_value_heads=4, sliding_window=None, is_causal=False),
}
SHARING = ["llama", "grouped queries", "biases"]


def build(name="llama", **given):
    """A sensor of random weights in double precision, in which rounding is far below what single precision shows."""
    torch.manual_seed(1)
    tokenizer, config = build_tokenizer(), LANGUAGES[name]()
    if config is None:
        model = build_sensor_model()
    else:
        model = LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=vision_config(),
                text_config=config,
                image_token_index=token_id(tokenizer, IMAGE),
                image_seq_length=PATCHES,
                vision_feature_layer=-1,
                vision_feature_select_strategy="default",
            )
        )
        for parameter in model.model.multi_modal_projector.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    add_lora(model, r=2, lora_alpha=4)
    for part, parameter in model.named_parameters():
        if "lora_B" in part:
            torch.nn.init.normal_(parameter, std=0.5)
    return SensorAgent(model, build_processor(tokenizer), num_tokens=3, **given).double()


@torch.no_grad()
def whole_tokens(sensor, images, texts):
    """Express every prompt by itself, image and text."""
    return sensor.express(torch.stack(sensor.image_tokens(images)), *sensor.tokenize(texts, PATCHES))


@torch.no_grad()
def whole_answers(sensor, images, questions):
    with without_lora(sensor.model):
        input_ids, mask = sensor.tokenize(questions, PATCHES)
        embeds = sensor.embed(input_ids, torch.stack(sensor.image_tokens(images)))
        return generate(sensor.model, sensor.processor.tokenizer, embeds, mask, sensor.max_new_tokens)


def pick(images=IMAGES):
    return [images[n] for n in ABOUT]


def reads_of(sensor):
    """Record (rows, positions) of everything that the language model reads, except single words."""
    reads = []

    def record(module, args, kwargs):
        rows, positions = kwargs["inputs_embeds"].shape[:2] if kwargs.get("inputs_embeds") is not None else (0, 1)
        if positions > 1:
            reads.append((rows, positions))

    sensor.model.get_decoder().register_forward_pre_hook(record, with_kwargs=True)
    return reads


def assert_same(tokens, expected):
    """Equal to the last digit or so of the single precision in which tokens are given."""
    torch.testing.assert_close(tokens, expected, rtol=5e-7, atol=1e-6)


# --- what comes out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_tokens_are_those_of_whole_prompts(name, batch_size):
    sensor = build(name)
    assert_same(sensor.tokens(pick(), TEXTS, batch_size=batch_size), whole_tokens(sensor, pick(), TEXTS))


@pytest.mark.parametrize("name", LANGUAGES)
def test_answers_are_those_of_whole_prompts(name):
    sensor = build(name)
    expected, answers = whole_answers(sensor, pick(), ASKED), sensor.answer(pick(), ASKED)
    assert answers == expected
    assert [answer.confidence for answer in answers] == pytest.approx([answer.confidence for answer in expected])
    assert sensor.answer(pick(), ASKED, batch_size=3) == expected
    assert len(set(expected)) > 2


def test_in_single_precision_tokens_differ_by_rounding_only():
    sensor = build().float()
    tokens = sensor.tokens(pick(), TEXTS)
    assert torch.allclose(tokens, whole_tokens(sensor, pick(), TEXTS), atol=1e-4)
    assert tokens.std() > 0.1


def test_lora_and_the_pretrained_model_keep_their_own_keys_and_values():
    sensor = build()
    tokens, answers = whole_tokens(sensor, pick(), TEXTS), whole_answers(sensor, pick(), ASKED)
    for _ in range(2):
        assert_same(sensor.tokens(pick(), TEXTS), tokens)
        assert sensor.answer(pick(), ASKED) == answers
    with without_lora(sensor.model):
        bare = whole_tokens(sensor, pick(), TEXTS)
        assert_same(sensor.tokens(pick(), TEXTS), bare)
    assert (tokens - bare).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("prompt", "shares"),
    [("question : <image> {text} ?", True), ("<image> what ? {text}", True), ("{text} <image>", False)],
)
def test_only_what_all_prompts_begin_with_is_shared(prompt, shares):
    sensor = build(prompt=prompt)
    expected = whole_tokens(sensor, pick(), TEXTS), whole_answers(sensor, pick(), ASKED)
    reads = reads_of(sensor)
    assert_same(sensor.tokens(pick(), TEXTS), expected[0])
    assert any(positions < PATCHES for _, positions in reads) == shares
    assert sensor.answer(pick(), ASKED) == expected[1]


def test_a_question_without_words_is_answered_behind_the_image():
    sensor = build()
    questions = ["", *ASKED[1:]]
    assert sensor.answer(pick(), questions) == whole_answers(sensor, pick(), questions)
    assert_same(sensor.tokens(pick(), questions), whole_tokens(sensor, pick(), questions))


def test_nothing_asked_gives_no_answers():
    assert build().answer([], []) == []


# --- what is computed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHARING)
def test_each_image_is_read_once_and_each_text_behind_it(name):
    sensor = build(name)
    reads, begin = reads_of(sensor), 1 + PATCHES + len("this is a question about".split())
    sensor.tokens(pick(), TEXTS, batch_size=4)
    assert reads[0] == (4, begin)
    assert [rows for rows, _ in reads[1:]] == [4, 3]
    longest = max(len(sensor.processor.tokenizer(text)["input_ids"]) for text in TEXTS) - 6 + sensor.num_tokens
    assert max(positions for _, positions in reads[1:]) == longest
    reads.clear()
    sensor.answer(pick(), ASKED)
    assert reads[0] == (4, 1 + PATCHES)
    assert [rows for rows, _ in reads[1:]] == [7]
    assert reads[1][1] < 20


def no_cache(sensor):
    """Take the cache out of what the language model returns."""
    decoder = sensor.model.get_decoder()
    decoder.register_forward_hook(lambda module, args, output: setattr(output, "past_key_values", None))
    return sensor


def own_positions(sensor):
    sensor.model.base_model.get_rope_index = lambda *args: None
    return sensor


UNLIKE = {
    "window": lambda: build("window"),
    "both directions": lambda: build("both directions"),
    "no cache": lambda: no_cache(build()),
    "positions in a plane": lambda: own_positions(build()),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_models_that_cannot_go_on_from_an_image_read_whole_prompts(name):
    sensor = UNLIKE[name]()
    reads = reads_of(sensor)
    assert_same(sensor.tokens(pick(), TEXTS), whole_tokens(sensor, pick(), TEXTS))
    assert sum(rows for rows, _ in reads) == 2 * len(TEXTS)
    assert all(positions > PATCHES for _, positions in reads)


def test_images_with_one_question_each_are_read_whole():
    sensor = build()
    reads = reads_of(sensor)
    sensor.tokens(IMAGES, TEXTS[:4])
    assert [rows for rows, _ in reads] == [4]


def images_alive_of(sensor):
    """Record how many images' keys and values are in memory whenever the language model has read something."""
    alive, counts = [], []

    def record(module, args, kwargs, output):
        cache = kwargs.get("past_key_values")
        if cache is None and output.past_key_values is not None and kwargs["inputs_embeds"].shape[1] > PATCHES:
            alive.append((weakref.ref(output.past_key_values.layers[0].keys), len(kwargs["inputs_embeds"])))
        counts.append(sum(images for keys, images in alive if keys() is not None))

    sensor.model.get_decoder().register_forward_hook(record, with_kwargs=True)
    return counts


@pytest.mark.parametrize(("at_once", "most"), [(0, 1), (1, 1), (2.5, 2), (100, 4)])
def test_the_keys_and_values_of_few_images_are_held_at_a_time(at_once, most):
    sensor = build()
    position_bytes = 2 * 2 * HIDDEN * 8  # keys and values, two layers, double precision
    longest = max(len(sensor.processor.tokenizer(text)["input_ids"]) for text in TEXTS)
    sensor.cache_bytes = int(at_once * position_bytes * (1 + PATCHES + longest))
    images, texts = [image for image in IMAGES for _ in range(2)], [text for _ in IMAGES for text in TEXTS[:2]]
    counts = images_alive_of(sensor)
    assert_same(sensor.tokens(images, texts), whole_tokens(sensor, images, texts))
    assert max(counts) == most
    assert counts[-1] == 0  # of the whole prompts
    counts.clear()
    assert sensor.answer(images, texts) == whole_answers(sensor, images, texts)
    assert max(counts) == most
