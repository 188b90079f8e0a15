"""Files of models that are damaged, exchanged, foreign, or from before there were hashes."""

import errno
import json
import os
import pickle
import shutil
import warnings

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from semantic import AgentLink, model_files
from semantic.agent_link import PRETRAINED, build_agents
from semantic.agent_settings import SETTINGS, read_agent_settings, source_of
from semantic.deepjscc import DeepJSCC
from semantic.loading import load_model
from semantic.model_files import ModelFileError, write_atomically
from semantic.rehash import main, rehash
from semantic.token_choice import TokenChoice
from tests.semantic.models import HIDDEN
from tests.semantic.test_token_choice import choice

READ = ("adapter_config.json", "adapter_model.safetensors", "agents.json", "code.safetensors")


@pytest.fixture(scope="module")
def written(pair, tmp_path_factory):
    """A folder with `sensor`, `task` and `agents`; nothing may be written to it."""
    folder = tmp_path_factory.mktemp("written")
    for name in ("sensor", "task"):
        shutil.copytree(pair / name, folder / name)
    torch.manual_seed(4)
    agents = build_agents(folder / "sensor", folder / "task", num_tokens=3, width=8, r=2)
    agents.save_pretrained(folder / "agents")
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it, to do what one likes with."""
    return shutil.copytree(written, tmp_path / "all")


def settings_of(folder):
    return json.loads((folder / "agents" / "agents.json").read_text())


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "agents.json"
    write_atomically(path, b"old")
    for step in ("fsync", "replace"):

        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, step, fail)
            with pytest.raises(OSError, match="No space left"):
                write_atomically(path, b"new")
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("agents.json", b"old")]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- hashes ------------------------------------------------------------------------------------------------------


def test_every_file_that_is_read_has_its_hash(folder):
    settings = settings_of(folder)
    assert set(settings["sha256"]) == set(READ)
    for name, where in (("sensor", "sensor"), ("task_agent", "task")):
        assert set(settings[name]["sha256"]) == {path.name for path in (folder / where).iterdir()}
    assert AgentLink.from_pretrained(folder / "agents").num_tokens == 3


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_no_damaged_file_is_read_and_each_is_named(folder, damage):
    paths = files_of(folder)
    assert len(paths) > 10
    for path in paths:
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        damaged = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"flip": damaged, "cut": content[:middle]}.get(damage, b""))
        if damage == "missing":
            path.unlink()
        error = FileNotFoundError if (damage, path.name) == ("missing", "agents.json") else ModelFileError
        with pytest.raises(error, match=path.name):
            AgentLink.from_pretrained(folder / "agents")
        path.write_bytes(content)


def test_exchanged_and_added_files_are_named(folder):
    first, second = (folder / name / "model.safetensors" for name in ("sensor", "task"))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    with pytest.raises(ModelFileError, match=r"sensor/model.safetensors is not the file whose hash agents.json holds"):
        AgentLink.from_pretrained(folder / "agents")
    first.write_bytes(contents[0])
    (folder / "task" / "added_tokens.json").write_text("{}")
    with pytest.raises(ModelFileError, match=r"task/added_tokens.json was not there when agents.json was written"):
        AgentLink.from_pretrained(folder / "agents")
    (folder / "task" / "added_tokens.json").unlink()
    (folder / "task" / "README.md").write_text("a card is not read")
    change(folder / "agents" / "agents.json", seed=9)
    with pytest.raises(ModelFileError, match=r"agents.json was changed since its hash was written"):
        AgentLink.from_pretrained(folder / "agents")
    rehash(folder / "agents")
    assert AgentLink.from_pretrained(folder / "agents").seed == 9


def test_folders_from_before_there_were_hashes_are_loaded_and_say_so_once(folder, written):
    settings = settings_of(folder)
    del settings["sha256"], settings["sensor"]["sha256"], settings["task_agent"]["sha256"]
    (folder / "agents" / "agents.json").write_text(json.dumps(settings))
    model_files.warn_of_no_hashes.cache_clear()
    with pytest.warns(UserWarning, match=r"agents.json has no hashes.*python -m semantic.rehash") as told:
        agents = AgentLink.from_pretrained(folder / "agents")
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AgentLink.from_pretrained(folder / "agents")
        assert agents.model_hash == AgentLink.from_pretrained(written / "agents").model_hash


def test_hashes_are_written_anew_by_a_command(folder, capsys):
    before = settings_of(folder)
    change(folder / "task" / "generation_config.json", temperature=1.0)
    main([str(folder / "agents")])
    assert capsys.readouterr().out == f"{folder / 'agents'}\n"
    after = settings_of(folder)
    changed = {
        key
        for key in before["task_agent"]["sha256"]
        if before["task_agent"]["sha256"][key] != after["task_agent"]["sha256"][key]
    }
    assert changed == {"generation_config.json"}
    assert (after["sensor"], after["code"]) == (before["sensor"], before["code"])
    AgentLink.from_pretrained(folder / "agents")
    with pytest.raises(ModelFileError, match=r"holds neither agents.json nor deepjscc.json"):
        main([str(folder / "task")])


def test_loaded_agents_keep_the_hashes_of_what_was_loaded(folder):
    agents = AgentLink.from_pretrained(folder / "agents")
    change(folder / "sensor" / "generation_config.json", temperature=1.0)
    agents.save_pretrained(folder / "again")
    with pytest.raises(ModelFileError, match=r"generation_config.json is not the file"):
        AgentLink.from_pretrained(folder / "again")


# --- without the help of hashes ----------------------------------------------------------------------------------


def without_hash(folder):
    rehash(folder / "agents")
    return folder / "agents"


def test_missing_and_unexpected_weights_are_refused(folder):
    path = folder / "task" / "model.safetensors"
    whole = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    for state, message in (
        (
            {n: t for n, t in whole.items() if n != name},
            f"does not hold the weights of a LlamaForCausalLM: they lack {name}",
        ),
        ({**whole, "extra.weight": torch.ones(2)}, "they have, beside those of the model, extra.weight"),
        ({**whole, name: torch.ones(2, 2)}, "cannot be loaded by AutoModelForCausalLM"),
    ):
        save_file(state, path, metadata={"format": "pt"})
        with pytest.raises(ModelFileError, match=rf"task.*{message}"):
            AgentLink.from_pretrained(without_hash(folder))


def test_models_of_another_kind_are_refused(folder):
    change(folder / "agents" / "agents.json", task_agent={"model": "../sensor", "prompt": "{question}"})
    change(folder / "agents" / "agents.json", sensor={"model": "../task", "prompt": "<image>{text}"})
    with pytest.raises(ModelFileError, match="task cannot be loaded by AutoModelForImageTextToText"):
        AgentLink.from_pretrained(without_hash(folder))
    for path in (folder / "nowhere", folder / "agents" / "agents.json"):
        with pytest.raises(ModelFileError, match="cannot be loaded by AutoModelForImageTextToText"):
            build_agents(path, folder / "task")


def test_nothing_is_unpickled(folder):
    whole = load_file(folder / "task" / "model.safetensors")
    (folder / "task" / "model.safetensors").unlink()
    torch.save(whole, folder / "task" / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match="task cannot be loaded by AutoModelForCausalLM"):
        AgentLink.from_pretrained(without_hash(folder))
    (folder / "agents" / "code.safetensors").write_bytes(pickle.dumps({"slots": 1}))
    with pytest.raises(ModelFileError, match=r"code.safetensors is no safetensors file, or is damaged"):
        AgentLink.from_pretrained(without_hash(folder))


def test_code_of_others_is_not_run(folder):
    change(folder / "task" / "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "own.Own"})
    (folder / "task" / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with pytest.raises(ModelFileError, match="task cannot be loaded by"):
        AgentLink.from_pretrained(without_hash(folder))
    change(folder / "agents" / "adapter_config.json", megatron_config={}, megatron_core="own")
    with pytest.raises(ModelFileError, match=r"adapter_config.json is not what such a file holds: megatron_config"):
        AgentLink.from_pretrained(without_hash(folder))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_tokens": 0}, "num_tokens: Input should be greater than or equal to 1"),
        ({"num_tokens": True}, "num_tokens: Input should be a valid integer, got True"),
        ({"num_tokens": 4}, r"code.safetensors does not fit the code of agents.json: the shape of slots is \[3, "),
        ({"seed": "0"}, "seed: Input should be a valid integer"),
        ({"beams": 3}, "beams: Extra inputs are not permitted"),
        ({"code": {"kind": "zip", "hidden_size": HIDDEN}}, "describes no code: code kind must be one of jtcc, uncomp"),
        ({"code": {"kind": "jtcc", "hidden_size": HIDDEN}}, "describes no code: .*width"),
        (
            {"code": {"kind": "jtcc", "hidden_size": 2**20, "width": 2**20}},
            "the shape of power|the shape of encode_linear",
        ),
        ({"sensor": {"model": "../sensor", "prompt": "{text}"}}, "prompt must contain {text} and <image>"),
        ({"sensor": {"model": "../sensor", "prompt": "<image>{text}{text.__class__}"}}, "and no other braces"),
        ({"sensor": {"prompt": "<image>{text}"}}, "sensor.model: Field required"),
        ({"task_agent": {"model": "../task", "prompt": "{question"}}, "prompt must contain {question}"),
    ],
)
def test_settings_that_say_something_else_are_refused(folder, values, message):
    change(folder / "agents" / "agents.json", **values)
    settings = settings_of(folder)
    model_files.write_settings(
        folder / "agents" / "agents.json", {k: v for k, v in settings.items() if k != "sha256"}, settings["sha256"]
    )
    with pytest.raises(ModelFileError, match=message):
        AgentLink.from_pretrained(folder / "agents")


def test_numbers_that_are_none_are_refused(folder):
    for name, key in (("code.safetensors", "encode_in.bias"), ("adapter_model.safetensors", None)):
        path = folder / "agents" / name
        state = load_file(path)
        key = key or next(iter(state))
        state[key].view(-1)[0] = torch.nan
        save_file(state, path)
        with pytest.raises(ModelFileError, match=rf"{name} holds NaN or infinite values in {key}"):
            AgentLink.from_pretrained(without_hash(folder))
        save_file({**state, key: torch.ones(state[key].shape, dtype=torch.long)}, path)
        with pytest.raises(ModelFileError, match=rf"{name} holds torch.int64 in {key}"):
            AgentLink.from_pretrained(without_hash(folder))
        state[key] = torch.zeros_like(state[key])
        save_file(state, path)


def test_an_adapters_settings_are_looked_at(folder):
    path = folder / "agents" / "adapter_config.json"
    content = path.read_text()
    for values, message in (
        ({"r": "2"}, "r: Input should be a valid integer"),
        ({"r": 3}, "adapter_model.safetensors does not fit the sensor"),
        ({"lora_alpha": None}, "lora_alpha: Input should be a valid number"),
        ({"peft_type": "IA3"}, "peft_type: Input should be 'LORA'"),
        ({"target_modules": "nothing"}, "describes no LoRA of the sensor"),
        ({"target_modules": "("}, "describes no LoRA of the sensor"),
    ):
        change(path, **values)
        with pytest.raises(ModelFileError, match=message):
            AgentLink.from_pretrained(without_hash(folder))
        path.write_text(content)


def test_a_table_of_numbers_of_tokens_is_looked_at(folder):
    agents = AgentLink.from_pretrained(folder / "agents")
    whole = {**json.loads(json.dumps(vars(choice()))), "model_hash": agents.model_hash}
    path = folder / "agents" / "num_tokens.json"
    choice(model_hash=agents.model_hash).save(folder / "agents")
    assert TokenChoice.from_pretrained(folder / "agents", agents) == choice(model_hash=agents.model_hash)
    path.write_text(json.dumps({**whole, "price": 0.02}))
    with pytest.raises(ModelFileError, match=r"num_tokens.json is not the file whose hash agents.json holds"):
        TokenChoice.from_pretrained(folder / "agents", agents)
    for values, message in (
        ({"snr_db": [5.0, -5.0]}, "snr_db is not rising"),
        ({"snr_db": [5.0]}, "are not 1 rows of 3 numbers"),
        ({"snr_db": []}, "snr_db: List should have at least 1 item"),
        ({"price": -1.0}, "price: Input should be greater than or equal to 0"),
        ({"price": "0.01"}, "price: Input should be a valid number"),
        ({"accuracy": {"any": [[0.5, 0.5, 1.5]] * 2}}, "accuracy.any.0.2: Input should be less than or equal to 1"),
        ({"accuracy": {"any": [[0.5, 0.5, 0.5]] * 2}}, "need the same kinds"),
        ({"num_questions": {"the number of things": 300, "any": 200}}, "'any' has 200 questions, its kinds have more"),
    ):
        path.write_text(json.dumps({**whole, **values}))
        with pytest.raises(ModelFileError, match=rf"num_tokens.json .*{message}"):
            TokenChoice.from_pretrained(without_hash(folder), agents)


def test_an_image_code_is_looked_at(tmp_path):
    torch.manual_seed(0)
    network = DeepJSCC(image_size=(8, 8), strides=((2, 2),), width=2, hidden=4, num_blocks=1)
    network.save_pretrained(tmp_path)
    assert DeepJSCC.from_pretrained(tmp_path).settings() == network.settings() | {"image_size": (8, 8)}
    path = tmp_path / "deepjscc.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "width": 3}))
    with pytest.raises(ModelFileError, match=r"deepjscc.json was changed since its hash was written"):
        DeepJSCC.from_pretrained(tmp_path)
    for values, message in (
        ({"width": 3}, "the shape of encode_out.weight"),
        ({"hidden": 10**9}, "hidden: Input should be less than or equal to 4096"),
        ({"strides": [[3, 3]]}, "describes no image code: strides shrink images by 3 x 3"),
        ({"strides": [[2]]}, "strides.0: List should have at least 2 items"),
        ({"depth": 3}, "depth: Extra inputs are not permitted"),
    ):
        changed = {key: value for key, value in {**whole, **values}.items() if key != "sha256"}
        model_files.write_settings(path, changed, whole["sha256"])
        with pytest.raises(ModelFileError, match=message):
            DeepJSCC.from_pretrained(tmp_path)
    path.write_text(json.dumps(whole))
    weights = (tmp_path / "deepjscc.safetensors").read_bytes()
    (tmp_path / "deepjscc.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(ModelFileError, match=r"deepjscc.safetensors is not the file whose hash deepjscc.json holds"):
        DeepJSCC.from_pretrained(tmp_path)


# --- models of the hub -------------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(folder, tmp_path, monkeypatch):
    """A hub's cache that holds the sensor as someone/sensor, and no network."""
    repo = tmp_path / "hub" / "models--someone--sensor"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder / "sensor", repo / "snapshots" / COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repo / "snapshots" / COMMIT


