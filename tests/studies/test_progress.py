"""How long a run will take, from jobs like those that are left."""

import pytest

from studies.engines import Job, Outcome
from studies.progress import TimeLeft, in_words


def jobs(**counts):
    return [Job(f"{kind}{i}", kind, None, kind=kind) for kind, count in counts.items() for i in range(count)]


def test_nothing_is_said_before_a_job_has_been_measured():
    left = TimeLeft(jobs(fast=3), workers=1)
    assert left.seconds() is None
    left.add(Outcome(jobs(fast=1)[0], 5.0, error="ValueError: no"))
    assert left.seconds() is None  # a job that failed tells nothing of the others


def test_what_is_left_takes_as_long_as_jobs_of_its_kind():
    fast, *_ = many = jobs(fast=4, slow=3)
    slow = many[4]
    left = TimeLeft(many, workers=1)
    left.add(Outcome(fast, 100.0))
    assert left.seconds() == 100.0 * 6  # of the first job, which loads the frameworks, while there is no other
    left.add(Outcome(fast, 2.0))
    assert left.seconds() == 2.0 * 5
    left.add(Outcome(slow, 30.0))
    assert left.seconds() == 2 * 2.0 + 2 * 30.0
    left.add(Outcome(slow, 50.0))
    assert left.seconds() == 2 * 2.0 + 1 * 40.0


def test_workers_share_what_is_left():
    many = jobs(fast=9)
    left = TimeLeft(many, workers=3)
    for _ in range(3):
        left.add(Outcome(many[0], 50.0))  # the first job of each process
    left.add(Outcome(many[0], 3.0))
    assert left.seconds() == pytest.approx(5 * 3.0 / 3)


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
