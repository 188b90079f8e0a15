"""Damaged files of models and data: refused in our own words with the file's name, or nothing that is read is wrong."""

import json
import random
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from semantic import agent_link
from semantic.adapters import load_lora
from semantic.agent_settings import CODE, SETTINGS, read_agent_settings
from semantic.data import ClevrDataset
from semantic.data.images import read_image
from semantic.data.records import ANSWERS
from semantic.deepjscc import DeepJSCC
from semantic.model_files import ModelFileError
from semantic.rehash import rehash
from semantic.tasks import execute
from semantic.token_choice import TokenChoice
from tests import mutants
from tests.semantic.models import build_sensor_model, parameters_of, write_split
from tests.semantic.test_token_choice import choice

FEW, MANY = 40, 1000


@pytest.fixture(scope="module")
def written(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    for name in ("sensor", "task"):
        shutil.copytree(pair / name, folder / name)
    torch.manual_seed(4)
    agents = agent_link.build_agents(folder / "sensor", folder / "task", num_tokens=3, width=8, r=2)
    agents.save_pretrained(folder / "agents")
    choice(model_hash="these").save(folder / "agents")
    DeepJSCC(image_size=(8, 8), strides=((2, 2),), width=2, hidden=4, num_blocks=1).save_pretrained(
        folder / "image-code"
    )
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "all")


def damage(path, read, mutants_of, count, kind=ModelFileError, check=None, least=0.3):
    """Damage a file many times and read it; count what is refused and what is taken.

    `check` gets what was read of a damaged file that is taken.
    """
    whole, rng, counts = path.read_bytes(), mutants.generator(7), Counter()
    for _ in range(count):
        path.write_bytes(mutants_of(whole, rng))
        value, error = mutants.attempt(read)
        counts["taken" if error is None else "refused"] += 1
        if error is None:
            check(value)
        else:
            assert type(error) is kind, (path.read_bytes(), error)
            assert (path.name if least else str(path.parent)) in str(error)  # settings that fit no weights name these
            assert len(str(error)) < 1000
    path.write_bytes(whole)
    check(read())
    assert counts["refused"] > least * count, counts


def of_json(content, rng):
    return mutants.of_json(json.loads(content), rng)


class Weights:
    """Agents as far as a table of numbers of tokens looks at them."""

    num_tokens, model_hash = 3, "these"


def hashed_readers(folder):
    """Readers of each file of models, which compare hashes: nothing damaged may pass."""
    agents, image_code = folder / "agents", folder / "image-code"
    settings = read_agent_settings(agents).model_dump(exclude={"sha256"})  # each reader compares those of its files
    table, network = TokenChoice.from_pretrained(agents, Weights()), DeepJSCC.from_pretrained(image_code).model_hash

    def same(expected):
        def check(value):
            assert value == expected

        return check

    whole = (lambda: read_agent_settings(agents).model_dump(exclude={"sha256"})), same(settings)
    return [
        (agents / SETTINGS, *whole),
        (agents / CODE, *whole),
        (agents / "adapter_config.json", *whole),
        (agents / "adapter_model.safetensors", *whole),
        (agents / "num_tokens.json", lambda: TokenChoice.from_pretrained(agents, Weights()), same(table)),
        (image_code / "deepjscc.json", lambda: DeepJSCC.from_pretrained(image_code).model_hash, same(network)),
        (image_code / "deepjscc.safetensors", lambda: DeepJSCC.from_pretrained(image_code).model_hash, same(network)),
    ]


def unhashed_readers(folder):
    """Readers of the same files where hashes have been written for whatever lies there: it has to make sense."""
    agents = folder / "agents"

    def load_code():
        rehash(agents)
        settings = read_agent_settings(agents)
        return agent_link._load_code(agents, settings.code.model_dump(exclude_none=True), settings.num_tokens)

    def finite_code(loaded):
        code, state = loaded
        assert code.load_state_dict({n: t for n, t in state.items() if n != "slots"})
        assert all(t.isfinite().all() and t.is_floating_point() for t in state.values())
        assert state["slots"].shape[1] == code.hidden_size

    base = build_sensor_model()

    def adapter():
        model = type(base)(base.config)
        load_lora(model, agents)
        return model

    def finite(model):
        assert all(tensor.isfinite().all() for tensor in parameters_of(model).values())

    def read_table():
        rehash(agents)
        return TokenChoice.from_pretrained(agents, Weights())

    def chooses(table):
        assert all(1 <= table.num_tokens(at, "what", budget=2) <= 3 for at in (-20.0, 0.0, 20.0))

    def network():
        rehash(folder / "image-code")
        return DeepJSCC.from_pretrained(folder / "image-code")

    def sends(network):
        assert network.encode(torch.rand(1, 3, *network.image_size)).shape == (1, network.num_tokens, network.width)

    return [
        (agents / SETTINGS, load_code, finite_code),
        (agents / CODE, load_code, finite_code),
        (agents / "adapter_config.json", adapter, finite),
        (agents / "adapter_model.safetensors", adapter, finite),
        (agents / "num_tokens.json", read_table, chooses),
        (folder / "image-code" / "deepjscc.json", network, sends),
        (folder / "image-code" / "deepjscc.safetensors", network, sends),
    ]


