"""What every scheme answered, question by question, as lines of JSON; and that nothing is answered from NaN."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from studies import accuracy_vs_snr, answers, archive, sweep
from studies.cli import app
from studies.evaluation import energy

HOSTILE = [
    '=1+1 "x"',
    "</s><image>",
    "line\nof\ttabs\r",
    "\x1b[31m\x07",
    "\u202e\u2028{}%s",
    "$x$ [red]",
    "\ud83d",
    "a\0b",
]


def lines_of(path):
    content = path.read_bytes()
    assert content.isascii()
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.decode().split("\n")[:-1]]


@pytest.fixture
def folder(fakes, config, tmp_path):
    accuracy_vs_snr.main(config, out=tmp_path)
    return tmp_path


def test_every_answer_stands_beside_its_question_and_the_right_one(folder, fakes, config):
    dataset = fakes["dataset"]
    paths = answers.write(folder)
    assert [path.name for path in paths] == [f"{scheme}.jsonl" for scheme in config.schemes]
    results = archive.read_results(folder / "results.h5")
    for path, scheme in zip(paths, config.schemes, strict=True):
        lines = lines_of(path)
        outcome = {}
        for line in lines:
            asked = dataset.questions[line["number"]]
            facts = (asked.question, asked.answer, asked.family, asked.image_index)
            assert facts == tuple(line[name] for name in ("question", "right_answer", "family", "image_index"))
            assert line["scheme"] == scheme
            assert line["correct"] == (line["answer"] == line["right_answer"])
            assert line["confidence"] is None
            outcome[line.get("snr_db"), line["realisation"]] = line["correct"]
        crosses = "snr_db" in lines[0]
        assert len(lines) == len(outcome) == config.num_questions * (len(config.snr_db) if crosses else 1)
        for index, at in enumerate(config.snr_db):
            expected = [outcome[at if crosses else None, i] for i in range(config.num_questions)]
            np.testing.assert_array_equal(results.of("correct", scheme)[index], expected)


def test_texts_of_others_stay_within_their_line(fakes, config, tmp_path):
    dataset, agents = fakes["dataset"], fakes["agents"]
    dataset.questions = [
        question.__class__(question.image_index, HOSTILE[i % 6], HOSTILE[i % 6], question.family)
        for i, question in enumerate(dataset.questions)
    ]
    agents.sensor.answer = lambda images, questions: [HOSTILE[i % len(HOSTILE)] for i in range(len(questions))]
    config = config.updated({"schemes": ["raw-image"], "num_questions": 24, "batch_size": 24})
    _, failed, _ = accuracy_vs_snr.main(config, out=tmp_path)
    assert not failed
    (path,) = answers.write(tmp_path)
    lines = lines_of(path)
    expected = [*HOSTILE[:6], "\ufffd", "a\ufffdb"]
    assert [line["answer"] for line in lines] == [expected[i % 8] for i in range(24)]
    assert {line["question"] for line in lines} <= set(HOSTILE[:6])


def test_the_data_set_has_to_be_that_of_the_run(folder, fakes, stand_in):
    asked = []
    stand_in(sweep, "dataset_for", lambda data: asked.append(data) or fakes["dataset"])
    answers.write(folder, data=folder / "moved")
    assert asked[-1].folder == str(folder / "moved")
    other = SimpleNamespace(data_hash="other", questions=fakes["dataset"].questions)
    stand_in(sweep, "dataset_for", lambda data: other)
    with pytest.raises(
        ValueError, match=r"the data set of this version, split test, is not the one that .* --data FOLDER"
    ):
        answers.write(folder)
    (folder / "config.yaml").write_text("data: {split: val}\n")
    with pytest.raises(ValueError, match=r"config\.yaml is not the configuration that plan\.json was made from"):
        answers.write(folder)


def test_points_that_are_missing_or_damaged_are_named_and_left_out(folder, config):
    whole = {path.name: path.read_bytes() for path in answers.write(folder)}
    paths = sorted((folder / "points").iterdir())
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    problems = []
    kept = [line for path in answers.write(folder, on_problem=problems.append) for line in lines_of(path)]
    assert len(problems) == 2
    assert paths[1].name in problems[0]
    assert problems[1] == f"2 of {len(paths)} points are missing so far"
    assert len(kept) == config.num_questions * (len(paths) - 2)
    assert len({path.name for path in (folder / "answers").iterdir()}) == len(whole)
    for path in paths[2:]:
        path.unlink()
    with pytest.raises(ValueError, match=r"no point of .* is done yet; run the study first"):
        answers.write(folder)


def test_the_command_names_the_files(folder):
    done = CliRunner().invoke(app, ["answers", str(folder)])
    assert done.exit_code == 0, done.output
    assert "machine-tokens.jsonl" in done.output


# --- nothing is answered from NaN ----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["codes_hat", "error_var"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_fail_their_point_alone(fakes, config, tmp_path, part, value):
    send = fakes["channel"].__class__.__call__

    def broken(self, codes, snr_db, realisation):
        codes_hat, error_var = send(self, codes, snr_db, realisation)
        if snr_db == 40.0 and 9 in realisation:
            (codes_hat if part == "codes_hat" else error_var)[2, 1, 1] = value
        return codes_hat, error_var

    fakes["channel"].__class__ = type("Broken", (type(fakes["channel"]),), {"__call__": broken})
    results, failed, _ = accuracy_vs_snr.main(config.updated({"schemes": ["machine-tokens"]}), out=tmp_path)
    (outcome,) = failed
    assert outcome.job.label == "machine-tokens, 40 dB"
    assert "of questions 7 to 13 hold NaN or infinite values at snr_db=40: no answer" in outcome.error
    assert "link.precision=double" in outcome.error
    assert np.isnan(results.of("accuracy", "machine-tokens")).tolist() == [False, False, True]


def test_the_energy_of_huge_codes_is_finite():
    huge = np.full((2, 3), 1e20, np.float32)
    assert energy(huge) == pytest.approx(6e40)
    assert energy([huge[0], huge[1]]) == pytest.approx(6e40)
    assert energy([torch.ones(0).numpy()]) == 0
