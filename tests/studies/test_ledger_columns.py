"""What the archive keeps of a question's costs, beside the grid of the ledger."""

import numpy as np
import pytest

from phy import AnalogLink, LinkConfig
from studies import accuracy_vs_snr, archive, run_folder
from studies.curves import CURVES
from studies.evaluation import evaluate
from studies.schemes.scheme import GRID, LEDGER, PAYLOAD, Delivery, Scheme, entropy, ledger_scalars, mean_of


def test_grid_costs_of_the_default_link_are_the_ledgers():
    ledger = AnalogLink(LinkConfig()).ledger(num_tokens=5, width=64)
    cost = ledger_scalars(ledger)
    assert cost["data_res"] + cost["pilot_res"] == ledger.channel_uses == 208
    assert sum(cost[name] for name in ("data_res", "pilot_res", "guard_res", "idle_res")) == cost["resource_elements"]
    assert (cost["energy"], cost["mini_slots"]) == (pytest.approx(208), 2)
    assert np.isnan([*ledger_scalars(None).values()]).all()
    assert set(cost) == set(ledger_scalars(None)) == set(GRID) < set(LEDGER)
    assert mean_of({1: cost, 2: {name: 3 * value for name, value in cost.items()}}, {1: 3, 2: 1}) == pytest.approx(
        {name: 1.5 * value for name, value in cost.items()}
    )


def test_a_prompt_is_charged_by_how_often_it_occurs():
    assert entropy(["a", "b", "c", "d"]) == pytest.approx(2)
    assert entropy(["a"] * 5) == 0
    assert entropy(["a", "a", "b", "c"]) == pytest.approx(1.5)


def test_schemes_are_charged_for_what_their_sensor_is_told(fakes, config, tmp_path):
    workbench = accuracy_vs_snr.STUDY.plan(config, tmp_path).workbench
    fakes["agents"].describe = lambda questions: [f"vague {len(question) % 2}" for question in questions]
    questions = [question.question for question in workbench.questions]
    scheme = {name: CURVES[name].build(workbench) for name in CURVES}
    expected = entropy(fakes["agents"].describe(questions))
    assert 0 < expected <= 1
    assert scheme["machine-tokens"].prompt_bits(questions) == expected
    for name in ("deepjscc", "caption", "jpeg-ldpc"):  # told nothing, or always the same
        assert scheme[name].prompt_bits(questions) == 0
    for name in ("answer-text", "raw-image"):  # told the question; nothing crosses the link
        assert np.isnan(scheme[name].prompt_bits(questions))


class Parts:
    """A carrier and reader whose payloads and peaks are those of the questions' numbers."""

    crosses_link = True

    def determined_by(self):
        return {}

    def deliver(self, codes, batch, snr_db):
        payload = {name: batch.numbers + 1.0 for name in PAYLOAD}
        return Delivery(items=[""] * len(batch.numbers), payload=payload, peaks=10.0 ** (batch.numbers / 10))

    def read(self, batch, delivery):
        return list(delivery.items)


def test_payloads_are_means_and_peaks_those_of_one_question_in_a_hundred(fakes, config, tmp_path):
    batches = accuracy_vs_snr.STUDY.plan(config, tmp_path).workbench.batches
    found = evaluate(Scheme(None, Parts(), Parts()), batches, None, 0.0)
    assert found.payload == dict.fromkeys(PAYLOAD, 15.5)  # of numbers 1 to 30
    assert found.peak_db == pytest.approx(10 * np.log10(np.quantile(10.0 ** (np.arange(30) / 10), 0.99)))


def test_a_run_keeps_every_cost_and_points_of_before_are_read(fakes, config, tmp_path):
    results = accuracy_vs_snr.main(config, out=tmp_path).results
    for name in ("energy", "idle_res", "mini_slots", "active_s", "span_s", "peak_db", "prompt_bits"):
        assert np.isfinite(results.along(name, "machine-tokens")).all(), name
        assert np.isnan(results.along(name, "raw-image")).all()
    assert results.along("peak_db", "machine-tokens")[0] == pytest.approx(10)
    assert np.isnan(results.along("payload_bits", "machine-tokens")).all()
    for path in (tmp_path / "points").glob("*.h5"):  # as versions of before wrote them
        point = archive.read_point(path)
        kept = {name: value for name, value in point.scalars.items() if name not in LEDGER or name in archive.COSTS}
        archive.write_point(path.parent, point.key, point.arrays, kept)
    old = run_folder.collect(tmp_path)
    assert old.attributes["num_missing_points"] == 0
    assert np.isnan(old.along("energy", "machine-tokens")).all()
    np.testing.assert_array_equal(old.along("data_res", "machine-tokens"), results.along("data_res", "machine-tokens"))
