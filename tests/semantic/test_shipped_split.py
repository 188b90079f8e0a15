"""The test split in the repository: its questions, their balance, and that it can be drawn again."""

import json
from collections import Counter, defaultdict

import pytest
from scipy.stats import binom, chisquare

from semantic.data import shipped_split
from semantic.data.scenes import HEIGHT, WIDTH, Renderer, draw_visible_scene, questions_for, scene_rng
from semantic.tasks import ATTRIBUTES, FAMILIES, execute
from tests.semantic.worlds import Reader

ONE_IN_A_MILLION = 1e-6


@pytest.fixture(scope="module")
def split():
    return shipped_split()


@pytest.fixture(scope="module")
def by_scene(split):
    questions = defaultdict(list)
    for question in split.questions:
        questions[question.image_index].append(question)
    return questions


def test_there_are_at_least_500_scenes_and_as_many_questions_of_every_family(split, by_scene):
    assert len(by_scene) == len(split.scenes) >= 500
    assert len(split) > 5000
    counts = Counter(q.family for q in split.questions)
    assert set(counts) == set(FAMILIES)
    assert max(counts.values()) - min(counts.values()) < 20


def test_it_is_a_few_megabytes_of_images_and_json(split):
    files = [path for path in split.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".jpg", ".json", ".md"}
    assert sum(path.stat().st_size for path in files) < 12e6
    assert split.image(0).shape == (HEIGHT, WIDTH, 3)


def test_every_answer_follows_from_the_scene_by_program_and_by_words(split):
    scenes = {scene["image_index"]: scene for scene in split.scenes}
    readers = {index: Reader(scene) for index, scene in scenes.items()}
    for q in split.questions:
        assert execute(q.program, scenes[q.image_index]) == q.answer == readers[q.image_index].answer(q.question)


def rounded(content):
    """JSON content with nine decimals: the last bits of a sine depend on the processor."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return round(content, 9) if isinstance(content, float) else content


def test_its_command_draws_the_same_scenes_and_questions_again(split, by_scene):
    content = json.loads((split.folder / "questions" / "CLEVR_test_questions.json").read_text())
    info, renderer = content["info"], Renderer()
    for scene in split.scenes[:8]:
        index = scene["image_index"]
        drawn = draw_visible_scene(
            renderer, scene_rng(info["seed"], "test", index, "layout"), info["min_objects"], info["max_objects"]
        )
        assert rounded({key: scene[key] for key in drawn}) == rounded(drawn)
    for scene in split.scenes[:80]:
        index = scene["image_index"]
        records = questions_for(scene, scene_rng(info["seed"], "test", index, "questions"), 2)
        assert [(r["question"], r["answer"]) for r in records] == [(q.question, q.answer) for q in by_scene[index]]


# --- balance -----------------------------------------------------------------------------------------------------


def kind(question):
    return question.family, question.program[-1]["function"]


def steps(question):
    return tuple(node["function"] for node in question.program)


def words(question):
    return tuple((node["function"], *node["value_inputs"]) for node in question.program)


@pytest.mark.parametrize("told", [kind, steps, words])
def test_who_has_not_seen_the_image_is_right_in_less_than_45_percent(split, told):
    """A guesser that learns from half of the scenes the commonest answer to what a question's wording tells it."""
    learned, fallback = defaultdict(Counter), defaultdict(Counter)
    test = []
    for q in split.questions:
        if q.image_index % 2:
            learned[told(q)][q.answer] += 1
            fallback[kind(q)][q.answer] += 1
        else:
            test.append(q)
    right = sum((learned.get(told(q)) or fallback[kind(q)]).most_common(1)[0][0] == q.answer for q in test)
    assert binom.sf(right - 1, len(test), 0.45) > ONE_IN_A_MILLION, right / len(test)


@pytest.mark.parametrize("attribute", ["color", "material", "shape"])
def test_asked_values_are_equally_frequent(by_scene, attribute):
    """Colours, materials and shapes are drawn alike, so by symmetry no value of them is asked for more often."""
    answers = Counter()
    for questions in by_scene.values():  # one per scene: answers about one scene are not independent
        asked = [q.answer for q in questions if kind(q) == ("query", f"query_{attribute}")]
        answers.update(asked[:1])
    counts = [answers[value] for value in ATTRIBUTES[attribute]]
    assert sum(counts) > 80
    assert chisquare(counts).pvalue > ONE_IN_A_MILLION


@pytest.mark.parametrize("name", ["exist", "compare"])
def test_yes_and_no_are_drawn_before_the_question(by_scene, name):
    """Each is wanted half of the time; what cannot be asked is drawn anew, which shifts the share a little."""
    firsts = [next(q.answer for q in questions if q.family == name) for questions in by_scene.values()]
    yes, n = firsts.count("yes"), len(firsts)
    assert binom.cdf(yes, n, 0.42) > ONE_IN_A_MILLION
    assert binom.sf(yes - 1, n, 0.58) > ONE_IN_A_MILLION


def test_no_count_dominates(by_scene):
    firsts = Counter(next(q.answer for q in questions if q.family == "count") for questions in by_scene.values())
    assert set(firsts) == {"0", "1", "2", "3"}
    assert binom.sf(max(firsts.values()) - 1, sum(firsts.values()), 0.42) > ONE_IN_A_MILLION
