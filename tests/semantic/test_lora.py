"""LoRA of one model alone, trained on its own answers: the arms that machine tokens are compared with."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from semantic import AgentLink, agent_training, training
from semantic.agent_link import build_agents
from semantic.endpoints import agents as of_agents
from semantic.endpoints import lora
from semantic.endpoints.agents import turns_about_scenes
from semantic.endpoints.sensor import load_turns
from semantic.turns import CachedTurns
from tests.semantic.models import QUESTIONS, NoisyChannel, changed, parameters_of, pictures, write_split

OPTIONS = {"steps": 3, "batch": 4, "r": 2, "lr": 2e-2, "seed": 5}
TUNED = ("k_proj.weight", "v_proj.weight")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", 6)
    write_split(folder, "val", 3)
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Every batch that a training draws: its images, its descriptions and its packed questions."""
    batches, draw = [], CachedTurns.draw

    def kept(self, count, rng):
        examples = draw(self, count, rng)
        batches.append((examples.images, examples.descriptions, examples.packed.input_ids))
        return examples

    monkeypatch.setattr(CachedTurns, "draw", kept)
    return batches


def test_the_sensors_keys_and_values_learn_its_own_answers_and_nothing_else_changes(pair, data, tmp_path):
    before = build_agents(pair / "sensor", pair / "task", width=None)
    loss = {}
    for steps in (1, 25):
        out = tmp_path / str(steps)
        lora.main(out, data, pair / "sensor", pair / "task", **{**OPTIONS, "steps": steps, "batch": 8})
        after = AgentLink.from_pretrained(out)
        loss[steps] = mean_loss(after, data)
    moved = {name for name in changed(parameters_of(before.sensor.model), after.sensor.model) if "lora_" not in name}
    assert moved
    assert all("language_model" in name and name.replace(".base_layer", "").endswith(TUNED) for name in moved)
    assert not changed(parameters_of(before.task_agent), after.task_agent)
    assert loss[25] < 0.8 * loss[1]
    images = pictures(len(QUESTIONS))
    assert after.sensor.answer(images, QUESTIONS) != before.sensor.answer(images, QUESTIONS)  # as `raw-image` asks it
    card = (out / "README.md").read_text()
    assert "tokenlink train lora" in card
    assert "--blind" not in card
    assert after.seed == 5


def mean_loss(agents, data):
    """Of the sensor's answers, as its pretraining measures it."""
    turns, _ = load_turns(data, agents.task_agent.tokenizer, None, None)
    examples = turns_about_scenes(agents, turns, mirrored=False).draw(40, random.Random(0))
    bos = agents.task_agent.tokenizer.bos_token_id
    with torch.no_grad():
        return lora.answer_from_image(agents.sensor.model, examples.image_tokens, examples.packed, bos)[0].item()


def test_blind_the_task_agents_keys_and_values_learn_and_the_sensor_stays(pair, data, tmp_path):
    before = build_agents(pair / "sensor", pair / "task", width=None)
    lora.main(tmp_path, data, pair / "sensor", pair / "task", blind=True, **OPTIONS)
    after = AgentLink.from_pretrained(tmp_path)
    moved = changed(parameters_of(before.task_agent.model), after.task_agent.model)
    assert moved
    assert all(name.endswith(TUNED) for name in moved)
    base = {name: tensor for name, tensor in parameters_of(before.sensor.model).items() if "lora_" not in name}
    assert all(torch.equal(tensor, after.sensor.model.state_dict()[name]) for name, tensor in base.items())
    assert "--blind" in (tmp_path / "README.md").read_text()


def test_every_arm_meets_the_same_questions_at_every_step(pair, data, tmp_path, drawn):
    places = (data, pair / "sensor", pair / "task")
    runs = []
    for name, train in {
        "own": lambda out: lora.main(out, *places, **OPTIONS),
        "blind": lambda out: lora.main(out, *places, blind=True, **OPTIONS),
        "tokens": lambda out: of_agents.main(out, *places, NoisyChannel(), width=8, **OPTIONS, answers_only=True),
        "frozen": lambda out: of_agents.main(out, *places, NoisyChannel(), width=8, **OPTIONS, frozen_lora=True),
    }.items():
        drawn.clear()
        train(tmp_path / name)
        runs.append(list(drawn))
    first, *others = runs
    assert len(first) == OPTIONS["steps"]
    for other in others:
        for (images, descriptions, ids), (images_too, descriptions_too, ids_too) in zip(first, other, strict=True):
            assert (images, descriptions) == (images_too, descriptions_too)
            assert torch.equal(ids, ids_too)


def test_frozen_lora_stays_at_zero_while_slots_and_code_learn_from_answers_alone(pair, data, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_training, "fit", lambda *args, **options: training.fit(*args, **options, every=1))
    for name, frozen in (("T1", False), ("T0", True)):
        torch.manual_seed(OPTIONS["seed"])
        start = build_agents(pair / "sensor", pair / "task", num_tokens=3, width=8, r=2)
        of_agents.start_slots(start)
        out = tmp_path / name
        of_agents.main(
            out,
            data,
            pair / "sensor",
            pair / "task",
            NoisyChannel(),
            num_tokens=3,
            width=8,
            answers_only=True,
            frozen_lora=frozen,
            **OPTIONS,
        )
        ups = [tensor for name, tensor in load_file(out / "adapter_model.safetensors").items() if "lora_B" in name]
        assert all(np.any(tensor.numpy()) != frozen for tensor in ups)
        learned = AgentLink.from_pretrained(out)
        assert (learned.sensor.slots - start.sensor.slots).abs().max() > 1e-2
        assert changed(parameters_of(start.code), learned.code)
        log = (out / "training.jsonl").read_text()
        assert "accuracy" in log
        assert "pull" not in log
        assert ("--frozen-lora" in (out / "README.md").read_text()) == frozen
