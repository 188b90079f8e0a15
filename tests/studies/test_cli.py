import errno
import functools
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.table import Table
from typer.testing import CliRunner

from phy import CodePrior, LinkConfig, selfcheck
from semantic import deepjscc_training, token_choice
from semantic.data import scenes
from semantic.endpoints import agents
from studies import cli, doctor, measuring, rates, run_folder, training, workbench
from studies.cards import card
from studies.curves import CURVES
from studies.jobs import Job, Outcome
from studies.schemes.digital import image_code, payload_link
from studies.study import STUDIES
from tests.studies.fakes import FAKE_CHOICE
from tests.studies.made_up_cards import made_up

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tokenlink(fakes, monkeypatch, tmp_path):
    """The command, in an empty folder and on stand-ins; returns exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "prepare_process", lambda num_threads, preload=(): None)

    def call(*arguments):
        done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done.exit_code, done.stdout, done.stderr

    return call


SMALL = ("-s", "num_questions=30", "-s", "snr_db=[0, 40]", "--engine", "inline")


def test_one_command_runs_the_study_and_shows_its_numbers(tokenlink, drawn, tmp_path):
    code, out, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert code == 0, err
    for words in ("Accuracy [%]", "by family, at 40 dB", "Paired differences", "On the air"):
        assert words in out
    assert (tmp_path / "here" / "results.h5").exists()
    assert "raw-image: " in err


def test_the_default_folder_is_named_after_the_configuration(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL)
    tokenlink("run", "accuracy-vs-snr", *SMALL)
    tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "seed=1")
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("accuracy-vs-snr-") for folder in folders)
    counts = []
    for folder in folders:
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        counts.append([event["jobs"] for event in events if event["event"] == "started"])
    assert sorted(counts) == [[10], [10, 0]]  # codes once, 3 schemes at 2 SNRs, 3 that cross no link; then nothing


def test_the_configuration_that_a_run_leaves_runs_it_again(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "seed=3", "--out", "first")
    code, _, err = tokenlink(
        "run", "accuracy-vs-snr", "--config", "first/config.yaml", "--out", "second", "--engine", "inline"
    )
    assert code == 0, err
    assert (tmp_path / "second" / "results.h5").read_bytes() == (tmp_path / "first" / "results.h5").read_bytes()


def test_tiny_is_small_and_an_assignment_beats_it(tokenlink):
    code, out, _ = tokenlink("run", "accuracy-vs-snr", "--tiny", "-s", "num_questions=12", "--print-config")
    found = yaml.safe_load(out)
    assert code == 0
    assert (found["num_questions"], found["snr_db"]) == (12, [0.0, 20.0])


def test_dry_run_names_the_jobs_and_writes_nothing(tokenlink, tmp_path):
    code, out, _ = tokenlink("run", "accuracy-vs-snr", *SMALL, "--dry-run")
    assert code == 0
    assert "9 points; " in out
    assert "wrong-image, 40 dB" in out
    assert not list(tmp_path.iterdir())


def test_dry_run_and_list_say_how_long_it_takes_once_it_was_measured(tokenlink, monkeypatch):
    monkeypatch.setattr(rates, "SHIPPED", rates.Rates())
    code, out, _ = tokenlink("run", "accuracy-vs-snr", *SMALL, "--dry-run")
    assert "how long it takes is not known: nothing was measured of codes by tokens" in out
    _, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert "10 jobs to run; Ctrl-C" in err
    code, out, _ = tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "seed=1", "--dry-run")
    assert code == 0
    assert re.search(r"^about \d+ s; 1 at a time$", out, re.MULTILINE)
    code, out, _ = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here", "--dry-run")
    assert "nothing is left to do" in out
    _, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "seed=1")
    assert re.search(r"10 jobs to run, about \d+ s; Ctrl-C stops", err)
    rates.rates_path().write_text("{")
    code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "seed=2")
    assert code == 0
    assert "rates.json cannot be used" in err
    rates.learn([Outcome(Job("a", "a", None), 240.0)], "accuracy-vs-snr")
    monkeypatch.setattr(cli, "num_cores", lambda: 2)
    code, out, _ = tokenlink("list")
    assert code == 0
    assert re.search(r"accuracy-vs-snr .*\(about 2 min\)", out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "accuracy-vs-sun"], "there is no study 'accuracy-vs-sun'; there is: accuracy-vs-snr"),
        (["run", "accuracy-vs-snr", "--engine", "fork"], "--engine 'fork' is none; there is: inline, process, ray"),
        (["run", "accuracy-vs-snr", "--shard", "3/2"], "write i/N"),
        (["run", "accuracy-vs-snr", "-s", "link.num_rx_antt=8"], "did you mean 'link.num_rx_ant'?"),
        (["run", "accuracy-vs-snr", "-s", "num_questions=9999", "--engine", "inline"], "the split has 72"),
        (["run", "accuracy-vs-snr", "-s", "snr_db=10"], "write snr_db='[10]'"),
        (["run", "accuracy-vs-snr", "-s", "link.num_tx_ant=true"], "link.num_tx_ant: a number is needed (got True)"),
        (["run", "x" * 5000], f"there is no study '{'x' * 77} …; there is"),
        (["run", ".x:y"], "'.x:y' cannot be imported"),
        (["plot", "nowhere"], "is no run folder"),
        (["check", "nowhere"], "is no run folder"),
    ],
)
def test_a_mistake_gets_one_clear_message(tokenlink, arguments, message):
    code, _, err = tokenlink(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_merge_joins_shards_and_says_what_is_missing(tokenlink, tmp_path):
    for number in (1, 2):
        tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", f"shard {number}", "--shard", f"{number}/2")
    code, out, err = tokenlink("merge", "shard 2", "--out", "half")
    assert code == 1
    assert re.search(r"^missing: [\w-]+(, \d+ dB)?; --shard 1/2 computes it$", out, re.MULTILINE)
    assert "of 9 points are missing; with --out half" in err
    code, out, err = tokenlink("merge", "shard 1", "shard 2", "--out", "both")
    assert (code, err) == (0, "")
    assert "Accuracy [%]" in out
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "whole")
    assert (tmp_path / "both" / "results.h5").read_bytes() == (tmp_path / "whole" / "results.h5").read_bytes()


def test_the_script_for_slurm_has_the_very_options_and_nothing_runs(tokenlink, tmp_path):
    given = ("run", "accuracy-vs-snr", "-s", "link.seed=3", "-s", "num_threads=2", "--tiny", "--out", "a b")
    code, out, err = tokenlink(*given, "--workers", "3", "--print-slurm", "5")
    assert (code, err) == (0, "")
    command = next(line for line in out.splitlines() if line.startswith("exec tokenlink"))
    words = ["run", "accuracy-vs-snr", "-s", "link.seed=3", "-s", "num_threads=2", "--out", "a b", "--workers", "3"]
    assert sorted(shlex.split(command)) == sorted(
        ["exec", "tokenlink", *words, "--tiny", "--shard", "${SLURM_ARRAY_TASK_ID}/5"]
    )
    assert shlex.split(command)[:4] == ["exec", "tokenlink", "run", "accuracy-vs-snr"]
    assert "#SBATCH --cpus-per-task=6\n" in out
    assert "#SBATCH --array=1-5\n" in out
    code, out, _ = tokenlink("run", "accuracy-vs-snr", "--engine", "inline", "--print-slurm", "2")
    assert "--engine inline --shard" in out
    assert "#SBATCH --cpus-per-task=1\n" in out
    code, _, err = tokenlink("run", "accuracy-vs-snr", "--shard", "1/2", "--print-slurm", "2")
    assert code == 2
    assert "leave --shard and --engine ray out" in err
    assert not list(tmp_path.iterdir())


def test_plot_and_check_need_nothing_but_the_folder(tokenlink, drawn, tmp_path, monkeypatch, fakes):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    results = (tmp_path / "here" / "results.h5").read_bytes()
    for path in [tmp_path / "here" / "results.h5", *(tmp_path / "here" / "figures").iterdir()]:
        path.unlink()
    for name in ("answer_codes", "encode"):
        monkeypatch.delattr(type(fakes["agents"]), name)
    code, out, _ = tokenlink("plot", "here")
    assert code == 0
    assert "Accuracy [%]" in out
    assert (tmp_path / "here" / "results.h5").read_bytes() == results
    code, out, _ = tokenlink("check", "here")
    assert (code, "9 of 9 points done, 0 problem(s)" in out) == (0, True)


def test_plot_draws_as_wide_and_over_the_range_that_is_asked_for(tokenlink, drawn, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    numbers = (tmp_path / "here" / "figures" / "accuracy-vs-snr.csv").read_bytes()
    code, _, err = tokenlink("plot", "here", "--width", "double", "--range", "0", "95")
    assert code == 0, err
    assert drawn[-1].get_figwidth() == 7.16
    assert drawn[-1].axes[0].get_ylim() == (0, 95)
    assert (tmp_path / "here" / "figures" / "accuracy-vs-snr.csv").read_bytes() == numbers
    tokenlink("plot", "here")
    assert drawn[-1].get_figwidth() == 3.5


def test_impossible_options_of_plot_are_refused_before_anything_is_written(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    (tmp_path / "here" / "results.h5").unlink()
    for options, message in [
        (("--width", "broad"), "width 'broad' is neither 'single' (3.5 in) nor 'double' (7.16 in)"),
        (("--range", "60", "40"), "range 60 40 is none of accuracy; give two values from 0 to 100 %, the lower first"),
        (("--range", "nan", "40"), "range nan 40 is none of accuracy"),
    ]:
        code, _, err = tokenlink("plot", "here", *options)
        assert (code, message in err) == (2, True), err
        assert not (tmp_path / "here" / "results.h5").exists()


def test_check_finds_what_is_missing_or_broken(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    first, second = sorted((tmp_path / "here" / "points").iterdir())[:2]
    first.unlink()
    code, out, _ = tokenlink("check", "here")
    assert (code, "8 of 9 points done" in out) == (1, True)
    second.write_bytes(b"")
    code, _, err = tokenlink("check", "here")
    assert code == 1
    assert f"point {second.name} cannot be used" in err


def test_the_folder_is_named_before_the_first_job(tokenlink):
    _, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    first, *jobs = err.splitlines()
    assert first == "here: 10 jobs to run; Ctrl-C stops, the same command resumes"
    assert len(jobs) == 10
    _, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert err.splitlines() == ["here: 0 jobs to run"]


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tokenlink, fakes, monkeypatch, tmp_path):
    def interrupt(images, questions):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fakes["agents"].sensor, "answer", interrupt)  # raw-image comes behind the codes
        code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert code == 130
    assert err.splitlines()[-1] == "tokenlink: stopped; what is done is kept in here, and the same command resumes"
    assert "Traceback" not in err
    num_done = sum(1 for _ in (tmp_path / "here").glob("*/*.h5"))
    assert num_done > 0
    code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert (code, f"here: {10 - num_done} jobs to run" in err) == (0, True)


def test_paths_and_labels_that_look_like_markup_are_printed_as_they_are(tokenlink, fakes, monkeypatch):
    odd = "[red]here[/]"
    code, out, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", odd, "--dry-run")
    assert (code, f"jobs to run in {odd}" in out) == (0, True)
    code, out, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", odd)
    assert code == 0, err
    assert f"{odd}/results.h5, {odd}/figures" in out
    assert err.startswith(f"{odd}: 10 jobs")
    assert f"{odd}/claims.json" in tokenlink("report", odd)[1]

    def break_down(images, questions):
        raise RuntimeError("no [bold]sight[/]")

    monkeypatch.setattr(fakes["agents"].sensor, "answer", break_down)
    _, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--no-cache", "--out", "[/]")
    assert "raw-image: failed: RuntimeError: no [bold]sight[/]" in err


def become_a_folder(path):
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def become_a_file(path):
    shutil.rmtree(path, ignore_errors=True)
    path.write_text("")


@pytest.mark.parametrize(
    ("name", "obstruct", "code"),
    [
        ("config.yaml", become_a_folder, 2),
        ("plan.json", become_a_folder, 2),
        ("events.jsonl", become_a_folder, 2),
        ("results.h5", become_a_folder, 2),
        (".lock", become_a_folder, 2),
        ("figures", become_a_file, 2),
        ("points", become_a_file, 1),
        ("codes", become_a_file, 1),
        ("points/{}", become_a_folder, 1),
        ("codes/{}", become_a_folder, 1),
    ],
)
def test_what_stands_in_the_way_is_named_in_a_line_and_costs_nothing(tokenlink, drawn, tmp_path, name, obstruct, code):
    here, whole = tmp_path / "here", tmp_path / "whole"
    assert tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "whole")[0] == 0
    if "{}" in name:
        name = name.format(sorted((whole / name).parent.iterdir())[0].name)
    (here / name).parent.mkdir(parents=True)
    obstruct(here / name)
    found, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert (found, "Traceback" in err) == (code, False)
    lines = [line for line in err.splitlines() if f"here/{name}" in line or "cannot be used" in line]
    assert lines, err
    for command in ("check", "plot", "report"):
        found, _, err = tokenlink(command, "here")
        assert "Traceback" not in err
    (here / name).rmdir() if obstruct is become_a_folder else (here / name).unlink()
    assert tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")[0] == 0
    assert (here / "results.h5").read_bytes() == (whole / "results.h5").read_bytes()
    assert tokenlink("check", "here")[0] == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_a_disk_that_takes_no_more_is_named_in_a_line(tokenlink, monkeypatch, code):
    def refuse(descriptor):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        found, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert (found, err) == (2, f"tokenlink: here/config.yaml: {os.strerror(code)}\n")
    assert tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")[0] == 0


@pytest.mark.parametrize("out", ["file", "file/here", "\0", "x" * 300])
def test_a_folder_that_cannot_be_is_refused_in_a_line(tokenlink, tmp_path, out):
    (tmp_path / "file").write_text("")
    code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "\0" in out or out in err
    for command in ("plot", "check"):
        assert tokenlink(command, out)[0] == 2


def test_check_repairs_only_when_it_is_told(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    path = tmp_path / "here" / "results.h5"
    whole = path.read_bytes()
    path.write_bytes(b"")
    code, _, err = tokenlink("check", "here")
    assert (code, path.read_bytes(), "--repair rebuilds it" in err) == (1, b"", True)
    code, _, err = tokenlink("check", "here", "--repair")
    assert (code, path.read_bytes(), "it has been rebuilt" in err) == (1, whole, True)
    assert tokenlink("check", "here")[0] == 0


def test_plot_and_a_resume_name_a_point_that_cannot_be_used(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    point = sorted((tmp_path / "here" / "points").iterdir())[0]
    point.write_bytes(point.read_bytes()[:-1])
    code, out, err = tokenlink("plot", "here")
    assert (code, "1 points are missing so far" in out) == (0, True)
    assert f"tokenlink: point {point.name} cannot be used" in err
    assert "results.h5 stays as it is" in err
    code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    assert (code, f"tokenlink: point {point.name} cannot be used" in err, "1 jobs to run" in err) == (0, True, True)
    assert tokenlink("check", "here")[0] == 0


def test_a_tilde_is_the_home_folder_wherever_a_path_is_taken(tokenlink, fakes, stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    loaded = []
    stand_in(workbench, "load_agents", lambda name: loaded.append(name) or fakes["agents"])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "study.yaml").write_text("models: {machine_tokens: ~/weights/pair}\n")
    code, _, err = tokenlink(
        "run", "accuracy-vs-snr", *SMALL, "--config", "~/study.yaml", "--out", "~/here", "-s", "data.folder=~/data"
    )
    assert code == 0, err
    assert str(tmp_path / "home" / "weights" / "pair") in loaded
    assert not [name for name in loaded if "~" in name]
    assert (tmp_path / "home" / "here" / "results.h5").exists()
    assert not (tmp_path / "~").exists()
    for arguments in (["check", "~/here"], ["plot", "~/here"], ["report", "~/here"], ["compare", "~/here", "~/here"]):
        assert tokenlink(*arguments)[0] == 0
    assert tokenlink("probe", "--out", "~/leak.json")[0] == 0
    assert (tmp_path / "home" / "leak.json").exists()


def test_a_run_in_a_folder_where_another_is_at_work_is_refused(tokenlink, tmp_path):
    with run_folder.at_work(tmp_path / "here", shared=True):
        code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
        assert (code, "tokenlink: another run is at work in here" in err) == (2, True)
        assert tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here", "--shard", "1/2")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "accuracy-vs-snr", "-s", "link.num_rx_antt=8"],
        ["run", "accuracy-vs-tokens", "-s", "schemes=[machine-token]"],
        ["run", "accuracy-vs-sun"],
        ["run", "accuracy-vs-seed", "--print-config"],
        ["list"],
    ],
)
def test_what_needs_no_number_is_answered_without_loading_what_computes(arguments):
    code = f"""
