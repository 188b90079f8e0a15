"""The trial of the paper's first claim: what its arms share, what is asked, and what differences say."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from semantic.endpoints import agents, architecture, language, lora, sensor, vision
from semantic.endpoints.pointers import FILE
from studies import accuracy_vs_snr, claim_one, cli, training, workbench
from studies.claim_one import ARMS, CONTRASTS, Asked, ask_arms, compare_arms, tables, train_arms
from studies.jobs import StudyError
from studies.schemes.carriers import analog
from tests.semantic import models
from tests.studies.fakes import FakeAgents, FakeChannel

PLACES = (Path("source"), Path("target"), Path("task"), "the channel")
STAGES = {vision: "tower", sensor: "R0", lora: "R1", agents: "T1"}


# --- training ----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Every training that is begun, in order: its folder and its options by name. No one trains anything."""
    begun = []

    def stand_in(module):
        @functools.wraps(module.main)
        def main(**options):
            begun.append((module, options))
            options["out"].mkdir(parents=True, exist_ok=True)

        return main

    for module in STAGES:
        monkeypatch.setattr(module, "main", stand_in(module))
    return begun


def test_the_arms_differ_in_nothing_but_what_the_trial_is_about(trained, tmp_path):
    train_arms(tmp_path, *PLACES, steps=7, sensor_steps=3, tower_steps=2, seed=[4], batch=2, lr=0.5, r=3, max_images=9)
    arms = {options.pop("out").name: (module, options) for module, options in trained}
    assert list(arms) == ["tower", "R0", "R1", "B1", "T1", "T0"]
    folder = tmp_path / "seed-4"
    equal = {"steps": 7, "batch": 2, "lr": 0.5, "r": 3, "max_images": 9, "seed": 4}
    places = {"data": Path("target"), "sensor": folder / "R0", "task": Path("task")}
    link = {"channel": "the channel", "answers_only": True, "width": 64}
    assert arms["R1"] == (lora, {**equal, **places})
    assert arms["B1"] == (lora, {**equal, **places, "blind": True})
    assert arms["T1"] == (agents, {**equal, **places, **link})
    assert arms["T0"] == (agents, {**equal, **places, **link, "frozen_lora": True})
    module, options = arms["R0"]
    assert module is sensor
    assert (options["data"], options["vision"], options["steps"]) == (Path("source"), folder / "tower", 3)
    assert (options["families"], options["writing"], options["seed"]) == (["query", "exist"], 0.0, 4)
    assert arms["tower"][1] == {"data": Path("source"), "steps": 2, "seed": 4, "max_images": 9}


