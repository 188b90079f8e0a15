import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from semantic import agent_link
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
from tests.studies.fakes import FakeAgents, FakeDataset, fake_tables

AGENTS = SimpleNamespace(model_hash="of these weights")


def codes(count=600, seed=0):
    """Codes of five tokens of six numbers that have eight degrees of freedom."""
    mixing = np.random.default_rng(1).standard_normal((8, 30))
    return (np.random.default_rng(seed).standard_normal((count, 8)) @ mixing).reshape(-1, 5, 6).astype(np.float32)


def save(folder, learned, model_hash):
    tables = {name: fake_tables(kind, learned) for name, kind in KINDS.items()}
    return save_tables(folder, tables, model_hash, len(learned))


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


def test_a_splits_questions_are_encoded_in_order():
    dataset = FakeDataset()
    level = lambda image: float(image[0, 0, 0])  # noqa: E731

    class Agents:
        def encode(self, images, questions):
            assert len(images) == len(questions) <= 4
            return torch.tensor([[[level(image)]] for image in images])

    found, images = encode_questions(Agents(), dataset, 10, batch_size=4)
    np.testing.assert_array_equal(found.ravel(), images)
    np.testing.assert_array_equal(images, [0] * 6 + [1] * 4)
    assert quantizer_file.FILE.endswith(".safetensors")


def test_accuracy_is_measured_by_size_of_payload_and_without_one():
    agents, dataset = FakeAgents(), FakeDataset()
    tables = {name: kind.learn(agents.table) for name, kind in KINDS.items()}
    measured = measure_accuracy(agents, tables, dataset, 70, batch_size=32)
    for kind in KINDS:
        reached = measured[kind]["accuracy"]
        assert measured[kind]["accuracy_lost"] == pytest.approx(6 / 70)  # it answers "0", which is right for an image
        assert reached[0] == pytest.approx(measured[kind]["accuracy"].min())
        assert len(reached) == len(measured[kind]["accuracy_bytes"])
    assert measured["transform"]["accuracy"][-1] == 1.0  # a byte for each of the numbers tells twelve levels apart
    assert measured["transform"]["accuracy_bytes"].tolist() == [1, 2, 3, 4, 5, 6]


def test_sizes_rise_by_a_quarter_at_most():
    assert sizes_up_to(5) == [1, 2, 3, 4, 5]
    sizes = sizes_up_to(320)
    assert sizes[-1] == 320
    assert all(b <= max(a + 1, 1.34 * a) for a, b in itertools.pairwise(sizes))