import sys
from studies import cli
try:
    cli.app({arguments!r})
except SystemExit as status:
    heavy = {{"tensorflow", "torch", "sionna", "transformers", "h5py", "scipy", "matplotlib"}}
    print(status.code, sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    refused = "--print-config" not in arguments and arguments != ["list"]
    assert done.stdout.splitlines()[-1] == f"{2 if refused else 0} []"
    assert ("tokenlink: " in done.stderr) == refused


def test_a_failing_job_makes_the_command_fail(tokenlink, fakes, monkeypatch):
    def break_down(images, questions):
        raise RuntimeError("no sight")

    monkeypatch.setattr(fakes["agents"].sensor, "answer", break_down)
    code, out, err = tokenlink("run", "accuracy-vs-snr", *SMALL)
    assert code == 1
    assert "raw-image: failed: RuntimeError: no sight" in err
    assert "the same command repeats only these" in err
    assert "1 points are missing so far" in out


def test_a_run_that_comes_to_nothing_says_why(tokenlink, fakes, monkeypatch):
    def break_down(images, questions):
        raise RuntimeError("no sight")

    monkeypatch.setattr(fakes["agents"].sensor, "answer", break_down)
    code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "schemes=[raw-image]")
    assert code == 1
    assert "tokenlink: no point could be computed; the first job that failed: raw-image: RuntimeError: no sight" in err
    monkeypatch.setenv("TOKENLINK_TRACEBACK", "1")
    with pytest.raises(AssertionError, match="StudyError"):  # from the fixture, which takes no other exceptions
        tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "schemes=[raw-image]")


