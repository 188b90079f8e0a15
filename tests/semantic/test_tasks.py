import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.tasks import (
    ATTRIBUTES,
    DIRECTIONS,
    FAMILIES,
    ask,
    execute,
    family,
    normalize_answer,
)
from tests.semantic.worlds import FOUR_THINGS, Reader, asked, drawn_scenes, shuffled

EXAMPLES = settings(derandomize=True, deadline=None, max_examples=60)


def program(*nodes):
    """Write a program as (function, inputs, value) tuples."""
    return [
        {"function": function, "inputs": list(inputs), "value_inputs": [] if value is None else [value]}
        for function, inputs, value in nodes
    ]


def unique(attribute, value):
    """Four nodes' worth of "the small one": the first three nodes of many programs."""
    return ("scene", (), None), (f"filter_{attribute}", (0,), value), ("unique", (1,), None)


RED = (("scene", (), None), ("filter_color", (0,), "red"))
METAL_TOO = (*RED, ("scene", (), None), ("filter_material", (2,), "metal"))
GREEN = unique("color", "green")
BLUE_AND_SPHERE = (
    *unique("color", "blue"),
    ("scene", (), None),
    ("filter_shape", (3,), "sphere"),
    ("unique", (4,), None),
)


# --- the executor, by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "answer"),
    [
        ((*GREEN, ("query_shape", (2,), None)), "cylinder"),
        ((*GREEN, ("query_size", (2,), None)), "small"),
        ((*RED, ("count", (1,), None)), "2"),
        ((*RED, ("filter_shape", (1,), "cylinder"), ("count", (2,), None)), "0"),
        ((*RED, ("exist", (1,), None)), "yes"),
        ((*RED, ("filter_shape", (1,), "cylinder"), ("exist", (2,), None)), "no"),
        ((*METAL_TOO, ("intersect", (1, 3), None), ("count", (4,), None)), "1"),
        ((*METAL_TOO, ("union", (1, 3), None), ("count", (4,), None)), "4"),
        ((*METAL_TOO, ("count", (1,), None), ("count", (3,), None), ("less_than", (4, 5), None)), "yes"),
        ((*METAL_TOO, ("count", (1,), None), ("count", (3,), None), ("greater_than", (4, 5), None)), "no"),
        ((*METAL_TOO, ("count", (1,), None), ("count", (3,), None), ("equal_integer", (4, 5), None)), "no"),
        ((*RED, ("count", (1,), None), ("equal_integer", (2, 2), None)), "yes"),
        ((*RED, ("count", (1,), None), ("less_than", (2, 2), None)), "no"),
        ((*GREEN, ("relate", (2,), "left"), ("count", (3,), None)), "3"),
        ((*GREEN, ("relate", (2,), "behind"), ("unique", (3,), None), ("query_color", (4,), None)), "red"),
        ((*GREEN, ("same_material", (2,), None), ("count", (3,), None)), "2"),
        ((*GREEN, ("same_color", (2,), None), ("exist", (3,), None)), "no"),
        ((*GREEN, ("same_size", (2,), None), ("unique", (3,), None), ("query_shape", (4,), None)), "cube"),
        (
            (
                *BLUE_AND_SPHERE,
                ("query_size", (2,), None),
                ("query_size", (5,), None),
                ("equal_size", (6, 7), None),
            ),
            "yes",
        ),
        (
            (
                *BLUE_AND_SPHERE,
                ("query_color", (2,), None),
                ("query_color", (5,), None),
                ("equal_color", (6, 7), None),
            ),
            "no",
        ),
    ],
)
def test_a_hand_written_program_has_the_answer_seen_by_eye(nodes, answer):
    assert execute(program(*nodes), FOUR_THINGS) == answer


def test_exports_that_say_type_and_side_inputs_are_answered_alike():
    other = [
        {"type": "scene", "inputs": [], "side_inputs": []},
        {"type": "filter_color", "inputs": [0], "side_inputs": ["green"]},
        {"type": "unique", "inputs": [1], "side_inputs": []},
        {"type": "relate", "inputs": [2], "side_inputs": ["left"]},
        {"type": "count", "inputs": [3], "side_inputs": []},
    ]
    assert execute(other, FOUR_THINGS) == "3"
    assert family(other) == "spatial"


def test_an_unknown_function_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown program function 'filter_weight'"):
        execute(program(("scene", (), None), ("filter_weight", (0,), "heavy")), FOUR_THINGS)


@pytest.mark.parametrize(("color", "found"), [("red", 2), ("cyan", 0)])
def test_unique_refuses_any_number_of_objects_but_one(color, found):
    with pytest.raises(ValueError, match=f"unique met {found} objects instead of one"):
        execute(program(*unique("color", color)), FOUR_THINGS)


# --- the executor, against twins ---------------------------------------------------------------------------------


