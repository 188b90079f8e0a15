"""A run's folder in other states than a run leaves it: damaged, edited by hand, of an older version, in use."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from studies import accuracy_vs_snr, archive, events, plan, run_folder
from studies.config import ConfigError, content_hash
from studies.curves import CURVES
from studies.plan import Plan, read_plan
from tests.studies.test_archive import as_version_1

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(fakes, config, tmp_path):
    """The folder of a small finished run."""
    run(config.updated({"snr_db": [0.0, 40.0]}), tmp_path / "run")
    return tmp_path / "run"


def run(config, folder, **options):
    return accuracy_vs_snr.main(config, out=folder, **options)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(folder, change, *, sign=False):
    """Change the plan's JSON; `sign` puts its hash right again, as somebody would who means it."""
    path = folder / "plan.json"
    content = json.loads(path.read_text())
    change(content)
    if sign:
        content.pop("plan_hash")
        fields = {name: value for name, value in content.items() if not name.startswith("schema")}
        content["plan_hash"] = content_hash(Plan.model_validate(fields).plain())
    path.write_text(json.dumps(content))


def as_plan_of_version_1(content):
    content["schema_version"] = 1
    del content["plan_hash"], content["config"]


# --- the plan ------------------------------------------------------------------------------------------------------


def swap_schemes(content):
    for point in content["points"]:
        swap = {"machine-tokens": "wrong-image", "wrong-image": "machine-tokens"}
        point["scheme"] = swap.get(point["scheme"], point["scheme"])


def swap_coordinates(content):
    for point in content["points"]:
        if point["coordinates"]:
            point["coordinates"]["snr_db"] = 40.0 - point["coordinates"]["snr_db"]


def leave_the_folder(content):
    content["points"][0]["hash"] = "../../x"


def name_the_study_after_another_folder(content):
    content["study"] = content["attributes"]["study"] = "../../x"


def forget_the_points(content):
    content["points"] = []


def use_a_point_twice(content):
    content["points"][0]["hash"] = content["points"][1]["hash"]


def stand_twice_at_one_place(content):
    content["points"][0] = {**content["points"][1], "hash": content["points"][0]["hash"]}


def name_no_axis(content):
    content["points"][0]["coordinates"] = {"sun": 1.0}


def turn_a_number_into_truth(content):
    content["attributes"]["seed"] = True


def add_a_key(content):
    content["more"] = 1


def write_a_formula(content):
    content["schemes"][0] = content["points"][0]["scheme"] = "=cmd()"


EDITS = [
    *(swap_schemes, swap_coordinates, leave_the_folder, name_the_study_after_another_folder, forget_the_points),
    *(use_a_point_twice, stand_twice_at_one_place, name_no_axis, turn_a_number_into_truth, add_a_key, write_a_formula),
]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("change", EDITS)
def test_a_plan_that_was_edited_is_not_believed(folder, change, version):
    if version == 1:
        edit(folder, as_plan_of_version_1)
        run_folder.collect(folder)
    edit(folder, change)
    before = contents(folder.parent)
    found = run_folder.check(folder)
    assert found.problems
    assert all("plan.json" in problem or "point" in problem for problem in found.problems)
    told = []
    try:
        run_folder.collect(folder, on_problem=told.append)
    except ValueError as error:
        assert "plan.json" in str(error)  # noqa: PT017 -- either this, or points that are left out
    else:
        assert told
    assert contents(folder.parent) == before


@pytest.mark.parametrize(("change", "num_wrong"), [(swap_schemes, 4), (swap_coordinates, 6)])
def test_points_stand_where_their_own_keys_say(folder, change, num_wrong):
    edit(folder, change, sign=True)
    found = run_folder.check(folder)
    assert len(found.problems) == num_wrong
    assert "in plan.json of" in found.problems[0]
    told = []
    results = run_folder.collect(folder, write=False, on_problem=told.append)
    assert (len(told), results.attributes["num_missing_points"]) == (num_wrong, num_wrong)


def test_an_attribute_of_somebody_else_is_noticed(folder):
    edit(folder, lambda content: content["attributes"].update(git_commit="0" * 40))
    with pytest.raises(ValueError, match=r"plan\.json cannot be used: its content is not what its hash says"):
        read_plan(folder)


