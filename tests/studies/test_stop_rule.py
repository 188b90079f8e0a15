import numpy as np
import pytest

from studies import accuracy_vs_snr, stop_rule
from studies.config import ConfigError
from studies.statistics import wilson_interval
from studies.stop_rule import needed

WIDE, FEW = 60.0, 12


@pytest.fixture
def short(monkeypatch):
    """Let a first stage have a few questions: the stand-in's split has 72."""
    monkeypatch.setattr(stop_rule, "FIRST_STAGE", FEW)


class Made:
    """Results of a first stage with some accuracies."""

    def __init__(self, *outcomes):
        low, high = wilson_interval(*np.array(outcomes).T)
        self.variables = {"accuracy_low": low, "accuracy_high": high}


@pytest.mark.parametrize(("width", "expected"), [(0.02, 9600), (0.04, 2397), (0.1, 381)])
def test_an_accuracy_near_one_half_needs_the_number_of_the_normal_law(width, expected):
    # z^2 / width^2 - z^2 solves Wilson's width at one half for n: z^2 / w^2 - z^2 with z = 1.95996
    assert needed(Made((200, 400)), width) == pytest.approx(expected, rel=0.002)
    assert needed(Made((200, 400), (399, 400)), width) == needed(Made((200, 400)), width)
    assert needed(Made((399, 400)), width) < needed(Made((360, 400)), width) < needed(Made((200, 400)), width)


def test_the_number_is_the_smallest_that_suffices():
    number = needed(Made((200, 400)), 0.05)
    widths = [np.diff(wilson_interval(n / 2, n)) for n in (number, number - 1)]
    assert widths[0] <= 0.05 < widths[1]


def test_all_intervals_are_as_narrow_as_asked_and_all_schemes_meet_the_same_questions(fakes, short, config, tmp_path):
    asked = config.updated({"num_questions": 72, "interval_width": WIDE, "snr_db": [0.0, 40.0]})
    results = accuracy_vs_snr.main(asked, out=tmp_path).results
    width = results.variables["accuracy_high"] - results.variables["accuracy_low"]
    assert width.max() <= WIDE / 100
    assert results.variables["correct"].max() <= 1  # every scheme has every question
    assert (tmp_path / "first-stage" / "results.h5").exists()


def test_a_stopped_run_resumes_with_the_same_number_of_questions(fakes, short, config, tmp_path):
    asked = config.updated({"num_questions": 72, "interval_width": WIDE, "snr_db": [0.0]})
    first = accuracy_vs_snr.main(asked, out=tmp_path).results
    started = []
    again = accuracy_vs_snr.main(asked, out=tmp_path, on_start=lambda folder, jobs: started.append(len(jobs))).results
    assert started == [0, 0]
    assert again.content_hash() == first.content_hash()


def test_what_cannot_be_reached_is_said(fakes, short, config, tmp_path):
    asked = config.updated({"num_questions": 72, "interval_width": 1.0, "snr_db": [0.0]})
    problems = []
    results = accuracy_vs_snr.main(asked, out=tmp_path, on_problem=problems.append).results
    assert len(results.coordinates["question"]) == 72
    assert any("num_questions allows 72: intervals will be wider" in problem for problem in problems)


def test_shards_cannot_decide_on_their_own(fakes, config, tmp_path):
    with pytest.raises(ConfigError, match="interval_width: shards cannot wait"):
        accuracy_vs_snr.main(config.updated({"interval_width": 5.0}), out=tmp_path, shard=(1, 2))
