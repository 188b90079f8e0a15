import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from semantic.data.clevr import NO_PROGRAM, ClevrDataset
from tests.semantic.worlds import FOUR_THINGS

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


@pytest.mark.parametrize("split", ["../val", "a/b", "..", "", "val\n", "val\0", "x" * 300 + "/"])
def test_a_split_that_leads_out_of_the_folder_is_refused(folder, split):
    with pytest.raises(ValueError, match="split must be a name such as 'val', got") as refusal:
        ClevrDataset(folder, split)
    assert len(str(refusal.value)) < 160


def test_a_split_without_answers_is_refused_with_the_way_out(folder):
    questions = read(folder)
    del questions[1]["answer"], questions[1]["program"]
    write(folder, questions)
    with pytest.raises(ValueError, match=r"CLEVR_val_questions.json: question 1 of the val split has no answer$"):
        ClevrDataset(folder, split="val")  # no advice to take the split that it is
    for part in ("images/val", "questions/CLEVR_val_questions.json"):
        (folder / part).rename(folder / part.replace("val", "test"))
    with pytest.raises(ValueError, match=r"question 1 of the test split has no answer; .*use split='val'"):
        ClevrDataset(folder, split="test")


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON: Expecting value"),
        (b"[1]", "is not in CLEVR's layout"),
        (b"{}", "is not in CLEVR's layout"),
        (b'{"questions": 3}', "is not in CLEVR's layout"),
        (b'{"questions": []}', "is not in CLEVR's layout: it holds no questions"),
        (b'{"questions": [\xff]}', "is no JSON: 'utf-8' codec can't decode byte 0xff in position 15"),
        (b'{"questions": [NaN]}', "is no JSON: NaN is no number"),
        (b'{"questions": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", "is nested deeper than 32 levels"),
        (b'{"questions": ' + 10_000 * b'{"a":', "is nested deeper than 32 levels"),
        (100_000 * b'\\"' + b"[", "is no JSON"),
    ],
)
def test_a_file_that_holds_no_questions_is_named(folder, content, message):
    (folder / "questions" / "CLEVR_val_questions.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"CLEVR_val_questions\.json.*{re.escape(message)}"):
        ClevrDataset(folder, split="val")


def test_brackets_in_strings_are_not_nested(folder):
    questions = read(folder)
    questions[0]["question"] = 50 * '[{"\\' + "how many things are there?"
    write(folder, questions)
    assert ClevrDataset(folder, split="val").questions[0].question == questions[0]["question"]


def test_a_program_without_functions_is_refused(folder):
    questions = read(folder)
    questions[1]["program"] = [{"inputs": []}]
    write(folder, questions)
    with pytest.raises(ValueError, match=r"question 1 of the val split: program\.0\.function: Field required"):
        ClevrDataset(folder, split="val")


def test_a_program_that_ends_in_no_answer_is_refused(folder):
    questions = read(folder)
    questions[2]["program"] = [SCENE_NODE]
    write(folder, questions)
    with pytest.raises(ValueError, match="question 2 of the val split: the program ends in set, which is no answer"):
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
    scene = {"image_index": 3, **FOUR_THINGS}
    (folder / "scenes" / "CLEVR_val_scenes.json").write_text(json.dumps({"scenes": [scene]}))
    assert dataset.scenes == [scene]


# --- records as CLEVR's generator writes them ----------------------------------------------------------------------


def generated(answer, *steps):
    """A record as the generator writes it: "type" for "function", booleans and numbers as such, its own extra keys."""
    program = [{"type": name, "inputs": inputs, "value_inputs": values} for name, inputs, values in steps]
    program[-1]["_output"] = answer
    return {
        **question(3, "Is it so?", answer, program),
        "template_filename": "one_hop.json",
        "image": "CLEVR_val_000003",
    }


REDS = [("scene", [], []), ("filter_color", [0], ["red"])]


def with_scene(folder):
    (folder / "scenes").mkdir()
    scenes = [{"image_index": 3, "image_filename": "CLEVR_val_000003.png", **FOUR_THINGS}]
    (folder / "scenes" / "CLEVR_val_scenes.json").write_text(json.dumps({"scenes": scenes}))


def test_the_generators_booleans_and_numbers_become_words(folder):
    with_scene(folder)
    smalls = [("filter_size", [0], ["small"]), ("count", [3], []), ("less_than", [2, 4], [])]
    records = [
        generated(True, *REDS, ("exist", [1], [])),
        generated(False, ("scene", [], []), ("filter_color", [0], ["gray"]), ("exist", [1], [])),
        generated(2, *REDS, ("count", [1], [])),
        generated(False, *REDS, ("count", [1], []), *smalls),
        generated("metal", *REDS, ("filter_size", [1], ["large"]), ("unique", [2], []), ("query_material", [3], [])),
    ]
    write(folder, records)
    dataset = ClevrDataset(folder, split="val")
    assert [q.answer for q in dataset.questions] == ["yes", "no", "2", "no", "metal"]
    assert [q.family for q in dataset.questions] == ["exist", "exist", "count", "compare", "query"]
    assert dataset.questions[0].program[0] == {"function": "scene", "inputs": [], "value_inputs": []}


@pytest.mark.parametrize(
    ("answer", "last", "message"),
    [
        ("true", "exist", "the answer 'true' is none of CLEVR's"),
        ("maybe", "exist", "the answer 'maybe' is none of CLEVR's"),
        ("", "exist", "the answer '' is none of CLEVR's"),
        ("٣", "count", "the answer '٣' is none of CLEVR's"),
        (-1, "count", "the answer -1 is none of CLEVR's"),
        (1.0, "count", "answer"),
        (None, "count", "answer"),
        (["yes"], "exist", "answer"),
        ("yes", "count", "the answer 'yes' is none that its program can give, which ends in a number"),
        (2, "exist", "the answer '2' is none that its program can give, which ends in a truth"),
        (False, "exist", "has the answer 'no', its program gives 'yes' on the scene of image 3"),
        (3, "count", "has the answer '3', its program gives '2' on the scene of image 3"),
    ],
)
def test_an_answer_that_the_program_does_not_give_is_refused(folder, answer, last, message):
    with_scene(folder)
    write(folder, [generated(True, *REDS, ("exist", [1], [])), generated(answer, *REDS, (last, [1], []))])
    with pytest.raises(ValueError, match=rf"CLEVR_val_questions\.json: question 1 of the val split.*{message}"):
        ClevrDataset(folder, split="val")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("scene", [], []), ("count", [1], [])], r"node 1 of the program, count, takes inputs \[1\]"),
        ([("scene", [], []), ("count", [-1], [])], "program.1.inputs.0: Input should be greater than or equal to 0"),
        ([("scene", [], []), ("count", ["0"], [])], "program.1.inputs.0: Input should be a valid integer, got '0'"),
        ([("scene", [], []), ("count", [], [])], r"node 1 of the program, count, takes \('set',\), got \(\)"),
        ([("scene", [], []), ("relate", [0], ["left"])], r"relate, takes \('object',\), got \('set',\)"),
        ([("scene", [], []), ("filter_color", [0], []), ("count", [1], [])], "filter_color, takes one of gray"),
        ([("scene", [], []), ("filter_color", [0], ["pink"]), ("count", [1], [])], r"takes one of gray.*'pink'"),
        ([("scene", [], []), ("fly", [0], [])], "unknown function 'fly'"),
        ([("scene", [], []), ("unique", [0], []), ("query_color", [1], [])], "unique met 4 objects instead of one"),
    ],
)
def test_a_program_that_cannot_be_executed_is_refused(folder, steps, message):
    with_scene(folder)
    write(folder, [generated("red", *steps)])
    with pytest.raises(ValueError, match=f"question 0 of the val split.*{message}"):
        ClevrDataset(folder, split="val")


