"""Sources of pgfplots: well-formed, complete, and of the text that names contain and no commands."""

import re

import matplotlib as mpl
import numpy as np
import pytest

from studies import drawing, layout, pgfplots, plots
from studies.curves import CURVES
from tests.studies.made_up_results import SHAPES, SNR_DB, made_up
from tests.studies.test_hostile_names import HOSTILE


def source_of(results, width=None, y_range=None):
    chart = plots.accuracy_chart(results, y_range)
    with mpl.rc_context(fname=drawing.STYLE):
        return pgfplots.source(chart, layout.lay_out(chart, width))


def assert_well_formed(source):
    """Every brace and environment is closed in its order, and what is escaped is neither."""
    bare = re.sub(r"%.*", "", re.sub(r"\\[{}%\\]", "", source))
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    open_ = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        assert kind == "begin" or open_.pop() == name
        open_ += [name] * (kind == "begin")
    assert not open_
    assert "\n\n" not in source  # a paragraph inside of a picture
    assert "$$" not in bare


def numbers_in(source):
    return {float(number) for number in re.findall(r"(?<![\w.])-?\d+\.?\d*(?:e[-+]?\d+)?", source)}


@pytest.mark.parametrize("width", layout.WIDTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_source_is_well_formed_and_has_all_numbers(shape, width):
    results = made_up(*SHAPES[shape])
    source = source_of(results, width)
    assert_well_formed(source)
    written = numbers_in(source)
    for scheme in results.schemes:
        level = scheme in CURVES and CURVES[scheme].level
        accuracy = 100 * results.of("accuracy", scheme)
        for number in accuracy.ravel()[:1] if level else accuracy.ravel():
            assert float(f"{number:.6g}") in written
    assert source.count(r"\begin{tikzpicture}") == 1
    assert source.startswith("% In the preamble: \\usepackage{pgfplots}")
    used = set(re.findall(r"\\(?:addplot\[|addlegendimage\{)(curve \d+)", source))
    assert used == set(re.findall(r"\\pgfplotsset\{(curve \d+)/", source))
    assert set(re.findall(r"mark=(mark \d+)", source)) == set(re.findall(r"declareplotmark\{(mark \d+)\}", source))
    colours = set(re.findall(r"\\definecolor\{(\w+)\}", source))
    assert set(re.findall(r"(?:color|fill|draw)=(curve\w+)", source)) <= colours


def test_each_label_is_in_a_legend_once():
    for shape in ("default", "many curves"):
        chart = plots.accuracy_chart(made_up(*SHAPES[shape]))
        expected = [line.label for panel in chart.panels for line in panel.lines] + [
            line.label for line in chart.legend
        ]
        found = re.findall(r"\\addlegendentry\{(.*)\}", source_of(made_up(*SHAPES[shape])))
        assert sorted(words.replace(r"\\", " ") for words in found) == sorted(map(pgfplots.escaped, expected))


def test_bands_bars_bounds_seeds_and_logarithms_are_those_of_the_picture():
    bands = source_of(made_up(*SHAPES["default"]))
    assert "error bars" not in bands
    assert bands.count("-- cycle") == 3 + 3 + 1  # curves, levels, and the bound's hatching
    assert bands.count("pattern=north east lines") == 1
    bars = source_of(made_up(*SHAPES["antennas"]))
    assert bars.count("error bars/.cd, y dir=both, y explicit") == 3
    assert "xtick={0,1,2}, xticklabels={{1x1},{8x16},{16x32}}" in bars
    seeds = source_of(made_up(*SHAPES["seeds"]))
    assert (seeds.count("mark=none"), seeds.count("only marks")) == (1, 1)
    assert "xmode=log, log basis x=2" in source_of(made_up(*SHAPES["widths"]))
    assert "ymin=40, ymax=100" in source_of(made_up(*SHAPES["default"]), y_range=(40, 100))


def test_a_gap_stays_a_gap():
    results = made_up(("machine-tokens",), {"snr_db": SNR_DB})
    for name in plots.BOUNDS:
        results.variables[name][0, 3] = np.nan
    source = source_of(results)
    assert "unbounded coords=jump" in source
    assert "(5,nan)" in source
    assert source.count("-- cycle") == 2
    bars = made_up(("machine-tokens",), {"snr_db": (0.0, 5.0)})
    for name in plots.BOUNDS:
        bars.variables[name][0, 1] = np.nan
    assert "nan" not in source_of(bars)


@pytest.mark.parametrize("name", [*HOSTILE, r"\input{/etc/passwd}", "100%", "a}b{c", "^^41", "x_1&y#~", "\n\n"])
def test_names_are_text_and_no_commands(name):
    results = made_up((name, "machine-tokens"), {"snr_db": SNR_DB[:2], name: ("good", name)})
    source = source_of(results)
    assert_well_formed(source)
    own = {"input", "frac", "write"}
    assert not own & set(re.findall(r"\\([a-zA-Z]+)", source))
    assert "^^" not in source
    assert source.isprintable() or set(filter(lambda letter: not letter.isprintable(), source)) == {"\n"}


def test_every_special_character_is_escaped():
    assert pgfplots.escaped(r"50 % of {x}_1 & #2 ~ $^2 \n <a|b>") == (
        r"50 \% of \{x\}\_1 \& \#2 \textasciitilde{} \$\textasciicircum{}2 \textbackslash{}n "
        r"\textless{}a\textbar{}b\textgreater{}"
    )
    assert pgfplots.escaped("Größe\n\nof　日") == "Größe of ?"


def test_every_marker_of_the_table_is_declared():
    source = source_of(made_up([name for name in CURVES], {"snr_db": SNR_DB}))
    markers = {curve.line["marker"] for curve in CURVES.values() if "marker" in curve.line}
    assert len(re.findall(r"\\pgfdeclareplotmark", source)) == len(markers)
