"""Every family of `families`: forward, loss, gradient, nothing moves in the receiver, files, batches, padding."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Phi3Config

from semantic import AgentLink, SensorAgent
from semantic.adapters import add_lora, lora_parameters, without_lora
from semantic.agent_link import build_agents, hash_of
from semantic.agent_training import answer_from_tokens, check_trainable, receive
from semantic.image_input import ImageInput
from semantic.task_agent import answers_in, padded_left
from semantic.turns import turns_about
from tests.semantic.families import RECEIVERS, SENSORS, Sensor, llava, save
from tests.semantic.models import NoisyChannel

QUESTIONS = ["what is it ?", "how many things are there ?", "is it red ?", "what color is the small ball ?"]
ANSWERS = ["light brown", "3", "yes", "tennis racket"]
TEXTS = ["a question about the color of a thing .", "a question", "what ?", "a question about the color of a thing ."]
IMAGES = [
    np.kron(np.random.default_rng(n).integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((rows, columns, 1), np.uint8))
    for n, (rows, columns) in enumerate([(14, 21), (14, 14), (21, 14), (14, 21)])
]
PAIRS = [(sensor, RECEIVERS[n % len(RECEIVERS)]) for n, sensor in enumerate(SENSORS)]
PAIRS += [(SENSORS[0], receiver) for receiver in RECEIVERS[len(SENSORS) :]]


class Split:
    """Questions about images of different sizes."""

    def __init__(self):
        rows = [{"image_index": n, "question": q, "answer": ANSWERS[n], "family": ""} for n, q in enumerate(QUESTIONS)]
        self.questions = [SimpleNamespace(**row) for row in rows]

    def image(self, index):
        return IMAGES[index]


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: f"{pair[0]} to {pair[1]}")
def folder(request, tmp_path_factory):
    """Both models of a pair on disk."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pair")
    save(folder, *request.param)
    return folder


@pytest.fixture
def agents(folder):
    """A pair whose LoRA has moved away from zero."""
    torch.manual_seed(1)
    agents = build_agents(folder / "sensor", folder / "task", num_tokens=3, width=8, r=2)
    with torch.no_grad():
        for parameter in lora_parameters(agents.sensor.model):
            parameter.normal_(std=0.1)
    return agents


@pytest.fixture(scope="module", params=SENSORS, ids=str)
def sensor(request):
    torch.manual_seed(0)
    model, processor = request.param.made()
    add_lora(model, r=2)
    return SensorAgent(model, processor, num_tokens=3, max_new_tokens=4)


# --- pairs -------------------------------------------------------------------------------------------------------


def test_the_loss_reaches_lora_slots_and_code_and_the_receiver_stays_as_it_is(agents):
    check_trainable(agents)
    before = hash_of({"task_agent": agents.task_agent})
    turns = turns_about(agents, Split(), length=80)
    trained = [*lora_parameters(agents.sensor.model), agents.sensor.slots, *agents.code.parameters()]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    agents.train()
    lora_parameters(agents.sensor.model)
    examples = next(iter(turns.each(random.Random(0))))
    for _ in range(2):  # the first step's gradient does not reach what fresh weights multiply by zero
        tokens_hat = receive(agents, NoisyChannel(), examples, torch.full((4,), 10.0), torch.arange(4), 3)
        assert tokens_hat.shape == (4, 3, agents.task_agent.hidden_size)
        loss, _ = answer_from_tokens(agents.task_agent, tokens_hat, examples.packed)
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, parameter in agents.named_parameters():
        if "lora_" in name or name == "sensor.slots" or name.startswith("code."):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0 or name == "code.encode_linear.bias", name
        else:
            assert parameter.grad is None, name
    assert hash_of({"task_agent": agents.task_agent}) == before