@pytest.mark.parametrize("text", ["", "[", "[]", "5", "{}", "[" * 10**5, '{"a": ' * 10**5, "\0", '{"schema": NaN}'])
def test_what_is_no_plan_is_refused_by_its_name(folder, text):
    (folder / "plan.json").write_text(text)
    with pytest.raises(ValueError, match=r"plan\.json cannot be used: .*the same `tokenlink run` writes it anew"):
        read_plan(folder)
    found = run_folder.check(folder)
    assert (found.num_points, len(found.problems)) == (0, 1)


def test_the_results_hold_the_hash_of_their_plan(folder):
    assert run_folder.collect(folder).attributes["plan_hash"] == read_plan(folder).hash
    assert run_folder.check(folder).problems == []


# --- check ---------------------------------------------------------------------------------------------------------


def flip(path, place=-40):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def set_an_attribute(path):
    with h5py.File(path, "a") as file:
        file.attrs["seed"] = 7


def change_a_word(path):
    with h5py.File(path, "a") as file:
        file["family"][0] = "odd"


@pytest.mark.parametrize("damage", [set_an_attribute, change_a_word, flip, lambda path: path.write_bytes(b"")])
def test_check_writes_nothing_and_repair_rebuilds_the_results(folder, damage):
    whole = (folder / "results.h5").read_bytes()
    damage(folder / "results.h5")
    before = contents(folder)
    [problem] = run_folder.check(folder).problems
    assert "results.h5" in problem
    assert "--repair" in problem
    assert contents(folder) == before
    [problem] = run_folder.check(folder, repair=True).problems
    assert "it has been rebuilt" in problem
    assert (folder / "results.h5").read_bytes() == whole
    assert run_folder.check(folder).problems == []


@pytest.mark.parametrize("remove", [True, False])
def test_results_that_hold_more_than_the_points_stay(folder, remove, fakes, config):
    point = sorted((folder / "points").iterdir())[0]
    point.unlink() if remove else flip(point)
    whole = (folder / "results.h5").read_bytes()
    told = []
    assert run_folder.collect(folder, on_problem=told.append).attributes["num_missing_points"] == 1
    assert "results.h5 stays as it is" in told[-1]
    assert len(told) == 2 - remove
    found = run_folder.check(folder, repair=True)
    assert (found.num_done, len(found.problems)) == (8, 1)
    assert (folder / "results.h5").read_bytes() == whole
    named = []
    run(config.updated({"snr_db": [0.0, 40.0]}), folder, on_problem=named.append)
    assert len(named) == 1 - remove  # a resume names what it computes again
    assert (folder / "results.h5").read_bytes() == whole
    assert run_folder.check(folder).problems == []


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("config.yaml", lambda text: text.replace("seed: 0", "seed: 4", 1), "is not the configuration"),
        ("config.yaml", lambda text: text + "seed: 0\n", "'seed' stands there twice"),
        ("config.yaml", lambda text: "", "not keys and values"),
        ("events.jsonl", lambda text: text.replace('"jobs": ', '"jobs": 1', 1), "events.jsonl, line 1: cut or changed"),
        ("events.jsonl", lambda text: text + "{", "line 17: cut or changed"),
        ("events.jsonl", lambda text: "[]\n" + text, "line 1: cut or changed"),
    ],
)
def test_check_reads_configuration_and_events(folder, name, damage, problem):
    path = folder / name
    path.write_text(damage(path.read_text()))
    found = run_folder.check(folder).problems
    assert len(found) == 1, found
    assert problem in found[0]
    assert str(path) in found[0]


@pytest.mark.parametrize("kind", ["points", "codes"])
def test_check_reads_every_point_and_all_codes(folder, kind):
    shutil.copy(sorted((folder / kind).iterdir())[0], folder / kind / f"{'0' * 32}.h5")  # not in the plan
    [problem] = run_folder.check(folder).problems
    assert f"point {'0' * 32}.h5 cannot be used: its name is not the hash of its key" in problem


