"""Figures as source of TikZ: well-formed, with every word as words and every stroke where it is drawn."""

import io
import re
from random import Random

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from studies import drawing, tikz
from tests.studies.test_hostile_names import HOSTILE
from tests.studies.test_pgfplots import assert_well_formed

POINT = re.compile(r"\((-?[\d.]+),(-?[\d.]+)\)")


def figure_of(draw, size=(3.5, 2.0)):
    """Return a figure with what a function draws on its axes."""
    with mpl.rc_context(fname=drawing.STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        return figure


def test_a_line_stands_where_the_picture_has_it():
    rng = np.random.default_rng(3)
    x, y = np.sort(rng.uniform(0, 9, 7)), rng.uniform(-4, 4, 7)
    figure = figure_of(lambda axes: axes.plot(x, y, color="#123456", marker="o", label="line"))
    source = tikz.source(figure)
    assert_well_formed(source)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    expected = axes.transData.transform(np.column_stack([x, y])) * tikz.POINTS / figure.dpi
    strokes = [line for line in source.splitlines() if line.count("--") == len(x) - 1]
    drawn = [np.array(POINT.findall(line.split("] ")[-1]), dtype=float) for line in strokes]
    assert any(points.shape == expected.shape and np.allclose(points, expected, atol=0.01) for points in drawn)
    width, height = figure.get_size_inches() * 72
    assert f"rectangle ({width:g},{height:g})" in source


def test_source_leaves_the_picture_as_it_was():
    figure = figure_of(lambda axes: axes.barh([0, 1, 2], [3, 1, 2]))
    pictures = []
    for _ in range(2):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        pictures.append(buffer.getvalue())
        tikz.source(figure)
    assert pictures[0] == pictures[1]


def test_bars_on_a_logarithmic_axis_end_where_tex_can_follow():
    """They begin at minus infinity; TeX knows no lengths above 16384 points."""

    def draw(axes):
        axes.barh([0, 1], [0.03, 20.0])
        axes.set_xscale("log")
        axes.set_xlim(0.01, 100)

    numbers = [abs(float(part)) for point in POINT.findall(tikz.source(figure_of(draw))) for part in point]
    assert max(numbers) < 16384 / 4


@pytest.mark.parametrize("words", HOSTILE)
def test_words_stay_words(words):
    def draw(axes):
        axes.plot([0, 1], [0, 1])
        axes.set_yticks([0.5], [words.replace("$", "")])  # dollars are matplotlib's mathematics

    assert_well_formed(tikz.source(figure_of(draw)))


def test_a_curve_becomes_the_same_curve():
    """A quadratic curve is a cubic one whose control points lie two thirds of the way to its own."""
    rng = Random(1)
    ends = np.array([[rng.uniform(0, 50) for _ in range(2)] for _ in range(3)])
    path = tikz.Path(ends, [tikz.Path.MOVETO, tikz.Path.CURVE3, tikz.Path.CURVE3])
    start, first, second, end = np.array(POINT.findall("".join(tikz._steps(path))), dtype=float)
    for share in np.linspace(0, 1, 5):
        rest = 1 - share
        quadratic = rest**2 * ends[0] + 2 * rest * share * ends[1] + share**2 * ends[2]
        cubic = rest**3 * start + 3 * rest**2 * share * first + 3 * rest * share**2 * second + share**3 * end
        assert np.allclose(cubic, quadratic, atol=0.01)


def test_a_figure_with_pictures_is_refused():
    with pytest.raises(ValueError, match="save it as PDF"):
        tikz.source(figure_of(lambda axes: axes.imshow(np.zeros((4, 4)))))
