"""The weights in the repository."""

import json

import pytest
import torch
from safetensors import safe_open
from scipy.stats import binom

from semantic import AgentLink
from semantic.agent_link import PRETRAINED, hash_of
from semantic.data import shipped_split
from semantic.deepjscc import DeepJSCC, to_images, to_tensor
from semantic.endpoints.architecture import build_tokenizer
from semantic.image_quality import psnr

BLIND = 0.45  # what the question alone may be worth
NUM_QUESTIONS = 240  # luck beats 55 % of them once in a thousand
ONCE_IN_A_THOUSAND = 1e-3


@pytest.fixture(scope="module")
def agents():
    return AgentLink.from_pretrained("clevr-mini")


@pytest.fixture(scope="module")
def asked():
    """Images, questions and answers, of every family and of as many scenes as there are questions."""
    split = shipped_split()
    chosen = split.questions[::13][:NUM_QUESTIONS]  # some twelve per scene, two of each family in a row
    images = {q.image_index: split.image(q.image_index) for q in chosen}
    return [images[q.image_index] for q in chosen], [q.question for q in chosen], [q.answer for q in chosen]


def test_shipped_weights_are_safetensors_and_json_of_less_than_32_megabytes():
    files = [path for path in PRETRAINED.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jsonl", ".md", ".jinja"}, files
    assert sum(path.stat().st_size for path in files) < 32e6
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert weights
    for path in weights:
        with safe_open(path, "pt") as stored:
            for name in stored.keys():
                assert torch.isfinite(stored.get_tensor(name)).all(), (path, name)
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())


def test_shipped_files_name_no_folder_of_the_machine_that_made_them():
    for path in PRETRAINED.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".md"):
            text = path.read_text()
            assert not any(root in text for root in ('"/', " /tmp/", " /home/", " /root/", "file://")), path


def test_every_set_of_weights_has_a_model_card():
    folders = {path.parent for path in PRETRAINED.rglob("*.safetensors")}
    assert folders
    for folder in folders:
        card = (folder / "README.md").read_text()
        assert "tokenlink train" in card
        assert "Licence" in card


def test_shipped_agents_speak_the_vocabulary_of_this_version(agents):
    tokenizer = build_tokenizer()
    assert agents.task_agent.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert agents.sensor.processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert agents.num_tokens == 5


def right(found, answers):
    return sum(a == b for a, b in zip(found, answers, strict=True))


def test_the_sensor_answers_better_than_who_has_not_seen_the_image(agents, asked):
    images, questions, answers = asked
    count = right(agents.sensor.answer(images, questions), answers)
    assert binom.sf(count - 1, len(answers), BLIND) < ONCE_IN_A_THOUSAND, count


def test_machine_tokens_are_worth_more_than_the_question_alone(agents, asked):
    images, questions, answers = asked
    count = right(agents.answer_codes(agents.encode(images, questions), questions), answers)
    assert binom.sf(count - 1, len(answers), BLIND) < ONCE_IN_A_THOUSAND, count
    blind = right(agents.task_agent.answer(questions), answers)
    assert binom.sf(blind - 1, len(answers), BLIND) > ONCE_IN_A_THOUSAND, blind


def test_the_wrong_images_tokens_are_worth_no_more_than_none(agents, asked):
    images, questions, answers = (part[:121] for part in asked)
    codes = agents.encode(images[1:], questions[:-1])
    count = right(agents.answer_codes(codes, questions[:-1]), answers[:-1])
    assert binom.sf(count - 1, len(codes), BLIND + 0.03) > ONCE_IN_A_THOUSAND, count


OTHERS = {
    "clevr-mini-1": (1, 64),
    "clevr-mini-2": (2, 64),
    "clevr-mini-3": (3, 64),
    "clevr-mini-8": (8, 64),
    "clevr-mini-adaptive": (5, 64),
    "clevr-mini-seed-0": (5, 64),
    "clevr-mini-seed-1": (5, 64),
    "clevr-mini-seed-2": (5, 64),
    "clevr-mini-width-8": (5, 8),
    "clevr-mini-width-16": (5, 16),
    "clevr-mini-width-32": (5, 32),
    "clevr-mini-width-128": (5, 128),
}


@pytest.mark.parametrize("name", OTHERS)
def test_pairs_for_the_other_studies_are_what_their_names_say_and_know_the_image(name, agents, asked):
    pair = AgentLink.from_pretrained(name)
    assert (pair.num_tokens, pair.width) == OTHERS[name]
    assert hash_of({"task_agent": pair.task_agent}) == hash_of({"task_agent": agents.task_agent})
    if "seed" in name:
        assert pair.seed == int(name[-1])
    count = 200 if name == "clevr-mini-1" else 100  # luck beats 60 % of a hundred once in a thousand
    images, questions, answers = (part[:count] for part in asked)
    codes = pair.encode(images, questions)
    assert codes.square().mean().item() == pytest.approx(1, abs=0.1)  # the power that the link takes them to have
    count = right(pair.answer_codes(codes, questions), answers)
    assert binom.sf(count - 1, len(answers), BLIND) < (0.05 if name == "clevr-mini-1" else ONCE_IN_A_THOUSAND), count


def test_the_uncompressed_pair_is_shipped_as_well():
    agents = AgentLink.from_pretrained("clevr-mini-uncompressed")
    assert agents.code.settings()["kind"] == "uncompressed"
    assert agents.width == agents.task_agent.hidden_size


@pytest.mark.parametrize(("name", "numbers", "better"), [("deepjscc", 6144, 9.0), ("deepjscc-small", 320, 5.0)])
def test_shipped_image_codes_give_images_back_and_are_sent_with_unit_power(name, numbers, better):
    """Better, in dB, than the mean of these images, which costs nothing to send."""
    split = shipped_split()
    images = to_tensor([split.image(index) for index in sorted({q.image_index for q in split.questions})[:48]])
    network = DeepJSCC.from_pretrained(name)
    with torch.no_grad():
        codes = network.encode(images)
        noise = 0.1 * torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))  # 20 dB
        shown = to_tensor(list(to_images(network.decode(codes + noise))))
    assert codes[0].numel() == numbers
    # the power of an image differs from that of another; their mean is to be one within five times its deviation
    powers = codes.square().mean((1, 2))
    assert abs(powers.mean() - 1) < 5 * powers.std() / len(powers) ** 0.5 + 0.01
    assert psnr(images, shown).mean() > psnr(images, images.mean(0, keepdim=True).expand_as(images)).mean() + better
