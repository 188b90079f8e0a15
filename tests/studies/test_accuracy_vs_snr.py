import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from rich.console import Console

from studies import accuracy_vs_snr, archive, run_folder, tables
from studies.accuracy_vs_snr import STUDY
from studies.config import ConfigError
from studies.curves import CURVES
from studies.jobs import StudyError
from studies.schemes.scheme import GRID, Delivery, Scheme
from studies.statistics import wilson_interval


def run(config, folder, **options):
    results, failed, where = accuracy_vs_snr.main(config, out=folder, **options)
    assert where == folder
    return results, failed


def events(folder, kind):
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def test_the_figure_has_the_shape_that_the_paper_says(fakes, config, tmp_path):
    results, failed = run(config, tmp_path)
    assert not failed
    accuracy = dict(zip(results.schemes, results.variables["accuracy"], strict=True))
    assert (accuracy["raw-image"] == 1).all()
    np.testing.assert_allclose(accuracy["question-only"], accuracy["question-only"][0])
    assert accuracy["machine-tokens"][0] < 0.5 < accuracy["machine-tokens"][-1] == 1
    assert accuracy["wrong-image"][-1] == 0
    np.testing.assert_array_equal(accuracy["silent-link"], accuracy["question-only"])
    # white noise of unit variance at 0 dB: its expected share is known, and falls by 40 dB
    nmse = results.of("code_nmse", "machine-tokens")
    np.testing.assert_allclose(nmse[0] / nmse[-1], 1e6, rtol=1e-3)
    assert np.isnan(results.of("code_nmse", "raw-image")).all()
    declared = results.of("code_nmse_declared", "machine-tokens")
    np.testing.assert_allclose(declared[0] / declared[-1], 1e6, rtol=1e-6)
    # the mean of 180 squared normals is one to within five times sqrt(2 / 180)
    np.testing.assert_allclose(nmse / declared, 1, atol=5 * np.sqrt(2 / 180))
    assert np.isnan(results.of("code_nmse_declared", "raw-image")).all()


@pytest.mark.parametrize(
    "name",
    [*("machine-tokens-adaptive", "deepjscc", "deepjscc-small"), *("wrong-image", "gaussian-codes", "rotated-codes")],
)
def test_a_curve_whose_numbers_arrive_says_with_which_error(fakes, config, name, tmp_path):
    results, _ = run(config.updated({"schemes": [name]}), tmp_path)
    nmse, declared = results.of("code_nmse", name), results.of("code_nmse_declared", name)
    assert (np.diff(nmse) < 0).all()
    np.testing.assert_allclose(nmse / declared, 1, atol=5 * np.sqrt(2 / 30))  # 30 questions, a number each at least


def test_the_sensor_looks_once_per_question(fakes, config, tmp_path):
    run(config.updated({"schemes": ["machine-tokens", "wrong-image"]}), tmp_path)
    assert fakes["agents"].num_encoded == config.num_questions


def test_what_crosses_no_link_is_computed_once(fakes, config, tmp_path):
    run(config, tmp_path)
    assert len(list((tmp_path / "points").iterdir())) == 3 * len(config.snr_db) + 3


def test_every_scheme_meets_the_same_questions_and_fades(fakes, config, tmp_path):
    results, _ = run(config, tmp_path)
    np.testing.assert_array_equal(results.variables["realisation"], np.arange(config.num_questions))
    for path in (tmp_path / "points").iterdir():
        np.testing.assert_array_equal(archive.read_point(path).arrays["question"], results.coordinates["question"])


def test_batches_change_no_number(fakes, config, tmp_path):
    first, _ = run(config, tmp_path / "first")
    second, _ = run(config.updated({"batch_size": 30}), tmp_path / "second")
    np.testing.assert_array_equal(first.variables["correct"], second.variables["correct"])


def test_the_same_command_again_computes_nothing_and_gives_the_same_file(fakes, drawn, config, tmp_path):
    run(config, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "events.jsonl"}
    run(config, tmp_path)
    assert events(tmp_path, "started")[-1]["jobs"] == 0
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_was_cut_short_repeats_only_what_is_missing(fakes, config, tmp_path):
    whole, _ = run(config, tmp_path / "whole")
    half = tmp_path / "half"
    seen = []

    def stop_half_way(outcome):
        seen.append(outcome.job.label)
        if len(seen) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, half, on_outcome=stop_half_way)
    resumed, failed = run(config, half)
    assert not failed
    repeated = {event["job"] for event in events(half, "done")[9:]}
    assert not repeated & set(seen)
    assert (half / "results.h5").read_bytes() == (tmp_path / "whole" / "results.h5").read_bytes()
    np.testing.assert_array_equal(resumed.variables["correct"], whole.variables["correct"])


def test_a_damaged_point_is_computed_again(fakes, config, tmp_path):
    whole, _ = run(config, tmp_path)
    victim = sorted((tmp_path / "points").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:100])
    assert run_folder.check(tmp_path).problems
    again, _ = run(config, tmp_path)
    assert events(tmp_path, "started")[-1]["jobs"] == 1
    np.testing.assert_array_equal(again.variables["correct"], whole.variables["correct"])
    assert run_folder.check(tmp_path) == run_folder.Check(12, 12, [])


