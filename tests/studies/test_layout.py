"""Figures on paper: of the exact width, with nothing outside of it and nothing over another."""

import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from studies import drawing, layout, plots
from tests.studies.made_up_results import SHAPES, SNR_DB, THREE, made_up

SHAPE = pytest.mark.parametrize("shape", SHAPES)
WIDTH = pytest.mark.parametrize("width", layout.WIDTHS)


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context(fname=drawing.STYLE):
        yield


def draw(chart, width):
    page = layout.lay_out(chart, width)
    return drawing.draw(chart, page), page


@WIDTH
@pytest.mark.parametrize("shape", ["default", "many curves", "a long name"])
def test_files_are_exactly_as_wide_as_a_column(shape, width, tmp_path):
    plots.draw_accuracy(made_up(*SHAPES[shape]), folder=tmp_path, name="figure", width=width)
    inches = {"single": 3.5, "double": 7.16}[width]
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width == round(300 * inches)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        height = picture.height / 300
    (box,) = re.findall(rb"/MediaBox \[([^]]*)\]", (tmp_path / "figure.pdf").read_bytes())
    assert [float(number) for number in box.split()] == pytest.approx([0, 0, 72 * inches, 72 * height], abs=1e-3)
    assert f"rectangle ({inches:g}in,{height:g}in)" in (tmp_path / "figure.pgf").read_text()


def test_up_to_six_curves_take_one_column_and_more_take_two():
    schemes = ("machine-tokens", "caption", "token-indices", "jpeg-ldpc", "deepjscc", "quantized-tokens", "avif-ldpc")
    for num_schemes, inches in ((6, 3.5), (7, 7.16)):
        chart = plots.accuracy_chart(made_up((*schemes[:num_schemes], *THREE[1:]), {"snr_db": SNR_DB}))
        assert layout.lay_out(chart).width == inches


@WIDTH
@SHAPE
def test_nothing_is_cut_off_and_nothing_lies_over_another(shape, width):
    figure, page = draw(plots.accuracy_chart(made_up(*SHAPES[shape])), width)
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()] + figure.legends
    parts = [("frame", axes.bbox) for axes in figure.axes]
    parts += [("legend", legend.get_window_extent(renderer)) for legend in legends]
    for axes in figure.axes:
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
        parts += [(text.get_text(), text.get_window_extent(renderer)) for text in labels if text.get_text()]
    parts += [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    paper = figure.bbox
    for name, box in parts:
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= paper.x1, name
        assert box.y1 <= paper.y1, name
    for (first, one), (second, other) in itertools.combinations(parts, 2):
        inside = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(inside) < 0.01 * figure.dpi, (first, second)
    assert page.height < 11 or (len(page.frames) > 5 and width == "single")  # of a page


def test_every_word_of_an_axis_has_its_label_and_numbers_are_thinned_out():
    chart = plots.accuracy_chart(made_up(*SHAPES["many antennas"]))
    page = layout.lay_out(chart, "single")
    assert page.upright
    assert len(page.ticks) == 16
    page = layout.lay_out(plots.accuracy_chart(made_up(*SHAPES["five hundred SNRs"])), "single")
    assert not page.upright
    assert 2 <= len(page.ticks) < 30


def test_text_is_broken_into_lines_that_fit():
    text = "the same words, none of them lost: a bound"
    lines = layout.wrapped(text, 1.0, 6)
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert max(layout.text_width(line, 6) for line in lines) <= 1.0
    letters = layout.wrapped(100 * "m", 1.0, 6)
    assert "".join(letters) == 100 * "m"
    assert max(layout.text_width(line, 6) for line in letters) <= 1.0


def test_a_width_that_no_column_has_is_refused():
    with pytest.raises(ValueError, match="width 'broad' is neither 'single'"):
        layout.lay_out(plots.accuracy_chart(made_up(THREE, {"snr_db": SNR_DB})), "broad")


def test_the_proposal_is_never_hidden():
    results = made_up(("machine-tokens", "machine-tokens-uncompressed", "wrong-image"), {"snr_db": SNR_DB})
    for name in plots.BOUNDS:
        results.variables[name][:] = results.variables[name][0]  # all curves are one
    figure, _ = draw(plots.accuracy_chart(results), "single")
    figure.canvas.draw()
    axes, pixels = figure.axes[0], np.asarray(figure.canvas.buffer_rgba())
    for at, accuracy in zip(SNR_DB, 100 * results.of("accuracy", "machine-tokens"), strict=True):
        x, y = axes.transData.transform((at, accuracy))
        marker = pixels[len(pixels) - 1 - round(y), round(x), :3]
        assert marker.tolist() == [0x08, 0x51, 0x9C]
    proposal = max(axes.lines, key=lambda line: line.get_zorder())
    assert proposal.get_label() == "machine tokens"
    assert proposal.get_markeredgecolor() == "white"
    assert proposal.get_linewidth() > 1.2 * max(line.get_linewidth() for line in axes.lines if line is not proposal)
