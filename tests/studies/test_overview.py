"""Schemes side by side: costs, intervals, tests corrected for their number, equal terms, verdicts on bounds."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from studies import archive, curves, overview, tables
from studies.statistics import clustered_interval, holm, mcnemar, wilson_interval

N = 400
SNR_DB = [-15.0, -10.0, 0.0, 20.0]
LUCK = np.random.default_rng(3).permutation((np.arange(N) + 0.5) / N)
ACCURACY = {
    "machine-tokens": [0.6, 0.7, 0.8, 0.9],
    "deepjscc": [0.4, 0.5, 0.7, 0.95],
    "raw-image": [0.92] * 4,
    "question-only": [0.4] * 4,
}
USES = {"machine-tokens": (80, 128), "deepjscc": (1536, 256)}  # of data and of pilots


def results(accuracy=ACCURACY, without=(), axes=None, **ledger):
    """Results with these accuracies and costs; `without` some variables, as archives of before are."""
    names, axes = list(accuracy), axes or {"snr_db": SNR_DB}
    wanted = np.array([np.asarray(accuracy[name]) for name in names])
    correct = (LUCK < wanted[..., None]).astype(np.uint8)
    low, high = wilson_interval(correct.sum(-1), N)
    data, pilots = (np.array([USES.get(name, (np.nan, np.nan))[part] for name in names]) for part in (0, 1))
    costs = {
        **{name: np.where(np.isnan(data), np.nan, 7.0) for name in archive.LEDGER},
        "data_res": data,
        "pilot_res": pilots,
        "energy": data + pilots,
        "active_s": data / 80 * 1e-4,
        **ledger,
    }
    return archive.Results(
        {"scheme": np.array(names), **{k: np.array(v) for k, v in axes.items()}, "question": np.arange(N)},
        {
            **{"correct": correct, "accuracy": correct.mean(-1), "accuracy_low": low, "accuracy_high": high},
            **{"family": np.full(N, "query"), "image_index": np.arange(N) // 4, "realisation": np.arange(N)},
            **{name: values for name, values in costs.items() if name not in without},
        },
        {"study": "accuracy-vs-snr"},
    )


def cells(grid):
    """A table's cells, by the cell in its first column and by column header."""
    return {(row[0], head): cell for row in grid.rows for head, cell in zip(grid.header, row, strict=True)}


