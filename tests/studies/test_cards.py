import dataclasses

import numpy as np
import pytest
from scipy.special import exp1
from scipy.stats import binomtest

from phy import LinkConfig
from phy.fading import _build
from studies.cards import card as cards
from studies.cards import closed_forms, sionna_tutorials, tables_38901
from tests.studies.made_up_cards import RATE, break_off, made_up

COUNTED = {card.title: card for card in sionna_tutorials.CARDS}


def only_row(card):
    (row,) = cards.run_card(card).rows
    return row


def test_the_right_number_agrees_a_wrong_one_is_off_and_few_errors_leave_it_open():
    right, wrong, few = (only_row(made_up(**case)) for case in ({}, {"printed": 0.2}, {"batches": 4}))
    assert [row.verdict for row in (right, wrong, few)] == ["ok", "off", "undecided"]
    assert right.measured.likely[0] < RATE < right.measured.likely[1]
    assert few.measured.sample.endswith("of 400")


def test_counting_ends_as_soon_as_the_interval_decides():
    sample = only_row(made_up(printed=0.5)).measured.sample
    wrong, words = (int(number) for number in sample.split(" of "))
    assert wrong >= cards.MIN_ERRORS
    assert words == 400  # there were 29 errors at 300
    assert int(only_row(made_up()).measured.sample.split(" of ")[1]) > words


def test_points_that_are_decided_are_not_sent_to_again():
    asked = []

    def draw(batch):
        lost = np.random.default_rng(batch).random((1000, 1)) < RATE
        return lambda at: asked.append((batch, at)) or lost

    card = dataclasses.replace(
        made_up(), points=(cards.Point(at=1.0, printed=0.5), cards.Point(at=2.0, printed=RATE * 1.19))
    )
    cards.count_errors(card, draw, batches=3)
    assert asked == [(0, 1.0), (0, 2.0), (1, 2.0), (2, 2.0)]


def test_the_band_grows_with_the_uncertainty_of_the_source():
    card = made_up(errors=100)
    assert card.band(card.points[0]) == pytest.approx(0.2 + 2 / 10)
    assert made_up().band(made_up().points[0]) == pytest.approx(0.2)


def test_an_exact_number_is_off_by_any_difference():
    card = dataclasses.replace(made_up(printed=0.0), tolerance=0.0)
    assert card.verdict(card.points[0], cards.Measurement.exact(0)) == "ok"
    assert card.verdict(card.points[0], cards.Measurement.exact(1)) == "off"


def test_a_number_is_off_only_where_it_is_surely_outside_of_the_band():
    card = made_up(printed=1.0)
    for sure, verdict in (
        ((1.1, 1.6), "undecided"),
        ((1.21, 1.6), "off"),
        ((0.5, 0.79), "off"),
        ((0.5, 0.81), "undecided"),
    ):
        assert card.verdict(card.points[0], cards.Measurement(1.4, (1.3, 1.5), sure)) == verdict


@pytest.mark.parametrize("wrong", [0, 3, 40, 50])
def test_independent_words_have_the_interval_of_clopper_and_pearson(wrong):
    errors = np.arange(50)[:, None] < wrong
    measured = cards.error_rate(errors)
    for interval, confidence in ((measured.likely, 0.95), (measured.sure, 0.999)):
        exact = binomtest(wrong, 50).proportion_ci(confidence, method="exact")
        assert interval == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert measured.sample == f"{wrong} of 50"


def test_words_that_fail_together_count_as_one():
    fades = np.random.default_rng(0).random((200, 1)) < 0.3
    alone, together = cards.error_rate(fades), cards.error_rate(np.repeat(fades, 4, axis=1))
    assert together.likely == pytest.approx(alone.likely)
    assert together.sample == f"{4 * int(fades.sum())} of 800"


def test_a_card_that_breaks_fails_with_its_reason():
    outcome = cards.run_card(made_up(measure=break_off))
    assert (outcome.verdict, outcome.reason) == ("off", "ValueError: no such channel")
    assert not outcome.rows


def test_a_card_that_measures_too_few_points_fails():
    outcome = cards.run_card(made_up(measure=lambda card: []))
    assert outcome.verdict == "off"
    assert "ValueError" in outcome.reason


def test_all_cards_run_in_processes_and_the_broken_one_stops_none():
    outcomes = list(cards.run_all(2, ["tests.studies.made_up_cards"]))
    assert sorted(outcome.verdict for outcome in outcomes) == ["off", "off", "ok", "undecided"]
    assert {"0.0925 instead of 0.2 at 1", "ValueError: no such channel"} == {
        o.reason for o in outcomes if o.verdict == "off"
    }


def test_every_card_says_what_it_is():
    every = [*sionna_tutorials.CARDS, *tables_38901.CARDS, *closed_forms.CARDS]
    assert len({card.title for card in every}) == len(every) > 15
    for card in every:
        assert card.points
        assert card.source
        assert card.settings
        assert card.ours


def test_the_tables_that_the_link_reads_are_those_of_the_standard():
    for card in tables_38901.CARDS:
        assert cards.run_card(card).verdict == "ok"


@pytest.mark.parametrize(("family", "profile", "cell"), [("CDL", "C", "8.6523"), ("TDL", "D", "-18.8")])
def test_one_cell_that_differs_is_found(monkeypatch, family, profile, cell):
    typed = tables_38901._CDL[profile]
    assert typed.count(cell) == 1
    monkeypatch.setitem(tables_38901._CDL, profile, typed.replace(cell, "5"))
    (card,) = (card for card in tables_38901.CARDS if card.title.startswith(family))
    outcome = cards.run_card(card)
    assert [row.point.at for row in outcome.rows if row.verdict == "off"] == [profile]


def test_closed_forms_agree_with_each_other():
    assert closed_forms.qpsk_bit_errors(0.0) == pytest.approx(0.0786496, abs=1e-7)
    assert closed_forms.qam16_bit_errors(-100.0) == pytest.approx(0.5, abs=1e-4)
    assert closed_forms.mrc_bit_errors(10.0, 1) == pytest.approx((1 - np.sqrt(10 / 11)) / 2)
    assert closed_forms.capacity(10.0, 1, 1) == pytest.approx(np.exp(0.1) * exp1(0.1) / np.log(2))
    assert closed_forms.mean_squared_error(10.0, 1, 1) == pytest.approx(0.1 * np.exp(0.1) * exp1(0.1))
    assert closed_forms.converse_bits(500) > closed_forms.random_coding_bits(500) > 190


@pytest.mark.slow
@pytest.mark.parametrize("card", closed_forms.CARDS, ids=lambda card: card.title)
def test_closed_forms_hold(card):
    assert cards.run_card(card).verdict == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("title", COUNTED)
def test_a_few_words_agree_with_a_tutorial_and_not_with_a_third_of_its_number(title):
    card = dataclasses.replace(COUNTED[title], tolerance=0.35)
    point = min(card.points, key=lambda point: abs(point.printed - 0.4))
    card = dataclasses.replace(card, points=(point,))
    (measured,) = card.measure(card)
    assert card.verdict(point, measured) == "ok"
    assert card.verdict(dataclasses.replace(point, printed=point.printed / 3), measured) == "off"


def test_the_terminal_has_the_tutorials_elements_in_its_cards_only():
    config = LinkConfig(channel="cdl-a", speed=0.0)
    own = _build(config)._model.mean_gain
    assert sionna_tutorials._DirectedPaths(config).mean_gain != pytest.approx(own, rel=0.1)
    assert _build(config)._model.mean_gain == pytest.approx(own)