def test_of_a_hub_id_commit_and_hashes_are_written_and_compared(folder, cache):
    agents = AgentLink.from_pretrained(folder / "agents")
    agents.save_pretrained(folder / "agents", sensor="someone/sensor")
    entry = settings_of(folder)["sensor"]
    assert (entry["model"], entry["revision"]) == ("someone/sensor", COMMIT)
    assert set(entry["sha256"]) == {path.name for path in (folder / "sensor").iterdir()}
    shutil.rmtree(folder / "sensor")
    (cache / "other.json").write_text("{}")  # whatever else is downloaded there
    again = AgentLink.from_pretrained(folder / "agents")
    assert again.model_hash == agents.model_hash
    again.save_pretrained(folder / "agents")
    assert settings_of(folder)["sensor"] == entry

    weights = cache / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelFileError, match=r"model\.safetensors is not the file whose hash agents\.json holds"):
        AgentLink.from_pretrained(folder / "agents")
    weights.unlink()
    with pytest.raises(ModelFileError, match=r"model\.safetensors is missing, agents\.json holds its hash"):
        AgentLink.from_pretrained(folder / "agents")
    shutil.rmtree(cache.parents[1])
    with pytest.raises(
        ModelFileError, match=r"someone/sensor is not in the hub's cache as a whole, and cannot be downloaded"
    ):
        AgentLink.from_pretrained(folder / "agents")


