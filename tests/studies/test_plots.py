"""What figures of accuracy show: numbers, intervals, bounds, seeds, and where they come from."""

import json

import matplotlib as mpl
import numpy as np
import pytest

from studies import drawing, layout, plots
from studies.curves import CURVES
from tests.studies.made_up_results import LINK, SHAPES, SNR_DB, THREE, made_up


def axes_of(results, **options):
    """The frame of a figure that has one."""
    chart = plots.accuracy_chart(results, **options)
    with mpl.rc_context(fname=drawing.STYLE):
        figure = drawing.draw(chart, layout.lay_out(chart))
    (axes,) = figure.axes
    return axes


def line_of(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def bands_of(axes, color):
    """The filled areas of a colour."""
    wanted = mpl.colors.to_rgb(color)
    plain = [area for area in axes.collections if not area.get_hatch() and area.get_alpha()]
    return [area for area in plain if tuple(area.get_facecolor()[0][:3]) == wanted]


def test_a_curve_and_its_band_are_at_their_numbers():
    results = made_up(THREE, {"snr_db": SNR_DB})
    axes = axes_of(results)
    line = line_of(axes, "machine tokens")
    np.testing.assert_array_equal(line.get_xdata(), SNR_DB)
    np.testing.assert_array_equal(line.get_ydata(), 100 * results.of("accuracy", "machine-tokens"))
    (band,) = bands_of(axes, CURVES["machine-tokens"].line["color"])
    corners = band.get_paths()[0].vertices
    for name in ("accuracy_low", "accuracy_high"):
        for point in zip(SNR_DB, 100 * results.of(name, "machine-tokens"), strict=True):
            assert np.abs(corners - point).max(1).min() < 1e-9
    assert not axes.containers  # no bars
    level = line_of(axes, "raw image (upper bound)")
    assert set(level.get_ydata()) == {100 * results.of("accuracy", "raw-image")[0]}
    assert tuple(level.get_xdata()) == axes.get_xlim()


@pytest.mark.parametrize("along", [{"snr_db": (0.0, 20.0)}, {"antennas": ("1x2", "2x2", "4x8", "8x8")}])
def test_intervals_of_few_values_or_of_words_are_bars(along):
    axes = axes_of(made_up(("machine-tokens", "caption"), along))
    assert len(axes.containers) == 2
    assert not any(bands_of(axes, CURVES[name].line["color"]) for name in ("machine-tokens", "caption"))
    chart = plots.accuracy_chart(made_up(("machine-tokens", "caption"), along))
    assert chart.caption.endswith("Bars: 95 % Wilson intervals.")


def test_bars_over_words_stand_side_by_side():
    axes = axes_of(made_up(("machine-tokens", "caption", "deepjscc"), {"antennas": ("1x2", "4x8")}))
    where = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
    assert len({float(x[1]) for x in where}) == 3
    np.testing.assert_allclose(np.mean(where, axis=0), [0, 1], atol=1e-9)
    assert np.abs(np.array(where) - [0, 1]).max() < 0.5


def test_of_seeds_mean_and_standard_deviation_are_drawn_along_the_other_axis():
    results = made_up(*SHAPES["seeds"])
    axes = axes_of(results)
    accuracy = 100 * results.of("accuracy", "machine-tokens")  # [seed, snr_db]
    line = line_of(axes, "machine tokens")
    np.testing.assert_array_equal(line.get_xdata(), SNR_DB)
    np.testing.assert_allclose(line.get_ydata(), accuracy.mean(0))
    (band,) = bands_of(axes, CURVES["machine-tokens"].line["color"])
    corners = band.get_paths()[0].vertices
    for sign in (-1, 1):
        ends = accuracy.mean(0) + sign * accuracy.std(0, ddof=1)
        for point in zip(SNR_DB, ends, strict=True):
            assert np.abs(corners - point).max(1).min() < 1e-9
    dots = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) == accuracy.size]
    assert sorted(map(tuple, dots[0])) == sorted(
        (at, y) for seed in accuracy for at, y in zip(SNR_DB, seed, strict=True)
    )
    caption = plots.accuracy_chart(results).caption
    assert "Mean of 3 training seeds; bands: standard deviation; dots: each seed" in caption
    assert "Wilson" not in caption


def test_a_seed_alone_is_drawn_as_any_curve_and_a_missing_one_leaves_a_gap():
    one = made_up(THREE, {"seed": (7,), "snr_db": SNR_DB})
    assert "machine tokens, seed 7" in [line.label for line in plots.accuracy_chart(one).panels[0].lines]
    results = made_up(*SHAPES["seeds"])
    for name in plots.BOUNDS:
        results.variables[name][0, 1:, 2] = np.nan  # one seed is left
        results.variables[name][0, :, 3] = np.nan
    line = next(line for line in plots.accuracy_chart(results).panels[0].lines if line.proposal)
    assert np.isnan(line.low).tolist() == [at in (2, 3) for at in range(len(SNR_DB))]
    assert np.isnan(line.y).tolist() == [at == 3 for at in range(len(SNR_DB))]
    axes_of(results)