def test_a_scene_that_no_program_can_be_executed_on_is_refused(folder):
    with_scene(folder)
    path = folder / "scenes" / "CLEVR_val_scenes.json"
    for key, value, message in (
        ("objects", [{"size": "small"}], r"scene 0 of the val split: objects\.0\.color: Field required"),
        ("relationships", {}, r"scene 0 of the val split: relationships need a list of objects 'left'"),
        (
            "relationships",
            {side: [[4], [], [], []] for side in FOUR_THINGS["relationships"]},
            "beyond the 4 that there are",
        ),
    ):
        path.write_text(json.dumps({"scenes": [{"image_index": 3, **FOUR_THINGS, key: value}]}))
        with pytest.raises(ValueError, match=rf"CLEVR_val_scenes\.json: {message}|{message}"):
            ClevrDataset(folder, split="val")


# --- names and images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../val/a.png", "/etc/passwd", "a/../../b.png", "", ".", "a\0.png", 3, None])
def test_a_name_that_is_none_below_the_images_is_refused(folder, name):
    questions = read(folder)
    questions[1]["image_filename"] = name
    write(folder, questions)
    with pytest.raises(ValueError, match="question 1 of the val split: image_filename: "):
        ClevrDataset(folder, split="val")


def test_two_names_of_one_image_are_refused(folder):
    questions = read(folder)
    questions[2]["image_filename"] = "CLEVR_val_000003.png"
    write(folder, questions)
    with pytest.raises(
        ValueError, match=r"question 2 of the val split calls image 5 'CLEVR_val_000003.png', an earlier"
    ):
        ClevrDataset(folder, split="val")


