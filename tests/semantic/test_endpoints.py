"""The embedded pair: vocabulary, labels, and that pretraining sees what use will show."""

import inspect
import random
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from semantic.data.clevr import ClevrDataset
from semantic.data.packing import IGNORE, encode_question, pack
from semantic.data.scenes import NUM_POSITION_BINS, describe, patch_index, pixel_coords, position_bins
from semantic.endpoints import agents, architecture, language, lora, sensor, vision
from semantic.endpoints.architecture import (
    BOS,
    EOS,
    GRID,
    MAX_SLOTS,
    PAD,
    PATCH_SIZE,
    SLOTS,
    SPECIAL,
    UNKNOWN,
    build_tokenizer,
    token_id,
    token_ids,
    vocabulary,
)
from semantic.endpoints.language import (
    QUESTION_START,
    TURN,
    Course,
    Reader,
    draw_lessons,
    encode_scene,
    normalize_tokens,
    superpose,
)
from semantic.endpoints.pointers import NO_POINTER, Pointers, phrase_targets
from semantic.endpoints.sensor import SceneTurns, answer_from_image, build_processor, projected
from semantic.endpoints.vision import augment, load_images, normalize, patch_labels
from semantic.sensor_agent import SensorAgent
from semantic.task_agent import TaskAgent
from semantic.tasks import ATTRIBUTES, family
from tests.semantic.models import (
    HIDDEN,
    QUESTIONS,
    build_sensor_model,
    build_task_model,
    changed,
    deep_language_config,
    parameters_of,
    pictures,
    vision_config,
    write_split,
)
from tests.semantic.worlds import Reader as Pupil
from tests.semantic.worlds import asked, drawn_scenes, reflected

TOKENIZER = build_tokenizer()


def with_pixels(scene):
    """Return a drawn scene as its file holds it."""
    places = pixel_coords(scene)
    objects = [{**obj, "pixel_coords": place} for obj, place in zip(scene["objects"], places, strict=True)]
    return {**scene, "objects": objects}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", 4)
    return ClevrDataset(folder, "train")


@pytest.fixture(scope="module")
def turns(data):
    return SceneTurns(data, TOKENIZER, 2)


# --- words -------------------------------------------------------------------------------------------------------


def test_the_vocabulary_has_every_word_of_questions_answers_and_descriptions():
    for scene, record in asked():
        text = " ".join([record["question"], record["answer"], *(w for words in describe(scene) for w in words)])
        assert UNKNOWN not in TOKENIZER.tokenize(text), text


def test_every_word_has_one_id_and_special_words_are_no_text():
    words = vocabulary()
    assert len(set(words)) == len(words) == len(TOKENIZER)
    assert token_ids(TOKENIZER, words) == list(range(len(words)))
    assert [token_id(TOKENIZER, word) for word in (PAD, BOS, EOS)] == [0, 1, 2]
    assert TOKENIZER.decode(token_ids(TOKENIZER, [*SPECIAL, *SLOTS, "yes"]), skip_special_tokens=True) == "yes"
    assert len(SLOTS) == MAX_SLOTS


def test_a_text_is_read_in_lower_case_behind_its_first_token():
    ids = TOKENIZER("What COLOR is it?")["input_ids"]
    assert TOKENIZER.convert_ids_to_tokens(ids) == ["<s>", "what", "color", "is", "<unk>", "?"]


# --- images ------------------------------------------------------------------------------------------------------


def test_training_sees_the_pixels_that_the_processor_makes(data):
    trained = normalize(load_images(data, [0, 1, 2, 3]))
    processor = build_processor(TOKENIZER).image_processor
    used = processor([data.image(i) for i in range(4)], return_tensors="pt")["pixel_values"]
    assert trained.shape == used.shape == (4, 3, GRID * PATCH_SIZE, GRID * PATCH_SIZE)
    assert torch.allclose(trained, used, atol=1e-5)


def slow_labels(scene):
    """Look at every patch in turn, as the definition says; centres only."""
    labels = {"centre": [], "column": [], "row": []}
    bins = position_bins(scene)
    for patch in range(GRID * GRID):
        here = [k for k, p in enumerate(patch_index(scene, GRID)) if p == patch]
        labels["centre"].append(int(bool(here)))
        nearest = min(here, key=lambda k: scene["objects"][k]["pixel_coords"][2], default=None)
        labels["column"].append(IGNORE if nearest is None else bins[nearest][0])
        labels["row"].append(IGNORE if nearest is None else bins[nearest][1])
    return labels


