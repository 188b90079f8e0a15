import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from semantic import agent_link
from semantic.model_files import ModelFileError, write_settings
from studies.questions import choose_questions
from studies.schemes.digital import quantizer_file
from studies.schemes.digital.quantizer_file import (
    KINDS,
    encode_questions,
    error,
    load_tables,
    measure_accuracy,
    save_tables,
    sizes_up_to,
)
from tests.mutants import attempt, generator, of_bytes
from tests.studies.fakes import FakeAgents, FakeDataset, fake_tables

AGENTS = SimpleNamespace(model_hash="of these weights", num_tokens=5, width=6)


def codes(count=600, seed=0):
    """Codes of five tokens of six numbers that have eight degrees of freedom."""
    mixing = np.random.default_rng(1).standard_normal((8, 30))
    return (np.random.default_rng(seed).standard_normal((count, 8)) @ mixing).reshape(-1, 5, 6).astype(np.float32)


def save(folder, learned, model_hash):
    tables = {name: fake_tables(kind, learned) for name, kind in KINDS.items()}
    return save_tables(folder, tables, model_hash, len(learned))


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A file of tables; nothing may be written to it."""
    return save(tmp_path_factory.mktemp("learned"), codes(), AGENTS.model_hash)


@pytest.fixture
def folder(tmp_path):
    """A folder that looks like a pair's."""
    (tmp_path / agent_link.SETTINGS).write_text(json.dumps({}))
    return tmp_path


