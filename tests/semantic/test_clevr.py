import json

import numpy as np
import pytest
from PIL import Image

from semantic.data.clevr import NO_PROGRAM, ClevrDataset

SCENE_NODE = {"inputs": [], "function": "scene", "value_inputs": []}
COUNT = [SCENE_NODE, {"inputs": [0], "function": "count", "value_inputs": []}]
EXIST = [SCENE_NODE, {"inputs": [0], "function": "exist", "value_inputs": []}]


def question(image_index, text, answer, program):
    return {
        "image_index": image_index,
        "image_filename": f"CLEVR_val_{image_index:06d}.png",
        "question": text,
        "answer": answer,
        "program": program,
        "question_index": 7,
        "split": "val",
    }


@pytest.fixture
def folder(tmp_path):
    """A folder in CLEVR's layout with two grey images and three questions; one answer is a number, as in some files."""
    (tmp_path / "images" / "val").mkdir(parents=True)
    for index, grey in ((3, 30), (5, 50)):
        Image.new("RGBA", (6, 4), (grey, grey, grey, 255)).save(
            tmp_path / "images" / "val" / f"CLEVR_val_{index:06d}.png"
        )
    write(
        tmp_path,
        [
            question(3, "How many things are there?", 2, COUNT),
            question(5, "How many things are there?", "3", COUNT),
            question(5, "Are there any things?", "Yes", EXIST),
        ],
    )
    return tmp_path


def write(folder, questions):
    (folder / "questions").mkdir(exist_ok=True)
    (folder / "questions" / "CLEVR_val_questions.json").write_text(json.dumps({"info": {}, "questions": questions}))


def read(folder):
    return json.loads((folder / "questions" / "CLEVR_val_questions.json").read_text())["questions"]


def test_clevrs_own_files_are_read(folder):
    dataset = ClevrDataset(folder, split="val")
    assert len(dataset) == 3
    assert [(q.index, q.image_index, q.answer, q.family) for q in dataset.questions] == [
        (0, 3, "2", "count"),
        (1, 5, "3", "count"),
        (2, 5, "yes", "exist"),
    ]
    assert dataset.questions[0].question == "How many things are there?"
    image = dataset.image(5)
    assert image.shape == (4, 6, 3)  # CLEVR's images have an alpha channel
    assert image.dtype == np.uint8
    assert np.all(image == 50)


def test_a_folder_without_the_split_is_refused_with_the_way_out(folder):
    with pytest.raises(FileNotFoundError, match=r"CLEVR_train_questions.json does not exist.*tokenlink scenes --out"):
        ClevrDataset(folder, split="train")


def test_a_split_without_answers_is_refused_with_the_way_out(folder):
    questions = read(folder)
    del questions[1]["answer"], questions[1]["program"]
    write(folder, questions)
    with pytest.raises(ValueError, match=r"question 1 of the val split has no answer; .*use split='val'"):
        ClevrDataset(folder, split="val")


@pytest.mark.parametrize("missing", ["image_index", "image_filename", "question"])
def test_a_key_that_a_question_lacks_is_named(folder, missing):
    questions = read(folder)
    del questions[2][missing]
    write(folder, questions)
    with pytest.raises(ValueError, match=f"question 2 of the val split has no {missing}$"):
        ClevrDataset(folder, split="val")


def test_questions_without_a_program_are_a_family_of_their_own(folder):
    questions = read(folder)
    del questions[0]["program"]
    questions[1]["program"] = []
    write(folder, questions)
    dataset = ClevrDataset(folder, split="val")
    assert [q.family for q in dataset.questions] == [NO_PROGRAM, NO_PROGRAM, "exist"]
    assert dataset.questions[0].program == ()


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"questions": 3}'])
def test_a_file_that_holds_no_questions_is_named(folder, content):
    (folder / "questions" / "CLEVR_val_questions.json").write_text(content)
    with pytest.raises(ValueError, match=r"CLEVR_val_questions.json is not in CLEVR's layout"):
        ClevrDataset(folder, split="val")


def test_a_program_without_functions_is_refused(folder):
    questions = read(folder)
    questions[1]["program"] = [{"inputs": []}]
    write(folder, questions)
    with pytest.raises(ValueError, match="the program of question 1 of the val split has a node without a function"):
        ClevrDataset(folder, split="val")


def test_a_question_of_no_known_family_is_refused(folder):
    questions = read(folder)
    questions[2]["program"] = [SCENE_NODE]
    write(folder, questions)
    with pytest.raises(ValueError, match="question 2 of the val split is of unknown family 'scene'"):
        ClevrDataset(folder, split="val")


def test_the_data_hash_moves_with_every_byte_of_questions_and_images(folder):
    hashes = [ClevrDataset(folder, split="val").data_hash]
    assert ClevrDataset(folder, split="val").data_hash == hashes[0]

    Image.new("RGB", (6, 4), (30, 30, 31)).save(folder / "images" / "val" / "CLEVR_val_000003.png")
    hashes.append(ClevrDataset(folder, split="val").data_hash)

    questions = read(folder)
    questions[0]["answer"] = "1"
    write(folder, questions)
    hashes.append(ClevrDataset(folder, split="val").data_hash)

    Image.new("RGB", (6, 4)).save(folder / "images" / "val" / "CLEVR_val_000009.png")  # no question refers to it
    assert ClevrDataset(folder, split="val").data_hash == hashes[-1]
    assert len(set(hashes)) == 3


def test_scenes_are_read_from_their_own_file_only_when_asked_for(folder):
    dataset = ClevrDataset(folder, split="val")
    with pytest.raises(FileNotFoundError, match=r"CLEVR_val_scenes.json does not exist. Training on CLEVR scenes"):
        _ = dataset.scenes
    (folder / "scenes").mkdir()
    (folder / "scenes" / "CLEVR_val_scenes.json").write_text(json.dumps({"scenes": [{"image_index": 3}]}))
    assert dataset.scenes == [{"image_index": 3}]
