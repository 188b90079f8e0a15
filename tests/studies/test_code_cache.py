import os
import shutil

import pytest

from studies import accuracy_vs_snr, archive, workbench
from studies.code_cache import CodeCache
from studies.run_folder import check
from tests.studies.conftest import CACHES


def run(config, folder, cache, **options):
    return accuracy_vs_snr.main(config, out=folder, cache=cache, **options)


def test_a_second_run_over_another_link_lets_the_sensor_look_at_nothing(fakes, config, tmp_path):
    run(config, tmp_path / "first", tmp_path / "cache")
    looked = fakes["agents"].num_encoded
    other = config.updated({"link": {"num_rx_ant": 6}})
    started = []
    run(other, tmp_path / "second", tmp_path / "cache", on_start=lambda folder, jobs: started.extend(jobs))
    assert fakes["agents"].num_encoded == looked
    assert {job.kind for job in started} == {"machine-tokens", "machine-tokens-uncompressed", "wrong-image"}


def test_a_run_is_whole_without_the_cache_that_it_took_from(fakes, config, tmp_path):
    first = run(config, tmp_path / "first", tmp_path / "cache").results
    second = run(config, tmp_path / "second", tmp_path / "cache").results
    alone = run(config, tmp_path / "alone", None).results
    shutil.rmtree(tmp_path / "cache")
    assert second.content_hash() == first.content_hash() == alone.content_hash()
    assert check(tmp_path / "second").problems == []
    names = [sorted(path.name for path in (tmp_path / folder / "codes").iterdir()) for folder in ("second", "alone")]
    assert set(names[0]) <= set(names[1])  # codes whose points are there already are not copied


def test_other_questions_and_other_weights_have_other_files(fakes, config, tmp_path):
    run(config, tmp_path / "first", tmp_path / "cache")
    looked = fakes["agents"].num_encoded
    run(config.updated({"seed": 7}), tmp_path / "second", tmp_path / "cache")
    assert fakes["agents"].num_encoded == 2 * looked
    fakes["agents"].model_hash = "others"
    for cached in (*CACHES, workbench.weights_hash):
        cached.cache_clear()
    run(config, tmp_path / "third", tmp_path / "cache")
    assert fakes["agents"].num_encoded == 3 * looked


def test_a_damaged_file_is_computed_anew_and_mended(fakes, config, tmp_path):
    run(config, tmp_path / "first", tmp_path / "cache")
    sound = {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    for path, content in sound.items():
        path.write_bytes(content[:-7] + b"damaged")
    run(config, tmp_path / "second", tmp_path / "cache")
    assert {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == sound
    assert check(tmp_path / "second").problems == []


def test_what_was_used_last_stays(tmp_path):
    folder, paths = tmp_path / "cache", []
    for number in range(4):
        paths.append(archive.write_point(folder, {"number": number}, {"codes": [1.0, 2.0]}))
        os.utime(paths[-1], (number, number))
    size = paths[0].stat().st_size
    cache = CodeCache(folder, max_bytes=2 * size + 1)
    assert cache.fetch({"number": 0}, tmp_path / "codes")  # used now
    cache.trim()
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert archive.is_done(tmp_path / "codes", {"number": 0})


@pytest.mark.parametrize("made", ["a file", "nothing"])
def test_a_cache_that_cannot_be_used_costs_one_sentence(made, fakes, config, tmp_path):
    place = tmp_path / "place"
    if made == "a file":
        place.write_text("not a folder")
    problems = []
    run(config, tmp_path / "run", place / "cache", on_problem=problems.append)
    if made == "nothing":
        assert problems == []
    else:
        (problem,) = problems
        assert str(place / "cache") in problem
        assert problem.endswith("going on without shared codes")
    assert check(tmp_path / "run").problems == []