def test_a_hub_id_that_is_not_in_the_cache_has_its_revision_alone(folder, cache):
    agents = AgentLink.from_pretrained(folder / "agents")
    agents._origin["sensor"] = {"model": "someone/else", "revision": "abc"}
    agents.save_pretrained(folder / "agents")
    entry = settings_of(folder)["sensor"]
    assert (entry["model"], entry["revision"], "sha256" in entry) == ("someone/else", "abc", False)
    settings = read_agent_settings(folder / "agents")
    assert source_of(folder / "agents", settings.sensor) == ("someone/else", {"revision": "abc"})


# --- what surrounds the files ------------------------------------------------------------------------------------


def test_what_is_stored_is_used_whatever_torchs_default(folder):
    expected = AgentLink.from_pretrained(folder / "agents")
    network = DeepJSCC(image_size=(8, 8), strides=((2, 2),), width=2, hidden=4, num_blocks=1)
    network.save_pretrained(folder / "image-code")
    stored = DeepJSCC.from_pretrained(folder / "image-code")
    codes = torch.randn(2, 3, 8)
    torch.set_default_dtype(torch.float64)
    try:
        agents = AgentLink.from_pretrained(folder / "agents")
        assert agents.model_hash == expected.model_hash
        assert DeepJSCC.from_pretrained(folder / "image-code").model_hash == stored.model_hash
        assert torch.equal(agents.code.decode(codes, 0.1 * codes**2), expected.code.decode(codes, 0.1 * codes**2))
        fresh = build_agents(folder / "sensor", folder / "task", num_tokens=2, width=4, r=2)
        assert {p.dtype for p in fresh.state_dict().values() if p.is_floating_point()} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_home_folder_is_expanded_wherever_a_folder_is_taken(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    agents = build_agents("~/sensor", "~/task", num_tokens=3, width=8, r=2)
    agents.save_pretrained("~/mine")
    agents.save_pretrained("~/ours", sensor="~/sensor", task_agent="~/task")
    assert settings_of(folder)["sensor"]["model"] == "../sensor"
    assert AgentLink.from_pretrained("~/mine").model_hash == AgentLink.from_pretrained("~/ours").model_hash
    DeepJSCC(image_size=(8, 8), strides=((2, 2),), width=2, hidden=4).save_pretrained("~/image-code")
    assert DeepJSCC.from_pretrained("~/image-code").width == 2
    main(["~/mine"])


def test_the_error_tells_its_path_even_behind_a_process(tmp_path):
    error = pickle.loads(pickle.dumps(ModelFileError(tmp_path / "a.json", "is missing")))
    assert isinstance(error, ValueError)
    assert (error.path, str(error)) == (tmp_path / "a.json", f"{tmp_path / 'a.json'} is missing")


def test_a_model_of_another_class_is_refused(folder):
    with pytest.raises(ModelFileError, match="task"):
        load_model(GPT2LMHeadModel, folder / "task")


def test_every_shipped_folder_is_what_its_hashes_say():
    """Fails after weights were exchanged; `python -m semantic.rehash` says that this was meant."""
    folders = sorted(path.parent for path in PRETRAINED.glob(f"*/{SETTINGS}"))
    assert len(folders) > 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for folder in folders:
            settings = read_agent_settings(folder)
            for address in (settings.sensor, settings.task_agent):
                assert address.sha256
                source_of(folder, address)
            beside = {path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors")}
            assert beside == set(settings.sha256)
            model_files.check_hash(
                folder / SETTINGS, model_files.read_settings(folder / SETTINGS), *beside - {SETTINGS}
            )
