from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies import accuracy_vs_snr, workbench
from studies.questions import batches, choose_questions
from studies.schemes.carriers.analog import other_image
from tests.studies.fakes import FakeDataset, FakeQuestion

QUESTIONS = FakeDataset(num_images=40).questions


@settings(derandomize=True, deadline=None, max_examples=40)
@given(num_questions=st.integers(1, len(QUESTIONS)), seed=st.integers(0, 2**32 - 1))
def test_the_choice_is_even_over_families_sorted_by_image_and_without_repeats(num_questions, seed):
    chosen = choose_questions(QUESTIONS, num_questions, seed)
    assert len(set(chosen)) == len(chosen) == num_questions
    images = [QUESTIONS[i].image_index for i in chosen]
    assert images == sorted(images)
    counts = Counter(QUESTIONS[i].family for i in chosen)
    assert max(counts.values()) - min(counts.get(f, 0) for f in ("query", "exist", "count")) <= 1
    np.testing.assert_array_equal(chosen, choose_questions(QUESTIONS, num_questions, seed))


def test_another_seed_chooses_other_questions():
    assert set(choose_questions(QUESTIONS, 60, 0)) != set(choose_questions(QUESTIONS, 60, 1))


def test_a_family_that_runs_out_leaves_its_share_to_the_others():
    questions = [FakeQuestion(i, "", "", "rare" if i < 3 else "common") for i in range(20)]
    counts = Counter(questions[i].family for i in choose_questions(questions, 12, 0))
    assert counts == {"rare": 3, "common": 9}


def test_more_questions_than_there_are_is_refused():
    with pytest.raises(ValueError, match="num_questions=1000: the split has 240"):
        choose_questions(QUESTIONS, 1000, 0)


def test_batches_number_the_questions_and_load_each_image_once():
    dataset = FakeDataset()
    chosen = choose_questions(dataset.questions, 30, 0)
    parts = list(batches(dataset, chosen, 7))
    assert [len(part.questions) for part in parts] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate([part.numbers for part in parts]), np.arange(30))
    images = parts[0].images
    assert [image[0, 0, 0] for image in images] == [question.image_index for question in parts[0].questions]
    assert dataset.num_loads == len({question.image_index for question in parts[0].questions})


@settings(derandomize=True, deadline=None, max_examples=40)
@given(num_questions=st.integers(30, len(QUESTIONS)), seed=st.integers(0, 100))
def test_the_wrong_image_is_another_one_for_a_question_of_the_same_family(num_questions, seed):
    questions = [QUESTIONS[i] for i in choose_questions(QUESTIONS, num_questions, seed)]
    partner = other_image(questions)
    assert sorted(partner) == list(range(num_questions))  # everyone's codes are sent once: the ensemble is the same
    for question, other in zip(questions, partner, strict=True):
        assert questions[other].image_index != question.image_index
        assert questions[other].family == question.family


def test_one_image_alone_has_no_wrong_image():
    with pytest.raises(ValueError, match="Raise num_questions"):
        other_image([FakeQuestion(0, "", "", "query"), FakeQuestion(0, "", "", "query")])


def test_agents_are_asked_once_whether_they_can_read_the_chosen_questions_by_their_numbers_in_the_split(stand_in):
    asked = []

    class Agents:
        def check(self, questions, numbers):
            asked.append((questions, numbers))

    agents, dataset = Agents(), FakeDataset()
    stand_in(workbench, "load_agents", lambda name: agents)
    bench = workbench.Workbench(accuracy_vs_snr.Config(num_questions=10, batch_size=5), dataset)
    assert bench.agents("machine_tokens") is bench.agents("machine_tokens") is agents
    ((texts, numbers),) = asked
    assert numbers == bench.chosen.tolist()
    assert texts == [dataset.questions[number].question for number in numbers]
