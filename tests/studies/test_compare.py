"""`tokenlink compare`: what two runs have in common, value by value, and what only one of them has."""

import numpy as np
import pytest
from typer.testing import CliRunner

from studies import archive, cli, tables
from studies.compare import compare, load

QUESTIONS = {
    "question": np.array([4, 7, 9]),
    "image_index": np.array([0, 0, 3]),
    "family": np.array(["query", "exist", "count"]),
    "realisation": np.arange(3),
}
AXES = {"antennas": ["2x4", "4x8"], "snr_db": [-5.0, 5.0]}


def results(axes=AXES, schemes=("a", "b"), change=lambda coordinates, point: None, res=16.0):
    """Results whose numbers follow from the coordinates alone, but for a change."""
    points = []
    for scheme in schemes:
        for antennas in axes["antennas"]:
            for snr_db in axes["snr_db"]:
                coordinates = {"scheme": scheme, "antennas": antennas, "snr_db": snr_db}
                seed = sum(map(ord, f"{scheme}{antennas}{snr_db}"))
                arrays = {**QUESTIONS, "correct": np.random.default_rng(seed).integers(0, 2, 3).astype(np.uint8)}
                scalars = {**dict.fromkeys(archive.SCALARS, np.nan), **dict.fromkeys(archive.LEDGER, res)}
                point = archive.Point({}, arrays, {**scalars, "code_nmse": seed / 1000})
                change(coordinates, point)
                points.append((coordinates, point))
    return archive.parse_results(archive.build_results(points, schemes, axes, {"study": "test"}))


def differing(first, second):
    return {difference.name: difference for difference in compare(first, second) if not difference.equal}


def test_equal_results_are_equal_in_every_variable():
    differences = compare(results(), results())
    assert {difference.name for difference in differences} >= {"scheme", "antennas", "correct", "family", "code_nmse"}
    assert all(difference.equal for difference in differences)
    by_name = {difference.name: difference for difference in differences}
    assert (by_name["correct"].num_values, by_name["code_nmse"].num_values) == (2 * 2 * 2 * 3, 8)
    assert by_name["psnr"].largest == 0  # where both have NaN they are equal


def test_a_changed_value_is_counted_measured_and_named_by_its_scheme():
    def change(coordinates, point):
        if coordinates == {"scheme": "b", "antennas": "4x8", "snr_db": 5.0}:
            point.scalars["code_nmse"] += 0.25
            point.arrays["correct"][1] ^= 1

    found = differing(results(), results(change=change))
    assert set(found) == {"correct", "accuracy", "accuracy_low", "accuracy_high", "code_nmse"}
    assert (found["code_nmse"].num_different, found["code_nmse"].remarks) == (1, ("in b",))
    assert found["code_nmse"].largest == pytest.approx(0.25)
    assert (found["correct"].num_different, found["correct"].largest) == (1, 1)


def test_a_number_against_none_is_a_difference_without_a_gap():
    def change(coordinates, point):
        point.scalars["psnr"] = 20.0

    found = differing(results(), results(change=change))
    assert found["psnr"].num_different == 8
    assert np.isnan(found["psnr"].largest)


def test_what_only_one_side_has_is_named_and_the_rest_is_compared():
    fewer = results(axes={"antennas": ["4x8"], "snr_db": [-5.0, 5.0]}, schemes=("b",))
    differences = {difference.name: difference for difference in compare(results(), fewer)}
    assert differences["scheme"].remarks == ("only the first has a",)
    assert differences["antennas"].remarks == ("only the first has 2x4",)
    assert {name for name, difference in differences.items() if not difference.equal} == {"scheme", "antennas"}
    assert differences["correct"].num_values == 1 * 1 * 2 * 3
    more = results(axes={"antennas": ["2x4", "4x8"], "snr_db": [-5.0, 0.0, 5.0]})
    assert differing(results(), more)["snr_db"].remarks == ("only the second has 0",)


def test_schemes_and_values_in_another_order_are_compared_by_name():
    turned = results(axes={"antennas": ["4x8", "2x4"], "snr_db": [-5.0, 5.0]}, schemes=("b", "a"))
    found = differing(results(), turned)
    assert {name: difference.remarks for name, difference in found.items()} == {
        "scheme": ("in another order",),
        "antennas": ("in another order",),
    }


def test_a_ledger_that_follows_an_axis_is_compared_with_one_that_does_not():
    def change(coordinates, point):
        if coordinates["antennas"] == "4x8":
            point.scalars["data_res"] = 8.0

    found = differing(results(), results(change=change))
    assert set(found) == {"data_res"}
    assert (found["data_res"].num_different, found["data_res"].largest) == (4, 8)


def test_a_text_that_changed_is_counted():
    other = {**QUESTIONS, "family": np.array(["query", "exist", "same"])}

    def change(coordinates, point):
        point.arrays.update(other)

    assert differing(results(), results(change=change))["family"].num_different == 1


def call(*arguments):
    done = CliRunner().invoke(cli.app, ["compare", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def write(folder, **options):
    """A folder with an archive alone, as another machine may have sent it."""
    made = results(**options)
    points = [
        ({"scheme": scheme}, archive.Point({}, {**QUESTIONS, "correct": np.ones(3, np.uint8)}, {}))
        for scheme in made.schemes
    ]
    for _, point in points:
        point.scalars.update({**dict.fromkeys(archive.SCALARS, 0.5), **dict.fromkeys(archive.LEDGER, 1.0)})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.h5"
    path.write_bytes(archive.build_results(points, made.schemes, AXES, {"study": "test"}))
    return path


def test_the_command_says_it_and_its_exit_status_says_it_too(tmp_path):
    first, second = tmp_path / "[red]one[/]", tmp_path / "two"
    write(first)
    write(second)
    code, out, _ = call(first, second / "results.h5")
    assert (code, "everything is equal" in out) == (0, True)
    write(second, schemes=("a", "c"))
    code, out, _ = call(first, second)
    assert code == 1
    assert "scheme: only the first has b" in out
    assert "variables differ" in out
    code, _, err = call(first, tmp_path / "nowhere")
    assert code == 2
    assert "nowhere is no run folder" in err
    (second / "results.h5").write_bytes(b"no archive")
    code, _, err = call(first, second)
    assert (code, "results.h5 cannot be read" in err) == (2, True)


def test_a_run_folder_is_read_from_its_points_where_it_has_no_archive(fakes, config, tmp_path):
    from studies import accuracy_vs_snr

    accuracy_vs_snr.main(config, out=tmp_path / "first")
    accuracy_vs_snr.main(config, out=tmp_path / "second")
    (tmp_path / "second" / "results.h5").unlink()
    assert not differing(load(tmp_path / "first"), load(tmp_path / "second"))
    assert not (tmp_path / "second" / "results.h5").exists()


def test_the_table_has_a_row_for_each_variable():
    grid = tables.difference_table(compare(results(), results(res=17.0)))
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["accuracy"] == ["8", "0", "0", "equal"]
    assert rows["data_res"] == ["8", "8", "1", "different"]