def test_list_names_every_study_and_scheme(tokenlink):
    code, out, _ = tokenlink("list")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    for name in STUDIES:
        assert any(line[:1] == [name] for line in lines), name
    for name, curve in CURVES.items():
        assert any(line[: 1 + curve.default] == ["*"] * curve.default + [name] for line in lines), name


def test_doctor_looks_at_both_frameworks_and_flags_what_is_wrong(tokenlink, monkeypatch):
    code, out, _ = tokenlink("doctor")
    assert code == 0
    assert "tensorflow devices" in out
    assert "torch devices" in out
    monkeypatch.setattr(doctor, "package_versions", lambda: {**dict.fromkeys(doctor.PACKAGES, "1"), "sionna": "2.0"})
    code, out, _ = tokenlink("doctor")
    assert code == 1
    assert "install sionna==1.2.2" in out


@pytest.mark.parametrize("stage", ["vision", "task", "sensor"])
def test_a_stage_of_training_gets_its_options(tokenlink, monkeypatch, stage):
    module = importlib.import_module(training.STAGES[stage])
    given = {}

    def main(out: Path, steps: int, seed: int = 0, init: Path | None = None):
        """Stand in.

        More.
        """
        given.update(out=out, steps=steps, seed=seed, init=init)

    monkeypatch.setattr(module, "main", main)
    code, _, err = tokenlink("train", stage, "--out", "weights", "--steps", "15", "--init", "earlier")
    assert code == 0, err
    assert given == {"out": Path("weights"), "steps": 15, "seed": 0, "init": Path("earlier")}
    code, _, err = tokenlink("train", stage, "--steps", "1")
    assert code == 2
    assert "--out" in err