def test_widths_stand_on_a_logarithmic_axis_of_base_two():
    axes = axes_of(made_up(*SHAPES["widths"]))
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_transform().base == 2
    assert [text.get_text() for text in axes.get_xticklabels()] == ["8", "16", "32", "64", "128"]
    where = axes.transData.transform([(width, 50) for width in (8, 16, 32, 64, 128)])[:, 0]
    np.testing.assert_allclose(np.diff(where), np.diff(where)[0])


def test_bounds_are_hatched_above():
    axes = axes_of(made_up(("bound-digital", "raw-image", "question-only"), {"snr_db": SNR_DB}))
    hatched = [area for area in axes.collections if area.get_hatch()]
    assert len(hatched) == 2
    lows = [area.get_paths()[0].vertices[:, 1].min() for area in hatched]
    assert sorted(lows) == pytest.approx(sorted(min(line.get_ydata()) for line in axes.lines if line.get_label() in (
        CURVES["bound-digital"].label, CURVES["raw-image"].label)))  # fmt: skip
    assert "Hatched: above a bound" in plots.accuracy_chart(made_up(THREE, {"snr_db": SNR_DB})).caption


def test_the_range_is_that_of_what_is_drawn_or_the_one_that_is_asked_for():
    results = made_up(THREE, {"snr_db": SNR_DB})
    low, high = axes_of(results).get_ylim()
    assert (low % 10, high % 10) == (0, 0)
    assert 0 <= low <= 100 * results.variables["accuracy_low"].min()
    assert 100 * results.variables["accuracy_high"].max() <= high <= 100
    assert axes_of(results, y_range=(25.0, 95.0)).get_ylim() == (25, 95)
    for wrong in ((60, 40), (40, 40), (-1, 50), (40, 101), (float("nan"), 100), (0, float("inf"))):
        with pytest.raises(ValueError, match=r"range .* is none of accuracy; give two values from 0 to 100 %"):
            plots.accuracy_chart(results, wrong)


def test_the_caption_says_what_the_numbers_are_of():
    results = made_up(THREE, {"snr_db": SNR_DB}, num_missing_points=3)
    assert plots.accuracy_chart(results).caption == (
        "cdl-c, 4x8 antennas, lmmse estimate, vamp recovery, 2000 questions per point. Bands: 95 % Wilson intervals. "
        "Hatched: above a bound. 3 points are missing."
    )
    along = plots.caption(made_up(THREE, {"antennas": ("2x4", "4x8"), "channel": ("awgn", "umi")}))
    assert along == "lmmse estimate, vamp recovery, 2000 questions per point."  # axes say the rest
    older = made_up(THREE, {"snr_db": SNR_DB}, config_json=json.dumps({"link": {"channel": LINK["channel"]}}))
    assert plots.caption(older) == "cdl-c, 2000 questions per point."
    del older.attributes["config_json"]
    assert plots.caption(older) == "2000 questions per point."


def test_the_same_numbers_give_the_same_bytes_and_no_date(tmp_path):
    for name in ("first", "second"):
        plots.draw_accuracy(made_up(*SHAPES["default"]), folder=tmp_path / name, name="figure")
    files = {path.suffix: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert set(files) == {".png", ".pdf", ".pgf", ".csv"}
    for suffix, content in files.items():
        assert (tmp_path / "second" / f"figure{suffix}").read_bytes() == content
        assert b"Date" not in content


def test_style_of_is_what_the_table_or_the_archive_says():
    own = json.dumps({"mine": {"label": "my curve", "line": {"color": "red"}, "level": False}})  # of before groups
    results = made_up(("mine", "nobodys", *THREE), {"snr_db": SNR_DB}, own_curves_json=own)
    assert plots.style_of(results, "mine") == ("my curve", {"color": "red", "linestyle": "-"}, False)
    label, line, level = plots.style_of(results, "nobodys")
    assert (label, line["marker"], level) == ("nobodys", ".", False)
    assert plots.style_of(results, "raw-image") == (CURVES["raw-image"].label, dict(CURVES["raw-image"].line), True)


def test_curves_without_a_style_differ_in_colour_or_dashes():
    schemes = [f"nobodys-{number}" for number in range(12)]
    results = made_up(schemes, {"snr_db": SNR_DB})
    lines = [plots.style_of(results, scheme)[1] for scheme in schemes]
    assert len({(line["color"], line["linestyle"]) for line in lines}) == len(schemes)
    assert not plots.style_of(results, schemes[0])[1].keys() - {"color", "linestyle", "marker"}


def test_a_curve_from_outside_may_have_any_keyword_of_a_line(tmp_path):
    line = {"c": "red", "ls": (0, (4, 1)), "mfc": "none", "marker": "h", "lw": 2}
    own = json.dumps({"mine": {"label": "mine", "line": line, "level": False}})
    results = made_up(("mine", *THREE), {"snr_db": SNR_DB}, own_curves_json=own)
    plots.draw_accuracy(results, folder=tmp_path, name="figure")
    source = (tmp_path / "figure.pgf").read_text()
    assert "line width=2pt, dash pattern=on 8pt off 2pt" in source
    assert "fill=none" in source
    drawn = line_of(axes_of(results), "mine")
    assert (drawn.get_color(), drawn.get_markerfacecolor(), drawn.get_linewidth()) == ("red", "none", 2)
