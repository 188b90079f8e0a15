"""How long a run will take, from runs before it on this machine."""

import json

import pytest

from studies import rates
from studies.accuracy_vs_snr import STUDY
from studies.cache_folder import cache_folder
from studies.jobs import Job, Outcome


def job(kind="slow", questions=10):
    return Job(f"{kind}{questions}", kind, None, kind=kind, questions=questions)


def test_the_cache_folder_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TOKENLINK_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("TOKENLINK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tokenlink"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "tokenlink"


def test_what_jobs_took_is_kept_and_loading_is_kept_apart():
    assert rates.read() == rates.Rates()
    rates.learn(
        [Outcome(job(), 30.0, load_s=5.0), Outcome(job(), 10.0), Outcome(job(), 14.0), Outcome(job(), 9.0, "no")]
    )
    assert rates.read().kinds == {"slow": rates.Rate(seconds=1.2, questions=10)}
    assert rates.read().load_s == 5 + (30 - 12)
    assert rates.how_long([job("slow", 100)], workers=1) == f"about {rates.in_words(120 + 23)}"
    assert rates.how_long([job("slow", 100), job("slow", 100)], workers=2) == f"about {rates.in_words(120 + 23)}"
    assert rates.how_long([job("slow", 100)], workers=8) == f"about {rates.in_words(120 + 23)}"  # one job, one worker


def test_few_questions_do_not_outweigh_many():
    rates.learn([Outcome(job(questions=1000), 100.0)])
    rates.learn([Outcome(job(questions=10), 50.0)])
    assert rates.read().kinds["slow"].seconds == 0.1
    rates.learn([Outcome(job(questions=900), 180.0)])
    assert rates.read().kinds["slow"].seconds == 0.2


def test_of_what_was_never_measured_nothing_is_said_but_that():
    assert "nothing was measured of mine" in rates.how_long([job("mine")], 1)
    rates.learn([Outcome(job("known"), 1.0)])
    said = rates.how_long([job("known"), *(job(name) for name in "abcde")], 1)
    assert said == "how long it takes is not known: nothing was measured of a, b, c and 2 more"


def test_what_ships_says_that_it_was_measured_elsewhere(monkeypatch):
    shipped = rates.Rates(load_s=10, kinds={"mine": {"seconds": 2, "questions": 10}}, studies={"a-study": 300})
    monkeypatch.setattr(rates, "SHIPPED", shipped)
    assert rates.how_long([job("mine")], 8) == f"about 20 s {rates.ELSEWHERE}"
    assert rates.how_long_as_it_comes("a-study", 8) == f"about 3 min {rates.ELSEWHERE}"
    assert rates.how_long_as_it_comes("another", 8) == ""
    rates.learn([Outcome(job("mine"), 30.0)], "a-study")
    assert rates.how_long([job("mine")], 1) == "about 30 s"
    assert rates.how_long_as_it_comes("a-study", 1) == "about 30 s"


DAMAGE = [
    b"",
    b"{",
    b"[1]",
    b'{"kinds": {"a": {"seconds": -1, "questions": 1}}}',
    b'{"kinds": {"a": {"seconds": NaN, "questions": 1}}}',
    b'{"kinds": {"a": {"seconds": 1, "questions": 0}}}',
    b'{"load_s": "long"}',
    b'{"other": 1}',
    b"[" * 100_000,
    b"\xff\xfe",
    b" " * (rates.MOST_BYTES + 1),
]


@pytest.mark.parametrize("content", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_file_is_named_gives_no_estimate_and_is_written_anew(content):
    rates.rates_path().parent.mkdir(parents=True)
    rates.rates_path().write_bytes(content)
    with pytest.raises(ValueError, match=r"rates\.json cannot be used: .*; the next run writes it anew"):
        rates.read()
    said = rates.how_long([job("mine")], 1)
    assert "not known" in said
    assert "cannot be used" in said
    rates.learn([Outcome(job(), 10.0)])
    assert list(rates.read().kinds) == ["slow"]


def test_the_file_stays_small(tmp_path):
    rates.learn([Outcome(job(f"kind {number} {'x' * 80}"), 1.0) for number in range(2 * rates.MOST_KINDS)])
    kinds = list(rates.read().kinds)
    assert len(kinds) == rates.MOST_KINDS
    assert kinds[-1].startswith(f"kind {2 * rates.MOST_KINDS - 1} ")  # the others went first
    assert rates.rates_path().stat().st_size < rates.MOST_BYTES


def test_a_folder_that_cannot_be_written_to_costs_no_run(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TOKENLINK_CACHE", str(tmp_path / "file" / "cache"))
    rates.learn([Outcome(job(), 10.0)])
    assert (tmp_path / "file").read_bytes() == b""


def test_a_run_leaves_what_it_took_and_a_failed_or_partial_one_is_no_whole_study(fakes, config, tmp_path):
    STUDY.main(config, out=tmp_path / "run")
    known = json.loads(rates.rates_path().read_bytes())
    assert {"machine-tokens", "raw-image", "codes by tokens"} <= set(known["kinds"])
    assert known["kinds"]["machine-tokens"]["questions"] == config.num_questions
    assert known["kinds"]["codes by tokens"]["questions"] == config.batch_size
    assert known["studies"] == {}  # not as it comes
    assert str(tmp_path) not in rates.rates_path().read_text()
    plan = STUDY.plan(config, tmp_path / "other")
    assert rates.how_long(plan.pending(), 1).startswith("about ")
