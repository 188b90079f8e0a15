"""When not to answer, against closed forms."""

import csv

import numpy as np
import pytest

from studies.archive import MISSING, Results
from studies.risk import COVERAGE, calibration_error, coverage_at, draw_risk, risk_at


def answers(count=20_000, seed=0, shift=0.0):
    """Answers that are right with the probability that is stated, or with one that is smaller by a shift."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.2, 1.0, count)
    return rng.random(count) < confidence - shift, confidence.astype(np.float32)


def test_the_surest_answers_are_taken_first():
    correct, confidence = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.9, 0.8, 0.7, 0.2])
    np.testing.assert_allclose(
        risk_at(correct, confidence, np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])), [0, 0, 0, 1 / 3, 1 / 4, 2 / 5]
    )
    assert coverage_at(correct, confidence, 0.0) == 0.4
    assert coverage_at(correct, confidence, 0.3) == 0.8  # more may be answered at a smaller risk
    assert coverage_at(1 - correct, confidence, 0.1) == 0.0


def test_true_confidences_have_the_risk_of_their_law():
    correct, confidence = answers()
    expected = 1 - (1.0 - 0.4 * COVERAGE)  # uniform from 0.2 to 1: the mean of the surest share s is 1 - 0.4 s
    np.testing.assert_allclose(risk_at(correct, confidence), expected, atol=4 * np.sqrt(0.1 * 0.9 / 1000))
    assert calibration_error(correct, confidence) < 4 * np.sqrt(0.25 / 2000)


def test_too_sure_an_author_is_found_out():
    correct, confidence = answers(shift=0.1)
    assert calibration_error(correct, confidence) == pytest.approx(0.1, abs=0.02)


def results(confidence, correct, schemes=("machine-tokens", "raw-image")):
    shape = (len(schemes), 2, correct.size)
    return Results(
        coordinates={
            "scheme": np.array(schemes),
            "snr_db": np.array([0.0, 20.0]),
            "question": np.arange(correct.size),
        },
        variables={
            "correct": np.broadcast_to(correct, shape).astype(np.uint8),
            "confidence": np.broadcast_to(confidence, shape).astype(np.float32).copy(),
            "accuracy": np.full(shape[:2], correct.mean()),
        },
        dimensions={"accuracy": ("scheme", "snr_db")},
        attributes={},
    )


def test_the_figure_has_its_numbers_beside_it(tmp_path):
    correct, confidence = answers(500)
    found = results(confidence, correct)
    found.variables["confidence"][1] = np.nan  # the author of these does not say
    paths = draw_risk(found, folder=tmp_path)
    assert [path.name for path in paths] == [f"risk-coverage.{form}" for form in ("png", "pdf", "pgf", "csv")]
    rows = list(csv.DictReader(paths[-1].open()))
    assert [(row["scheme"], row["snr_db"]) for row in rows] == [("machine-tokens", "0"), ("machine-tokens", "20")]
    assert float(rows[0]["risk at 100%"]) == pytest.approx(1 - correct.mean(), abs=1e-4)
    assert float(rows[0]["coverage at 5% risk"]) == pytest.approx(coverage_at(correct, confidence), abs=1e-4)


def test_without_confidences_or_points_there_is_no_figure(tmp_path):
    correct, confidence = answers(50)
    silent = results(np.full(50, np.nan), correct)
    assert draw_risk(silent, folder=tmp_path) == []
    unfinished = results(confidence, correct)
    unfinished.variables["correct"] = np.full_like(unfinished.variables["correct"], MISSING)
    assert draw_risk(unfinished, folder=tmp_path) == []
    older = results(confidence, correct)
    del older.variables["confidence"]
    assert draw_risk(older, folder=tmp_path) == []
    assert not list(tmp_path.iterdir())