def twin(nodes, scene):
    """Answer a program recursively, relations from the objects' places on the ground rather than from the lists."""
    objects = scene["objects"]

    def along(obj, side):
        return sum(a * b for a, b in zip(obj["3d_coords"], scene["directions"][side], strict=True))

    def value(index):
        node = nodes[index]
        name, args = node["function"], [value(i) for i in node["inputs"]]
        side = node["value_inputs"][0] if node["value_inputs"] else None
        if name == "scene":
            return objects
        if name == "unique":
            (only,) = args[0]
            return only
        if name == "relate":
            return [o for o in objects if o is not args[0] and along(o, side) > along(args[0], side)]
        if name.startswith("filter_"):
            return [o for o in args[0] if o[name[7:]] == side]
        if name.startswith("same_"):
            return [o for o in objects if o is not args[0] and o[name[5:]] == args[0][name[5:]]]
        if name.startswith("query_"):
            return args[0][name[6:]]
        if name in ("count", "exist"):
            return len(args[0]) if name == "count" else len(args[0]) > 0
        if name == "less_than":
            return args[0] < args[1]
        if name == "greater_than":
            return args[0] > args[1]
        assert name.startswith("equal_"), name
        return args[0] == args[1]

    answer = value(len(nodes) - 1)
    return {True: "yes", False: "no"}[answer] if isinstance(answer, bool) else str(answer)


def test_every_answer_is_that_of_a_twin_that_looks_at_the_ground():
    for scene, record in asked():
        assert record["answer"] == execute(record["program"], scene) == twin(record["program"], scene), record


@EXAMPLES
@given(number=st.integers(0, 59), name=st.sampled_from(FAMILIES), seed=st.integers(0, 2**32 - 1))
def test_the_order_in_which_objects_are_listed_does_not_matter(number, name, seed):
    scene, rng = drawn_scenes()[number], random.Random(seed)
    drawn = ask(rng, scene, name)
    if drawn is None:
        return
    _, nodes, answer = drawn
    order = rng.sample(range(len(scene["objects"])), len(scene["objects"]))
    assert execute(nodes, shuffled(scene, order)) == answer


# --- the questions -----------------------------------------------------------------------------------------------


def test_the_words_of_every_question_lead_to_its_answer():
    for scene, record in asked():
        assert Reader(scene).answer(record["question"]) == record["answer"], record["question"]


def test_every_drawn_question_is_of_the_family_that_was_asked_for_and_has_an_answer_of_its_kind():
    legal = {"count": {"0", "1", "2", "3"}, "exist": {"yes", "no"}}
    for seed, scene in enumerate(drawn_scenes()):
        for name in FAMILIES:
            drawn = ask(random.Random(seed), scene, name)
            if drawn is None:
                continue
            _, nodes, answer = drawn
            assert family(nodes) == name
            verb, _, attribute = nodes[-1]["function"].partition("_")
            kind = legal.get(verb, ATTRIBUTES[attribute] if verb == "query" else ("yes", "no"))
            assert answer in kind


def test_no_question_gives_its_own_answer_away():
    """What is asked for is neither named in the description of the object nor shared with the reference object."""
    seen = set()
    for _, record in asked():
        program = record["program"]
        verb, _, attribute = program[-1]["function"].partition("_")
        if verb != "query":
            continue
        node = program[program[-1]["inputs"][0]]  # "unique"; from here back to the reference object or the whole scene
        while (node := program[node["inputs"][0]])["function"].startswith("filter_"):
            assert node["function"] != f"filter_{attribute}", record["question"]
        assert node["function"] != f"same_{attribute}", record["question"]
        seen.add(node["function"])
    assert seen == {"scene", "relate", *(f"same_{name}" for name in ATTRIBUTES)}


@pytest.mark.parametrize(
    ("functions", "name"),
    [
        (["scene", "filter_color", "unique", "query_size"], "query"),
        (["scene", "filter_color", "exist"], "exist"),
        (["scene", "count"], "count"),
        (["scene", "count", "scene", "count", "equal_integer"], "compare"),
        (["scene", "count", "scene", "count", "less_than"], "compare"),
        (["scene", "count", "scene", "count", "greater_than"], "compare"),
        (["scene", "unique", "query_size", "scene", "unique", "query_size", "equal_size"], "compare"),
        (["scene", "unique", "relate", "count"], "spatial"),
        (["scene", "unique", "relate", "unique", "same_color", "exist"], "spatial"),
        (["scene", "unique", "same_shape", "exist"], "same"),
        (["scene", "unique", "same_shape", "unique", "query_color"], "same"),
    ],
)
def test_the_functions_of_a_program_name_its_family(functions, name):
    assert family([{"function": f, "inputs": [], "value_inputs": []} for f in functions]) == name


def test_a_question_that_a_scene_does_not_allow_is_not_asked():
    lonely = {"objects": FOUR_THINGS["objects"][:1], "relationships": {side: [[]] for side in DIRECTIONS}}
    twins = {"objects": FOUR_THINGS["objects"][:1] * 2, "relationships": {side: [[], []] for side in DIRECTIONS}}
    asked_for = {name: ask(random.Random(0), lonely, name) for name in FAMILIES}
    assert asked_for["query"] is not None
    assert ask(random.Random(0), twins, "query") is None  # no description fits one of two equal things alone


def test_the_same_generator_state_asks_the_same_question():
    scene = drawn_scenes()[0]
    assert [ask(random.Random(5), scene, name) for name in FAMILIES] == [
        ask(random.Random(5), scene, name) for name in FAMILIES
    ]


@pytest.mark.parametrize("text", ["Yes", " yes ", "yes.", "YES .", "\tyes\n", " yes. "])
def test_an_answer_is_compared_without_case_space_and_full_stop(text):
    assert normalize_answer(text) == "yes"
    assert normalize_answer(normalize_answer(text)) == "yes"


def test_different_answers_stay_different():
    assert len({normalize_answer(text) for text in ("yes", "no", "0", "1", "10", "large", "small", "")}) == 8
