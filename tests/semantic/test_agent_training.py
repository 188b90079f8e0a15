import ast
import importlib
import inspect
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, processors
from transformers import MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from semantic import AgentLink, agent_training, training
from semantic.adapters import lora_parameters
from semantic.agent_link import build_agents
from semantic.agent_training import answer_from_tokens, receive, train
from semantic.data.clevr import ClevrDataset
from semantic.data.packing import encode_question, pack
from semantic.endpoints.agents import SceneTeacher, main, start_slots, turns_about_scenes
from semantic.endpoints.architecture import build_tokenizer, token_ids
from semantic.endpoints.sensor import SceneTurns
from semantic.obfuscation import obfuscate
from semantic.turns import turns_about
from tests.semantic.models import HIDDEN, QUESTIONS, NoisyChannel, changed, parameters_of, pictures, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", 6)
    write_split(folder, "val", 3)
    return folder


@pytest.fixture(scope="module")
def scenes(data):
    return SceneTurns(ClevrDataset(data, "train"), build_tokenizer(), 2)


@pytest.fixture
def turns(agents, scenes):
    return turns_about_scenes(agents, scenes, mirrored=True)


def tokens_hat(agents, turns, chosen, channel):
    """What the task agent receives for (scene, mirrored, description) triples, and the questions behind it."""
    examples = turns.batch(chosen, random.Random(0))
    snr, numbers = torch.full((len(chosen),), 10.0), torch.arange(len(chosen))
    return receive(agents, channel, examples, snr, numbers, agents.num_tokens), examples.packed


def some(turns, count=8):
    rng = random.Random(1)
    numbers = [rng.randrange(len(turns.groups)) for _ in range(count)]
    return [(i, rng.random() < 0.5, rng.choice(sorted(turns.groups[i]))) for i in numbers]


# --- what is put together ----------------------------------------------------------------------------------------


def test_slots_start_as_the_words_that_the_language_model_learned_to_write_into(pair):
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=4, width=8)
    start_slots(agents)
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


def test_questions_are_grouped_by_what_the_sensor_is_told(turns, scenes):
    for groups, records in zip(turns.groups, scenes.records, strict=True):
        assert sorted(k for asked in groups.values() for k in asked) == list(range(len(records)))
        for description, asked in groups.items():
            assert {obfuscate(records[k]["question"]) for k in asked} == {description}


def test_a_batch_holds_the_questions_of_its_groups_mirrored_where_the_image_is(agents, turns, scenes):
    tokenizer = agents.task_agent.tokenizer
    (i, description), *_ = [(i, d) for i, g in enumerate(turns.groups) for d in sorted(g) if "position" in d]
    asked = {scenes.records[i][k]["question"] for k in turns.groups[i][description]}
    swap = {"left": "right", "right": "left"}
    for mirror in (False, True):
        examples = turns.batch([(i, mirror, description)], random.Random(0))
        assert (examples.descriptions, examples.images) == ([description], [(i, mirror)])
        packed = examples.packed
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

    training.fit(step, trained, steps=2, lr=1e-2, log=tmp_path / "log.jsonl", rng=random.Random())
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
        steps = training.fit(step, parameters, **{**options, "steps": 20}, every=10)
        losses["after"] = without_pull()
        return steps

    monkeypatch.setattr(agent_training, "fit", short)
    folder = tmp_path / "agents"
    channel = NoisyChannel()
    main(folder, data, pair / "sensor", pair / "task", channel, 1, num_tokens=3, width=8, r=4, lr=2e-2, batch=8)
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
    assert {name: t.dtype for name, t in stored.items() if t.dtype != torch.float16} == dict.fromkeys(
        ("power", "moments.mean", "moments.variance"), torch.float32
    )


def test_nested_training_sends_every_number_of_tokens_and_learns_a_power_for_each(pair, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        agent_training,
        "fit",
        lambda step, parameters, **options: training.fit(step, parameters, **{**options, "steps": 30}),
    )
    channel, options = NoisyChannel(), {"num_tokens": 3, "width": 8, "r": 4, "batch": 4}
    main(tmp_path, data, pair / "sensor", pair / "task", channel, 1, nested=True, **options)
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


def test_a_reward_for_sparse_codes_makes_them_sparse_at_unit_power(pair, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        agent_training,
        "fit",
        lambda step, parameters, **options: training.fit(step, parameters, **{**options, "steps": 40, "every": 10}),
    )
    amplitude = {}
    for sparsity in (0.0, 30.0):
        channel, out = NoisyChannel(), tmp_path / f"{sparsity:g}"
        options = {"num_tokens": 3, "width": 8, "r": 4, "batch": 4, "lr": 1e-2}
        main(out, data, pair / "sensor", pair / "task", channel, 1, sparsity=sparsity, **options)
        codes = torch.stack([codes for codes, *_ in channel.calls[30:40]])
        assert codes.square().mean().item() == pytest.approx(1, abs=1e-3)
        amplitude[sparsity] = codes.abs().mean().item()
    assert amplitude[30.0] < 0.8 * amplitude[0.0]
    lines = [json.loads(line) for line in (tmp_path / "30" / "training.jsonl").read_text().splitlines()]
    assert lines[-1]["amplitude"] < lines[0]["amplitude"]
    assert "amplitude" not in (tmp_path / "0" / "training.jsonl").read_text()
    assert "--sparsity 30.0" in (tmp_path / "30" / "README.md").read_text()


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
        args = (out, data, pair / "sensor", pair / "task", NoisyChannel(), 1)
        main(*args, num_tokens=num_tokens, init=tmp_path / "3", **options)
        agents = AgentLink.from_pretrained(out)
        moved = changed(parameters_of(first.code), agents.code)
        assert not {name for name in moved if name.startswith(("encode", "decode"))}
        assert changed(parameters_of(first.sensor), agents.sensor) == (set() if num_tokens == 3 else {"slots"})
        assert agents.num_tokens == num_tokens
    main(*args, num_tokens=3, init=tmp_path / "3", **{**options, "width": 6})
    assert pulled == [False, True, True]  # a code of another width is learned from the start


