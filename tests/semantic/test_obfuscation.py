import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.endpoints.architecture import UNKNOWN, build_tokenizer
from semantic.obfuscation import obfuscate
from semantic.tasks import ATTRIBUTES, DIRECTIONS, PLURALS, SYNONYMS, family
from tests.semantic.worlds import asked

GENERIC = {"thing", "things", "object", "objects"}
PRIVATE = {value for values in ATTRIBUTES.values() for value in values} | set(DIRECTIONS)
PRIVATE |= {word for words in SYNONYMS.values() for word in words} | set(PLURALS) | set(PLURALS.values())
PRIVATE -= GENERIC


def words(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def description_of(program):
    """Return what may be said of a question: the kind of its last step, and of the relation it goes through."""
    last = program[-1]["function"]
    verb, _, name = last.partition("_")
    if verb == "query":
        about = f"the {name} of a thing"
    elif verb == "equal" and name != "integer":
        about = f"the same {name} of two things"
    else:
        about = {"count": "the number of things", "exist": "the presence of a thing"}.get(verb, "two numbers")
    relation = next((n["function"] for n in program if n["function"].startswith(("relate", "same_"))), "")
    extra = {"": "", "relate": " and position"}.get(relation, f" and same {relation.removeprefix('same_')}")
    return f"this is a question about {about}{extra} ."


def many_questions():
    return asked(120, 4)


def test_no_private_word_of_thousands_of_questions_is_in_their_descriptions():
    records = many_questions()
    assert len(records) > 2500
    seen = set()
    for _, record in records:
        private = words(record["question"]) & PRIVATE
        seen |= private
        assert not words(obfuscate(record["question"])) & PRIVATE, record["question"]
    assert seen == PRIVATE  # each of them was there to be leaked


def test_a_description_tells_the_kind_of_question_and_nothing_else():
    for _, record in many_questions():
        assert obfuscate(record["question"]) == description_of(record["program"]), record["question"]


def test_descriptions_are_few_so_that_many_questions_share_one():
    descriptions = {obfuscate(record["question"]) for _, record in many_questions()}
    families = {family(record["program"]) for _, record in many_questions()}
    assert len(families) == 6
    assert len(descriptions) < 50


def test_the_embedded_pair_knows_every_word_of_every_description():
    tokenizer = build_tokenizer()
    for description in {obfuscate(record["question"]) for _, record in many_questions()}:
        assert UNKNOWN not in tokenizer.tokenize(description), description


@pytest.mark.parametrize(
    ("question", "about"),
    [
        # numbers
        ("What number of other objects are there of the same size as the red cube?",
         "the number of things and same size"),
        ("How many other things are made of the same material as the big ball?",
         "the number of things and same material"),
        ("How many cyan things are left of the tiny block?", "the number of things and position"),
        ("How many things are either tiny gray blocks or shiny cylinders?", "the number of things"),
        ("What is the number of green cylinders?", "the number of things"),
        ("There is a brown ball; how many other objects are the same shape as it?",
         "the number of things and same shape"),
        # comparisons of numbers
        ("Are there fewer red cubes than large metal balls?", "two numbers"),
        ("Are there more tiny things behind the gray block than big cyan things?", "two numbers and position"),
        ("Are there an equal number of big blocks and shiny spheres?", "two numbers"),
        ("Are there the same number of purple balls and rubber things?", "two numbers"),
        ("Is the number of matte balls less than the number of brown cubes?", "two numbers"),
        ("Is the number of matte balls the same as the number of brown cubes?", "two numbers"),
        # presence
        ("Is there a big thing that has the same color as the small sphere?", "the presence of a thing and same color"),
        ("Are there any other things that are the same size as the yellow ball?",
         "the presence of a thing and same size"),
        ("Are there any other objects made of the same material as the cube?",
         "the presence of a thing and same material"),
        ("Is there anything else that has the same shape as the gray thing?", "the presence of a thing and same shape"),
        ("Are any cubes visible?", "the presence of a thing"),
        ("There is a cyan ball; is there a metal block to the right of it?", "the presence of a thing and position"),
        ("Is there a tiny matte cube?", "the presence of a thing"),
        # attributes
        ("What color is the tiny block?", "the color of a thing"),
        ("What is the shape of the large red object in front of the ball?", "the shape of a thing and position"),
        ("There is a tiny rubber thing left of the block; what is its color?", "the color of a thing and position"),
        ("There is a tiny rubber thing; what color is it?", "the color of a thing"),
        ("There is a shiny cylinder; what is it made of?", "the material of a thing"),
        ("There is a shiny cylinder that is the same size as the ball; what is its material?",
         "the material of a thing and same size"),
        ("The small yellow ball has what size?", "the size of a thing"),
        ("The small yellow ball is made of what material?", "the material of a thing"),
        ("What is the gray thing behind the cube made of?", "the material of a thing and position"),
        ("What is the big thing that is the same color as the cube made of?", "the material of a thing and same color"),
        ("How big is the green ball?", "the size of a thing"),
        ("What is the color of the other thing that is the same shape as the cube?",
         "the color of a thing and same shape"),
        ("The other small shiny thing that is the same shape as the gray cube is what color?",
         "the color of a thing and same shape"),
        # comparisons of attributes
        ("Does the ball have the same color as the cylinder?", "the same color of two things"),
        ("Do the tiny ball and the cylinder right of the block have the same material?",
         "the same material of two things and position"),
        ("Is the big ball the same size as the block?", "the same size of two things"),
        ("Is the red cube made of the same material as the cyan cylinder?", "the same material of two things"),
        ("Are the tiny block and the ball made of the same material?", "the same material of two things"),
        ("Is the size of the gray cube the same as the red block?", "the same size of two things"),
        ("There is a green cube; is its color the same as the ball?", "the same color of two things"),
        ("There is a green cube; is its shape that of the thing with the same size as the ball?",
         "the same shape of two things"),
        ("There is a green cube behind the ball; does it have the same shape as the big thing?",
         "the same shape of two things and position"),
    ],
)  # fmt: skip
def test_clevrs_wording_is_described_as_well(question, about):
    description = obfuscate(question)
    assert description == f"this is a question about {about} ."
    assert not words(description) & PRIVATE


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    text=st.lists(
        st.sampled_from(sorted(PRIVATE) + "what is the how many made of same color shape there a ; ? are".split())
    ),
    rest=st.text(max_size=20),
)
def test_no_text_whatever_leaks_into_a_description(text, rest):
    allowed = words("this is a question about the number presence color shape size material position of a two thing")
    allowed |= words("things numbers and same")
    assert words(obfuscate(" ".join([*text, rest]))) <= allowed


def test_case_and_the_order_of_questions_do_not_matter():
    texts = [record["question"] for _, record in asked(10, 2)]
    random.Random(0).shuffle(texts)
    assert [obfuscate(t) for t in texts] == [obfuscate(t.upper()) for t in texts]