def test_a_row_has_what_a_scheme_takes_and_its_accuracy_with_the_interval_of_clusters():
    run = results()
    rows = overview.compared(run)
    found = cells(overview.overview_table(rows))
    for (scheme, head), cell in {
        ("machine-tokens", "uses"): "208",
        ("deepjscc", "uses"): "1792",
        ("deepjscc", "energy"): "1792",
        ("deepjscc", "ms"): "1.9",
        ("raw-image", "uses"): "-",
    }.items():
        assert found[scheme, head] == cell
    assert {head for _, head in found} == {"scheme / SNR [dB]", "uses", "energy", "ms", "-10", "0", "20"}
    outcomes = run.of("correct", "machine-tokens")[1]
    expected = clustered_interval(outcomes, [np.arange(N) // 4, np.arange(N)])
    [row] = [row for row in rows if row.scheme == "machine-tokens" and row.snr_db == -10]
    assert (row.low, row.high) == pytest.approx(expected)
    assert found["machine-tokens", "-10"].startswith("70.0\n")


def test_p_values_are_corrected_over_the_whole_table():
    run = results()
    rows = overview.compared(run)
    own = run.of("correct", "machine-tokens")
    p_values = {
        (scheme, at): mcnemar(run.of("correct", scheme)[i], own[i])[2]
        for scheme in ("deepjscc", "raw-image", "question-only")
        for i, at in enumerate(SNR_DB)
        if at in overview.TABLE_SNR_DB
    }
    expected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    assert {(row.scheme, row.snr_db): row.p_holm for row in rows if row.against} == pytest.approx(expected)
    assert expected["deepjscc", 20.0] > p_values["deepjscc", 20.0]
    grid = overview.mcnemar_table(rows)
    assert "for the 9 tests" in grid.title
    assert cells(grid)["raw-image", "20"] == f"{expected['raw-image', 20.0]:.1g}"
    starred = {key for key, cell in cells(overview.overview_table(rows)).items() if cell.endswith("*")}
    assert starred == {(scheme, f"{at:g}") for (scheme, at), p in expected.items() if p < 0.05}
    lines = list(csv.DictReader(io.StringIO(overview.comparison_csv(rows))))
    assert len(lines) == 4 * 3
    [line] = [line for line in lines if line["scheme"] == "deepjscc" and line["snr_db"] == "-10"]
    assert float(line["difference_from_machine-tokens"]) == pytest.approx(-0.2)
    assert float(line["channel_uses"]) == 1792
    assert float(line["mcnemar_p_holm"]) == pytest.approx(expected["deepjscc", -10.0], rel=1e-5)


def test_a_missing_point_has_no_accuracy_and_no_test():
    run = results()
    run.of("correct", "deepjscc")[1, 7] = archive.MISSING
    rows = overview.compared(run)
    assert cells(overview.overview_table(rows))["deepjscc", "-10"] == "missing"
    assert cells(overview.mcnemar_table(rows))["deepjscc", "-10"] == "-"


def test_trainings_widen_the_interval_and_have_a_row_of_their_own():
    accuracy = {"machine-tokens": [[0.6, 0.8], [0.65, 0.85], [0.7, 0.9]], "raw-image": [[0.9, 0.9]] * 3}
    seeds = results(accuracy, axes={"seed": [0, 1, 2], "snr_db": [-10.0, 20.0]})
    [(scheme, [(mean, low, high), _])] = overview.trainings(seeds).items()
    assert (scheme, mean) == ("machine-tokens", pytest.approx(0.65))
    alone = overview.compared(results())[0]
    assert high - low > 1.5 * (alone.high - alone.low)
    found = cells(overview.overview_table(overview.compared(results()), seeds))
    assert found["machine-tokens, 3 trainings", "-10"].startswith("65.0\n")
    assert found["machine-tokens, 3 trainings", "0"] == ""


# --- equal terms ---------------------------------------------------------------------------------------------------


def test_equal_energy_is_the_accuracy_at_an_snr_lower_by_the_ratio_of_energies():
    run = results(peak_db=np.array([9.0, 4.0, np.nan, np.nan]))
    grid = overview.equal_table(run)
    [row] = grid.rows  # bounds do not cross the link
    assert [row[0].split("\n")[0], *row[1:4]] == ["deepjscc", "8.62 x", "+9.4", "-5.0"]
    as_it_is, less_energy, less_peak, again = row[-2].split("\n")  # at 0 dB
    ratio_db = 10 * np.log10(1792 / 208)
    assert as_it_is == "70.0"
    assert float(less_energy) == pytest.approx(50 + 20 * (10 - ratio_db) / 10, abs=0.06)
    assert float(less_peak) == pytest.approx(70 + 25 * 5 / 20, abs=0.06)  # its peaks are lower: it may be louder
    assert float(again) == pytest.approx(80 + 10 * ratio_db / 20, abs=0.06)
    assert row[4].split("\n")[1] == "-"  # below the lowest SNR that was run


def test_a_bound_that_takes_as_much_and_has_no_waveform_needs_no_equal_terms():
    uses = {name: np.array([1.0, 1.0]) for name in ("data_res", "pilot_res", "energy")}
    accuracy = {"machine-tokens": ACCURACY["machine-tokens"], "bound-linear": [0.7, 0.8, 0.9, 0.9]}
    assert not overview.equal_table(results(accuracy, peak_db=np.array([9.0, np.nan]), **uses)).rows
    assert overview.equal_table(results(accuracy, peak_db=np.array([9.0, 9.0]), **uses)).rows


def test_accuracies_stand_on_straight_lines_and_nowhere_else():
    at, accuracy = np.array([0.0, 10.0, 20.0]), np.array([0.2, 0.4, 0.8])
    np.testing.assert_allclose(overview.shifted(at, accuracy, np.full(3, -5.0)), [np.nan, 0.3, 0.6])
    np.testing.assert_allclose(overview.shifted(at, accuracy, np.zeros(3)), accuracy)
    np.testing.assert_allclose(overview.shifted(at, accuracy, np.array([2.5, 10.0, np.nan])), [0.25, 0.8, np.nan])


def test_archives_that_keep_no_energy_say_so():
    old = results(without=[name for name in archive.LEDGER if name not in archive.COSTS])
    assert np.isnan(old.kept("energy", "deepjscc")).all()
    ledger = tables.ledger_table(old)
    assert "not kept by archives of this age" in ledger.title
    assert cells(ledger)["deepjscc", "energy"] == "?"
    assert cells(ledger)["deepjscc", "both [REs]"] == "1792"
    assert "not kept" not in tables.ledger_table(results()).title
    assert cells(overview.overview_table(overview.compared(old)))["deepjscc", "energy"] == "?"
    [row] = overview.equal_table(old).rows
    assert row[1:4] == ["8.62 x", "-", "-"]
    assert row[-1].split("\n")[:3] == ["95.0", "-", "-"]


# --- bounds --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bound(monkeypatch):
    row = curves.Curve(
        name="bound-test",
        carrier=curves.lossless.everything,
        reader=curves.prefix,
        about="",
        label="",
        bounds=("machine-tokens", "caption"),
    )
    monkeypatch.setitem(curves.CURVES, "bound-test", row)


@pytest.mark.parametrize(
    ("of_bound", "verdict"), [(0.9, overview.BELOW), (0.805, overview.AT), (0.795, overview.AT), (0.7, overview.ABOVE)]
)
def test_a_verdict_says_whether_a_scheme_is_above_its_bound_beyond_the_interval(bound, of_bound, verdict):
    run = results({"machine-tokens": ACCURACY["machine-tokens"], "bound-test": [1.0, 1.0, of_bound, 0.9]})
    grid = overview.bounds_table(run)
    [row] = grid.rows
    assert row[0] == "machine-tokens\n - bound-test"
    assert row[3].split("\n")[-1] == verdict
    assert row[3].startswith(f"{100 * (0.8 - run.of('accuracy', 'bound-test')[2]):+.1f}\n")
    assert row[1].endswith(overview.BELOW)
    assert row[4].split("\n")[-1] == overview.AT  # the same outcomes
    assert not [compared for compared in overview.compared(run) if compared.against]  # a bound is not tested


def test_a_run_without_bounds_has_no_verdicts(bound):
    assert not overview.bounds_table(results()).rows


# --- how it looks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda run: overview.overview_table(overview.compared(run)),
        lambda run: overview.mcnemar_table(overview.compared(run)),
        overview.equal_table,
        overview.bounds_table,
        tables.ledger_table,
    ],
)
def test_the_tables_fit_80_columns(make, bound, monkeypatch):
    names = [*curves.CURVES]
    monkeypatch.setattr(overview, "compare", lambda *outcomes, images: FIXED)
    snr_db = list(overview.TABLE_SNR_DB)
    accuracy = {name: np.linspace(0.5, 0.9, 7) for name in names}
    run = results(accuracy, axes={"snr_db": snr_db}, data_res=np.full(len(names), 1536.0))
    grid, console = make(run), Console(width=80, file=io.StringIO())
    console.print(grid)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    printed = {word for line in lines for word in line.split()}
    assert {word for row in grid.rows for cell in row for word in cell.split()} <= printed


FIXED = overview.Comparison(-0.123, -0.15, -0.1, 10, 20, 1e-12)