def test_the_agents_are_trained_over_the_link_that_was_asked_for(tokenlink, fakes, monkeypatch):
    given = {}
    monkeypatch.setattr(agents, "main", functools.wraps(agents.main)(lambda **options: given.update(options)))
    places = ("--out", "o", "--data", "d", "--sensor", "s", "--task", "t", "--steps", "2")
    code, _, err = tokenlink("train", "agents", *places, "--uncompressed", "--max-snr-db", "10", "-s", "num_rx_ant=4")
    assert code == 0, err
    names = ("out", "data", "sensor", "task", "steps")
    assert [given[name] for name in names] == [Path("o"), Path("d"), Path("s"), Path("t"), 2]
    assert (given["channel"].link.config.num_rx_ant, given["channel"].gradient) == (4, "straight-through")
    assert (given["uncompressed"], given["nested"]) == (True, False)
    assert (given["min_snr_db"], given["max_snr_db"]) == (-10.0, 10.0)
    code, _, err = tokenlink("train", "agents", *places, "--nested")
    assert (code, given["width"], given["uncompressed"], given["nested"]) == (0, 64, False, True)
    code, _, err = tokenlink("train", "agents", *places, "-s", "num_rx_antt=4")
    assert (code, "did you mean 'link.num_rx_ant'?" in err) == (2, True)