def inside(scene):
    return all(0 <= x < 192 and 0 <= y < 128 for x, y, _ in (o["pixel_coords"] for o in scene["objects"]))


SCENES = [s for s in map(with_pixels, drawn_scenes(40)) if inside(s)]


def test_patches_know_the_objects_whose_centres_they_hold():
    assert len(SCENES) > 10
    for scene in SCENES:
        labels = patch_labels(scene)
        for name, expected in slow_labels(scene).items():
            assert labels[name].tolist() == expected
        for obj, patch in zip(scene["objects"], patch_index(scene, GRID), strict=True):
            shown = {name: values[labels[name][patch]] for name, values in ATTRIBUTES.items()}
            nearer = [o for o in scene["objects"] if o is not obj and o["pixel_coords"][2] < obj["pixel_coords"][2]]
            if not nearer:
                assert shown == {name: obj[name] for name in ATTRIBUTES}
        assert ((labels["color"] == IGNORE) == (labels["shape"] == IGNORE)).all()


def test_of_two_objects_in_line_the_nearer_one_is_seen():
    scene = with_pixels(drawn_scenes()[0])
    near, far = scene["objects"][:2]
    near, far = {**near, "color": "red", "size": "small"}, {**far, "color": "blue", "size": "large"}
    near["pixel_coords"], far["pixel_coords"] = [100.0, 60.0, 9.0], [104.0, 58.0, 13.0]
    for objects in ([near, far], [far, near]):
        labels = patch_labels({**scene, "objects": objects})
        middle = labels["color"][int(60 / 128 * GRID) * GRID + int(100 / 192 * GRID)]
        assert ATTRIBUTES["color"][middle] == "red"
        assert {"red", "blue"} == {ATTRIBUTES["color"][k] for k in labels["color"] if k != IGNORE}  # and its rim


def test_the_labels_of_a_mirrored_image_are_those_of_the_reflected_scene():
    for scene in SCENES:
        flipped, expected = patch_labels(scene, flip=True), patch_labels(with_pixels(reflected(scene)))
        for name in flipped:
            assert np.mean(flipped[name] != expected[name]) < 0.02, name  # pixels are rounded to 1/100


def test_labels_move_with_a_shift_by_whole_patches():
    for scene in SCENES:
        still, moved = patch_labels(scene), patch_labels(scene, shift=(PATCH_SIZE, 0))
        for name in (*ATTRIBUTES, "centre"):
            before, after = still[name].reshape(GRID, GRID), moved[name].reshape(GRID, GRID)
            assert np.array_equal(before[:, :-1], after[:, 1:]), name
        assert (moved["column"] == IGNORE).all()  # where on the ground something stands, a shifted image does not show


