"""The gallery of the report page: codes as they were sent and arrived, and what the run answered."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from studies import accuracy_vs_snr, answers, archive, sweep, workbench
from studies.page import gallery, gallery_view, report_page
from tests.studies.pages import case, judged, parsed, results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(fakes, config, tmp_path):
    accuracy_vs_snr.main(config, out=tmp_path)
    return tmp_path


def collected(folder, count=6):
    return gallery.collect(folder, archive.read_results(folder / "results.h5"), count)


def test_a_case_holds_the_codes_of_its_own_fade_and_what_the_run_answered(folder, fakes, config):
    shown = collected(folder)
    assert shown.snr_db == [-20.0, 0.0, 40.0]
    assert shown.num_changed == 0
    assert [each.family for each in shown.cases] != sorted(each.family for each in shown.cases)
    assert sorted(each.family for each in shown.cases) == ["count", "count", "exist", "exist", "query", "query"]
    said = {}
    for path in answers.write(folder):
        for line in map(json.loads, path.read_text().splitlines()):
            said[line["scheme"], line.get("snr_db"), line["realisation"]] = line
    for each in shown.cases:
        line = said["machine-tokens", 0.0, each.number]
        assert (each.question, each.right_answer) == (line["question"], line["right_answer"])
        assert each.description == "which level ?"
        level = int(each.right_answer)
        np.testing.assert_array_equal(each.image, np.full((4, 4, 3), level))
        np.testing.assert_array_equal(each.sent, np.full((2, 3), level))
        noise = np.random.default_rng(each.number).standard_normal((2, 3))
        for at, received in zip(shown.snr_db, each.received, strict=True):
            np.testing.assert_allclose(received, level + 10 ** (-at / 20) * noise, rtol=1e-5)
        assert list(each.answers) == list(config.schemes)
        for scheme, along in each.answers.items():
            for at, answered in zip(shown.snr_db if len(along) > 1 else [None], along, strict=True):
                line = said[scheme, at, each.number]
                assert (answered.answer, answered.correct) == (line["answer"], line["correct"])


def test_a_case_shows_right_and_wrong_in_words_and_signs():
    shown = gallery.Gallery([0.0, 5.0, 20.0], "", [case(num_snrs=3)], 0)
    (table,) = parsed(report_page.page([results()], [], shown)).all("article")[0].all("table")
    rows = {row.all("th")[0].text: row for row in table.all("tbody")[0].all("tr")}
    assert [cell.text for cell in rows["machine-tokens"].all("td")] == ["✓right: what ?", "✗wrong: 2", "missing"]
    (cell,) = rows["what ?"].all("td")
    assert (cell.text, cell.attributes["colspan"]) == ("✗wrong: (nothing), whatever the SNR", "3")
    assert len(rows["codes as received"].all("img")) == 3
    sent, received = case(num_snrs=3).sent, case(num_snrs=3).received[0]
    error = 100 * np.sum((received - sent) ** 2) / np.sum(sent**2)
    assert f"error {error:.3g} %" in rows["codes as received"].text


def test_a_picture_of_codes_is_white_at_zero_blue_above_and_orange_below():
    uri = gallery_view._png(np.array([[0.0, 1.0, -1.0, 7.0, np.nan]]), 1.0)
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))[0]
    assert [tuple(map(int, pixel)) for pixel in pixels] == [
        gallery_view.ZERO, gallery_view.HIGH, gallery_view.LOW, gallery_view.HIGH, gallery_view.ZERO,
    ]  # fmt: skip


def test_at_most_five_snrs_are_shown_from_the_first_to_the_last():
    assert gallery.chosen_snrs([1.0, 2.0]) == [1.0, 2.0]
    assert gallery.chosen_snrs([-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0]) == [-10.0, -5.0, 5.0, 10.0, 20.0]


def test_answers_that_would_be_others_today_are_counted_and_points_that_are_gone_are_missing(folder, fakes):
    gone = next(path for path in (folder / "points").iterdir() if archive.read_point(path).key["scheme"] == "raw-image")
    gone.unlink()
    fakes["agents"].answer_codes = lambda codes_hat, questions, error_var=None: ["77"] * len(codes_hat)
    shown = collected(folder, 2)
    assert shown.num_changed == 6
    assert [each.answers["raw-image"] for each in shown.cases] == [[None], [None]]
    page = report_page.page([archive.read_results(folder / "results.h5")], [], shown)
    assert "Of 6 answers to machine tokens, 6 would be others today" in page


def test_a_small_run_shows_all_of_its_questions(folder, config):
    assert len(collected(folder, 100).cases) == config.num_questions


def test_data_or_weights_of_another_run_make_no_gallery(folder, fakes, stand_in, fresh):
    problems = []

    def written():
        run = archive.read_results(folder / "results.h5")
        path = report_page.write(folder / "r.html", {folder: run}, [], num_cases=2, on_problem=problems.append)
        return parsed(path.read_text()).all("section", aria_labelledby="gallery")[0]

    assert len(written().all("article")) == 2
    assert not problems
    fakes["agents"].model_hash = "others"
    for cached in (sweep.scheme_for, sweep.workbench_for):
        cached.cache_clear()
    workbench.weights_hash.cache_clear()
    section = written()
    assert "agents of machine-tokens is not what the run was computed with" in problems.pop()
    stand_in(sweep, "dataset_for", lambda data: SimpleNamespace(data_hash="other", questions=[]))
    assert written().text == section.text
    assert "is not the one that" in problems.pop()
    assert not section.all("article")
    assert "no gallery" in section.text
    assert str(folder) not in (folder / "r.html").read_text()
    (folder / "plan.json").unlink()
    written()
    assert "no plan.json" in problems.pop()


def test_data_that_was_moved_is_read_where_it_is_now(folder, fakes, stand_in):
    """Stand-in for a data set in a folder of its own, which the run's configuration does not name."""
    whole, run = sweep.dataset_for, archive.read_results(folder / "results.h5")
    there = Path("/now/here")
    stand_in(
        sweep, "dataset_for", lambda data: whole(data) if data.folder == str(there) else SimpleNamespace(data_hash="")
    )
    problems = []
    for cached in (sweep.scheme_for, sweep.workbench_for):
        cached.cache_clear()
    for data, shown in ((None, 0), (there, 2)):
        path = report_page.write(
            folder / "r.html", {folder: run}, [], num_cases=2, data=data, on_problem=problems.append
        )
        section = parsed(path.read_text()).all("section", aria_labelledby="gallery")[0]
        assert len(section.all("article")) == shown
    assert len(problems) == 1
    assert "--data FOLDER names another place" in problems[0]


