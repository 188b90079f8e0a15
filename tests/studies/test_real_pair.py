"""A pair of any two models: a small sensor trained from nothing, and a task agent that learns nothing."""

import json

import pytest
import torch

from semantic import AgentLink
from semantic import agent_training as training
from semantic.agent_link import build_agents, hash_of
from semantic.answer_teacher import AnswerTeacher
from semantic.data import EasyVqaDataset
from semantic.endpoints import vqa
from semantic.endpoints.architecture import UNKNOWN, build_tokenizer
from semantic.gguf_models import save_folder
from semantic.task_agent import input_embeddings, normalize_tokens
from semantic.turns import turns_about
from studies.pairs import make_agents, train_pair
from tests.semantic.models import NoisyChannel, pictures
from tests.semantic.test_easy_vqa import write
from tests.semantic.test_gguf_models import write_gguf

RECORDS = [
    ["what color is the shape?", "teal", 4],
    ["what shape is present?", "circle", 4],
    ["is there a red shape?", "no", 4],
    ["is a circle present?", "yes", 2],
    ["what color is the shape?", "red", 2],
    ["what is the color of the circle?", "red", 2],
    ["is there not a circle?", "no", 9],
    ["what shape is present?", "circle", 9],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, a trained sensor and a language model, side by side."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pair")
    write(folder / "data", RECORDS)
    for number, picture in zip((2, 4, 9), pictures(3), strict=True):
        Image.fromarray(picture).save(folder / "data" / "train" / "images" / f"{number}.png")
    vqa.main(folder / "sensor", folder / "data", "easy-vqa", steps=3, batch=2, hidden_size=32, image_size=32)
    write_gguf(folder / "tiny.gguf")
    save_folder(folder / "tiny.gguf", folder / "task")
    return folder


@pytest.fixture(scope="module")
def agents_folder(folder):
    make_agents(str(folder / "sensor"), str(folder / "task"), folder / "pair", num_tokens=3, width=8, r=2)
    return folder / "pair"


def train(folder, out, **options):
    given = {"steps": 4, "batch": 2, "taught_batch": 3, "length": 120, "layout": "easy-vqa", **options}
    train_pair(folder / "pair", out, NoisyChannel(), data=folder / "data", **given)
    return AgentLink.from_pretrained(out)


def test_the_sensor_knows_every_word_of_questions_answers_and_descriptions(folder):
    words = vqa.words_of(EasyVqaDataset(folder / "data", "train").questions)
    assert words == sorted(words)
    tokenizer = build_tokenizer(words)
    for text in ("what color is the shape ?", "teal", "this is a question about the presence of a thing ."):
        assert UNKNOWN not in tokenizer.tokenize(text)
    assert tokenizer.tokenize("triangle") == [UNKNOWN]


def test_the_sensor_is_an_image_text_model_with_a_card(folder):
    sensor = build_agents(folder / "sensor", folder / "task", width=8, r=2).sensor
    (answer,) = sensor.answer(pictures(1), ["what color is the shape?"])
    assert isinstance(answer, str)
    assert sensor.see(pictures(1))[0][0].shape == (16, 32)
    card = (folder / "sensor" / "README.md").read_text()
    assert "tokenlink train vqa" in card
    assert "| accuracy, open |" in card
    assert "| accuracy, yes/no |" in card


def test_classifiers_learn_the_answers_that_a_split_gives_about_each_image(folder):
    color, shape = vqa.answer_targets(EasyVqaDataset(folder / "data", "train"))
    assert color.tolist() == [[0, 1], [1, 0]]  # red, teal; images in the order of the file
    assert shape.tolist() == [[1], [0]]  # the second one's is not told


def test_sizes_that_do_not_divide_each_other_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"hidden_size \(40\) must be a multiple of 32"):
        vqa.main(tmp_path, folder / "data", "easy-vqa", steps=1, hidden_size=40)


def test_the_teacher_deals_the_task_agents_own_words(folder):
    agents = build_agents(folder / "sensor", folder / "task", num_tokens=4, width=8, r=2)
    tokens = AnswerTeacher(agents, EasyVqaDataset(folder / "data", "train"), "at is").tokens
    embed, read = input_embeddings(agents.task_agent.model), agents.task_agent.tokenizer

    def words(*texts):
        ids = [piece for text in texts for piece in read(" " + text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            return embed(torch.tensor(ids)).sum(0)

    usual = (words("teal") + words("red")) / 2
    for number, color in enumerate(("teal", "red")):  # in the order of the file; the second shape is not told
        apart = normalize_tokens(usual) + normalize_tokens(words(color) - usual)
        expected = torch.stack([apart, words("circle"), words("at"), words("is")])
        torch.testing.assert_close(tokens[number], normalize_tokens(expected))


def test_more_kinds_of_answers_than_tokens_are_refused(folder):
    agents = build_agents(folder / "sensor", folder / "task", num_tokens=1, width=8, r=2)
    with pytest.raises(ValueError, match="2 kinds of questions have answers beyond yes and no, 1 tokens can hold"):
        AnswerTeacher(agents, EasyVqaDataset(folder / "data", "train"))


def test_a_pair_is_trained_saved_and_answers_while_the_task_agent_stays_as_it_is(folder, agents_folder, tmp_path):
    before = AgentLink.from_pretrained(agents_folder)
    agents = train(folder, tmp_path / "out", taught_share=0.5, num_held_out=1)
    assert hash_of({"task": agents.task_agent}) == hash_of({"task": before.task_agent})
    assert agents.model_hash != before.model_hash
    assert (agents.code.hidden_size, agents.code.received_size, agents.width) == (32, 64, 8)
    agents.channel = NoisyChannel()
    assert len(agents.answer(pictures(2), ["what color is the shape?"] * 2, snr_db=5.0)) == 2
    assert "tokenlink train pair" in (tmp_path / "out" / "README.md").read_text()


def test_the_task_agent_reads_nothing_while_the_sensor_is_taught_its_words(
    folder, agents_folder, tmp_path, monkeypatch
):
    reads, read = [], training.answer_from_tokens
    monkeypatch.setattr(training, "evaluate", lambda *args, **kwargs: 0.0)
    monkeypatch.setattr(training, "answer_from_tokens", lambda *args: (reads.append(len(args[1])), read(*args))[1])
    train(folder, tmp_path, steps=5, taught_share=0.6)
    assert reads == [2, 2]
    train(folder, tmp_path / "untaught", steps=3)
    assert reads == [2] * 5


def test_teaching_alone_brings_the_received_tokens_to_the_words(folder, tmp_path):
    agents = build_agents(folder / "sensor", folder / "task", num_tokens=3, width=16, r=2)
    learned = EasyVqaDataset(folder / "data", "train")
    teacher, turns = AnswerTeacher(agents, learned), turns_about(agents, learned, length=120)
    options = {"held_out": turns, "out": tmp_path, "teacher": teacher, "taught_share": 1.0, "snr_db": (20.0, 20.0)}
    training.train(agents, turns, NoisyChannel(), steps=100, batch=4, lr=5e-3, **options)
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert lines[0]["pull"] > 2 * lines[-1]["pull"]
    assert "accuracy" not in lines[0]
