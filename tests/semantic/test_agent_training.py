import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from semantic import AgentLink, agent_training, training
from semantic.adapters import lora_parameters
from semantic.agent_training import CachedTurns, answer_from_tokens, build_agents, main
from semantic.data.clevr import ClevrDataset
from semantic.data.packing import encode_question, pack
from semantic.endpoints.architecture import token_ids
from semantic.endpoints.sensor import SceneTurns
from semantic.obfuscation import obfuscate
from tests.semantic.models import HIDDEN, QUESTIONS, NoisyChannel, changed, parameters_of, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", 6)
    write_split(folder, "val", 3)
    return folder


@pytest.fixture
def turns(agents, data):
    dataset = ClevrDataset(data, "train")
    return CachedTurns(SceneTurns(dataset, agents.sensor.processor.tokenizer, 2), agents, mirrored=True)


def tokens_hat(agents, turns, chosen, channel):
    """What the task agent receives for (scene, mirrored, description) triples, and the questions behind it."""
    features, descriptions, packed = turns.batch(chosen, 60, random.Random(0))
    ids, mask = agents.sensor.tokenize(descriptions, features.shape[1])
    codes = agents.code.encode(agents.sensor.express(features, ids, mask))
    return agents.code.decode(channel(codes, snr_db=10.0)), packed


def some(turns, count=8):
    rng = random.Random(1)
    numbers = [rng.randrange(len(turns.groups)) for _ in range(count)]
    return [(i, rng.random() < 0.5, rng.choice(sorted(turns.groups[i]))) for i in numbers]


# --- what is put together ----------------------------------------------------------------------------------------


def test_slots_start_as_the_words_that_the_language_model_learned_to_write_into(pair):
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=4, width=8)
    ids = token_ids(agents.sensor.processor.tokenizer, [f"<slot{i}>" for i in range(4)])
    assert torch.equal(agents.sensor.slots, agents.sensor.model.get_input_embeddings().weight[ids])


@pytest.mark.parametrize(("width", "kind"), [(8, "jtcc"), (None, "uncompressed")])
def test_without_a_width_the_tokens_are_not_compressed(pair, width, kind):
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=2, width=width)
    assert agents.code.settings()["kind"] == kind
    assert agents.width == (width or HIDDEN)


# --- the data ----------------------------------------------------------------------------------------------------


def test_cached_image_tokens_are_those_of_the_images_and_of_the_mirrored_images(agents, turns, data):
    dataset = ClevrDataset(data, "train")
    for mirror in (False, True):
        images = [dataset.image(i)[:, :: -1 if mirror else 1] for i in range(6)]
        expected = torch.stack(agents.sensor.image_tokens([np.ascontiguousarray(image) for image in images]))
        error = (turns.image_tokens[mirror].float() - expected).abs().max()
        assert error < 5e-3 * expected.abs().max()  # half precision; the mirror image is resized before it is mirrored


def test_questions_are_grouped_by_what_the_sensor_is_told(turns):
    for groups, records in zip(turns.groups, turns.turns.records, strict=True):
        assert sorted(k for asked in groups.values() for k in asked) == list(range(len(records)))
        for description, asked in groups.items():
            assert {obfuscate(records[k]["question"]) for k in asked} == {description}


def test_a_batch_holds_the_questions_of_its_groups_mirrored_where_the_image_is(turns):
    tokenizer = turns.sensor.processor.tokenizer
    (i, description), *_ = [(i, d) for i, g in enumerate(turns.groups) for d in sorted(g) if "position" in d]
    asked = {turns.turns.records[i][k]["question"] for k in turns.groups[i][description]}
    swap = {"left": "right", "right": "left"}
    for mirror in (False, True):
        _, told, packed = turns.batch([(i, mirror, description)], 60, random.Random(0))
        assert told == [description]
        found = {
            tokenizer.decode(packed.input_ids[0, packed.segment[0] == n][:-2])
            for n in range(1, int(packed.segment.max()) + 1)
        }
        assert found == {" ".join(swap.get(w, w) if mirror else w for w in question.split()) for question in asked}


