"""`tokenlink agents` and `tokenlink train pair`, on the small random models of the families."""

import json

import pytest
import torch
from typer.testing import CliRunner

from semantic import AgentLink
from semantic.loading import load_part
from semantic.model_files import ModelFileError
from studies import cli
from studies.pairs import make_agents, train_pair
from tests.semantic.families import RECEIVERS, SENSORS, save
from tests.semantic.models import NoisyChannel, changed, parameters_of, write_split

QWEN, LLAMA = SENSORS[2], RECEIVERS[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a sensor, a task agent of another hidden size, and a data set."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    save(folder, QWEN, LLAMA)
    for split in ("train", "val"):
        write_split(folder / "data", split, 6)
    return folder


def test_a_pair_is_made_trained_and_loaded(models, tmp_path, capsys):
    options = ["--sensor", models / "sensor", "--task-agent", models / "task", "--out", tmp_path / "pair"]
    options += ["--num-tokens", 3, "--width", 8, "--r", 2, "--task-prompt", "{tokens} Q: {question} A:"]
    done = CliRunner().invoke(cli.app, ["agents", *map(str, options)])
    assert done.exit_code == 0, done.output
    assert "trainable parameters of" in done.stdout
    start = AgentLink.from_pretrained(tmp_path / "pair")
    assert (start.num_tokens, start.width, start.code.received_size) == (3, 8, LLAMA.more["hidden_size"])
    assert start.task_agent.prompt == "{tokens} Q: {question} A:"
    assert "<|vision_start|><|image_pad|><|vision_end|>{text}" in start.sensor.prompt

    train_pair(tmp_path / "pair", tmp_path / "trained", NoisyChannel(), 2, data=models / "data", batch=2, length=80)
    assert "accuracy at 20 dB" in capsys.readouterr().out
    trained = AgentLink.from_pretrained(tmp_path / "trained")
    assert not changed(parameters_of(start.task_agent), trained.task_agent)
    moved = changed(parameters_of(start.sensor), trained.sensor)
    assert moved == {name for name in parameters_of(start.sensor) if "lora_" in name or name == "slots"}
    card = (tmp_path / "trained" / "README.md").read_text()
    assert "tokenlink train pair --agents pair --out trained --steps 2 --data data" in card
    assert card.endswith("Licence: those of the models and of the data set.\n")
    assert str(tmp_path) not in card + (tmp_path / "trained" / "agents.json").read_text()
    trained.channel = NoisyChannel()
    assert len(trained.answer([torch.zeros(56, 56, 3, dtype=torch.uint8).numpy()], ["is it ?"], snr_db=3.0)) == 1


def test_a_revision_of_a_hub_id_is_kept(models, tmp_path, monkeypatch):
    asked = []

    def load(kind, source, **options):
        asked.append((kind.__name__, source, options.get("revision")))
        return load_part(kind, models / source.rpartition("/")[2], **{**options, "revision": None})

    monkeypatch.setattr("semantic.loading.load_part", load)
    monkeypatch.setattr("semantic.agent_link.load_part", load)
    monkeypatch.setattr("semantic.processors.load_part", load)
    monkeypatch.setattr("semantic.agent_settings.cached_snapshot", lambda model, revision=None: None)
    make_agents("someone/sensor", "other/task", tmp_path, 3, 8, sensor_revision="abc", task_revision="v2")
    settings = json.loads((tmp_path / "agents.json").read_text())
    assert [settings[name]["model"] for name in ("sensor", "task_agent")] == ["someone/sensor", "other/task"]
    assert [settings[name]["revision"] for name in ("sensor", "task_agent")] == ["abc", "v2"]
    assert {(source, revision) for _, source, revision in asked} == {("someone/sensor", "abc"), ("other/task", "v2")}


def test_models_that_are_not_there_are_named(models, tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere cannot be loaded by AutoModelForImageTextToText"):
        make_agents(str(models / "nowhere"), str(models / "task"), tmp_path)
    with pytest.raises(ModelFileError, match=r"sensor cannot be loaded by AutoModelForCausalLM"):
        make_agents(str(models / "sensor"), str(models / "sensor"), tmp_path)


def test_an_example_that_holds_no_question_is_refused_with_the_length_it_takes(models, tmp_path):
    make_agents(str(models / "sensor"), str(models / "task"), tmp_path / "pair", 3, 8)
    with pytest.raises(ValueError, match="word pieces, an example holds 5; raise length"):
        train_pair(tmp_path / "pair", tmp_path / "out", NoisyChannel(), 2, data=models / "data", length=5)


def test_half_precision_and_checkpointing_train_what_is_float32(models, tmp_path):
    make_agents(str(models / "sensor"), str(models / "task"), tmp_path / "pair", 3, 8, r=2)
    moved = []
    for name, options in {"whole": {}, "checkpointed": {"checkpointing": True}}.items():
        half = {"dtype": "bfloat16", "batch": 2, "length": 80, "seed": 1, **options}
        train_pair(tmp_path / "pair", tmp_path / name, NoisyChannel(), 3, data=models / "data", **half)
        trained = AgentLink.from_pretrained(tmp_path / name)
        moved.append(parameters_of(trained.sensor))
    start = parameters_of(AgentLink.from_pretrained(tmp_path / "pair").sensor)
    learned = [name for name in start if "lora_B" in name]
    assert all(
        (moved[0][name] - start[name]).abs().max() > 1e-4 for name in learned
    )  # a step of AdamW, not of bfloat16
    assert all(torch.equal(moved[0][name], moved[1][name]) for name in start)
    card = (tmp_path / "checkpointed" / "README.md").read_text()
    assert "--dtype bfloat16" in card
    assert "--checkpointing" in card


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"device": "cuda:7"}, "torch sees 0 GPU"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_a_precision_or_device_that_is_not_there_is_refused(models, tmp_path, options, words):
    make_agents(str(models / "sensor"), str(models / "task"), tmp_path / "pair", 3, 8)
    with pytest.raises(ValueError, match=words):
        train_pair(tmp_path / "pair", tmp_path / "out", NoisyChannel(), 3, data=models / "data", **options)
