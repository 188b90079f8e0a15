"""Run folders of shards that shared none, joined."""

import json
import shutil

import pytest

from studies import merging, run_folder
from studies.accuracy_vs_snr import STUDY
from studies.config import ConfigError
from studies.plan import read_plan

TOTAL = 3


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def shards(fakes, config, tmp_path):
    """Folders of three shards, each computed on its own."""
    folders = [tmp_path / f"shard-{number}" for number in range(1, TOTAL + 1)]
    for number, folder in enumerate(folders, 1):
        STUDY.main(config, out=folder, shard=(number, TOTAL))
    return folders


@pytest.fixture
def whole(fakes, config, tmp_path):
    return STUDY.main(config, out=tmp_path / "whole").folder


def change_plan(folder, **attributes):
    """Write a plan as another machine would have, with its own hash."""
    plan = read_plan(folder)
    changed = plan.model_copy(update={"attributes": {**plan.attributes, **attributes}})
    (folder / "plan.json").write_bytes(changed.written())


def test_merged_shards_have_the_bytes_of_one_whole_run_and_stay_as_they_are(shards, whole, tmp_path):
    before, out, said = [contents(folder) for folder in shards], tmp_path / "merged", []
    merged = merging.merge(shards, out, on_problem=said.append)
    assert (out / "results.h5").read_bytes() == (whole / "results.h5").read_bytes()
    assert (merged.missing, said) == ([], [])
    assert [contents(folder) for folder in shards] == before
    state = run_folder.check(out)
    assert (state.num_done, state.problems) == (merged.num_points, [])
    for name in ("points", "codes"):
        assert contents(out / name) == contents(whole / name)
    assert (out / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()


def test_what_is_missing_is_named_with_the_shard_that_computes_it(shards, whole, config, tmp_path):
    out = tmp_path / "merged"
    merged = merging.merge([shards[0], shards[2]], out)
    assert {shard for shard, _ in merged.missing} == {"2/3"}
    assert merged.results.attributes["num_missing_points"] == len(merged.missing) > 0
    sweep = STUDY.plan(config, shards[1])
    assert sweep.pending((2, TOTAL)) == []  # and these are the points that it computed
    mine = {path.stem for path in (shards[1] / "points").glob("*.h5")}
    assert {point.hash for _, point in merged.missing} == mine
    merging.merge([shards[1]], out)  # what is there already counts
    assert (out / "results.h5").read_bytes() == (whole / "results.h5").read_bytes()


def test_a_merged_folder_is_completed_by_the_same_run(shards, whole, config, fakes, tmp_path):
    out, agents = tmp_path / "merged", fakes["agents"]
    merging.merge(shards[:2], out)
    encoded = agents.num_encoded
    STUDY.main(config, out=out)
    assert agents.num_encoded == encoded  # codes came along
    assert (out / "results.h5").read_bytes() == (whole / "results.h5").read_bytes()


def test_damaged_points_and_codes_are_named_and_left_out(shards, tmp_path):
    out, said = tmp_path / "merged", []
    damaged = [sorted((shards[1] / name).glob("*.h5"))[0] for name in ("points", "codes")]
    for path in damaged:
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    merged = merging.merge([shards[1], shards[2]], out, on_problem=said.append)
    assert [path.name for path in damaged] == [text.split("point ")[1].split(" ")[0] for text in said]
    assert all(str(shards[1]) in text and "SHA-256" in text for text in said)
    assert damaged[0].stem in {point.hash for _, point in merged.missing}
    assert not (out / "points" / damaged[0].name).exists()
    assert (out / "codes" / damaged[1].name).exists()  # another shard has them


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed: 1 there, 0 here"),
        ({"link": {"num_rx_ant": 4}}, "link.num_rx_ant: 4 there, 8 here"),
        ({"snr_db": (0.0, 40.0)}, "axes: "),
    ],
)
def test_a_folder_of_another_run_is_refused_with_what_differs(shards, config, tmp_path, changes, message):
    other = STUDY.main(config.updated(changes), out=tmp_path / "other").folder
    with pytest.raises(ConfigError, match=message) as caught:
        merging.merge([shards[0], other], tmp_path / "merged")
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "merged").exists()


def test_points_of_other_code_are_refused(shards, tmp_path):
    path = shards[1] / "plan.json"
    plan = read_plan(shards[1])
    first = plan.points[0].model_copy(update={"hash": "0" * 32})
    path.write_bytes(plan.model_copy(update={"points": (first, *plan.points[1:])}).written())
    with pytest.raises(ConfigError, match=f"1 points are others, first that of {first.label}"):
        merging.merge(shards, tmp_path / "merged")


def test_another_commit_of_the_same_code_is_no_other_run_and_is_said(shards, tmp_path):
    change_plan(shards[1], git_commit="abc")
    said = []
    merged = merging.merge(shards, tmp_path / "merged", on_problem=said.append)
    assert not merged.missing
    assert len(said) == 1
    assert "git_commit 'abc'" in said[0]
    change_plan(shards[2], data_hash="other")
    with pytest.raises(ConfigError, match="data_hash: 'other' there"):
        merging.merge(shards, tmp_path / "again")


def test_a_source_is_no_place_for_results_and_nothing_is_no_run(shards, tmp_path):
    with pytest.raises(ConfigError, match="is one of the folders"):
        merging.merge(shards, shards[0] / ".." / shards[0].name)
    shutil.rmtree(shards[0] / "points")
    with pytest.raises(ValueError, match="is done; run the shards first"):
        merging.merge(shards[:1], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(ValueError, match="is no run folder"):
        merging.merge([tmp_path / "nowhere"], tmp_path / "merged")


def test_a_configuration_that_is_damaged_is_left_out_and_results_are_there(shards, tmp_path):
    (shards[0] / "config.yaml").write_text("seed: 5\n")
    said = []
    merging.merge(shards, tmp_path / "merged", on_problem=said.append)
    assert "config.yaml is not the configuration" in said[0]
    assert json.loads((tmp_path / "merged" / "plan.json").read_bytes())["study"] == STUDY.name
    assert not (tmp_path / "merged" / "config.yaml").exists()
