import json

import pytest
from typer.testing import CliRunner

from phy import selfcheck
from studies import accuracy_vs_snr, cli, measuring
from studies.benchmarks import latency
from studies.documents import DOCUMENTS

SMALL = ["-s", "num_questions=30", "-s", "batch_size=7", "-s", "snr_db=[0, 40]", "--engine", "inline"]


def document(kind, *arguments, exit_code=0):
    """Run a command with --json, and read its standard output: one document, whose every field is known."""
    done = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert done.exit_code == exit_code, done.output
    content = json.loads(done.stdout)  # and nothing else stands there
    assert content["document"] == f"tokenlink-{kind}"
    assert content["schema_version"] == 1
    return DOCUMENTS[kind].model_validate(content)


def test_a_run_says_every_point_once(fakes, tmp_path):
    found = document("run", "run", "accuracy-vs-snr", *SMALL, "--out", str(tmp_path))
    results = accuracy_vs_snr.STUDY.main(
        accuracy_vs_snr.Config(num_questions=30, batch_size=7, snr_db=(0.0, 40.0)), out=tmp_path
    ).results
    assert (found.study, found.num_questions, found.num_missing_points, found.failed) == ("accuracy-vs-snr", 30, 0, ())
    assert len(found.points) == len(results.schemes) * 2
    for point in found.points:
        index = list(results.coordinates["snr_db"]).index(point.coordinates["snr_db"])
        assert point.accuracy == results.along("accuracy", point.scheme)[index]
    of_scheme = {point.scheme: point for point in found.points}
    assert of_scheme["raw-image"].code_nmse is None  # there are no codes
    assert of_scheme["machine-tokens"].cost["data_res"] > 0


def test_a_job_that_fails_is_named_and_the_exit_status_says_so(fakes, monkeypatch, tmp_path):
    def break_down(images, questions):
        raise RuntimeError("no sight")

    monkeypatch.setattr(fakes["agents"].sensor, "answer", break_down)
    found = document("run", "run", "accuracy-vs-snr", *SMALL, "--no-cache", "--out", str(tmp_path), exit_code=1)
    assert [(failed.job, failed.error) for failed in found.failed] == [("raw-image", "RuntimeError: no sight")]
    assert found.num_missing_points == 1
    assert {point.scheme for point in found.points if point.accuracy is None} == {"raw-image"}


def test_report_and_check_say_what_their_tables_say(fakes, tmp_path):
    document("run", "run", "accuracy-vs-snr", *SMALL, "--out", str(tmp_path))
    found = document("report", "report", str(tmp_path))
    assert [claim.number for claim in found.claims] == [1, 2, 3, 4, 5, 6]
    assert {claim.verdict for claim in found.claims} <= {"undecided", "not measured", "withdrawn"}  # 30 questions
    assert {row.snr_db for row in found.compared} == {0.0}  # 40 dB is none of the table's
    assert found.files
    whole = document("check", "check", str(tmp_path))
    assert (whole.num_done, whole.problems) == (whole.num_points, ())
    next((tmp_path / "points").iterdir()).write_bytes(b"damaged")
    damaged = document("check", "check", str(tmp_path), exit_code=1)
    assert damaged.num_done == whole.num_points - 1
    assert len(damaged.problems) >= 1


def test_the_list_names_studies_and_curves():
    found = document("list", "list")
    assert {"accuracy-vs-snr", "antennas", "compression"} <= {named.name for named in found.studies}
    assert all(named.about for named in (*found.studies, *found.curves))
    assert "machine-tokens" in {named.name for named in found.curves if named.default}


@pytest.mark.parametrize("verdict", ["ok", "off"])
def test_selfcheck_names_what_is_off(verdict, monkeypatch):
    rows = [selfcheck.Row("gain", "0 dB", 1.0, float("nan"), verdict), selfcheck.Row("power", "4x8", 1.0, 1.0, "ok")]
    monkeypatch.setattr(selfcheck, "rows", lambda: rows)
    monkeypatch.setattr(measuring, "prepare_process", lambda num_threads, preload=(): None)
    found = document("selfcheck", "selfcheck", exit_code=int(verdict == "off"))
    assert found.failed == (("gain, 0 dB",) if verdict == "off" else ())
    assert found.numbers[0].measured is None  # JSON has no NaN


def test_a_benchmark_says_its_figures(monkeypatch, tmp_path):
    chain = dict.fromkeys(latency.CHAIN, 0.001)
    of_size = {"chain": chain, "decoding": dict.fromkeys(latency.PAYLOADS, 0.002)}
    figures = {**{str(size): of_size for size in latency.BATCHES}, "versions": {}}
    monkeypatch.setattr(latency, "measure", lambda rounds, on_case: figures)
    monkeypatch.setattr(measuring, "prepare_process", lambda num_threads, preload=(): None)
    found = document("bench", "bench", "latency", "--out", str(tmp_path / "latency.json"))
    assert found.figures == figures == json.loads((tmp_path / "latency.json").read_text())


def test_tables_go_to_standard_error_and_come_back(fakes, tmp_path):
    done = CliRunner().invoke(cli.app, ["run", "accuracy-vs-snr", *SMALL, "--out", str(tmp_path), "--json"])
    assert "95 % Wilson interval" in done.stderr
    plain = CliRunner().invoke(cli.app, ["plot", str(tmp_path)])
    assert "95 % Wilson interval" in plain.stdout, plain.output


def test_every_document_has_a_schema_of_its_own():
    for kind, of_kind in DOCUMENTS.items():
        schema = of_kind.model_json_schema()
        assert schema["additionalProperties"] is False
        assert schema["properties"]["document"]["const"] == f"tokenlink-{kind}"