def test_tables_come_back_and_quantise_codes_that_they_have_not_seen(folder):
    learned, unseen = codes(), codes(100, seed=2)
    save(folder, learned, AGENTS.model_hash)
    for kind, num_bytes in (("transform", 8), ("vector", 5)):
        found = load_tables(str(folder), kind, AGENTS)
        expected = fake_tables(KINDS[kind], learned)
        assert found.keys() == expected.keys()
        stored, fresh = (error(KINDS[kind], tables, unseen, num_bytes) for tables in (found, expected))
        assert stored == pytest.approx(fresh, rel=0.02)  # half precision costs nothing that counts
        assert stored < 0.5
    tables = load_tables(str(folder), "transform", AGENTS)
    errors = [error(KINDS["transform"], tables, unseen, num_bytes) for num_bytes in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01  # eight bits for each degree of freedom


def test_tables_of_other_weights_and_none_are_refused(folder):
    with pytest.raises(FileNotFoundError, match=r"has no quantizer\.safetensors.*tokenlink train quantizer"):
        load_tables(str(folder), "vector", AGENTS)
    save(folder, codes(), "of others")
    with pytest.raises(ValueError, match="learned from the codes of other weights"):
        load_tables(str(folder), "vector", AGENTS)
    save_file(
        {"vector.codebooks_0": np.zeros((5, 1, 6))}, folder / quantizer_file.FILE, {"model_hash": "of these weights"}
    )
    with pytest.raises(ValueError, match=r"comes from another version; `tokenlink train quantizer"):
        load_tables(str(folder), "vector", AGENTS)
    save(folder, codes(), AGENTS.model_hash)
    others = SimpleNamespace(model_hash=AGENTS.model_hash, num_tokens=5, width=7)
    for kind, name in (("transform", "basis"), ("vector", "codebooks_0")):
        with pytest.raises(ModelFileError, match=rf"no tables of kind {kind} for these agents: {name} has shape"):
            load_tables(str(folder), kind, others)


@pytest.mark.parametrize(
    ("kind", "name", "change", "message"),
    [
        ("transform", "variance", lambda table: -table, "variances must not be negative"),
        ("transform", "levels_3", lambda table: table[::-1], "levels_3 are not rising"),
        ("transform", "levels_2", lambda table: table[:3], r"levels_2 has shape \(3,\), it needs \(4,\)"),
        ("transform", "basis", lambda table: table * np.nan, "basis holds NaN"),
        ("transform", "mean", lambda table: table.T, r"mean has shape \(6, 5\), it needs \(5, 6\)"),
        ("vector", "codebooks_2", lambda table: table[:, :3], r"codebooks_2 has shape \(5, 3, 6\), it needs"),
        ("vector", "accuracy", lambda table: table[:1], r"accuracy_bytes has shape \(2,\), it needs \(1,\)"),
        ("vector", "accuracy", lambda table: table + 1, "accuracies must lie between 0 and 1"),
        ("vector", "accuracy_lost", lambda table: -table, "accuracies must lie between 0 and 1"),
        ("vector", "accuracy_bytes", lambda table: table[::-1], "accuracy_bytes are not rising"),
    ],
)
def test_tables_that_do_not_fit_each_other_are_refused(folder, learned, kind, name, change, message):
    path = folder / quantizer_file.FILE
    tables = load_file(learned)
    tables[f"{kind}.{name}"] = np.ascontiguousarray(change(tables[f"{kind}.{name}"]))
    save_file(tables, path, {"model_hash": AGENTS.model_hash})
    with pytest.raises(ModelFileError, match=rf"quantizer\.safetensors holds no tables of kind {kind}.*{message}"):
        load_tables(str(folder), kind, AGENTS)


def test_tables_are_hashed_beside_agents_that_are(folder):
    settings = folder / agent_link.SETTINGS
    write_settings(settings, {"num_tokens": 5}, {})
    path = save(folder, codes(), AGENTS.model_hash)
    load_tables(str(folder), "vector", AGENTS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"quantizer\.safetensors is not the file whose hash agents\.json holds"):
        load_tables(str(folder), "vector", AGENTS)
    path.write_bytes(content[:100])
    with pytest.raises(ModelFileError, match=r"quantizer\.safetensors is no safetensors file, or is damaged"):
        load_tables(str(folder), "vector", AGENTS)


def test_a_splits_questions_are_encoded_in_order():
    dataset = FakeDataset()
    level = lambda image: float(image[0, 0, 0])  # noqa: E731

    class Agents:
        def encode(self, images, questions):
            assert len(images) == len(questions) <= 4
            return torch.tensor([[[level(image)]] for image in images])

    found, images = encode_questions(Agents(), dataset, dataset.questions[:10], batch_size=4)
    np.testing.assert_array_equal(found.ravel(), images)
    np.testing.assert_array_equal(images, [0] * 6 + [1] * 4)
    assert quantizer_file.FILE.endswith(".safetensors")


def test_accuracy_is_measured_by_size_of_payload_and_without_one():
    agents, dataset = FakeAgents(), FakeDataset()
    tables = {name: kind.learn(agents.table) for name, kind in KINDS.items()}
    measured = measure_accuracy(agents, tables, dataset, 70, batch_size=32)
    asked = [dataset.questions[index] for index in choose_questions(dataset.questions, 70, seed=0)]
    assert asked != dataset.questions[:70]  # they come from all over the split
    lost = np.mean([question.answer == "0" for question in asked])  # "0" is what it answers without a prefix
    for kind in KINDS:
        reached = measured[kind]["accuracy"]
        assert measured[kind]["accuracy_lost"] == pytest.approx(lost)
        assert reached[0] == pytest.approx(measured[kind]["accuracy"].min())
        assert len(reached) == len(measured[kind]["accuracy_bytes"])
    assert measured["transform"]["accuracy"][-1] == 1.0  # a byte for each of the numbers tells twelve levels apart
    assert measured["transform"]["accuracy_bytes"].tolist() == [1, 2, 3, 4, 5, 6]


def test_sizes_rise_by_a_quarter_at_most():
    assert sizes_up_to(5) == [1, 2, 3, 4, 5]
    sizes = sizes_up_to(320)
    assert sizes[-1] == 320
    assert all(b <= max(a + 1, 1.34 * a) for a, b in itertools.pairwise(sizes))


def mutate(folder, count):
    """Damage a hashed file of tables: either it is refused by its name, or nothing that is read has changed."""
    write_settings(folder / agent_link.SETTINGS, {"num_tokens": 5}, {})
    path = save(folder, codes(), AGENTS.model_hash)
    whole, rng, refused = path.read_bytes(), generator(7), 0
    expected = {kind: load_tables(str(folder), kind, AGENTS) for kind in KINDS}
    for index in range(count):
        path.write_bytes(of_bytes(whole, rng))
        kind = ("transform", "vector")[index % 2]
        tables, error = attempt(lambda: load_tables(str(folder), kind, AGENTS))  # noqa: B023 -- called at once
        if error is None:
            assert all(np.array_equal(tables[name], table) for name, table in expected[kind].items())
        else:
            assert type(error) is ModelFileError
            assert str(path) in str(error)
            refused += 1
    return refused


def test_damaged_tables_are_refused_or_what_they_were(folder):
    assert mutate(folder, 150) > 140


@pytest.mark.thousands
def test_thousands_of_damaged_tables_are_refused_or_what_they_were(folder):
    assert mutate(folder, 2000) > 1950