def test_shards_in_one_folder_make_the_whole(fakes, config, tmp_path):
    whole, _ = run(config, tmp_path / "whole")
    part, _ = run(config, tmp_path / "parts", shard=(1, 2))
    assert part.attributes["num_missing_points"] > 0
    assert np.isnan(part.variables["accuracy"]).any()
    assert "missing" in cells(tables.accuracy_table(part)).values()
    both, _ = run(config, tmp_path / "parts", shard=(2, 2))
    assert both.attributes["num_missing_points"] == 0
    np.testing.assert_array_equal(both.variables["correct"], whole.variables["correct"])


def test_a_failing_scheme_loses_nothing_else(fakes, config, tmp_path, monkeypatch):
    def break_down(images, questions):
        raise RuntimeError("no sight")

    with monkeypatch.context() as patch:
        patch.setattr(fakes["agents"].sensor, "answer", break_down)
        results, failed = run(config, tmp_path)
    assert [outcome.job.label for outcome in failed] == ["raw-image"]
    assert events(tmp_path, "failed")[0]["error"] == "RuntimeError: no sight"
    assert np.isnan(results.of("accuracy", "raw-image")).all()
    assert np.isfinite(results.of("accuracy", "machine-tokens")).all()
    again, failed = run(config, tmp_path)
    assert not failed
    assert events(tmp_path, "started")[-1]["jobs"] == 1
    assert (again.of("accuracy", "raw-image") == 1).all()


def test_nothing_done_says_why(fakes, config, tmp_path, monkeypatch):
    def break_down(images, questions):
        raise RuntimeError("no sight")

    monkeypatch.setattr(fakes["agents"].sensor, "answer", break_down)
    with pytest.raises(StudyError, match="raw-image: RuntimeError: no sight"):
        run(config.updated({"schemes": ["raw-image"]}), tmp_path)


def test_a_folder_of_another_configuration_is_left_alone(fakes, config, tmp_path):
    run(config, tmp_path)
    before = (tmp_path / "results.h5").read_bytes()
    with pytest.raises(ConfigError, match=r"seed: 0 there, 5 here.*another --out"):
        run(config.updated({"seed": 5}), tmp_path)
    assert (tmp_path / "results.h5").read_bytes() == before


def test_points_that_still_apply_serve_another_configuration(fakes, config, tmp_path):
    run(config, tmp_path)
    (tmp_path / "config.yaml").unlink()
    run(config.updated({"snr_db": [-20.0, 0.0, 10.0, 40.0]}), tmp_path)
    assert events(tmp_path, "started")[-1]["jobs"] == 3  # one more SNR for three schemes


def test_another_link_leaves_what_crosses_none(fakes, config, tmp_path):
    old = STUDY.plan(config, tmp_path)
    new = STUDY.plan(config.updated({"link": {"num_rx_ant": 4}}), tmp_path)
    shared = {job.label for job in old.jobs} - {
        job.label for job in new.jobs if job.id not in {job.id for job in old.jobs}
    }
    assert {label for label in shared if "codes" not in label} == {"raw-image", "question-only", "silent-link"}
    assert any("codes" in label for label in shared)


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_questions": 31}, {"batch_size": 8}, {"num_threads": 2}])
def test_whatever_determines_a_point_changes_its_name(fakes, config, change, tmp_path):
    old = STUDY.plan(config, tmp_path)
    new = STUDY.plan(config.updated(change), tmp_path)
    assert not {job.id for job in old.jobs} & {job.id for job in new.jobs}


def test_the_archive_names_its_origin_and_no_place(fakes, config, tmp_path):
    run(config, tmp_path)
    with h5py.File(tmp_path / "results.h5") as file:
        attributes = dict(file.attrs)
    for name in ("config_json", "config_hash", "code_version", "git_commit", "git_dirty", "seed", "data_hash"):
        assert name in attributes
    assert attributes["model_hash_machine_tokens"] == "fake-weights"
    assert attributes["num_images"] == 12
    assert attributes["num_realisations"] == config.num_questions
    assert json.loads(attributes["config_json"])["num_questions"] == config.num_questions
    content = (tmp_path / "results.h5").read_bytes()
    for place in (str(tmp_path), str(Path.home())):
        assert place.encode() not in content


def test_the_figure_is_written_in_four_forms(fakes, drawn, config, tmp_path):
    results, _ = run(config, tmp_path)
    figures = tmp_path / "figures"
    assert sorted(path.suffix for path in figures.iterdir()) == [".csv", ".pdf", ".pgf", ".png"]
    assert (figures / "accuracy-vs-snr.png").read_bytes().startswith(b"\x89PNG")
    assert (figures / "accuracy-vs-snr.pdf").read_bytes().startswith(b"%PDF")
    rows = [line.split(",") for line in (figures / "accuracy-vs-snr.csv").read_text().splitlines()]
    assert rows[0][:3] == ["scheme", "snr_db", "accuracy"]
    assert len(rows) == 1 + len(results.schemes) * len(config.snr_db)
    written = {(row[0], float(row[1])): float(row[2]) for row in rows[1:]}
    assert written["machine-tokens", 40.0] == results.of("accuracy", "machine-tokens")[-1]


