import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from studies import archive

FACTS = {
    "question": np.array([4, 7, 9]),
    "image_index": np.array([0, 0, 3]),
    "family": np.array(["query", "exist", "zählen"]),
    "realisation": np.arange(3),
}


def point(correct, nmse=0.5, res=16.0, **facts):
    arrays = {**FACTS, "correct": np.array(correct, dtype=np.uint8), **facts}
    scalars = {**dict.fromkeys(archive.SCALARS, np.nan), "code_nmse": nmse, **dict.fromkeys(archive.LEDGER, res)}
    return archive.Point({}, arrays, scalars)


def build(path, points, schemes=("a", "b")):
    content = archive.build_results(points, schemes, {"snr_db": [-5.0, 5.0]}, {"study": "test", "seed": 3})
    archive.write_atomically(path, content)
    return path


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    numbers=hnp.arrays(
        st.sampled_from([np.uint8, np.int64, np.float32, np.float64]),
        hnp.array_shapes(max_dims=3, max_side=5),
    ),
    words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=4),
    scalar=st.floats(),
)
def test_a_point_reads_back_as_it_was_written(tmp_path_factory, numbers, words, scalar):
    folder = tmp_path_factory.mktemp("points")
    key = {"numbers": str(numbers.dtype), "words": words}
    path = archive.write_point(folder, key, {"numbers": numbers, "words": words}, {"scalar": scalar})
    found = archive.read_point(path)
    assert found.key == key
    np.testing.assert_array_equal(found.arrays["numbers"], numbers)
    assert found.arrays["numbers"].dtype == numbers.dtype
    assert list(found.arrays["words"]) == words
    np.testing.assert_equal(found.scalars["scalar"], scalar)
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_a_point_is_done_only_for_its_own_key(tmp_path):
    archive.write_point(tmp_path, {"snr_db": 5.0}, {"x": [1]})
    assert archive.is_done(tmp_path, {"snr_db": 5.0})
    assert not archive.is_done(tmp_path, {"snr_db": 5.5})


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip_a_bit_of_the_data(path):
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        offset = file["x"].id.get_chunk_info(0).byte_offset
    content[offset + 3] ^= 1
    path.write_bytes(content)


def swap_the_content(path):
    other = archive.write_point(path.parent, {"snr_db": 6.0}, {"x": np.arange(50)})
    path.write_bytes(other.read_bytes())


def drop_the_hash(path):
    path.write_bytes(path.read_bytes()[archive.HEADER_BYTES :])


def empty(path):
    path.write_bytes(b"")


def as_version_1(path, version=1):
    """Make of a point, or of results, what versions without hashes wrote."""
    drop_the_hash(path)
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = version


