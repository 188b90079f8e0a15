"""Verdicts on hand-made results, whose accuracies are known and whose outcomes are nested."""

import functools
import io
import json

import numpy as np
import pytest
from rich.console import Console

from studies import archive, claims, statistics, tables
from studies.claims import (
    CONDITIONAL,
    NOT_MEASURED,
    NOT_REPRODUCED,
    REPRODUCED,
    RULES,
    UNDECIDED,
    UNTESTABLE,
    WITHDRAWN,
    Outcomes,
    judge,
)
from studies.statistics import cluster_bootstrap, wilson_interval

SNR_DB = [-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0]
N = 2000
LUCK = np.random.default_rng(0).permutation(N) / N  # question i is right where its luck is below the accuracy
FAMILIES = np.resize(["query", "count"], N)
BLIND, RAW = 0.4, 0.86

# What the paper says, at each SNR.
PAPER = {
    "machine-tokens": [0.6, 0.75, 0.85, 0.9, 0.92, 0.93, 0.93],
    "machine-tokens-uncompressed": [0.6, 0.76, 0.86, 0.9, 0.92, 0.93, 0.94],
    "raw-image": [RAW] * 7,
    "question-only": [BLIND] * 7,
    "deepjscc": [0.4, 0.45, 0.6, 0.7, 0.78, 0.82, 0.84],
    "caption": [0.4, 0.41, 0.55, 0.6, 0.6, 0.6, 0.6],
}
COST = {"machine-tokens": 80, "machine-tokens-uncompressed": 320, "deepjscc": 1536, "caption": 400}
TOKENS, AT_0, AT_15 = [1, 2, 3, 5, 8], [0.5, 0.55, 0.6, 0.75, 0.8], [0.55, 0.6, 0.7, 0.85, 0.85]


@functools.cache
def bootstrap_of(values, clusters):
    return cluster_bootstrap(np.frombuffer(values), np.frombuffer(clusters, dtype=np.int64))


@pytest.fixture(autouse=True)
def _each_bootstrap_once(stand_in):
    """The tests' results differ in a scheme or two; bootstraps of the others are taken once."""
    stand_in(statistics, "cluster_bootstrap", lambda v, c: bootstrap_of(v.tobytes(), c.tobytes()))


