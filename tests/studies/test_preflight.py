"""What a run lacks, named before anything is loaded, and what its pair takes."""

import json
from importlib import resources

import numpy as np
import pytest
from typer.testing import CliRunner

from semantic.agent_link import PRETRAINED
from semantic.agent_settings import write_agent_settings
from studies import cli, config, preflight
from studies.accuracy_vs_snr import Config
from studies.study_config import StudyConfig
from studies.sweep import dataset_for
from studies.workbench import Workbench, load_agents

EXAMPLES = sorted(resources.files("studies").joinpath("configs").iterdir(), key=str)


def found(assignments, file=None):
    """Return what is said of each subject, and the subjects that are to be mended."""
    findings = preflight.diagnose(config.resolve(StudyConfig, file=file, assignments=assignments))
    return {finding.subject: finding.text for finding in findings}, [f.subject for f in findings if not f.fine]


def test_nothing_is_missing_for_what_ships():
    texts, missing = found([])
    assert not missing
    assert texts["data"].startswith("the shipped split: ")
    assert texts["parameters"] == "sensor 5,696,640, task agent 4,019,968, both frozen"
    assert "TFLOP/s" in texts["time to train"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_papers_configurations_say_what_they_lack_and_take(file):
    config.resolve(Config, file=file)  # `tokenlink run accuracy-vs-snr` takes it
    texts, missing = found([], file)
    assert missing == ["data", "pair", "device"]
    assert "paper-pair" in texts["pair"]
    assert "sensor 7,063,427,072, task agent 6,738,415,616" in texts["parameters"]
    assert texts["memory to run"] == "25.7 GiB of bfloat16 weights"
    assert texts["device"] == "models.device is 'cuda', and torch sees 0 GPU(s) here; take cpu"


def test_models_that_are_not_here_are_named_with_what_brings_them(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "_main_memory", lambda: 2**40)
    for name in ("adapter_config.json", "adapter_model.safetensors", "code.safetensors"):
        (tmp_path / name).write_bytes((PRETRAINED / "clevr-mini" / name).read_bytes())
    settings = json.loads((PRETRAINED / "clevr-mini" / "agents.json").read_text())
    nowhere = {"model": "nobody/no-such-sensor", "revision": "abc", "prompt": settings["sensor"]["prompt"]}
    here = {"model": str(PRETRAINED / "task-agent"), "prompt": settings["task_agent"]["prompt"]}
    kept = {name: settings[name] for name in ("num_tokens", "seed", "code")}
    write_agent_settings(tmp_path, {**kept, "sensor": nowhere, "task_agent": here})
    texts, missing = found([f"models.machine_tokens={tmp_path}"])
    assert missing == ["sensor"]
    assert texts["sensor"].endswith("hf download nobody/no-such-sensor --revision abc")
    assert "GiB of weights" in texts["task agent"]
    assert "LLaVA-1.5-7B" in texts["counted"]


def test_a_machine_without_room_is_told_so(monkeypatch):
    monkeypatch.setattr(preflight, "_main_memory", lambda: 2**20)
    texts, missing = found([])
    assert missing == ["room to run", "room to train"]
    assert "take a larger device" in texts["room to run"]


def test_precision_and_device_are_settings_of_a_run():
    with pytest.raises(config.ConfigError, match=r"models\.dtype"):
        config.resolve(StudyConfig, assignments=["models.dtype=int3"])
    with pytest.raises(config.ConfigError, match=r"models\.device"):
        config.resolve(StudyConfig, assignments=["models.device=tpu"])
    with pytest.raises(ValueError, match=r"^models\.device is 'cuda:1', and torch sees 0 GPU"):
        load_agents("clevr-mini", device="cuda:1")


def test_agents_of_half_precision_send_almost_the_same_codes_and_their_points_have_another_key():
    exact, rough = (
        Workbench(chosen, dataset_for(chosen.data))
        for chosen in (
            StudyConfig(num_questions=12),
            config.resolve(StudyConfig, assignments=["num_questions=12", "models.dtype=bfloat16"]),
        )
    )
    codes = []
    for bench in (exact, rough):
        batch = bench.batches[0]
        codes.append(bench.agents("machine_tokens").encode(batch.images, batch.texts).numpy())
    assert codes[0].dtype == codes[1].dtype == np.float32
    error = np.square(codes[0] - codes[1]).mean() / np.square(codes[0]).mean()
    assert 0 < error < 0.01
    assert {*rough.determined_by()} - {*exact.determined_by()} == {"dtype"}


def test_the_command_takes_the_configuration_of_any_study(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "_pair", lambda config: [])
    (tmp_path / "of.yaml").write_text("antennas: [1x1]\nsnr_db: [1]\n")
    for study, words in (
        ("antennas", "6143 questions"),
        ("papr", "unknown key 'antennas'"),
        ("none", "no study 'none'"),
    ):
        done = CliRunner().invoke(cli.app, ["doctor", "--config", str(tmp_path / "of.yaml"), "--study", study])
        assert words in done.output
        assert (done.exit_code == 0) == (study == "antennas")