# --- the loss ----------------------------------------------------------------------------------------------------


def test_training_meets_the_answers_that_are_given_in_use(agents):
    """A packed question's most probable word is the first of the greedy answer behind the same tokens."""
    received = torch.randn(len(QUESTIONS), 3, HIDDEN, generator=torch.Generator().manual_seed(0))
    agent, tokenizer = agents.task_agent, agents.task_agent.tokenizer
    inputs = tokenizer(QUESTIONS, return_tensors="pt", padding=True, padding_side="left")
    embeds, mask = agent.with_prefix(inputs["input_ids"], inputs["attention_mask"], received)
    out = agent.model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=1, do_sample=False)
    firsts = tokenizer.convert_ids_to_tokens(out[:, 0].tolist())
    rows = [[encode_question(tokenizer, q, a)] for q, a in zip(QUESTIONS, firsts, strict=True)]
    _, accuracy = answer_from_tokens(agents.task_agent, received, pack(rows, 30))
    assert accuracy == 1
    wrong = [[encode_question(tokenizer, q, "equal")] for q in QUESTIONS]
    assert "equal" not in firsts
    assert answer_from_tokens(agents.task_agent, received, pack(wrong, 30))[1] == 0


def test_the_gradient_reaches_lora_slots_and_code_through_the_channel_and_nothing_else(agents, turns):
    agents.train()
    lora_parameters(agents.sensor.model)
    received, packed = tokens_hat(agents, turns, some(turns), NoisyChannel())
    answer_from_tokens(agents.task_agent, received, packed)[0].backward()
    for name, parameter in agents.named_parameters():
        trained = "lora_" in name or name == "sensor.slots" or name.startswith("code.")
        if name.endswith("encode_linear.bias") or trained:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


def test_a_training_step_moves_lora_slots_and_code_and_leaves_the_task_agent_bit_by_bit(agents, turns, tmp_path):
    before = {part: parameters_of(getattr(agents, part)) for part in ("sensor", "code", "task_agent")}
    trained = [*lora_parameters(agents.sensor.model), agents.sensor.slots, *agents.code.parameters()]

    def step(share):
        agents.train()
        received, packed = tokens_hat(agents, turns, some(turns), NoisyChannel())
        return answer_from_tokens(agents.task_agent, received, packed)[0], {}

    training.fit(step, trained, minutes=1, lr=1e-2, log=tmp_path / "log.jsonl", max_steps=2)
    assert not changed(before["task_agent"], agents.task_agent)
    moved = changed(before["sensor"], agents.sensor)
    assert moved == {name for name in before["sensor"] if "lora_" in name or name == "slots"}
    assert changed(before["code"], agents.code) == set(before["code"])


# --- the whole run -----------------------------------------------------------------------------------------------


def test_twenty_steps_reduce_the_loss_and_what_is_saved_can_be_loaded(pair, data, tmp_path, monkeypatch):
    """The run of `tokenlink train agents`, over a stand-in for the link."""
    losses = {}

    def short(step, parameters, **options):
        def without_pull():
            return float(np.mean([step(1.0)[0].item() for _ in range(4)]))

        losses["before"] = without_pull()
        steps = training.fit(step, parameters, **options, max_steps=20, every=10)
        losses["after"] = without_pull()
        return steps

    monkeypatch.setattr(agent_training, "fit", short)
    folder = tmp_path / "agents"
    channel = NoisyChannel()
    main(folder, data, pair / "sensor", pair / "task", channel, 1.0, num_tokens=3, width=8, r=4, lr=2e-2, batch=8)
    assert losses["after"] < 0.8 * losses["before"]

    agents, start = (
        AgentLink.from_pretrained(folder),
        build_agents(pair / "sensor", pair / "task", num_tokens=3, width=8),
    )
    assert not changed(parameters_of(start.task_agent), agents.task_agent)
    assert (agents.num_tokens, agents.width, agents.code.power.item() != 1) == (3, 8, True)
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert {"loss", "accuracy", "pull"} <= set(lines[0])
    assert "accuracy at 20 dB" in (folder / "README.md").read_text()
    assert all(number >= agent_training.TRAINING_REALISATIONS for *_, r in channel.calls for number in r.tolist())
    assert str(tmp_path) not in "".join(p.read_text() for p in folder.glob("*.json*"))
    stored = {**load_file(folder / "code.safetensors"), **load_file(folder / "adapter_model.safetensors")}
    assert {name: t.dtype for name, t in stored.items() if t.dtype != torch.float16} == {"power": torch.float32}