def test_a_page_of_runs_without_the_proposal_says_that_it_has_no_gallery(tmp_path):
    problems = []
    run = results({"raw-image": [0.5] * 4})
    page = report_page.write(tmp_path / "r.html", {tmp_path: run}, [], num_cases=1, on_problem=problems.append)
    assert "no gallery" in page.read_text()
    assert problems == ["the page is without a gallery: none of the runs has machine-tokens along snr_db"]
    report_page.write(page, {tmp_path: run}, [], num_cases=0, on_problem=problems.append)
    assert "gallery" not in parsed(page.read_text()).all("main")[0].text
    assert len(problems) == 1


def test_the_same_run_gives_the_same_bytes(folder, fresh):
    run = archive.read_results(folder / "results.h5")
    pages = []
    for name in ("one", "two"):
        path = report_page.write(folder / f"{name}.html", {folder: run}, judged(), num_cases=3)
        pages.append(path.read_bytes())
        for cached in (sweep.scheme_for, sweep.workbench_for):
            cached.cache_clear()
    assert pages[0] == pages[1]


def test_a_page_without_gallery_loads_no_framework(folder):
    code = (
        "import sys; from studies.cli import app; app(['report', sys.argv[1], '--html', '--gallery', '0'], "
        "standalone_mode=False); print({'torch', 'tensorflow', 'transformers'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True, env=os.environ)
    assert done.stdout.splitlines()[-1] == "set()"
    assert parsed((folder / "report.html").read_text()).all("figure", class_="chart")