def test_the_number_of_tokens_is_measured_on_questions_and_fades_that_no_study_meets(tokenlink, fakes, monkeypatch):
    given = {}

    def measure(agents, dataset, channel, **options):
        given.update(options, parts=(agents, dataset, channel))
        return FAKE_CHOICE

    monkeypatch.setattr(token_choice, "measure", measure)
    Path("pair").mkdir()
    code, out, err = tokenlink("train", "adaptive", "--out", "pair", "--data", "d", "--snr-db", "5", "--snr-db", "0")
    assert code == 0, err
    assert given["parts"][:2] == (fakes["agents"], fakes["dataset"])
    assert given["parts"][2].link.config == LinkConfig()
    assert (given["snr_db"], given["first_realisation"] > 1_000_000) == ([0.0, 5.0], True)
    assert "10 dB: 0.900, 0.905: 1" in out
    assert json.loads(Path("pair/num_tokens.json").read_text())["snr_db"] == FAKE_CHOICE.snr_db


def test_deepjscc_is_trained_over_the_link_that_was_asked_for(tokenlink, fakes, monkeypatch):
    given = {}
    stand_in = functools.wraps(deepjscc_training.main)(lambda **options: given.update(options))
    monkeypatch.setattr(deepjscc_training, "main", stand_in)
    options = ("--point", "deepjscc-small", "--bfloat16", "--min-snr-db", "0", "-s", "channel=tdl-a")
    code, _, err = tokenlink("train", "deepjscc", "--out", "o", "--data", "d", "--steps", "2", *options)
    assert code == 0, err
    names = ("out", "data", "steps")
    assert [given[name] for name in names] == [Path("o"), Path("d"), 2]
    assert given["channel"].link.config.channel == "tdl-a"
    assert (given["point"], given["bfloat16"]) == ("deepjscc-small", True)
    assert (given["min_snr_db"], given["max_snr_db"]) == (0.0, 20.0)