def results(accuracy, axes, cost=COST, **attributes):
    """Results with these accuracies, [*axes] of each scheme."""
    names, shape = list(accuracy), [len(values) for values in axes.values()]
    wanted = np.array([np.asarray(accuracy[name]) for name in names]).reshape(len(names), *shape)
    correct = (LUCK < wanted[..., None]).astype(np.uint8)
    low, high = wilson_interval(correct.sum(-1), N)
    spent = np.array([cost.get(name, np.nan) for name in names])
    return archive.Results(
        {"scheme": np.array(names), **{k: np.array(v) for k, v in axes.items()}, "question": np.arange(N)},
        {
            **{"correct": correct, "accuracy": correct.mean(-1), "accuracy_low": low, "accuracy_high": high},
            **{"family": FAMILIES, "image_index": np.arange(N) // 4},
            **{name: spent for name in archive.LEDGER},
            "duration_s": np.where(np.isnan(spent), np.nan, 5e-4),
        },
        {"study": "test", **attributes},
    )


def snr(**changes):
    return results(
        {**PAPER, **{name.replace("_", "-"): values for name, values in changes.items()}}, {"snr_db": SNR_DB}
    )


def tokens(at_0=AT_0, at_15=AT_15):
    curves = {"machine-tokens": np.stack([at_0, at_15], axis=1)}
    return results(curves, {"num_tokens": TOKENS, "snr_db": [0.0, 15.0]})


def verdict(number, snr_results=None, tokens_results=None):
    return judge(snr_results or snr(), tokens_results or tokens())[number - 1].judgement


def by_rule(number, snr_results=None, tokens_results=None):
    """The verdict of a claim's rule, whether or not the shipped weights can test the claim."""
    outcomes = (
        Outcomes(snr_results or snr(), "accuracy-vs-snr"),
        Outcomes(tokens_results or tokens(), "accuracy-vs-tokens"),
    )
    return RULES[number - 1][2](*outcomes)


def test_results_like_the_papers_reproduce_all_six():
    found = judge(snr(), tokens())
    assert [claim.number for claim in found] == [1, 2, 3, 4, 5, 6]
    assert {claim.judgement.verdict for claim in found if claim.number not in UNTESTABLE} == {REPRODUCED}
    assert {by_rule(number).verdict for number in UNTESTABLE} == {REPRODUCED}
    assert by_rule(5).conditions == "the knee is at 5 tokens"
    [above] = verdict(1).numbers
    assert above.mean == pytest.approx(0.07, abs=1e-9)
    assert above.low < 0.07 < above.high


@pytest.mark.parametrize("number", [5, 6])
def test_a_claim_that_the_weights_cannot_test_is_withdrawn_and_its_numbers_stand(number):
    found = verdict(number)
    measured = by_rule(number)
    assert found.verdict == WITHDRAWN
    assert found.conditions == f"{UNTESTABLE[number]} (measured: {measured.conditions})"
    assert found.numbers == measured.numbers
    assert judge(snr(), None)[4].judgement.verdict == NOT_MEASURED  # what was not run is not withdrawn either


@pytest.mark.parametrize(
    ("number", "changes", "expected", "condition"),
    [
        (1, {"machine_tokens": [0.8] * 7}, NOT_REPRODUCED, ""),
        (1, {"machine_tokens": [RAW] * 7}, NOT_REPRODUCED, ""),
        (2, {"deepjscc": [0.4, 0.45, 0.6, 0.7, 0.8, 0.85, 0.9]}, NOT_REPRODUCED, ""),
        (2, {"deepjscc": [0.8] * 7}, NOT_REPRODUCED, ""),
        (2, {"deepjscc": [0.45, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]}, CONDITIONAL, "below -5 dB only: at -10 dB"),
        (3, {"caption": [0.95] * 7}, NOT_REPRODUCED, ""),
        (3, {"caption": [0.4, 0.4, 0.9, 0.6, 0.6, 0.6, 0.6]}, CONDITIONAL, "at 5, 10, 15, 20 dB only"),
        (4, {"machine_tokens_uncompressed": [0.98] * 7}, NOT_REPRODUCED, ""),
        (4, {"machine_tokens": [0.4, 0.41, 0.8, 0.9, 0.92, 0.93, 0.93]}, CONDITIONAL, "robust from 0 dB on"),
        (4, {"machine_tokens": [0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.93]}, NOT_REPRODUCED, ""),
    ],
)
def test_a_claim_that_fails_or_holds_in_part_is_reported(number, changes, expected, condition):
    found = verdict(number, snr(**changes))
    assert found.verdict == expected
    assert condition in found.conditions
    assert found.numbers


def test_a_family_in_which_tokens_win_is_a_condition():
    run = snr(machine_tokens=[0.8] * 7)
    correct = run.of("correct", "machine-tokens")
    correct[:, FAMILIES == "count"] = 1
    correct[:, (FAMILIES == "query") & (LUCK > 0.5)] = 0
    found = verdict(1, run)
    assert (found.verdict, found.conditions) == (CONDITIONAL, "in the families count only")


@pytest.mark.parametrize(
    ("at_0", "at_15", "expected", "reason"),
    [
        ([0.5, 0.55, 0.6, 0.8, 0.8], AT_15, CONDITIONAL, "a knee at 5 tokens, but no robustness beyond it"),
        (AT_0, [0.5, 0.55, 0.6, 0.7, 0.85], NOT_REPRODUCED, "accuracy still rises at the last"),
        (AT_0, [0.8] * 5, NOT_REPRODUCED, "no number of tokens is better than the first"),
        (AT_0, [0.8, 0.82, 0.84, 0.86, 0.86], NOT_REPRODUCED, "the loss below 5 tokens is not abrupt"),
    ],
)
def test_a_knee_needs_a_loss_below_it_and_none_beyond(at_0, at_15, expected, reason):
    found = by_rule(5, tokens_results=tokens(at_0, at_15))
    assert (found.verdict, found.conditions) == (expected, reason)


def near(number, scheme, against, gap, snr_db, half=0.04):
    """Results in which a scheme is `gap` above another at an SNR, and random questions differ `half` to either side."""
    run = snr()
    correct, index = run.variables["correct"], SNR_DB.index(snr_db)
    one, other = (run.schemes.index(name) for name in (scheme, against))
    rng = np.random.default_rng(number)
    better, worse = np.split(rng.permutation(N)[: round(2 * half * N)], [round((half + gap / 2) * N)])
    correct[one, index] = correct[other, index] = (LUCK < 0.5).astype(np.uint8)
    correct[one, index, better], correct[other, index, better] = 1, 0
    correct[one, index, worse], correct[other, index, worse] = 0, 1
    return run


@pytest.mark.parametrize(
    ("number", "run", "condition"),
    [
        (1, functools.partial(near, 1, "machine-tokens", "raw-image", 0, 20), ""),
        (2, functools.partial(near, 2, "deepjscc", "raw-image", 0, 5), "whether it is above the raw image at 5 dB"),
        (4, functools.partial(near, 4, "machine-tokens", "machine-tokens-uncompressed", -0.03, 20), "close at 20 dB"),
    ],
)
def test_an_interval_that_contains_both_answers_decides_nothing(number, run, condition):
    found = verdict(number, run())
    assert (found.verdict, condition in found.conditions) == (UNDECIDED, True)
    assert found.numbers


def test_snrs_at_which_nothing_is_decided_are_named():
    found = verdict(3, near(3, "caption", "machine-tokens", 0, 5))
    assert (found.verdict, found.conditions) == (CONDITIONAL, "at 0, 10, 15, 20 dB; undecided at 5 dB")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_few_questions_decide_nothing_and_the_table_says_so(number):
    run = snr()
    few = claims.FEW - 1
    for name in ("correct", "family", "image_index"):
        run.variables[name] = run.variables[name][..., :few]
    found = judge(run, None)
    judgement = found[number - 1].judgement
    assert (judgement.verdict, judgement.conditions) == (
        UNDECIDED,
        f"{few} questions are too few, {claims.FEW} are needed",
    )
    assert judgement.numbers[0].num_questions == few
    console = Console(width=200, file=io.StringIO())
    console.print(tables.claims_table(found))
    assert f"undecided: {few} questions are too few" in " ".join(console.file.getvalue().split())


def test_a_knee_of_two_numbers_of_tokens_is_not_measured():
    two = results({"machine-tokens": np.array([[0.5, 0.6], [0.8, 0.9]])}, {"num_tokens": [1, 5], "snr_db": [0.0, 15.0]})
    found = verdict(5, tokens_results=two)
    assert (found.verdict, found.conditions) == (
        NOT_MEASURED,
        "accuracy-vs-tokens has 2 numbers of tokens; a knee needs three",
    )


def test_overhead_is_judged_scheme_by_scheme():
    paper = {name: PAPER[name] for name in PAPER}
    same = results(paper, {"snr_db": SNR_DB}, {**COST, "caption": 80})
    found = by_rule(6, same)
    assert found.verdict == CONDITIONAL
    assert found.conditions.startswith("against machine-tokens-uncompressed, deepjscc only; ")
    assert "caption 1 x" in found.conditions
    assert by_rule(6, results(paper, {"snr_db": SNR_DB}, dict.fromkeys(COST, 80))).verdict == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("number", "missing", "reason"),
    [
        (1, "raw-image", "raw-image is not in accuracy-vs-snr"),
        (2, "deepjscc", "deepjscc is not in accuracy-vs-snr"),
        (3, "caption", "caption is not in accuracy-vs-snr"),
        (4, "machine-tokens-uncompressed", "machine-tokens-uncompressed is not in accuracy-vs-snr"),
        (6, "caption", "caption is not in accuracy-vs-snr"),
    ],
)
def test_a_missing_scheme_leaves_its_claim_open_and_no_other(number, missing, reason):
    run = results({name: values for name, values in PAPER.items() if name != missing}, {"snr_db": SNR_DB})
    found = verdict(number, run)
    assert (found.verdict, found.conditions) == (NOT_MEASURED, reason)
    assert verdict(5, run).verdict == WITHDRAWN