def test_augmented_images_and_labels_go_together():
    images = torch.zeros(len(SCENES), 3, GRID * PATCH_SIZE, GRID * PATCH_SIZE, dtype=torch.uint8)
    for b, scene in enumerate(SCENES):  # one bright pixel at the farthest object's centre
        x, y, _ = max((o["pixel_coords"] for o in scene["objects"]), key=lambda place: place[2])
        images[b, :, int(y / 128 * 192), int(x)] = 255
    augmented, labels = augment(images, SCENES, random.Random(0))
    kept = 0
    for image, label in zip(augmented, labels, strict=True):
        ((row, column),) = (image[0] == 255).nonzero().tolist()
        kept += int(label["centre"][row // PATCH_SIZE * GRID + column // PATCH_SIZE])
    assert kept > 0.8 * len(SCENES)  # a centre within a pixel of a border, or one that is shifted out, may miss


# --- turns about an image ----------------------------------------------------------------------------------------


def test_a_mirrored_scene_is_described_as_its_reflection(turns):
    for index, scene in enumerate(turns.scenes):
        mirrored = with_pixels(reflected(scene))
        words, patches = turns.scene(index, True)
        assert [TOKENIZER.convert_ids_to_tokens(row.tolist()) for row in words] == describe(mirrored)
        assert patches.tolist() == patch_index(mirrored, GRID)
        words, patches = turns.scene(index, False)
        assert [TOKENIZER.convert_ids_to_tokens(row.tolist()) for row in words] == describe(scene)
        assert patches.tolist() == patch_index(scene, GRID)


def test_a_mirrored_question_has_the_same_answer_in_the_reflected_scene(turns):
    swapped = 0
    for scene, records, encoded in zip(turns.scenes, turns.records, turns.questions, strict=True):
        pupil = Pupil(reflected(scene))
        for record, ids in zip(records, encoded, strict=True):
            mirrored = turns.mirror_question(ids)
            question = TOKENIZER.decode(mirrored[:-2].tolist())
            assert pupil.answer(question) == record["answer"]
            assert mirrored[-2:].tolist() == ids[-2:].tolist()
            swapped += question != record["question"]
    assert swapped > 0


def test_turns_are_of_the_families_that_are_asked_for(data):
    turns = SceneTurns(data, TOKENIZER, 2, families=("query", "exist"))
    assert {family(record["program"]) for records in turns.records for record in records} == {"query", "exist"}


def test_a_caption_lists_the_objects_from_left_to_right(turns):
    words = TOKENIZER.convert_ids_to_tokens(turns.caption(0, False).tolist())
    assert words[:4] == ["describe", "the", "scene", ":"]
    assert words[-1] == EOS
    columns = [w for w in words if w.startswith("c") and w[1:].isdigit()]
    assert columns == sorted(columns)
    assert len(columns) == len(turns.scenes[0]["objects"])


def test_pretraining_meets_the_answers_that_the_sensor_gives_in_use():
    model = build_sensor_model()
    images = pictures(len(QUESTIONS))
    sensor = SensorAgent(model, build_processor(TOKENIZER))
    features = torch.stack(sensor.image_tokens(images))
    pixels = sensor.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        assert torch.allclose(projected(model, pixels), features, atol=1e-5)
        ids, mask = sensor.tokenize(QUESTIONS, GRID * GRID)
        out = model.generate(inputs_embeds=sensor.embed(ids, features), attention_mask=mask, max_new_tokens=1)
        rows = [[encode_question(TOKENIZER, q, TOKENIZER.decode(word))] for q, word in zip(QUESTIONS, out, strict=True)]
        _, accuracy, _ = answer_from_image(model, features, pack(rows, 30), token_id(TOKENIZER, BOS))
    assert accuracy == 1
    first = mask[0].argmax()
    assert TOKENIZER.convert_ids_to_tokens(ids[0, first + QUESTION_START :].tolist()) == QUESTIONS[0].split()


@pytest.mark.parametrize("writing", [0.0, 3.0])
def test_a_sensor_that_is_not_taught_to_write_leaves_the_words_for_tokens_alone(tmp_path, writing):
    for split in ("train", "val"):
        write_split(tmp_path / "world", split, 3)
    with (
        mock.patch.object(architecture, "language_config", deep_language_config),
        mock.patch.object(architecture, "vision_config", vision_config),
        mock.patch.object(vision, "vision_config", vision_config),
    ):
        task_model = architecture.build_task_model(TOKENIZER)
        task_model.save_pretrained(tmp_path / "task")
        TOKENIZER.save_pretrained(tmp_path / "task")
        tower, _ = vision.load_tower(None)
        tower.save_pretrained(tmp_path / "tower")
        places = (tmp_path / "out", tmp_path / "world", tmp_path / "tower", tmp_path / "task")
        sensor.main(*places, steps=4, lr=0.05, batch=2, families=["query", "exist"], writing=writing)
    learned = sensor.load_sensor_model(tmp_path / "out").get_input_embeddings().weight
    moved = (learned - task_model.get_input_embeddings().weight).abs().amax(1)
    slots = token_ids(TOKENIZER, list(SLOTS[:1]))  # every draw of a number of tokens has this one
    assert (moved[slots] > 0.02).all() == (writing > 0)
    assert (moved[slots] < 0.01).all() == (writing == 0)  # weight decay alone
    assert (moved[token_ids(TOKENIZER, ["?", "color"])] > 0.02).all()
    assert moved[token_ids(TOKENIZER, ["fewer", "greater"])].max() < 0.01  # of families that were not asked


# --- the language model's ways of reading ------------------------------------------------------------------------


def test_an_objects_vector_is_the_scaled_sum_of_its_words():
    table = torch.randn(50, 8)
    words = torch.tensor([[3, 4, 5, 6, 7, 8]])
    expected = sum(table[i] for i in (3, 4, 5, 6, 7, 8, 9)) / 7**0.5
    assert torch.allclose(superpose(table, words, 9)[0], expected, atol=1e-6)


@pytest.fixture(scope="module")
def reader():
    return Reader(build_task_model(), TOKENIZER)


@pytest.fixture(scope="module")
def text_scenes():
    groups = {}
    for scene, record in asked(6, 2):
        groups.setdefault(id(scene), (scene, []))[1].append(record)
    return [encode_scene(TOKENIZER, scene, records) for scene, records in groups.values()]


def test_a_scene_in_words_is_its_description_in_some_order(reader, text_scenes):
    embeds, positions, valid = reader.words(text_scenes, random.Random(0))
    table = reader.model.get_input_embeddings().weight
    for b, scene in enumerate(text_scenes):
        found = torch.cdist(embeds[b, valid[b]], table).argmin(-1)
        assert found[0] == token_id(TOKENIZER, BOS)
        assert sorted(map(tuple, found[1:].reshape(-1, 6).tolist())) == sorted(map(tuple, scene.words.tolist()))
    assert torch.equal(positions[0], torch.arange(embeds.shape[1]))


def test_superposed_objects_stand_at_their_patches(reader, text_scenes):
    with torch.no_grad():
        embeds, positions, valid = reader.superposed(text_scenes, random.Random(0))
        table = reader.model.get_input_embeddings().weight
        for b, scene in enumerate(text_scenes):
            vectors = superpose(table, torch.from_numpy(scene.words), reader.object_id)
            for vector, patch in zip(vectors, scene.patches, strict=True):
                at = valid[b] & (positions[b] == 1 + int(patch))
                assert torch.cdist(embeds[b, at], vector[None]).min() < 0.7 * vector.norm() + 1
            assert positions[b, valid[b]].diff().min() >= 0


def test_the_teachers_prefix_is_the_one_that_the_task_agent_reads(reader):
    agent = TaskAgent(build_task_model(), TOKENIZER)
    received = torch.randn(2, 3, HIDDEN)
    embeds, positions, valid = reader.prefix(received)
    assert torch.allclose(embeds[:, 1:], agent.prefix(received), atol=1e-6)
    assert torch.equal(embeds[:, 0], agent.model.get_input_embeddings().weight[[1, 1]])
    assert positions.tolist() == [[0, 1, 2, 3]] * 2
    assert valid.all()


@pytest.mark.parametrize("num_tokens", [1, 2, 5, 8])
def test_objects_are_dealt_to_tokens_in_the_order_of_their_patches_and_turned_in_every_round(
    reader, text_scenes, num_tokens
):
    with torch.no_grad():
        dealt = reader.deal(text_scenes, num_tokens)
        table = reader.model.get_input_embeddings().weight
        for tokens, scene in zip(dealt, text_scenes, strict=True):
            expected = torch.zeros(num_tokens, HIDDEN)
            for k, index in enumerate(np.argsort(scene.patches, kind="stable")):
                vector = superpose(table, torch.from_numpy(scene.words[index]), reader.object_id)
                shift = k // num_tokens * TURN % HIDDEN
                expected[k % num_tokens] += torch.cat([vector[HIDDEN - shift :], vector[: HIDDEN - shift]])
            expected[len(scene.words) :] = table[reader.nothing]
            assert torch.allclose(tokens, normalize_tokens(expected), atol=1e-5)


def test_written_tokens_see_the_scene_and_nothing_behind_them(reader, text_scenes):
    def written(scenes):
        torch.manual_seed(0)
        with torch.no_grad():
            return reader.write(scenes, random.Random(0), 3)

    tokens = written(text_scenes[:2])
    assert tokens.shape == (2, 3, HIDDEN)
    assert not torch.allclose(tokens[0], tokens[1], atol=0.1)
    assert torch.allclose(tokens.mean(-1), torch.zeros(2, 3), atol=1e-5)


def test_received_tokens_stand_behind_the_first_word_at_the_scale_of_words(reader, text_scenes):
    with torch.no_grad():
        embeds, positions, valid = reader.received(reader.deal(text_scenes, 5), noise=0.5)
    assert embeds.shape == (len(text_scenes), 6, HIDDEN)
    assert torch.allclose(embeds[:, 1:].std(-1, correction=0), reader.model.get_input_embeddings().weight.std())
    assert positions[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert valid.all()


@pytest.mark.parametrize("words_only", [False, True])
def test_a_receiver_that_is_not_taught_reads_words_and_never_a_vector(text_scenes, monkeypatch, words_only):
    monkeypatch.setattr(language, "draw_text_scenes", lambda *args: text_scenes)
    read = set()
    for way in ("words", "superposed", "received"):
        real = getattr(Reader, way)
        monkeypatch.setattr(Reader, way, lambda *args, way=way, real=real, **kw: read.add(way) or real(*args, **kw))
    monkeypatch.setattr(language.Reader, "read", lambda *args: [torch.zeros(2, language.LENGTH, HIDDEN)] * 6)
    reader, pointers, rng = Reader(build_task_model(), TOKENIZER), Pointers(HIDDEN), random.Random(0)
    lessons = draw_lessons(TOKENIZER, 6, 0, words_only)
    met = [set() for _ in lessons]
    for lesson, ways in zip(lessons, met, strict=True):
        for _ in range(60):
            exercise = language.draw_exercise(lesson, 2, rng)
            ways.add(exercise.way)
            language.exercise_loss(reader, pointers, exercise, rng)
    if words_only:
        assert (met, read) == ([{"words"}, {"words"}, {"words", "blind"}], {"words"})
    else:
        assert met[:3] == [{"superposed"}, {"superposed"}, {"superposed", "words", "blind"}]
        assert "dealt" in met[3]
        assert read == {"words", "superposed", "received"}


def test_a_lesson_is_learned_in_its_main_way_of_reading(text_scenes, monkeypatch):
    monkeypatch.setattr(language, "draw_text_scenes", lambda *args: text_scenes)
    for words_only, way in ((True, "words"), (False, "superposed")):
        course = Course(draw_lessons(TOKENIZER, 6, 0, words_only))
        for _ in range(200):
            course.learned({"blind": 1.0})
        assert course.lesson(0.0) is course.lessons[0]
        assert course.skill == 0
        left = len(course.lessons)
        for _ in range(200):
            course.learned({way: 1.0})
        course.lesson(0.0)
        assert len(course.lessons) == left - 1


# --- pointing ----------------------------------------------------------------------------------------------------


def test_a_question_mark_points_at_what_the_answer_is_read_from():
    for scene, record in asked():
        targets = phrase_targets(record["question"], record["program"], scene)[:, 2]
        assert len(targets) == len(record["question"].split())
        assert (targets[:-1] == NO_POINTER).all()
        found = [o for k, o in enumerate(scene["objects"]) if targets[-1] >> k & 1]
        verb, _, attribute = record["program"][-1]["function"].partition("_")
        if verb == "count":
            assert str(len(found)) == record["answer"]
        elif verb == "exist":
            assert {True: "yes", False: "no"}[bool(found)] == record["answer"]
        elif verb == "query":
            assert [o[attribute] for o in found] == [record["answer"]]
        else:
            assert targets[-1] == NO_POINTER


def test_every_noun_points_at_the_objects_of_its_phrase():
    for scene, record in asked(10, 2):
        words = record["question"].split()
        pupil = Pupil(scene)
        for end, target in enumerate(phrase_targets(record["question"], record["program"], scene)[:, 0]):
            is_noun = words[end].rstrip("s") in ("cube", "block", "sphere", "ball", "cylinder", "thing", "object")
            assert (target != NO_POINTER) == is_noun
            if is_noun:
                start = end
                while words[start - 1] not in (
                    "the",
                    "a",
                    "another",
                    "other",
                    "as",
                    "than",
                    "many",
                    "of",
                    "fewer",
                    "more",
                ):
                    start -= 1
                expected = pupil.things(" ".join(words[start : end + 1]))
                assert [k for k in range(len(scene["objects"])) if target >> k & 1] == list(expected)


def test_the_phrase_that_a_relation_starts_from_points_at_what_is_so_related():
    seen = set()
    for scene, record in asked(20, 4):
        words, functions = record["question"].split(), [node["function"] for node in record["program"]]
        targets = phrase_targets(record["question"], record["program"], scene)
        (ends,) = np.nonzero(targets[:, 1] != NO_POINTER)
        relations = [f for f in functions if f == "relate" or f.startswith("same_")]
        assert len(ends) == len(relations)
        for end, relation in zip(ends, relations, strict=True):
            assert end == max(np.flatnonzero(targets[:, 0] != NO_POINTER))
            (anchor,) = (k for k in range(len(scene["objects"])) if targets[end, 0] >> k & 1)
            if relation == "relate":
                (side,) = {"left", "right", "front", "behind"} & set(words)
                expected = scene["relationships"][side][anchor]
            else:
                value = scene["objects"][anchor][relation.removeprefix("same_")]
                same = (o[relation.removeprefix("same_")] == value for o in scene["objects"])
                expected = [k for k, fits in enumerate(same) if fits and k != anchor]
            assert [k for k in range(len(scene["objects"])) if targets[end, 1] >> k & 1] == list(expected)
            seen.add(relation)
    assert seen == {"relate", *(f"same_{name}" for name in ATTRIBUTES)}


def test_pointing_is_perfect_where_states_tell_the_objects():
    """Pointers can be trained: states that are the sum of the found objects' vectors are enough."""
    torch.manual_seed(0)
    embeds = torch.randn(6, 4, HIDDEN)
    targets = torch.randint(0, 16, (6, 5, 3))
    targets[:, 2] = NO_POINTER
    wanted = (targets[..., None] >> torch.arange(4)) & 1
    states = [torch.einsum("blk,bkh->blh", wanted[:, :, kind].float(), embeds) for kind in (0, 0, 0, 0, 1, 2)]
    pointers = Pointers(HIDDEN)
    optimizer = torch.optim.Adam(pointers.parameters(), lr=1e-2)
    is_object = torch.ones(6, 4, dtype=torch.bool)
    losses = []
    for _ in range(150):
        losses.append(pointers(states, embeds, is_object, targets))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.05 * losses[0]
    wrong = torch.where(targets == NO_POINTER, NO_POINTER, 15 - targets)
    assert pointers(states, embeds, is_object, wrong) > 10 * losses[-1]


def test_pointers_are_kept_and_start_anew_beside_a_model_that_has_none(tmp_path, capsys):
    torch.manual_seed(0)
    pointers, again = Pointers(HIDDEN), Pointers(HIDDEN)
    pointers.half().float().save(tmp_path)
    again.load(tmp_path)
    assert not changed(parameters_of(pointers), again)
    again.load(tmp_path / "shipped")
    assert not changed(parameters_of(pointers), again)
    assert "the heads that point start anew" in capsys.readouterr().out


def test_position_words_are_as_many_as_bins():
    words = [w for w in vocabulary() if len(w) == 3 and w[0] in "cr" and w[1:].isdigit()]
    assert len(words) == 2 * NUM_POSITION_BINS


# --- torch's default -----------------------------------------------------------------------------------------------

OF_FILES = ("out", "data", "vision", "task", "sensor")


class Begun(Exception):
    """A training has begun; it says with which default."""


def begun(seed):
    raise Begun(torch.get_default_dtype())


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_fresh_models_and_trainings_are_of_single_precision_whatever_torchs_default(default):
    def fresh():
        torch.manual_seed(0)
        parts = build_task_model(), build_sensor_model(), *vision.load_tower(None)
        return [tensor for part in parts for tensor in part.state_dict().values()]

    expected = fresh()
    torch.set_default_dtype(default)
    try:
        for tensor, like in zip(fresh(), expected, strict=True):
            assert tensor.dtype == like.dtype
            assert torch.equal(tensor, like)
        for train in (vision.main, sensor.main, language.main, agents.main, lora.main):
            paths = {name: Path(name) for name in inspect.signature(train).parameters if name in OF_FILES}
            with mock.patch.object(torch, "manual_seed", begun), pytest.raises(Begun, match=r"torch\.float32"):
                train(**paths, steps=1, **({"channel": None} if train is agents.main else {}))
        assert torch.get_default_dtype() == default
    finally:
        torch.set_default_dtype(torch.float32)