def test_loss_rates_are_measured_for_the_budgets_that_are_asked_for(tokenlink, monkeypatch, tmp_path):
    link, path = (
        SimpleNamespace(measure=lambda snr_db, num_payloads: {5: num_payloads / 1000}),
        tmp_path / "losses.json",
    )
    monkeypatch.setattr(payload_link, "make_payload_link", lambda config, data_res: link)
    monkeypatch.setattr(payload_link.measure_losses, "__defaults__", (path, print))
    code, out, err = tokenlink("train", "losses", "--num-payloads", "250")
    assert code == 0, err
    assert "1536 resource elements, 20 dB" in out
    kept = json.loads(path.read_text())
    assert list(kept) == [str(data_res) for data_res in payload_link.KEPT_RES]
    assert all(list(at) == [f"{snr_db:g}" for snr_db in payload_link.KEPT_SNR_DB] for at in kept.values())
    assert kept["80"]["5"] == {"5": 0.25}
    code, out, err = tokenlink("train", "losses", "--data-res", "80", "--num-payloads", "500")
    assert code == 0, err
    kept = json.loads(path.read_text())
    assert (kept["80"]["5"], kept["1536"]["5"]) == ({"5": 0.5}, {"5": 0.25})


def test_what_an_images_bytes_are_worth_is_measured_on_the_split_that_is_named(tokenlink, fakes, monkeypatch, tmp_path):
    monkeypatch.setattr(image_code, "errors_path", lambda name: tmp_path / f"{name}.json")
    code, out, err = tokenlink("train", "images", "--codec", "jpeg", "--data", "d", "--num-images", "4")
    assert code == 0, err
    assert "64 bytes: " in out
    shares = json.loads((tmp_path / "jpeg.json").read_text())
    assert (min(map(int, shares)), max(map(int, shares))) == (16, 8192)
    code, out, err = tokenlink("train", "images", "--codec", "bpg", "--data", "d")
    assert code == 2
    assert "codec must be one of jpeg, avif, got 'bpg'" in err


