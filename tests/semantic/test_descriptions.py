"""Of a question the sensor learns what `AgentLink.describe` says, in use, in training and in measurements alike."""

import ast
from pathlib import Path

import pytest

import semantic
from semantic.agent_link import build_agents
from semantic.data.clevr import ClevrDataset
from semantic.endpoints.agents import turns_about_scenes
from semantic.endpoints.sensor import SceneTurns
from semantic.token_choice import ANY, measure
from tests.semantic.models import QUESTIONS, NoisyChannel, pictures, write_split

VAGUE = {True: "this is a question about two numbers .", False: "something is asked ."}


def by_length(question):
    """A stand-in for the rules, which would never say this."""
    return VAGUE[len(question.split()) % 2 == 0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", 3)
    return ClevrDataset(folder, "train")


@pytest.fixture
def agents(pair):
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=2, width=8, r=2, nested=True)
    agents.obfuscate = by_length
    return agents


@pytest.fixture
def told(agents, monkeypatch):
    """What the sensor is told from here on."""
    told, tokens = [], agents.sensor.tokens

    def listen(images, descriptions):
        told.extend(descriptions)
        return tokens(images, descriptions)

    monkeypatch.setattr(agents.sensor, "tokens", listen)
    return told


def test_in_use(agents, told):
    agents.encode(pictures(len(QUESTIONS)), QUESTIONS)
    assert told == [by_length(question) for question in QUESTIONS]
    assert set(told) == set(VAGUE.values())


def test_in_training(agents, data):
    turns = SceneTurns(data, agents.sensor.processor.tokenizer, 2)
    for groups, records in zip(turns_about_scenes(agents, turns, mirrored=False).groups, turns.records, strict=True):
        for description, asked in groups.items():
            assert {by_length(records[k]["question"]) for k in asked} == {description}


def test_in_the_table_of_token_numbers(agents, told, data):
    table = measure(
        agents, data, NoisyChannel(), snr_db=[0.0], first_realisation=0, num_questions=3, price=0.0, batch_size=2
    )
    expected = [by_length(question.question) for question in data.questions]
    assert told == expected
    assert table.num_questions == {"two numbers": expected.count(VAGUE[True]), ANY: 3}


def test_nothing_but_the_agents_own_obfuscators_knows_the_rules():
    folder = Path(semantic.__file__).parent
    importers = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "semantic.obfuscation"
    }
    # `vqa.py` builds a vocabulary, before there are agents: it has to hold the words of the rules' descriptions.
    assert importers == {"agent_link.py", "llm_obfuscation.py", "vqa.py"}