def test_nested_training_sends_every_number_of_tokens_and_learns_a_power_for_each(pair, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        agent_training,
        "fit",
        lambda step, parameters, **options: training.fit(step, parameters, **options, max_steps=30),
    )
    channel, options = NoisyChannel(), {"num_tokens": 3, "width": 8, "r": 4, "batch": 4}
    main(tmp_path, data, pair / "sensor", pair / "task", channel, 1.0, nested=True, **options)
    assert {codes.shape[1] for codes, *_ in channel.calls[:30]} == {1, 2, 3}
    for codes, *_ in channel.calls[:30]:
        assert codes.square().mean().item() == pytest.approx(1, abs=1e-4)  # unit power, however many are sent
    agents = AgentLink.from_pretrained(tmp_path)
    assert agents.code.settings()["nested_tokens"] == 3
    assert len(set(agents.code.power.tolist())) == 3
    assert "first token alone" in (tmp_path / "README.md").read_text()
    assert "--nested\n" in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="only a compressed code can be nested"):
        build_agents(pair / "sensor", pair / "task", num_tokens=3, width=None, nested=True)


def test_training_goes_on_from_agents_with_another_number_of_tokens(pair, data, tmp_path, monkeypatch):
    """LoRA and code are taken over; slots start anew and are pulled towards the scene's objects."""
    pulled = []

    def none(step, parameters, **options):
        pulled.append("pull" in step(0.0)[1])
        options["save"]()

    monkeypatch.setattr(agent_training, "fit", none)
    options = {"width": 8, "r": 4, "batch": 4}
    first = build_agents(pair / "sensor", pair / "task", num_tokens=3, width=8, r=4)
    with torch.no_grad():
        for tensor in [*lora_parameters(first.sensor.model), first.sensor.slots, *first.code.parameters()]:
            tensor.copy_(torch.randint(-8, 9, tensor.shape) / 32)
    first.save_pretrained(tmp_path / "3", sensor=str(pair / "sensor"), task_agent=str(pair / "task"))
    for num_tokens in (3, 2):
        out = tmp_path / f"from 3 to {num_tokens}"
        args = (out, data, pair / "sensor", pair / "task", NoisyChannel(), 1.0)
        main(*args, num_tokens=num_tokens, init=tmp_path / "3", **options)
        agents = AgentLink.from_pretrained(out)
        assert not changed(parameters_of(first.code), agents.code) - {"power"}
        assert changed(parameters_of(first.sensor), agents.sensor) == (set() if num_tokens == 3 else {"slots"})
        assert agents.num_tokens == num_tokens
    main(*args, num_tokens=3, init=tmp_path / "3", **{**options, "width": 6})
    assert pulled == [False, True, True]  # a code of another width is learned from the start


def test_training_refuses_a_task_agent_that_moved(pair, data, tmp_path, monkeypatch):
    def disturb(step, parameters, **options):
        from_closure = dict(zip(step.__code__.co_freevars, (c.cell_contents for c in step.__closure__), strict=True))
        head = from_closure["agents"].task_agent.model.lm_head.weight
        with torch.no_grad():
            head.copy_(head.flip(0))  # the same numbers at other places
        return 0

    monkeypatch.setattr(agent_training, "fit", disturb)
    with pytest.raises(RuntimeError, match="the task agent's parameters changed during training"):
        main(tmp_path, data, pair / "sensor", pair / "task", NoisyChannel(), 1.0, num_tokens=2, width=8, r=2)