@pytest.mark.parametrize("verdict", ["ok", "off"])
def test_selfcheck_shows_every_row_and_fails_with_the_first_that_is_off(tokenlink, monkeypatch, verdict):
    found = [
        selfcheck.Row("gain of the fades", "cdl-c", 1, 1.001, "ok"),
        selfcheck.Row("power", "4x8", 1, 1.2, verdict),
    ]
    monkeypatch.setattr(selfcheck, "rows", lambda: found)
    code, out, _ = tokenlink("selfcheck")
    assert code == (0 if verdict == "ok" else 1)
    assert "gain of the fades" in out
    assert "1.001" in out
    assert ("off" in out) == (verdict == "off")


@pytest.mark.parametrize("printed", [0.1, 0.2])
def test_published_numbers_are_shown_with_their_source_and_one_that_is_off_fails(tokenlink, monkeypatch, printed):
    outcomes = [card.run_card(made_up()), card.run_card(made_up(printed=printed))]
    monkeypatch.setattr(card, "run_all", lambda workers: iter(outcomes))
    code, out, err = tokenlink("selfcheck", "--published")
    assert code == (0 if printed == 0.1 else 1)
    for words in ("source: a book", "SNR [dB]", "0.0", "2 cards"):
        assert words in out
    assert ("fails: 0.0925 instead of 0.2 at 1" in out) == (printed == 0.2)
    assert ("failed: printed 0.2" in err) == (printed == 0.2)


@pytest.mark.parametrize("missed", [[], ["the goal of 3"]])
def test_the_command_shows_keeps_and_fails_with_a_missed_goal(tokenlink, monkeypatch, tmp_path, missed):
    def measure(*, rounds, on_case):
        on_case("the only case")
        return {"rounds": rounds}

    stub = SimpleNamespace(measure=measure, tables=lambda report: [Table(title="figures")], shortfalls=lambda r: missed)
    monkeypatch.setitem(measuring.BENCHMARKS, "stub", "a_stub_benchmark")
    monkeypatch.setitem(sys.modules, "a_stub_benchmark", stub)
    code, out, err = tokenlink("bench", "stub", "--rounds", "2")
    assert code == (1 if missed else 0)
    assert "the only case" in err
    assert ("tokenlink: the goal of 3" in err) == bool(missed)
    assert "bench-stub.json" in out
    assert json.loads((tmp_path / "bench-stub.json").read_text()) == {"rounds": 2}


def test_an_unknown_benchmark_is_refused(tokenlink):
    code, _, err = tokenlink("bench", "speed")
    assert code != 0
    assert "there is no benchmark 'speed'; there is: phy, estimation, recovery, bridge, soak" in err


def test_scenes_hands_its_options_on(tokenlink, monkeypatch):
    given = {}

    def main(out: Path, count: int, split: str = "val"):
        given.update(out=out, count=count, split=split)

    monkeypatch.setattr(scenes, "main", main)
    code, _, err = tokenlink("scenes", "--out", "here", "--count", "3")
    assert code == 0, err
    assert given == {"out": Path("here"), "count": 3, "split": "val"}


def test_gguf_hands_its_options_on_and_refuses_in_one_line(tokenlink, tmp_path):
    (tmp_path / "words.gguf").write_text("no model")
    code, out, err = tokenlink("gguf", "--file", "words.gguf", "--out", "here")
    assert (code, out) == (2, "")
    assert err.strip() == "tokenlink: words.gguf is no GGUF file: it does not begin with GGUF"
    code, _, err = tokenlink("gguf", "--file", "words.gguf", "--out", "here", "--dtype", "int4")
    assert (code, err.strip()) == (2, "tokenlink: dtype must be one of float32, bfloat16, float16, got 'int4'")
    assert not (tmp_path / "here").exists()