def test_a_run_of_an_older_version_is_read_with_a_word(folder):
    for path in [*(folder / "points").iterdir(), *(folder / "codes").iterdir()]:
        as_version_1(path)
    edit(folder, as_plan_of_version_1)
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for line in lines:
        del line["line_hash"]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    as_version_1(folder / "results.h5")
    with h5py.File(folder / "results.h5", "a") as file:
        del file.attrs["plan_hash"], file["confidence"]  # which came later
    found = run_folder.check(folder)
    assert (found.problems, found.num_done) == ([], 9)
    assert "14 point(s) and codes, and the plan, are of an older version and carry no hash" in found.remarks[0]
    assert f"{len(lines)} line(s) of events.jsonl" in found.remarks[1]
    assert run_folder.collect(folder).attributes["num_missing_points"] == 0


def test_nothing_has_to_be_writable_where_nothing_changes(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(arguments[0]))

    for name in ("open", "replace", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    assert run_folder.check(folder).problems == []
    run_folder.collect(folder)


# --- events --------------------------------------------------------------------------------------------------------


def test_an_event_behind_a_torn_line_starts_a_line_of_its_own(tmp_path):
    log = events.EventLog(tmp_path / "events.jsonl")
    log.write("started", jobs=3)
    with log.path.open("ab") as file:
        file.write(b'{"event": "do')
    log.write("finished")
    assert [line[:13] for line in log.path.read_text().splitlines()[1:]] == ['{"event": "do', '{"time": "202']
    [problem], _ = events.event_problems(log.path)
    assert "line 2" in problem


# --- two at once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mine", "other", "refused"), [(0, 0, True), (0, 1, True), (1, 0, True), (1, 1, False)])
def test_a_whole_run_shares_its_folder_with_nobody_and_shards_with_each_other(tmp_path, mine, other, refused):
    code = (
        "import sys, time; from pathlib import Path; from studies import run_folder\n"
        "with run_folder.at_work(Path(sys.argv[1]), shared=sys.argv[2] == '1'):\n"
        "    print('here', flush=True); time.sleep(100)"
    )
    rival = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(other)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert rival.stdout.readline() == "here\n"
    try:
        if refused:
            with (
                pytest.raises(ConfigError, match=r"another run is at work in .*--shard"),
                run_folder.at_work(tmp_path, shared=mine),
            ):
                pass
        else:
            with run_folder.at_work(tmp_path, shared=mine):
                pass
    finally:
        rival.kill()
        rival.wait()
        rival.stdout.close()
    with run_folder.at_work(tmp_path, shared=False):  # the dead hold nothing
        pass


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def refuse(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_folder.fcntl, "flock", refuse)
    with run_folder.at_work(tmp_path, shared=False):
        pass


def test_a_name_that_could_leave_the_folder_is_no_name():
    content = {
        "study": "s",
        "schemes": ["a"],
        "axes": {},
        "points": [{"hash": "0" * 32, "scheme": "a", "coordinates": {}}],
        "config": "0" * 32,
        "attributes": {"study": "s", "config_hash": ""},
    }
    assert plan.Plan.model_validate(content).study == "s"
    for name in ("../x", "/x", "a/b", "a\\b", "", ".", "..", "a\n", "a\0b", "=1", "x" * 101):
        for change in ({"study": name, "attributes": {**content["attributes"], "study": name}}, {"schemes": [name]}):
            with pytest.raises(ValueError, match="is no name"):
                plan.Plan.model_validate({**content, **change})
        with pytest.raises(ValueError, match="is no name"):
            replace(accuracy_vs_snr.STUDY, name=name)
        with pytest.raises(ValueError, match="is no name"):
            replace(CURVES["raw-image"], name=name)
    for bad in ("../x", "0" * 31, "0" * 33, "0" * 32 + "\n", "A" * 32, "g" * 32):
        with pytest.raises(ValueError, match="pattern"):
            plan.PlannedPoint.model_validate({"hash": bad, "scheme": "a", "coordinates": {}})


def test_a_configuration_that_is_refused_leaves_no_folder(fakes, config, tmp_path):
    with pytest.raises(ValueError, match="the split has 72"):
        run(config.updated({"num_questions": 99}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_points_of_before_coordinates_stood_apart_are_placed(folder):
    assert archive.read_point(next((folder / "points").iterdir())).key["coordinates"] is not None
    assert run_folder._coordinates({"scheme": "a", "link": {}, "snr_db": 5.0}) == {"snr_db": 5.0}