def run_models(folder, count):
    for path, read, check in hashed_readers(folder):
        damage(path, read, mutants.of_bytes, count, check=check)
        if path.suffix == ".json":
            damage(path, read, of_json, count, check=check)
    for path, read, check in unhashed_readers(folder):
        damage(path, read, of_json if path.suffix == ".json" else mutants.of_bytes, count // 3, check=check, least=0)


def test_damaged_files_of_models_are_refused_or_what_they_were(folder):
    run_models(folder, FEW)


@pytest.mark.thousands
def test_thousands_of_damaged_files_of_models_are_refused_or_what_they_were(folder):
    run_models(folder, MANY)


# --- data ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    write_split(folder, "val", 3)
    return folder


def valid(dataset):
    """Check by other means that everything in a data set is what the rest relies on."""
    assert dataset.questions
    scenes = {scene["image_index"]: scene for scene in dataset.scenes}
    for question in dataset.questions:
        assert type(question.image_index) is int
        assert question.question.encode() is not None
        assert question.answer in ANSWERS or 0 <= int(question.answer) < 100
        assert not question.image_filename.startswith("/")
        assert ".." not in question.image_filename.split("/")
        if question.program and question.image_index in scenes:
            assert execute(question.program, scenes[question.image_index]) == question.answer
    assert {type(value) for value in dataset._filenames.values()} == {str}


def run_data(split, folder, count):
    shutil.copytree(split, folder / "split")
    read = lambda: ClevrDataset(folder / "split", "val")  # noqa: E731
    for name in ("questions", "scenes"):
        path = folder / "split" / name / f"CLEVR_val_{name}.json"
        damage(path, read, of_json, count, kind=ValueError, check=valid)
        damage(path, read, mutants.of_bytes, count, kind=ValueError, check=valid)


def test_damaged_records_are_refused_or_valid(split, tmp_path):
    run_data(split, tmp_path, 3 * FEW)


@pytest.mark.thousands
def test_thousands_of_damaged_records_are_refused_or_valid(split, tmp_path):
    run_data(split, tmp_path, MANY)


def test_no_valid_record_is_lost(split, tmp_path):
    """Other orders, spaces, unknown keys, and both ways to write answers and programs change nothing."""
    shutil.copytree(split, tmp_path / "split")
    path = tmp_path / "split" / "questions" / "CLEVR_val_questions.json"
    whole, expected = json.loads(path.read_text()), ClevrDataset(tmp_path / "split", "val").questions
    rng = random.Random(3)
    for _ in range(FEW):
        questions = []
        for record in whole["questions"]:
            record = dict(rng.sample(list(record.items()), len(record))) | {"own": rng.choice(mutants.JUNK)}
            if rng.random() < 0.5:
                record["answer"] = int(record["answer"])
            function = rng.choice(("function", "type"))
            values = rng.choice(("value_inputs", "side_inputs"))
            record["program"] = [
                {function: n["function"], "inputs": n["inputs"], values: n["value_inputs"], "_output": 1}
                for n in record["program"]
            ]
            questions.append(record)
        text = json.dumps({"info": {}, "questions": questions}, indent=rng.choice((None, 1, 4)))
        path.write_bytes(rng.choice((b"", b"\xef\xbb\xbf")) + text.encode())
        assert ClevrDataset(tmp_path / "split", "val").questions == expected


# --- images --------------------------------------------------------------------------------------------------------


def run_images(folder, count):
    noise = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    made = [("JPEG", "RGB", {}), ("JPEG", "L", {"progressive": True}), ("JPEG", "CMYK", {}), ("PNG", "RGB", {}),
            ("PNG", "P", {}), ("PNG", "RGBA", {}), ("PNG", "1", {})]  # fmt: skip
    for number, (kind, mode, options) in enumerate(made):
        path = folder / f"{number}.image"
        Image.fromarray(noise).convert(mode).save(path, kind, **options)
        assert read_image(path).shape == (24, 30, 3)  # nothing valid is lost

        def is_image(image):
            assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
            assert max(image.shape) <= 4096

        whole, rng = path.read_bytes(), mutants.generator(number)
        for _ in range(count):
            path.write_bytes(mutants.of_bytes(whole, rng))
            image, error = mutants.attempt(lambda: read_image(path))  # noqa: B023 -- called at once
            if error is None:
                is_image(image)
            else:
                assert type(error) is ValueError
                assert str(path) in str(error)


def test_damaged_images_are_refused_or_images(tmp_path):
    run_images(tmp_path, FEW)


@pytest.mark.thousands
def test_thousands_of_damaged_images_are_refused_or_images(tmp_path):
    run_images(tmp_path, MANY)