def test_report_judges_the_claims_of_its_folders(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    code, out, err = tokenlink("report", "here")
    assert code == 0, err
    for words in ("McNemar p against machine-tokens", "The paper's claims", "not measured: deepjscc"):
        assert words in out
    found = json.loads((tmp_path / "here" / "claims.json").read_text())
    assert [claim["number"] for claim in found["claims"]] == [1, 2, 3, 4, 5, 6]
    assert list(found["origin"]) == ["accuracy-vs-snr"]
    assert (tmp_path / "here" / "comparison.csv").read_text().startswith("scheme,snr_db,channel_uses")
    code, _, err = tokenlink("report", "here", "here")
    assert (code, "another run of accuracy-vs-snr" in err) == (2, True)


def test_report_writes_a_page_where_it_is_told(tokenlink, tmp_path):
    tokenlink("run", "accuracy-vs-snr", *SMALL, "--out", "here")
    code, out, err = tokenlink("report", "here", "--html", "--gallery", "2")
    assert (code, err) == (0, "")
    assert "here/report.html" in out
    page = (tmp_path / "here" / "report.html").read_text()
    assert page.count("<article") == 2
    code, _, err = tokenlink("report", "here", "--html", "--gallery", "0", "--out", "there/page.html")
    assert (code, err) == (0, "")
    assert "<article" not in (tmp_path / "there" / "page.html").read_text()
    code, _, err = tokenlink("report", "here", "--out", "page.html")
    assert (code, "--out is for the page; give --html too" in err) == (2, True)
    assert tokenlink("report", "here", "--html", "--gallery", "25")[0] == 2


def test_probe_measures_what_the_shipped_questions_descriptions_tell(tokenlink, tmp_path):
    code, out, err = tokenlink("probe", "--out", "leak.json")
    assert code == 0, err
    assert "which color" in out
    found = {leak["fact"]: leak for leak in json.loads((tmp_path / "leak.json").read_text())}
    assert found["answer"]["informed"][0] > found["answer"]["blind"][0]
    assert found["which color"]["num_questions"] > 1000


def test_a_quantiser_is_learned_from_codes_and_tells_its_error_on_others(tokenlink, fakes, monkeypatch, tmp_path):
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / "agents.json").write_text("{}")
    code, out, err = tokenlink("train", "quantizer", "--out", "pair", "--data", "d", "--num-questions", "72")
    assert code == 0, err
    assert "codes learned from: 60" in out  # of 12 images with 6 questions each, ten
    card = (tmp_path / "pair" / "quantizer.md").read_text()
    options = "--split train --num-questions 72 --asked-split val --num-asked 1500"
    assert f"tokenlink train quantizer --out pair --data d {options}" in card
    assert "transform, 5 bytes: squared error" in card
    assert "questions asked | 72" in card
    assert "vector, 100 bytes: accuracy" in card
    assert (tmp_path / "pair" / "quantizer.safetensors").exists()


def test_a_prior_is_learned_from_codes_and_told_to_the_recovery_of_machine_tokens(tokenlink, fakes, tmp_path):
    (tmp_path / "pair").mkdir()
    code, out, err = tokenlink("train", "prior", "--out", "pair", "--data", "d", "--num-questions", "72")
    assert code == 0, err
    assert "prior.npz" in out
    assert CodePrior.load(tmp_path / "pair" / "prior.npz").mean.shape == (2, 3)

    (tmp_path / "other.npz").write_bytes((tmp_path / "pair" / "prior.npz").read_bytes() + b"0")
    points = []
    for place, prior in enumerate(("null", "pair/prior.npz", "other.npz", "own")):
        assign = ("-s", f"models.code_prior={prior}", "-s", "schemes=[machine-tokens]")
        code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, *assign, "--out", str(place))
        assert code == 0, err
        points.append({path.name for path in (tmp_path / str(place) / "points").iterdir()})
    assert len(set.union(*points)) == 8  # two SNRs each: what the recovery knows is part of a point's name
    asked = [link for link in fakes["links"] if isinstance(link, tuple)]
    assert {link.recovery for link, _ in asked} == {"lmmse"}  # a posterior, not an unbiased estimate
    powers = {round(float(prior.covariance.trace()), 3) for _, prior in asked}
    assert powers == {6.0, round(float(CodePrior.load(tmp_path / "pair" / "prior.npz").covariance.trace()), 3)}
    code, _, err = tokenlink("run", "accuracy-vs-snr", *SMALL, "-s", "models.code_prior=no.npz", "--out", "there")
    assert "models.code_prior: there is no file no.npz; `tokenlink train prior` writes one" in err