def refused(folder, message):
    """Both that read images have to refuse image 3, named with a question about it."""
    dataset = ClevrDataset(folder, split="val")
    for read_it in (lambda: dataset.image(3), lambda: dataset.data_hash):
        with pytest.raises(
            (ValueError, FileNotFoundError), match=rf"{message}.*\(image of question 0 of the val split\)"
        ):
            read_it()


def test_an_image_outside_of_the_folder_or_no_file_is_refused(folder):
    path = folder / "images" / "val" / "CLEVR_val_000003.png"
    inside = path.with_name("inside.png")
    path.rename(inside)
    refused(folder, "CLEVR_val_000003.png does not exist")
    path.symlink_to("inside.png")
    assert ClevrDataset(folder, split="val").image(3).shape == (4, 6, 3)
    path.unlink()
    (folder / "secret.png").write_bytes(inside.read_bytes())
    path.symlink_to(folder / "secret.png")
    refused(folder, "lies outside of .*a link is not enough")
    path.unlink()
    path.symlink_to(path.name)
    refused(folder, "CLEVR_val_000003.png")
    path.unlink()
    os.mkfifo(path)
    refused(folder, "is no regular file")  # nobody waits for what comes out of a pipe
    path.unlink()
    path.mkdir()
    refused(folder, "is no regular file")
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(50 * 2**20 + 1)
    refused(folder, "has 52428801 bytes, more than the 52428800")


def test_a_whole_folder_may_be_a_link(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "images"
    (folder / "images").rename(elsewhere)
    (folder / "images").symlink_to(elsewhere)
    assert ClevrDataset(folder, split="val").image(3).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("GIF", (6, 4), "is no JPEG or PNG image"),
        ("PNG", (4097, 1), "has 4097 x 1 pixels, 4096 x 4096 is the most"),
        ("PNG", (20_000, 20_000), "is no JPEG or PNG image: .*decompression bomb|has 20000 x 20000 pixels"),
    ],
)
def test_an_image_of_another_kind_or_too_large_is_refused_before_it_is_decoded(folder, kind, size, message):
    Image.new("1", size).save(folder / "images" / "val" / "CLEVR_val_000003.png", kind)
    with pytest.raises(ValueError, match=rf"CLEVR_val_000003\.png ({message}).*question 0 of the val split"):
        ClevrDataset(folder, split="val").image(3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_cut_image_is_refused(folder, kind):
    path = folder / "images" / "val" / "CLEVR_val_000003.png"
    Image.effect_noise((64, 64), 90).save(path, kind)
    assert ClevrDataset(folder, split="val").image(3).shape == (64, 64, 3)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ValueError, match=rf"is a damaged {kind} image: .*\(image of question 0 of the val split\)"):
        ClevrDataset(folder, split="val").image(3)


def test_half_a_surrogate_pair_is_refused_with_the_questions_number(folder):
    questions = read(folder)
    questions[1]["question"] = "how many \ud83d ?"
    write(folder, questions)
    with pytest.raises(
        ValueError, match=r"question 1 of the val split: question: it holds U\+D83D, half of a surrogate pair"
    ):
        ClevrDataset(folder, split="val")


def test_a_message_shows_little_of_a_large_value(folder):
    questions = read(folder)
    questions[1]["answer"] = [[{"a": 300 * "long "} for _ in range(9)] for _ in range(9)]
    write(folder, questions)
    with pytest.raises(ValueError, match=r"question 1 of the val split: answer.*got \[\[.{90,96}\.\.\.$"):
        ClevrDataset(folder, split="val")


def test_records_of_another_kind_are_refused_with_their_number(folder):
    for record in (None, 3, "text", [], {}, {"image_index": "3"}):
        write(folder, [*read(folder)[:1], record])
        with pytest.raises(ValueError, match=r"CLEVR_val_questions\.json: question 1 of the val split"):
            ClevrDataset(folder, split="val")
        write(folder, read(folder)[:1])