def test_what_is_trained_is_what_is_used(agents):
    """Tokens of padded batches, of images of several sizes, are those of one image at a time."""
    agents.eval()
    turns = turns_about(agents, Split(), length=80)
    examples = next(iter(turns.each(random.Random(0))))
    ids, mask = agents.sensor.tokenize(examples.descriptions, examples.image_tokens.shape[1])
    with torch.no_grad():
        trained = agents.sensor.express(examples.image_tokens, ids, mask, examples.layouts)
    used = agents.sensor.tokens(IMAGES, examples.descriptions)
    # a training set holds images as float16
    assert (trained - used).abs().max() < 0.02 * used.std()
    assert (used[0] - used[1]).abs().max() > 0.1 * used.std()


def test_saved_and_loaded_a_pair_is_equal_and_answers_alike_in_any_batch(agents, folder, tmp_path):
    agents.save_pretrained(tmp_path / "agents")
    again = AgentLink.from_pretrained(tmp_path / "agents")
    assert again.model_hash == agents.model_hash
    assert (again.sensor.prompt, again.task_agent.prompt) == (agents.sensor.prompt, agents.task_agent.prompt)
    codes = agents.encode(IMAGES, QUESTIONS)
    assert torch.equal(again.encode(IMAGES, QUESTIONS), codes)
    settings = json.loads((tmp_path / "agents" / "agents.json").read_text())
    assert settings["sensor"]["sha256"]
    assert settings["task_agent"]["sha256"]
    together = agents.answer_codes(codes, QUESTIONS)
    assert again.answer_codes(codes, QUESTIONS) == together
    one_by_one = [agents.answer_codes(codes[n : n + 1], QUESTIONS[n : n + 1])[0] for n in range(4)]
    assert one_by_one == together
    for alone, batched in zip(one_by_one, together, strict=True):
        assert alone.confidence == pytest.approx(batched.confidence, rel=1e-3)


def test_a_receivers_logits_do_not_depend_on_padding(agents):
    agent = agents.task_agent
    received = torch.randn(4, 3, agent.hidden_size, generator=torch.Generator().manual_seed(0))
    rows = [[*agent.layout.head, *ids] for ids in agent.layout.tails(QUESTIONS)]
    embeds, mask = agent.with_prefix(*padded_left(rows, 2), received)
    assert len(set(map(len, rows))) > 1
    chances = []
    for n, row in enumerate(rows):
        alone, ones = agent.with_prefix(
            torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long), received[n][None]
        )
        chances.append(first_chances(agent.model, alone, ones))
    together = first_chances(agent.model, embeds, mask)
    torch.testing.assert_close(together, torch.cat(chances), atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1


def first_chances(model, embeds, mask):
    """Return the logits of the first generated word, as `generate` computes them."""
    options = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True, "do_sample": False}
    return model.generate(inputs_embeds=embeds, attention_mask=mask, **options).logits[0]


# --- sensors -----------------------------------------------------------------------------------------------------


def test_lora_is_in_the_language_model_alone(sensor):
    (layers,) = {sensor.model.config.get_text_config().num_hidden_layers}
    found = [name for name, module in sensor.model.named_modules() if hasattr(module, "lora_A")]
    assert len(found) == 2 * layers
    decoder = set(sensor.model.get_decoder().modules())
    assert all(sensor.model.get_submodule(name) in decoder for name in found)
    assert all(name.endswith(("k_proj", "v_proj")) for name in found)