def test_what_is_done_is_kept_and_what_is_not_is_trained_again(trained, tmp_path, monkeypatch):
    options = {"steps": 7, "sensor_steps": 3, "vision": Path("eyes")}
    stand_in = lora.main

    def killed(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(lora, "main", killed)
    with pytest.raises(KeyboardInterrupt):
        train_arms(tmp_path, *PLACES, seed=[0], **options)
    monkeypatch.setattr(lora, "main", stand_in)
    train_arms(tmp_path, *PLACES, seed=[0, 1], **options)
    order = [f"{options['out'].parent.name}/{options['out'].name}" for _, options in trained]
    assert order == [f"seed-{seed}/{arm}" for seed in (0, 1) for arm in ("R0", "R1", "B1", "T1", "T0")]
    assert {options["vision"] for module, options in trained if module is sensor} == {Path("eyes")}
    with pytest.raises(ValueError, match="trained otherwise: steps 7 there and 8 now; take another --out"):
        train_arms(tmp_path, *PLACES, seed=[2], **{**options, "steps": 8})
    with pytest.raises(ValueError, match="trained otherwise: tower_steps None there and 2400 now, vision 'eyes' there"):
        train_arms(tmp_path, *PLACES, seed=[2], steps=7, sensor_steps=3)
    assert len(trained) == 10


def test_the_command_hands_link_and_seeds_on(monkeypatch, tmp_path):
    given = {}
    stand_in = functools.wraps(train_arms)(lambda **options: given.update(options))
    monkeypatch.setitem(training.MEASUREMENTS, "arms", stand_in)
    places = ["--out", "o", "--source", "s", "--target", "t", "--task", "k", "--steps", "5", "--sensor-steps", "6"]
    done = CliRunner().invoke(cli.app, ["train", "arms", *places, "--seed", "3", "--seed", "1", "-s", "num_rx_ant=4"])
    assert done.exit_code == 0, done.output
    assert (given["seed"], given["channel"].link.config.num_rx_ant) == ([3, 1], 4)
    assert given["channel"].gradient == "straight-through"
    done = CliRunner().invoke(cli.app, ["train", "arms", *places, "--gradient", "exact"])
    assert given["channel"].gradient == "exact"


# --- asking ------------------------------------------------------------------------------------------------------


class Arm(FakeAgents):
    """The pair of an arm: it answers rightly where its arm is asked, and wrongly everywhere else."""

    def __init__(self, name):
        super().__init__()
        self.model_hash = name
        right, wrong = (lambda images, questions: [str(int(i[0, 0, 0])) for i in images]), lambda *_: ["?"] * len(_[1])
        self.sensor = SimpleNamespace(answer=right if Path(name).name == "R1" else wrong)
        self.tokens_are_read = Path(name).name == "T1"
        number = int(Path(name).parent.name.removeprefix("seed-"))
        answers = [str(number)] if Path(name).name == "B1" else ["?"]
        self.task_agent = SimpleNamespace(answer=lambda questions, prefix=None: answers * len(questions))

    def answer_codes(self, codes_hat, questions, error_var=None):
        return super().answer_codes(codes_hat, questions) if self.tokens_are_read else ["?"] * len(questions)


def broken(self, codes_hat, questions, error_var=None):
    raise ValueError("no answer today")


def arms_of(folder, *seeds):
    folder.mkdir(exist_ok=True)
    (folder / claim_one.SETTINGS).write_text("{}")
    for seed in seeds:
        for pair in {pair for pair, _ in ARMS.values()}:
            (folder / f"seed-{seed}" / pair).mkdir(parents=True)
            (folder / f"seed-{seed}" / pair / claim_one.DONE).touch()
    return folder


def test_every_arm_is_asked_the_same_questions_by_its_own_curve(fakes, stand_in, tmp_path):
    stand_in(workbench, "load_agents", functools.cache(Arm))
    folder = arms_of(tmp_path / "arms", 3, 5)
    (folder / "seed-7" / "T1").mkdir(parents=True)  # a seed whose arms are still trained
    asked = ask_arms(folder, accuracy_vs_snr.Config(num_questions=30, batch_size=7, snr_db=(0.0, 40.0)))
    assert (asked.seeds, asked.snr_db) == ([3, 5], [0.0, 40.0])
    assert {arm: outcomes.shape for arm, outcomes in asked.correct.items()} == dict.fromkeys(ARMS, (2, 2, 30))
    assert asked.correct["R1"].all()
    assert not asked.correct["R0"].any()
    assert not asked.correct["T0"].any()
    assert asked.correct["T1"][:, 1].all()
    assert 0 < asked.correct["T1"][:, 0].mean() < 1
    assert np.array_equal(asked.correct["B1"][:, 0], asked.image_index == np.array([[3], [5]]))
    assert np.array_equal(asked.realisation, np.arange(30))


def test_arms_that_are_not_there_or_fail_are_named(fakes, stand_in, monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no seed whose arms B1, R1, T0, T1 are all trained; `tokenlink train"):
        ask_arms(tmp_path, accuracy_vs_snr.Config())
    stand_in(workbench, "load_agents", functools.cache(Arm))

    monkeypatch.setattr(FakeAgents, "answer_codes", broken)
    with pytest.raises(StudyError, match=r"1 job\(s\) failed in .*the same command repeats only these"):
        ask_arms(arms_of(tmp_path, 0), accuracy_vs_snr.Config(num_questions=30, snr_db=(40.0,)))


# --- comparing ---------------------------------------------------------------------------------------------------


def made_up(rates, num_seeds=1, num_questions=2000, spread=0.0):
    """Outcomes of arms that are right with these rates, seeds moved apart by `spread`."""
    rng = np.random.default_rng(0)
    moved = spread * (np.arange(num_seeds) - (num_seeds - 1) / 2)[:, None, None]
    correct = {
        arm: (rng.random((num_seeds, 1, num_questions)) < rates[arm] + (moved if arm == "T1" else 0)).astype(np.uint8)
        for arm in ARMS
    }
    return Asked(list(range(num_seeds)), [20.0], correct, np.arange(num_questions) // 4, np.arange(num_questions))


RATES = {"R0": 0.5, "R1": 0.8, "T1": 0.7, "T0": 0.6, "B1": 0.4}


def test_differences_are_those_of_the_arms_and_verdicts_follow_their_intervals():
    asked = made_up(RATES)
    mean = {arm: outcomes.mean() for arm, outcomes in asked.correct.items()}
    found = {part.estimate.what: part for part in compare_arms(asked)}
    assert list(found) == list(CONTRASTS)
    expected = {
        "T1 - R0": mean["T1"] - mean["R0"],
        "T1 - R1": mean["T1"] - mean["R1"],
        "(T1 - T0) - (R1 - R0)": (mean["T1"] - mean["T0"]) - (mean["R1"] - mean["R0"]),
        "T1 - B1": mean["T1"] - mean["B1"],
    }
    for what, value in expected.items():
        estimate = found[what].estimate
        assert estimate.mean == pytest.approx(value)
        assert estimate.low < value < estimate.high
    variance = sum(rate * (1 - rate) for rate in RATES.values() if rate != 0.4)  # the arms are independent here
    estimate = found["(T1 - T0) - (R1 - R0)"].estimate
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * np.sqrt(variance / 2000), rel=0.1)
    verdicts = [part.verdict for part in found.values()]
    assert verdicts == ["above 0", "not above 0", "not above 0", "above 0"]
    level = compare_arms(made_up(dict.fromkeys(ARMS, 0.6)))
    assert [part.verdict for part in level][:3] == ["undecided"] * 3
    few = compare_arms(made_up(RATES, num_questions=100))
    assert {part.verdict for part in few} == {"undecided"}


def test_the_spread_of_trainings_is_in_the_interval():
    def width(spread):
        estimate = compare_arms(made_up(RATES, num_seeds=3, spread=spread))[0].estimate
        return estimate.high - estimate.low

    assert width(0.2) / 2 == pytest.approx(4.302653 * 0.2 / np.sqrt(3), rel=0.15)  # Student's, of three trainings
    assert width(0.2) > 3 * width(0.0)


def test_the_tables_show_every_arm_and_every_difference():
    asked = made_up(RATES, num_seeds=2)
    accuracies, differences = tables(asked, compare_arms(asked))
    assert [row[0] for row in accuracies.rows] == list(ARMS)
    assert [row[0].partition("\n")[0] for row in differences.rows] == list(CONTRASTS)
    assert "and trainings; 2000 questions, seeds 0, 1" in accuracies.title
    assert accuracies.rows[0][1].startswith(f"{100 * asked.correct['R0'].mean():.1f}\n")
    assert differences.rows[0][1].endswith("above 0")
    assert "one training" in tables(made_up(RATES), [])[1].title


# --- all of it ---------------------------------------------------------------------------------------------------


def test_two_commands_train_the_arms_and_judge_them(stand_in, fresh, tmp_path, monkeypatch):
    """Tiny models, pictures of random patterns, two steps each, and a stand-in for the link."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "prepare_process", lambda num_threads, preload=(): None)
    monkeypatch.setattr(training, "link_channel", lambda keys, gradient: models.NoisyChannel())
    stand_in(analog, "make_channel", lambda link, prior=None: FakeChannel())
    for split, count in (("train", 32), ("val", 3), ("test", 12)):
        models.write_split(tmp_path / "world", split, count)
    tokenizer = architecture.build_tokenizer()
    with (
        patch.object(architecture, "language_config", models.deep_language_config),
        patch.object(architecture, "vision_config", models.vision_config),
        patch.object(vision, "vision_config", models.vision_config),
    ):
        torch.manual_seed(0)
        architecture.build_task_model(tokenizer).save_pretrained("task")
        tokenizer.save_pretrained("task")
        language.Pointers(models.HIDDEN).save(tmp_path / "task")
        assert (tmp_path / "task" / FILE).exists()
        places = ["--out", "arms", "--source", "world", "--target", "world", "--task", "task"]
        steps = ["--steps", "2", "--sensor-steps", "2", "--tower-steps", "2", "--batch", "2", "--r", "2", "--seed", "0"]
        done = CliRunner().invoke(cli.app, ["train", "arms", *places, *steps, "--width", "8"])
        assert done.exit_code == 0, done.output
    keys = ["-s", "data.folder=world", "-s", "num_questions=12", "-s", "batch_size=6"]
    for _ in range(2):  # the second time from the points on disk
        done = CliRunner().invoke(cli.app, ["claim-one", "arms", *keys], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        for words in ("Accuracy of the arms [%]", "difference in differences", "undecided", "12 questions, seeds 0"):
            assert words in done.stdout
    assert ": 0 jobs to run" in done.stderr
    found = json.loads(Path("arms/claim-one.json").read_text())
    assert list(found["accuracy"]) == list(ARMS)
    assert [part["estimate"]["what"] for part in found["differences"]] == list(CONTRASTS)
    assert (found["trained"]["steps"], found["seeds"], found["snr_db"]) == (2, [0], [20.0])
    assert str(tmp_path) not in Path("arms/claim-one.json").read_text()
