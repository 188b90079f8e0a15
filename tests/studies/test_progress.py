"""How long a run will take, from jobs like those that are left."""

import pytest

from studies.jobs import Job, Outcome
from studies.progress import TimeLeft
from studies.rates import Rate, Rates, in_words


def jobs(questions=1, **counts):
    return [
        Job(f"{kind}{i}", kind, None, kind=kind, questions=questions)
        for kind, count in counts.items()
        for i in range(count)
    ]


def test_nothing_is_said_before_a_job_has_been_measured():
    left = TimeLeft(jobs(fast=3), workers=1)
    assert left.seconds() is None
    left.add(Outcome(jobs(fast=1)[0], 5.0, error="ValueError: no"))
    assert left.seconds() is None  # a job that failed tells nothing of the others


def test_what_is_left_takes_as_long_as_jobs_of_its_kind():
    fast, *_ = many = jobs(fast=4, slow=3)
    slow = many[4]
    left = TimeLeft(many, workers=1)
    left.add(Outcome(fast, 100.0, load_s=20.0))
    assert left.seconds() == 100.0 * 6  # of the first job, which loads the frameworks, while there is no other
    left.add(Outcome(fast, 2.0))
    assert left.seconds() == 2.0 * 5
    left.add(Outcome(slow, 30.0))
    assert left.seconds() == 2 * 2.0 + 2 * 30.0
    left.add(Outcome(slow, 50.0))
    assert left.seconds() == 2 * 2.0 + 1 * 40.0


def test_a_job_takes_time_in_proportion_to_its_questions():
    left = TimeLeft([*jobs(fast=1), *jobs(10, fast=1)], workers=1)
    left.add(Outcome(jobs(fast=1)[0], 3.0))
    assert left.seconds() == 30.0


def test_workers_share_what_is_left_and_the_first_job_of_each_tells_what_loading_takes():
    many = jobs(fast=9)
    left = TimeLeft(many, workers=3)
    for _ in range(2):
        left.add(Outcome(many[0], 50.0, load_s=1.0))
    left.add(Outcome(many[0], 3.0))  # of the first worker, while the third still loads
    assert left.seconds() == pytest.approx(6 * 3.0 / 3)
    left.add(Outcome(many[0], 50.0, load_s=1.0))
    assert left.seconds() == pytest.approx(5 * 3.0 / 3)


def test_two_jobs_do_not_keep_eight_workers_busy():
    left = TimeLeft(jobs(fast=3), workers=8)
    left.add(Outcome(jobs(fast=1)[0], 10.0))
    assert left.seconds() == 10.0


def test_earlier_runs_tell_before_the_first_job_of_a_kind_and_this_run_afterwards():
    known = Rates(load_s=7, kinds={"fast": Rate(seconds=2, questions=1), "slow": Rate(seconds=30, questions=1)})
    many = jobs(fast=2, slow=1)
    left = TimeLeft(many, 1, known)
    assert left.seconds() == 7 + 2 * 2 + 30
    left.add(Outcome(many[0], 100.0, load_s=20.0))
    assert left.seconds() == 2 + 30  # a first job tells less than earlier runs
    left.add(Outcome(many[0], 4.0))
    assert left.seconds() == 30


def test_nothing_is_left_at_the_end():
    many = jobs(fast=2)
    left = TimeLeft(many, workers=1)
    for job in many:
        left.add(Outcome(job, 1.0))
    assert left.seconds() == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (5280, "88 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_a_duration_is_written_in_two_figures_or_so(seconds, words):
    assert in_words(seconds) == words