def cells(grid):
    """A table's cells, by the cell in its first column and by column header."""
    return {(row[0], head): cell for row in grid.rows for head, cell in zip(grid.header, row, strict=True)}


def test_the_tables_say_what_the_archive_holds(fakes, config, tmp_path):
    results, _ = run(config, tmp_path)
    accuracy = cells(tables.accuracy_table(results))
    low, high = wilson_interval(30, 30)
    assert accuracy["raw-image", "40"] == f"100.0\n{100 * low:.1f}-{100 * high:.1f}"
    families = cells(tables.family_table(results))
    assert {head for _, head in families} - {"scheme / family"} == {"count (10)", "exist (10)", "query (10)"}
    assert families["raw-image", "exist (10)"].startswith("100.0\n")
    pairs = cells(tables.comparison_table(results))
    difference = 100 * (results.of("accuracy", "machine-tokens")[-1] - results.of("accuracy", "question-only")[-1])
    assert pairs["machine-tokens - question-only", "points [%]"] == f"{difference:+.1f}"
    assert pairs["silent-link - question-only", "McNemar p"] == "1"
    ledger = cells(tables.ledger_table(results))
    assert {row for row, _ in ledger} == {"machine-tokens", "machine-tokens-uncompressed", "wrong-image"}
    heads = ("codes [REs]", "pilots [REs]", "both [REs]", "slots [REs]", "time [ms]")
    assert [ledger["machine-tokens", head] for head in heads] == ["80", "4", "84", "112", "1"]


TABLES = [tables.accuracy_table, tables.family_table, tables.comparison_table, tables.ledger_table]


@pytest.mark.parametrize("names", [accuracy_vs_snr.Config().schemes, tuple(CURVES)])
@pytest.mark.parametrize("make", TABLES)
def test_the_tables_of_a_run_fit_80_columns_with_all_schemes_as_well(make, names):
    config = accuracy_vs_snr.Config(schemes=names)
    schemes, shape = list(config.schemes), (len(config.schemes), len(config.snr_db))
    correct = (np.random.default_rng(0).random((*shape, 2000)) < 0.7).astype(np.uint8)
    low, high = wilson_interval(correct.sum(-1), 2000)
    families = np.resize(["query", "exist", "count", "compare", "spatial", "same"], 2000)
    results = archive.Results(
        {"scheme": np.array(schemes), "snr_db": np.array(config.snr_db), "question": np.arange(2000)},
        {
            **{"correct": correct, "accuracy": correct.mean(-1), "accuracy_low": low, "accuracy_high": high},
            **{"family": families, "image_index": np.arange(2000) // 4},
            **{name: np.full(len(schemes), 12345.0) for name in archive.LEDGER},
        },
        {},
    )
    console = Console(width=80, file=io.StringIO())
    console.print(make(results))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]  # nothing was cut off
    printed = {word for line in lines for word in line.split()}
    for row in make(results).rows:  # and no cell was broken
        assert {word for cell in row for word in cell.split()} <= printed
    if make is tables.accuracy_table and "deepjscc" in schemes:  # a scheme in each row
        written = cells(make(results))["deepjscc", "20"]
        assert written.startswith(f"{100 * results.of('accuracy', 'deepjscc')[-1]:.1f}\n")


@pytest.mark.parametrize("name", list(CURVES))
def test_every_scheme_keeps_the_interface(fakes, config, name, tmp_path):
    workbench = STUDY.plan(config, tmp_path).workbench
    scheme = CURVES[name].build(workbench)
    assert isinstance(scheme, Scheme)
    batch = workbench.batches[1]
    codes = None
    if scheme.encoder is not None:
        assert scheme.encoder.encoded_by()
        codes = np.concatenate([scheme.encoder.encode(part) for part in workbench.batches])
        assert codes.dtype == np.float32 or codes.dtype.kind == "U"  # codes, or texts
        json.dumps(scheme.encoder.encoded_by(), allow_nan=False)
    cost = scheme.carrier.cost(10.0)
    assert set(cost) == set(GRID)
    assert scheme.crosses_link == np.isfinite(cost["data_res"])
    answers, delivery = scheme.answer(codes, batch, 10.0)
    assert isinstance(delivery, Delivery)
    assert len(answers) == len(delivery.items) == len(batch.questions)
    assert (delivery.lost is None) == (delivery.undetected is None)
    if delivery.lost is not None:
        assert [item is None for item in delivery.items] == delivery.lost.tolist()
    assert (delivery.codes is None) == (delivery.codes_hat is None)
    json.dumps(scheme.determined_by(), allow_nan=False)
