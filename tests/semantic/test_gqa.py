"""GQA's files: read as they come, refused question by question where something is wrong, and never outside."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from semantic.data import load_dataset
from semantic.data.gqa import NO_TYPE, GqaDataset
from tests import mutants
from tests.semantic.models import pictures

FULL = {  # a record as GQA's own files have it
    "semantic": [{"operation": "select", "dependencies": [], "argument": "desk (81232)"}],
    "entailed": ["05451384"],
    "equivalent": ["05451384"],
    "question": "What is on the white wall?",
    "imageId": "2375429",
    "isBalanced": True,
    "groups": {"global": "", "local": "14-wall_on,s"},
    "answer": "pipe",
    "semanticStr": "select: wall (722332)",
    "annotations": {"answer": {"0": "722335"}, "question": {"4:6": "722332"}, "fullAnswer": {"1": "722335"}},
    "types": {"detailed": "relS", "semantic": "rel", "structural": "query"},
    "fullAnswer": "The pipe is on the wall.",
}


def record(**changes):
    return {**FULL, **changes}


def write(folder, questions, split="val_balanced"):
    (folder / f"{split}_questions.json").write_text(json.dumps(questions))


def write_gqa(folder, split, count):
    """Write a split of as many random pictures, with two questions about each."""
    (folder / "images").mkdir(parents=True)
    questions = {}
    for number, picture in enumerate(pictures(count)):
        image = f"n{number}" if number % 2 else str(2375429 + number)
        Image.fromarray(picture).save(folder / "images" / f"{image}.jpg")
        questions[f"0{number}1"] = record(
            imageId=image, question="Is it red?", answer="no", types={"structural": "verify"}
        )
        questions[f"0{number}2"] = record(imageId=image)
    write(folder, questions, split)


@pytest.fixture
def folder(tmp_path):
    write_gqa(tmp_path, "val_balanced", 3)
    return tmp_path


def test_gqas_own_files_are_read(folder):
    dataset = load_dataset(folder, "val_balanced", "gqa")
    assert len(dataset) == 6
    assert dataset.image_ids == ["2375429", "2375431", "n1"]
    first, second, *_ = dataset.questions
    assert (first.id, first.question, first.answer, first.family) == ("001", "Is it red?", "no", "verify")
    assert (second.answer, second.full_answer, second.family) == ("pipe", "The pipe is on the wall.", "query")
    assert [q.image_index for q in dataset.questions] == [0, 0, 2, 2, 1, 1]
    for index, picture in enumerate(pictures(3)):
        shown = dataset.image(dataset.questions[2 * index].image_index)
        assert np.abs(shown.astype(int) - picture).mean() < 40  # JPEG of noise
        assert shown.shape == picture.shape
    (folder / "questions").mkdir()
    (folder / "val_balanced_questions.json").rename(folder / "questions" / "val_balanced_questions.json")
    assert GqaDataset(folder).data_hash == dataset.data_hash


def test_answers_are_compared_as_gqas_evaluation_does(folder):
    """Word for word: what was right or wrong stays so."""
    answers = ["yes", "traffic light", "Left.", "t-shirt", "5"]
    write(folder, {str(i): record(answer=answer) for i, answer in enumerate(answers)})
    assert [question.answer for question in GqaDataset(folder).questions] == [
        *("yes", "traffic light", "left", "t-shirt", "5")
    ]


def test_a_question_without_type_is_a_family_of_its_own(folder):
    write(folder, {"1": record(types=None), "2": {name: FULL[name] for name in ("imageId", "question", "answer")}})
    assert {question.family for question in GqaDataset(folder).questions} == {NO_TYPE}


def test_the_hash_covers_questions_and_images(folder):
    before = GqaDataset(folder).data_hash
    assert GqaDataset(folder).data_hash == before
    (folder / "images" / "n1.jpg").write_bytes((folder / "images" / "2375429.jpg").read_bytes())
    changed = GqaDataset(folder).data_hash
    write(folder, {"1": FULL})
    assert len({before, changed, GqaDataset(folder).data_hash}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imageId": 2375429}, "imageId: Input should be a valid string, got 2375429"),
        ({"imageId": "../2375429"}, "imageId: String should match pattern"),
        ({"imageId": "2375429\n"}, "imageId: String should match pattern"),
        ({"imageId": "/etc/passwd"}, "imageId: String should match pattern"),
        ({"question": None}, "question: Input should be a valid string, got None"),
        ({"question": "half \ud83d"}, r"question: it holds U\+D83D, half of a surrogate pair"),
        ({"answer": True}, "answer: Input should be a valid string, got True"),
        ({"answer": " . "}, "answer: ' . ' is no answer"),
        ({"fullAnswer": 3}, "fullAnswer: Input should be a valid string, got 3"),
        ({"types": {"structural": "=1+1"}}, "types.structural: Input should be 'choose', 'compare'"),
        ({"types": "query"}, "types: Input should be a valid dictionary"),
    ],
)
def test_a_record_that_is_wrong_is_refused_by_file_id_and_key(folder, changes, message):
    write(folder, {"1": FULL, "05451384": record(**changes)})
    path = folder / "val_balanced_questions.json"
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: question '05451384': {message}"):
        GqaDataset(folder)


@pytest.mark.parametrize("name", ["imageId", "question"])
def test_a_record_that_lacks_a_key_is_refused(folder, name):
    write(folder, {"7": {key: value for key, value in FULL.items() if key != name}})
    with pytest.raises(ValueError, match=f"question '7': {name}: Field required"):
        GqaDataset(folder)


def test_a_split_without_answers_is_refused_with_the_way_out(folder):
    write(folder, {"7": {"imageId": "1", "question": "Is it?", "isBalanced": True}}, "test_balanced")
    with pytest.raises(
        ValueError, match="question '7': it has no answer; GQA's test and challenge splits have none: use"
    ):
        GqaDataset(folder, "test_balanced")


def test_what_is_no_split_is_refused(folder):
    with pytest.raises(
        FileNotFoundError, match=r"neither .*train_questions.json nor .*train_questions.json exists; un"
    ):
        GqaDataset(folder, "train")
    for split in ("../x", "a/b", "", "x\n"):
        with pytest.raises(ValueError, match="split must be a name such as 'val', got"):
            GqaDataset(folder, split)
    for content in ("{}", "[]", "3", '{"questions": []}', "[[[", '{"1": {}, "1": {}}'):
        (folder / "val_balanced_questions.json").write_text(content)
        with pytest.raises(ValueError, match=r"val_balanced_questions\.json"):
            GqaDataset(folder)


def test_images_stay_within_the_folder_and_are_images(folder, tmp_path):
    dataset = GqaDataset(folder)
    path = folder / "images" / "n1.jpg"
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"n1\.jpg does not exist \(image of question '011' of the val_balanced"
    ):
        dataset.image(2)
    with pytest.raises(FileNotFoundError, match=r"n1\.jpg does not exist \(image of question '011'"):
        _ = dataset.data_hash
    Image.new("RGB", (4, 4)).save(tmp_path.parent / "outside.png")
    path.symlink_to(tmp_path.parent / "outside.png")
    with pytest.raises(ValueError, match=r"n1\.jpg lies outside of .* \(image of question '011'"):
        dataset.image(2)
    path.unlink()
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"n1\.jpg is no JPEG or PNG image: .* \(image of question '011'"):
        dataset.image(2)


def run_mutants(folder, count):
    """Damage the question file: it is refused by its name, or all that is read is what the rest relies on."""
    path = folder / "val_balanced_questions.json"
    whole, rng, refused = path.read_bytes(), mutants.generator(5), 0
    for number in range(count):
        damaged = mutants.of_bytes(whole, rng) if number % 2 else mutants.of_json(json.loads(whole), rng)
        path.write_bytes(damaged)
        dataset, error = mutants.attempt(lambda: GqaDataset(folder))
        if error is not None:
            assert type(error) is ValueError, damaged
            assert str(path) in str(error)
            assert len(str(error)) < 1000
            refused += 1
            continue
        for question in dataset.questions:
            assert question.question.encode() is not None
            assert question.answer == question.answer.strip().lower() != ""
            assert question.family in (NO_TYPE, "choose", "compare", "logical", "query", "verify")
            assert re.fullmatch("n?[0-9]+", dataset.image_ids[question.image_index])
    assert refused > 0.2 * count
    return refused


def test_damaged_questions_are_refused_or_valid(folder):
    run_mutants(folder, 200)


@pytest.mark.thousands
def test_thousands_of_damaged_questions_are_refused_or_valid(folder):
    run_mutants(folder, 4000)