def test_missing_studies_points_and_snrs_leave_claims_open():
    found = judge(None, None)
    assert {claim.judgement.verdict for claim in found} == {NOT_MEASURED}
    assert found[4].judgement.conditions == "accuracy-vs-tokens was not run"
    run = snr()
    run.of("correct", "raw-image")[-1, 3] = archive.MISSING
    assert verdict(1, run).conditions == "raw-image is not complete in accuracy-vs-snr"
    short = results({name: values[:4] for name, values in PAPER.items()}, {"snr_db": SNR_DB[:4]})
    assert "ends at 5 dB" in verdict(1, short).conditions
    late = results({name: values[2:] for name, values in PAPER.items()}, {"snr_db": SNR_DB[2:]})
    assert "no snr_db of -5" in verdict(2, late).conditions
    assert "no snr_db of -5" in verdict(4, late).conditions


def test_claims_are_written_with_rules_and_numbers(tmp_path):
    paths = claims.write(tmp_path, judge(snr(), None), {"accuracy-vs-snr": "configuration abc"})
    assert [path.name for path in paths] == ["claims.json", "claims.md"]
    content = json.loads(paths[0].read_text())
    assert content["origin"] == {"accuracy-vs-snr": "configuration abc"}
    first = content["claims"][0]
    assert (first["judgement"]["verdict"], first["judgement"]["numbers"][0]["mean"]) == (
        REPRODUCED,
        pytest.approx(0.07),
    )
    text = paths[1].read_text()
    assert "machine-tokens - raw-image, 20 dB: +7.0 [" in text
    assert "not measured: accuracy-vs-tokens was not run" in text
    assert all(claim["rule"] in text for claim in content["claims"])