def test_a_sensor_answers_as_transformers_own_pipeline(sensor):
    """The processor's own inputs, images and all, through the model's own generate: the same words, as probable."""
    tokenizer, expected = sensor.processor.tokenizer, []
    options = {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    for image, question in zip(IMAGES, QUESTIONS, strict=True):
        inputs = whole_inputs(sensor, image, question)
        with torch.no_grad(), without_lora(sensor.model):
            out = sensor.model.generate(**inputs, **options)
        words = out.sequences[:, inputs["input_ids"].shape[1] :]
        expected += answers_in(sensor.model, tokenizer, words, out.logits)
    found = sensor.answer(IMAGES, QUESTIONS)
    assert found == expected
    chances = [answer.confidence for answer in expected]
    assert [answer.confidence for answer in found] == pytest.approx(chances, rel=1e-3)
    assert len({f"{chance:.3g}" for chance in chances}) == len(QUESTIONS)


def whole_inputs(sensor, image, question):
    """Return what transformers' processor makes of an image and a prompt."""
    processor, prompt = sensor.processor, sensor.prompt.format(text=question)
    if hasattr(processor, "kind"):  # without the part for videos: its images and its tokenizer, put together here
        inputs = processor.image_processor([image], return_tensors="pt")
        places = processor.replace_image_token(inputs, 0)
        text = processor.tokenizer(prompt.replace(processor.image_token, places), return_tensors="pt")
        kinds = (text["input_ids"] == processor.image_token_id).int()
        return {**inputs, "input_ids": text["input_ids"], "attention_mask": text["attention_mask"],
                "mm_token_type_ids": kinds}  # fmt: skip
    if "<image><|im_start|>" in prompt:  # PaliGemma's processor writes its layout by itself
        prompt = "<image>" + question
    return dict(processor(images=[[image]] if "Idefics" in type(processor).__name__ else [image], text=[prompt],
                          return_tensors="pt"))  # fmt: skip


def test_tokens_do_not_depend_on_batch_or_padding(sensor):
    together = sensor.tokens(IMAGES, TEXTS)
    alone = torch.cat([sensor.tokens([image], [text]) for image, text in zip(IMAGES, TEXTS, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)
    assert sensor.answer(IMAGES, QUESTIONS) == [
        sensor.answer([i], [q])[0] for i, q in zip(IMAGES, QUESTIONS, strict=True)
    ]


def test_the_first_tokens_do_not_depend_on_the_later_ones(sensor):
    before = sensor.tokens(IMAGES[:1], TEXTS[:1])
    with torch.no_grad():
        kept = sensor.slots[2].clone()
        sensor.slots[2] += 1
        after = sensor.tokens(IMAGES[:1], TEXTS[:1])
        sensor.slots[2] = kept
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert (after[:, 2] - before[:, 2]).abs().max() > 1e-3


# --- what is not supported ---------------------------------------------------------------------------------------


def test_a_sensor_with_fused_projections_is_refused_by_name():
    fused = Sensor("LLaVA with Phi-3", ("<image>",), lambda tokenizer: llava(tokenizer, Phi3Config))
    with pytest.raises(ValueError, match="Phi3Model has queries, keys and values in one projection, qkv_proj"):
        add_lora(fused.made()[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: delattr(type(model), "get_image_features"), "has no get_image_features"),
        (lambda model: setattr(model.base_model, "get_rope_index", print), "has no get_vision_position_ids"),
    ],
)
def test_a_model_that_takes_images_otherwise_is_refused_by_name(change, message):
    model, processor = SENSORS[0].made()
    model.__class__ = type("Other", (type(model),), {"get_image_features": type(model).get_image_features})
    change(model)
    if "get_image_features" in message:
        model.__class__ = type("Other", (torch.nn.Module,), {"base_model": property(lambda self: self)})
    with pytest.raises(ValueError, match=f"Other .*{message}"):
        ImageInput(model, processor)


def test_weights_that_are_pickled_or_code_of_their_authors_are_not_loaded(tmp_path):
    save(tmp_path, SENSORS[0], RECEIVERS[0])
    weights = tmp_path / "task" / "model.safetensors"
    torch.save({}, tmp_path / "task" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ValueError, match="cannot be loaded by AutoModelForCausalLM"):
        build_agents(tmp_path / "sensor", tmp_path / "task")
    config = tmp_path / "sensor" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "own", "auto_map": {
        "AutoConfig": "own.Config", "AutoModelForImageTextToText": "own.Model"}}))  # fmt: skip
    (tmp_path / "sensor" / "own.py").write_text("raise SystemExit('code of the model ran')\n")
    with pytest.raises(ValueError, match="cannot be loaded by AutoModelForImageTextToText"):
        build_agents(tmp_path / "sensor", tmp_path / "task")
