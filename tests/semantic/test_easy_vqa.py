"""easy-VQA's files: read as they come, refused question by question where something is wrong."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from semantic.data import EasyVqaDataset, load_dataset
from semantic.data import easy_vqa as reader
from semantic.obfuscation import obfuscate
from tests.semantic.models import pictures

COLORS = {"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"}
SHAPES = {"circle", "rectangle", "triangle"}


def write(folder, records, split="train"):
    (folder / split / "images").mkdir(parents=True, exist_ok=True)
    (folder / split / "questions.json").write_text(json.dumps(records))


def write_easy_vqa(folder, split, count):
    """Write training images that `val` has as many of as asked for, with two questions about each; or test images."""
    part = "test" if split == "test" else "train"
    step = 1 if split == "test" else 10
    numbers = [step * number + step - 1 for number in range(count)]
    records = [
        r for n in numbers for r in (["is there a red shape?", "no", n], ["what shape is present?", "circle", n])
    ]
    write(folder, records, part)
    for number, picture in zip(numbers, pictures(count), strict=True):
        Image.fromarray(picture).save(folder / part / "images" / f"{number}.png")


def test_the_packages_own_data_are_read_where_no_folder_is_given():
    train, val, test = (load_dataset(None, split, "easy-vqa") for split in ("train", "val", "test"))
    assert (len(train) + len(val), len(test)) == (38_575, 9_673)
    families = Counter(q.family for part in (train, val) for q in part.questions)
    assert families == {"yes/no": 28_407, "open": 10_168}
    assert {q.answer for q in test.questions if q.family == "open"} == COLORS | SHAPES
    assert test.image(999).shape == (64, 64, 3)


def test_every_tenth_training_image_is_held_out(tmp_path):
    records = [["is there a circle?", "yes", number] for number in range(30)]
    write(tmp_path, records)
    parts = [[q.image_index for q in EasyVqaDataset(tmp_path, split).questions] for split in ("train", "val")]
    assert parts[1] == [9, 19, 29]
    assert sorted(parts[0] + parts[1]) == list(range(30))


def test_questions_are_open_unless_yes_or_no_answers_them(tmp_path):
    write(tmp_path, [["Is it red?", "Yes.", 0], ["what is it?", "Circle", 0], ["is it?", "no", 0]], "test")
    assert [(q.answer, q.family) for q in EasyVqaDataset(tmp_path).questions] == [
        ("yes", "yes/no"),
        ("circle", "open"),
        ("no", "yes/no"),
    ]


def test_the_hash_depends_on_split_questions_and_images(tmp_path):
    write_easy_vqa(tmp_path, "val", 2)
    write_easy_vqa(tmp_path, "test", 2)
    hashes = [EasyVqaDataset(tmp_path, split).data_hash for split in ("val", "test")]
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "images" / "9.png")
    hashes.append(EasyVqaDataset(tmp_path, "val").data_hash)
    write(tmp_path, [["is there a red shape?", "yes", 9]])
    hashes.append(EasyVqaDataset(tmp_path, "val").data_hash)
    assert len(set(hashes)) == 4


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (["what?", "circle", "0"], "image: Input should be a valid integer, got '0'"),
        (["what?", "circle", -1], "image: Input should be greater than or equal to 0, got -1"),
        (["what?", "circle", True], "image: Input should be a valid integer, got True"),
        (["what?", 5, 0], "answer: Input should be a valid string, got 5"),
        (["what?", " . ", 0], "answer: ' . ' says nothing"),
        (["", "circle", 0], "question: '' says nothing"),
        (["wh\ud800at?", "circle", 0], "question: it holds U.D800, half of a surrogate pair"),
        (["what?", "circle"], r"got \['what\?', 'circle'\]"),
        (["what?", "circle", 0, 1], r"got \['what\?', 'circle', 0, 1\]"),
        ({"question": "what?"}, r"got \{'question': 'what\?'\}"),
    ],
)
def test_a_record_that_is_wrong_is_refused_with_its_file_number_and_key(tmp_path, record, problem):
    write(tmp_path, [["what?", "circle", 0], record], "test")
    with pytest.raises(ValueError, match=re.escape("questions.json: question 1: ") + problem) as refused:
        EasyVqaDataset(tmp_path)
    assert "a record is [question, answer, image]" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "no JSON list of questions"),
        ("[", "is no JSON"),
        ("[]", "holds no questions of the split test"),
        ("[" * 40 + "]" * 40, "nested deeper than"),
    ],
)
def test_a_file_that_holds_no_questions_is_refused_by_name(tmp_path, content, problem):
    write(tmp_path, [], "test")
    (tmp_path / "test" / "questions.json").write_text(content)
    with pytest.raises(ValueError, match=f"questions.json.*{re.escape(problem)}"):
        EasyVqaDataset(tmp_path)


def test_missing_folders_splits_packages_and_images_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"test.questions\.json does not exist; give easy-VQA's folder `data`"):
        EasyVqaDataset(tmp_path)
    with pytest.raises(ValueError, match="easy-VQA's splits are train, val, test; got 'dev'"):
        EasyVqaDataset(tmp_path, "dev")
    write(tmp_path, [["what?", "circle", 3]], "test")
    with pytest.raises(FileNotFoundError, match=r"images.3\.png does not exist"):
        EasyVqaDataset(tmp_path).image(3)
    monkeypatch.setattr(reader.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="easy-vqa is not installed; give the folder of its data"):
        EasyVqaDataset(None)


def test_links_of_images_may_not_lead_out_of_the_folder(tmp_path):
    write(tmp_path / "data", [["what?", "circle", 0]], "test")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "secret.png")
    (tmp_path / "data" / "test" / "images" / "0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="lies outside of"):
        EasyVqaDataset(tmp_path / "data").image(0)


def test_descriptions_tell_the_kind_of_question_and_neither_color_nor_shape_nor_negation():
    kinds = Counter()
    private = COLORS | (SHAPES - {"shape"}) | {"not", "yes"}
    seen = set()
    for split in ("train", "test"):
        for question in load_dataset(None, split, "easy-vqa").questions:
            description = obfuscate(question.question)
            words = set(re.findall("[a-z]+", question.question.lower()))
            seen |= words & private
            assert not set(re.findall("[a-z]+", description)) & private
            kind = "presence" if question.family == "yes/no" else "color" if question.answer in COLORS else "shape"
            kinds[kind, description] += 1
    assert seen == private - {"yes"}
    assert set(kinds) == {
        (kind, f"this is a question about the {kind} of a thing .") for kind in ("presence", "color", "shape")
    }