# --- what cannot be trained --------------------------------------------------------------------------------------


@pytest.fixture
def train_on(agents, turns, tmp_path, monkeypatch):
    """Train for one step."""

    def one_step(step, parameters, **options):
        return training.fit(step, parameters, **{**options, "steps": 1})

    monkeypatch.setattr(agent_training, "fit", one_step)
    agents.save_pretrained = lambda *args, **kwargs: None

    def call(**options):
        train(agents, turns, NoisyChannel(), held_out=turns, out=tmp_path, steps=1, batch=2, **options)

    return call


def test_without_a_teacher_the_answers_alone_are_the_loss(train_on, capsys):
    train_on()
    assert "val {'accuracy at 20 dB'" in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(2, 2, HIDDEN), (2, 3, HIDDEN + 1), (1, 3, HIDDEN)])
def test_a_teacher_of_another_shape_is_refused(train_on, shape):
    with pytest.raises(
        ValueError, match=rf"the teacher's tokens are \({shape[0]}, .*training needs \(2, 3, {HIDDEN}\)"
    ):
        train_on(teacher=lambda examples, num_tokens: torch.zeros(shape))


SMALL = {
    "vocab_size": 200,
    "hidden_size": HIDDEN,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}


def test_any_prompt_is_trained_as_it_is_used(train_on, agents, capsys):
    agents.task_agent.prompt = "is {tokens} {question} :"
    train_on()
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    agents.task_agent.tokenizer = tokenizer
    train_on()
    assert capsys.readouterr().out.count("val {'accuracy at 20 dB'") == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            MistralForCausalLM(MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4)),
            "MistralForCausalLM reads packed questions, as training has them, differently from one question in use",
        ),
        (
            MambaForCausalLM(MambaConfig(vocab_size=200, hidden_size=HIDDEN, num_hidden_layers=1, state_size=4)),
            "MambaForCausalLM cannot read packed questions",
        ),
    ],
)
def test_a_task_agent_that_reads_otherwise_in_training_is_refused(train_on, agents, model, message):
    agents.task_agent.model = model.eval()
    with pytest.raises(ValueError, match=message):
        train_on()


def test_a_model_without_output_embeddings_is_refused(train_on, agents, monkeypatch):
    monkeypatch.setattr(agents.task_agent.model, "get_output_embeddings", lambda: None)
    with pytest.raises(ValueError, match="LlamaForCausalLM has no output embeddings"):
        train_on()


def test_more_tokens_than_the_embedded_pair_has_slots_are_refused(pair):
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=9, width=8)
    with pytest.raises(ValueError, match="num_tokens must be 8 at most for the embedded pair, got 9"):
        start_slots(agents)


def test_a_tokenizer_of_other_models_has_no_slots_and_no_teacher(agents, scenes):
    foreign = Tokenizer(models.WordLevel({"<unk>": 0, "red": 1}, unk_token="<unk>"))
    agents.task_agent.tokenizer = PreTrainedTokenizerFast(tokenizer_object=foreign)
    agents.sensor.processor.tokenizer = agents.task_agent.tokenizer
    way_out = r"of the embedded pair. Agents of other models are trained in Python: .*agent_training.train"
    with pytest.raises(ValueError, match=r"does not know <slot0>, <slot1>, <slot2>, words " + way_out):
        start_slots(agents)
    with pytest.raises(ValueError, match=r"does not know <s>, <object>, <nothing>, .*" + way_out):
        SceneTeacher(agents, scenes)


def test_a_question_longer_than_an_example_is_refused(agents):
    dataset = SimpleNamespace(
        questions=[SimpleNamespace(image_index=0, question="red " * 70, answer="red", family="")],
        image=lambda index: pictures(1)[0],
    )
    with pytest.raises(ValueError, match="has 72 word pieces, an example holds 60; raise length"):
        turns_about(agents, dataset)
    assert turns_about(agents, dataset, length=80).draw(1, random.Random(0)).packed.answers.sum() == 1
    dataset.questions = []
    with pytest.raises(ValueError, match="there are no questions to train with"):
        turns_about(agents, dataset)


def test_turns_about_a_data_set_hold_its_questions_and_answers_by_image(agents, data):
    dataset = ClevrDataset(data, "train")
    turns = turns_about(agents, dataset)
    examples = list(turns.each(random.Random(0), batch_size=4))
    assert [len(part.descriptions) for part in examples] == [4, 2]
    tokenizer = agents.task_agent.tokenizer
    for b, question in enumerate(dataset.questions[:4]):
        packed = examples[0].packed
        words = tokenizer.decode(packed.input_ids[b, packed.segment[b] == 1])
        assert words == f"{question.question} {question.answer} </s>"
        features = agents.sensor.image_tokens([dataset.image(question.image_index)])[0]
        assert torch.equal(examples[0].image_tokens[b], features.half().float())
        assert examples[0].descriptions[b] == agents.describe([question.question])[0]


def test_the_training_imports_nothing_of_the_embedded_pair():
    reached, to_do = set(), ["semantic.agent_training"]
    while to_do:
        module = to_do.pop()
        if module.startswith("semantic") and module not in reached:
            reached.add(module)
            tree = ast.parse(inspect.getsource(importlib.import_module(module)))
            to_do += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
            to_do += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert {"semantic.turns", "semantic.agent_link", "semantic.data.packing"} <= reached
    assert not [module for module in reached if "endpoints" in module]


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
