import itertools

import numpy as np
import pytest
import torch

from semantic.agent_link import build_agents
from semantic.data.clevr import ClevrDataset
from semantic.obfuscation import obfuscate
from semantic.tasks import normalize_answer
from semantic.token_choice import ANY, TokenChoice, kind_of, measure
from tests.semantic.models import NoisyChannel, write_split
from tests.semantic.worlds import asked

COUNT = "this is a question about the number of things ."


def choice(**changes):
    facts = {
        "snr_db": [-5.0, 5.0],
        "accuracy": {"the number of things": [[0.3, 0.5, 0.6], [0.595, 0.6, 0.5]], ANY: [[0.5, 0.5, 0.5]] * 2},
        "num_questions": {"the number of things": 300, ANY: 400},
        "price": 0.01,
        "model_hash": "",
    }
    return TokenChoice(**{**facts, **changes})


def test_a_token_is_sent_if_it_brings_more_than_its_price():
    assert choice().num_tokens(-5.0, COUNT) == 3
    assert choice().num_tokens(5.0, COUNT) == 1
    assert choice(price=0.0).num_tokens(5.0, COUNT) == 2
    assert choice(price=0.1).num_tokens(-5.0, COUNT) == 2  # the third would bring just that


def test_a_budget_is_spent_where_tokens_bring_most():
    accuracy = {"two numbers": [[0.5, 0.51, 0.6, 0.62]], ANY: [[0.3, 0.6, 0.65, 0.66]]}
    table = choice(snr_db=[0.0], accuracy=accuracy, num_questions={"two numbers": 300, ANY: 600}, price=0.001)
    assert table.numbers(0.0) == {"two numbers": 4, ANY: 4}
    assert table.numbers(0.0, budget=4) == {"two numbers": 4, ANY: 4}
    assert table.numbers(0.0, budget=3) == {"two numbers": 3, ANY: 3}
    assert table.numbers(0.0, budget=2) == {"two numbers": 1, ANY: 2}  # one more of either brings as much
    assert table.numbers(0.0, budget=1) == {"two numbers": 1, ANY: 1}
    assert table.num_tokens(0.0, "what ?", budget=2) == 2
    with pytest.raises(ValueError, match=r"budget must be one token at least, got 0\.5"):
        table.numbers(0.0, budget=0.5)


@pytest.mark.parametrize("budget", [1, 1.5, 2, 2.4, 3, 4])
def test_no_other_choice_of_that_mean_has_a_higher_accuracy(budget):
    rng = np.random.default_rng(5)
    kinds, weights = ("two numbers", "the number of things", ANY), np.array([250, 300, 450])
    accuracy = {kind: [rng.random(4).tolist()] for kind in kinds}
    table = choice(snr_db=[0.0], accuracy=accuracy, num_questions=dict(zip(kinds, (250, 300, 1000), strict=True)))
    numbers = [table.numbers(0.0, budget=budget)[kind] for kind in kinds]

    def mean_accuracy(chosen):
        return weights @ [accuracy[kind][0][n - 1] for kind, n in zip(kinds, chosen, strict=True)]

    spent = weights @ numbers
    assert spent <= budget * weights.sum()
    others = [o for o in itertools.product((1, 2, 3, 4), repeat=3) if weights @ o <= spent]
    assert mean_accuracy(numbers) >= max(map(mean_accuracy, others)) - table.price * weights.sum() * 4


def test_the_snr_is_rounded_down_to_the_tables_and_an_unknown_kind_is_any():
    assert choice().num_tokens(4.9, COUNT) == 3
    assert choice().num_tokens(30.0, COUNT) == 1
    assert choice().num_tokens(-30.0, COUNT) == 3
    assert choice().num_tokens(-5.0, "something about images") == 1
    assert choice(num_questions={"the number of things": 30, ANY: 400}).num_tokens(-5.0, COUNT) == 1  # too few


def test_kinds_are_few_and_every_description_has_one():
    kinds = {kind_of(obfuscate(record["question"])) for _, record in asked(60, 3)}
    assert ANY not in kinds
    assert {"the number of things", "the attribute of a thing and position"} <= kinds
    assert len(kinds) < 15


@pytest.fixture
def nested(pair):
    torch.manual_seed(3)
    agents = build_agents(pair / "sensor", pair / "task", num_tokens=3, width=8, r=2, nested=True).eval()
    agents.code.power.copy_(torch.tensor([1.0, 2.0, 4.0]))
    return agents


def test_the_table_holds_the_accuracy_of_each_number_over_the_same_fades(nested, tmp_path):
    write_split(tmp_path, "val", 5)
    dataset, channel = ClevrDataset(tmp_path, "val"), NoisyChannel()
    options = {"snr_db": [0.0, 20.0], "first_realisation": 70, "num_questions": 5, "price": 0.02}
    found = measure(nested, dataset, channel, batch_size=2, **options)
    assert found.num_questions == {"the number of things": 5, ANY: 5}
    assert found.accuracy[ANY] == found.accuracy["the number of things"]
    questions = [q.question for q in dataset.questions]
    images = [dataset.image(q.image_index) for q in dataset.questions]
    for row, snr_db in enumerate(found.snr_db):
        for number in (1, 2, 3):
            codes = nested.encode(images, questions, number)
            received, variance = NoisyChannel()(codes, snr_db=snr_db, realisation=range(70, 75))
            answers = nested.answer_codes(received, questions, variance)
            right = [normalize_answer(a) == q.answer for a, q in zip(answers, dataset.questions, strict=True)]
            assert found.accuracy[ANY][row][number - 1] == pytest.approx(sum(right) / 5)
    assert {tuple(realisation.tolist()) for *_, realisation in channel.calls} == {(70, 71), (72, 73), (74,)}


def test_a_table_comes_back_from_its_folder_and_is_refused_beside_other_weights(nested, pair, tmp_path):
    nested.save_pretrained(tmp_path, sensor=str(pair / "sensor"), task_agent=str(pair / "task"))
    with pytest.raises(FileNotFoundError, match=r"has no num_tokens\.json.*tokenlink train adaptive"):
        TokenChoice.from_pretrained(tmp_path, nested)
    table = choice(model_hash=nested.model_hash)
    assert table.save(tmp_path) == tmp_path / "num_tokens.json"
    assert TokenChoice.from_pretrained(tmp_path, nested) == table
    choice(model_hash="of others").save(tmp_path)
    with pytest.raises(ValueError, match="measured with other weights"):
        TokenChoice.from_pretrained(tmp_path, nested)
    (tmp_path / "num_tokens.json").write_text('{"tolerance": 0.01}')
    with pytest.raises(ValueError, match=r"comes from another version; `tokenlink train adaptive"):
        TokenChoice.from_pretrained(tmp_path, nested)