DAMAGES = [truncate, flip_a_bit_of_the_data, swap_the_content, drop_the_hash, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_point_is_not_done_and_says_why(tmp_path, damage):
    key = {"snr_db": 5.0}
    path = archive.write_point(tmp_path, key, {"x": np.arange(50)})
    damage(path)
    told = []
    assert not archive.is_done(tmp_path, key, told.append)
    with pytest.raises(ValueError, match=rf"point {path.name} cannot be used: .*the next run computes it again"):
        archive.read_point(path)
    assert len(told) == 1


def test_every_byte_of_a_point_counts(tmp_path):
    path = archive.write_point(tmp_path, {"a": 1}, {"words": ["yes", "no"], "x": np.arange(3)}, {"psnr": 20.0})
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in {*range(600), *rng.integers(0, len(content), 600).tolist()}:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be used"):
            archive.read_point(path)


def mark_incomplete(file):
    file.attrs["complete"] = np.uint8(0)


def rename_the_key(file):
    file.attrs["key_json"] = json.dumps({"snr_db": 6.0})


def another_version(file):
    file.attrs["schema_version"] = archive.POINT_VERSION


@pytest.mark.parametrize("change", [None, mark_incomplete, rename_the_key, another_version])
def test_a_point_of_an_older_version_is_read_and_says_that_it_has_no_hash(tmp_path, change):
    path = archive.write_point(tmp_path, {"snr_db": 5.0}, {"x": np.arange(50)})
    as_version_1(path)
    if change is None:
        found = archive.read_point(path)
        assert (found.hashed, list(found.arrays["x"])) == (False, list(range(50)))
        return
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(ValueError, match="cannot be used"):
        archive.read_point(path)


@pytest.mark.parametrize("error", [AttributeError, TypeError, OverflowError, MemoryError, RecursionError, OSError])
def test_whatever_h5py_raises_a_point_is_not_done(tmp_path, monkeypatch, error):
    key = {"snr_db": 5.0}
    path = archive.write_point(tmp_path, key, {"x": np.arange(50)})

    def refuse(dataset):
        raise error("odd")

    monkeypatch.setattr(archive, "_read_array", refuse)
    assert not archive.is_done(tmp_path, key)
    with pytest.raises(ValueError, match=f"point {path.name} cannot be used: odd"):
        archive.read_point(path)


def test_a_file_that_holds_its_content_already_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    archive.write_atomically(path, b"old")
    before = path.stat()

    def refuse(*arguments):
        raise OSError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    archive.write_atomically(path, b"old")
    assert path.stat() == before


def test_an_old_file_survives_a_write_that_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    archive.write_atomically(path, b"old")

    def refuse(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        archive.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_runs_are_deleted_and_fresh_ones_kept(tmp_path):
    (tmp_path / "points").mkdir()
    old, fresh, point = (tmp_path / "points" / name for name in (".a.h5.0.tmp", ".b.h5.0.tmp", "a.h5"))
    for path in (old, fresh, point):
        path.write_bytes(b"")
    for path in (old, point):
        os.utime(path, (time.time() - 7200,) * 2)
    archive.remove_leftovers(tmp_path)
    assert sorted((tmp_path / "points").iterdir()) == [fresh, point]


def test_a_killed_writer_leaves_whole_points_only(tmp_path):
    code = (
        "import numpy, sys\nfrom pathlib import Path\nfrom studies import archive\n"
        "for i in range(10**6):\n"
        "    archive.write_point(Path(sys.argv[1]), {'i': i}, {'x': numpy.random.default_rng(i).random(20_000)})\n"
    )
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        deadline = time.monotonic() + 300
        while len(list(tmp_path.glob("*.h5"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        paths = list(tmp_path.glob("*.h5"))
        assert len(paths) >= 5
        for path in paths:
            assert len(archive.read_point(path).arrays["x"]) == 20_000
            path.unlink()


def test_xarray_opens_the_results(tmp_path):
    points = [
        ({"scheme": "a", "snr_db": -5.0}, point([0, 0, 1])),
        ({"scheme": "a", "snr_db": 5.0}, point([1, 1, 1], nmse=0.25)),
        ({"scheme": "b"}, point([1, 0, 0], nmse=np.nan, res=np.nan)),  # the same at every SNR
    ]
    path = build(tmp_path / "results.h5", points)
    with xr.open_dataset(path, engine="h5netcdf") as data:
        assert data.correct.dims == ("scheme", "snr_db", "question")
        assert data.correct.encoding["dtype"] == np.uint8
        assert data.sizes == {"scheme": 2, "snr_db": 2, "question": 3}
        assert list(data.scheme.values) == ["a", "b"]
        assert list(data.family.values) == ["query", "exist", "zählen"]
        assert data.accuracy.sel(scheme="a", snr_db=5.0) == 1
        np.testing.assert_allclose(data.accuracy.sel(scheme="b"), 1 / 3)
        np.testing.assert_allclose(data.correct.mean("question"), data.accuracy, rtol=1e-6)
        assert (data.accuracy_low < data.accuracy).all()
        assert (data.accuracy_high.sel(scheme="b") > data.accuracy.sel(scheme="b")).all()
        np.testing.assert_array_equal(data.code_nmse, [[0.5, 0.25], [np.nan, np.nan]])
        np.testing.assert_array_equal(data.resource_elements, [16, np.nan])
        np.testing.assert_array_equal(data.question, [4, 7, 9])
        np.testing.assert_array_equal(data.realisation, [0, 1, 2])
        assert data.attrs["num_missing_points"] == 0
        assert data.attrs["schema"] == archive.RESULTS_SCHEMA
        assert all(variable.attrs["long_name"] for variable in data.variables.values())


READ_ALONE = """
import json, sys
import xarray
data = xarray.open_dataset(sys.argv[1], engine="netcdf4")  # in a process of its own: it brings another HDF5 library
print(json.dumps([data.accuracy.values.tolist(), data.snr_db.values.tolist(), data.scheme.values.tolist()]))
"""


def two_schemes(folder):
    points = [({"scheme": "a", "snr_db": -5.0}, point([0, 1, 1])), ({"scheme": "b"}, point([1, 1, 0]))]
    return build(folder / "results.h5", points)


def test_the_other_engine_of_xarray_reads_the_same(tmp_path):
    path = two_schemes(tmp_path)
    read = subprocess.run([sys.executable, "-c", READ_ALONE, str(path)], capture_output=True, text=True, check=True)
    accuracy, snr_db, schemes = json.loads(read.stdout)
    np.testing.assert_array_equal(accuracy, archive.read_results(path).variables["accuracy"])
    assert snr_db == [-5.0, 5.0]
    assert schemes == ["a", "b"]


def test_pandas_gets_a_row_for_each_outcome(tmp_path):
    with xr.open_dataset(two_schemes(tmp_path), engine="h5netcdf") as data:
        frame = data[["correct", "confidence"]].to_dataframe()
    assert len(frame) == 2 * 2 * 3
    assert frame.correct.groupby("scheme").mean().to_dict() == pytest.approx({"a": 2 / 3, "b": 2 / 3})


def test_viewers_of_nexus_files_find_what_to_show(tmp_path):
    with h5py.File(two_schemes(tmp_path)) as file:
        group = file
        for kind in ("NXroot", "NXentry", "NXdata"):
            assert group.attrs["NX_class"] == kind
            group = group[group.attrs["default"]] if "default" in group.attrs else group
        signal = group[group.attrs["signal"]]
        axes = [group[name] for name in group.attrs["axes"]]
        assert signal.shape == tuple(len(axis) for axis in axes)
        assert signal == file["accuracy"]


@pytest.mark.skipif(shutil.which("octave-cli") is None, reason="octave-cli is not installed")
def test_octave_reads_the_numbers(tmp_path):
    path = two_schemes(tmp_path)
    (tmp_path / "read.m").write_text(
        f'x = load("-hdf5", "{path}", "accuracy", "snr_db"); disp(mat2str(x.accuracy, 17))'
    )
    read = subprocess.run(
        ["octave-cli", "--no-gui", str(tmp_path / "read.m")], capture_output=True, text=True, check=False
    )
    values = np.array([[float(value) for value in row.split()] for row in read.stdout.strip("[]\n").split(";")])
    np.testing.assert_array_equal(values.T, archive.read_results(path).variables["accuracy"])  # column by column there


def test_results_are_the_same_bytes_each_time_they_are_built(tmp_path):
    points = [({"scheme": "a", "snr_db": -5.0}, point([0, 1, 1])), ({"scheme": "b"}, point([1, 1, 0]))]
    first = build(tmp_path / "first.h5", points).read_bytes()
    assert build(tmp_path / "second.h5", points).read_bytes() == first


def test_missing_points_are_marked(tmp_path):
    points = [
        ({"scheme": "a", "snr_db": -5.0}, point([0, 1, 1])),
        ({"scheme": "a", "snr_db": 5.0}, None),
        ({"scheme": "b"}, None),
    ]
    results = archive.read_results(build(tmp_path / "results.h5", points))
    assert results.attributes["num_missing_points"] == 2
    np.testing.assert_array_equal(np.isnan(results.variables["accuracy"]), [[False, True], [True, True]])
    assert (results.of("correct", "b") == archive.MISSING).all()
    assert results.schemes == ["a", "b"]
    with xr.open_dataset(tmp_path / "results.h5", engine="h5netcdf") as data:  # what is missing spoils no mean
        assert data.correct.mean() == pytest.approx(2 / 3)
        np.testing.assert_array_equal(data.correct.groupby(data.family).mean(...), [1, 0, 1])  # exist, query, zählen


def test_points_of_different_runs_do_not_mix(tmp_path):
    points = [({"scheme": "a"}, point([0, 1, 1])), ({"scheme": "b"}, point([0, 1, 1], question=np.array([4, 7, 8])))]
    with pytest.raises(ValueError, match="points disagree about 'question'"):
        build(tmp_path / "results.h5", points)


def test_a_ledger_has_the_axes_that_change_it_and_no_others(tmp_path):
    points = [
        (
            {"scheme": name, "num_tokens": number, "snr_db": snr_db},
            point([0, 1, 1], res=16 * number if name == "a" else 5),
        )
        for name in ("a", "b")
        for number in (1, 2)
        for snr_db in (-5.0, 5.0)
    ]
    points[1] = points[1][0], None  # not computed yet: no change
    axes = {"num_tokens": [1, 2], "snr_db": [-5.0, 5.0]}
    (tmp_path / "results.h5").write_bytes(archive.build_results(points, ["a", "b"], axes, {"study": "test"}))
    results = archive.read_results(tmp_path / "results.h5")
    assert results.dimensions["resource_elements"] == ("scheme", "num_tokens")
    assert results.dimensions["correct"] == ("scheme", "num_tokens", "snr_db", "question")
    assert list(results.axes) == ["num_tokens", "snr_db"]
    np.testing.assert_array_equal(results.variables["resource_elements"], [[16, 32], [5, 5]])
    np.testing.assert_array_equal(results.along("resource_elements", "a"), [[16, 16], [32, 32]])
    with xr.open_dataset(tmp_path / "results.h5", engine="h5netcdf") as data:
        assert data.resource_elements.sel(scheme="a", num_tokens=2) == 32


def test_no_points_no_results(tmp_path):
    with pytest.raises(ValueError, match="run the study first"):
        build(tmp_path / "results.h5", [({"scheme": "a"}, None)])


def test_results_of_another_schema_are_refused(tmp_path):
    path = build(tmp_path / "results.h5", [({"scheme": "a"}, point([0, 1, 1]))])
    as_version_1(path, 99)
    with pytest.raises(ValueError, match=r"it stores \('tokenlink-results', 99\)"):
        archive.read_results(path)
