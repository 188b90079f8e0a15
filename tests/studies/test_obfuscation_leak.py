import itertools
import math

import numpy as np
import pytest

from semantic.data import shipped_split
from semantic.data.clevr import Question
from semantic.obfuscation import obfuscate
from studies import obfuscation_leak
from studies.obfuscation_leak import FACTS, entropy, mutual_information, private_facts, probe

COLORS = ("red", "blue", "green", "gray")


def node(function, *values):
    return {"function": function, "inputs": [], "value_inputs": list(values)}


def question(index, color, side=None, answer="yes"):
    program = [node("scene"), node("filter_color", color)]
    program += [node("relate", side), node("filter_color", "purple")] if side else []
    text = f"is there a {color} thing {side or ''} ?"
    return Question(index, index // 2, "", text, answer, "exist", (*program, node("exist")))


def some(count=4000, seed=0):
    rng = np.random.default_rng(seed)
    return [
        question(i, str(rng.choice(COLORS)), str(rng.choice(["left", "right"])) if rng.random() < 0.5 else None)
        for i in range(count)
    ]


def test_facts_are_what_a_program_names_and_the_answer():
    found = private_facts(question(0, "red", "left", answer="no"))
    assert (found["color, if any"], found["which color"], found["which direction"]) == ("red", "red", "left")
    assert (found["size, if any"], found["answer"]) == ("none", "no")
    assert "which size" not in found
    assert set(found) <= set(FACTS)


def test_a_description_that_says_all_gives_all_away():
    leaks = {leak.fact: leak for leak in probe(some(), lambda text: text)}
    told = leaks["which color"]
    assert told.informed[0] == 1
    assert told.blind[0] == pytest.approx(0.25, abs=0.03)
    assert told.information == pytest.approx(told.entropy, abs=0.02)
    assert told.entropy == pytest.approx(2, abs=0.01)
    assert told.gain.low > 0.7


def test_a_description_that_says_nothing_gives_nothing_away_whatever_it_looks_like():
    rng = np.random.default_rng(1)
    leaks = {leak.fact: leak for leak in probe(some(), lambda text: str(rng.integers(30)))}
    for fact in ("which color", "color, if any", "which direction"):
        found = leaks[fact]
        assert found.gain.low < 0.02
        assert abs(found.information) < 4 * math.sqrt(2 * 29 * 3) / (2 * 2000 * math.log(2))  # chi-square's deviation
        assert found.num_questions <= 2000


def test_a_description_of_the_kind_tells_the_kind_alone():
    leaks = {leak.fact: leak for leak in probe(some(), lambda text: "position" if "t ?" in text else "")}
    assert leaks["direction, if any"].informed[0] == pytest.approx(0.75, abs=0.03)  # half of the sides
    assert leaks["direction, if any"].information == pytest.approx(1, abs=0.02)
    assert abs(leaks["which direction"].information) < 0.01
    assert leaks["which direction"].informed[0] == pytest.approx(0.5, abs=0.05)


def test_guesses_are_not_learned_where_they_are_measured():
    numbers = itertools.count()  # each question has a description of its own: by heart, every fact would be guessed
    leaks = {leak.fact: leak for leak in probe(some(400), lambda text: str(next(numbers)))}
    assert leaks["which color"].informed[0] == leaks["which color"].blind[0]


def test_miller_madow_takes_the_bias_of_independent_samples_away():
    rng = np.random.default_rng(2)
    estimates = [
        mutual_information(rng.integers(0, 8, 500).tolist(), rng.integers(0, 6, 500).tolist()) for _ in range(200)
    ]
    bias = 7 * 5 / (2 * 500 * math.log(2))  # of the plug-in estimate: 0.05 bit
    assert abs(np.mean(estimates)) < 0.05 * bias
    assert entropy(["a", "b", "c", "d"]) == 2


def test_one_half_of_the_images_alone_is_refused():
    with pytest.raises(ValueError, match="images of even and of odd numbers"):
        probe([question(0, "red"), question(1, "blue")], obfuscate)


def test_the_rules_do_not_tell_which_value_is_named_in_the_shipped_questions():
    leaks = {leak.fact: leak for leak in probe(shipped_split().questions, obfuscate)}
    for name in ("color", "size", "material", "shape", "direction"):
        assert leaks[f"which {name}"].gain.low < 0.03, name
    assert leaks["which color"].information < 0.1 < leaks["which color"].entropy
    grid = obfuscation_leak.table(list(leaks.values()))
    assert {len(row) for row in grid.rows} == {len(grid.header)} == {7}
