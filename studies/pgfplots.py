r"""Charts as source of pgfplots, for `\input` in LaTeX: the same lines, places and sizes, to be restyled by hand.

It is written from the numbers. No LaTeX has to be there for that.
"""

import itertools
import re
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import cbook
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

from studies.chart import Chart, Line
from studies.drawing import BAND, HATCH, HATCH_WHITE, LEVEL_BAND, LEVEL_COLOUR, in_order, style_of_line
from studies.layout import CAPTION_SIZE, COLUMN, HANDLE, LINE_HEIGHT, MARGIN, Frame, Legend, Page

PREAMBLE = r"\usepackage{pgfplots} \pgfplotsset{compat=1.16} \usetikzlibrary{patterns}"
_ESCAPED = {
    **{character: f"\\{character}" for character in "{}$&#_%"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
}
_STEPS = {
    Path.MOVETO: "moveto",
    Path.LINETO: "lineto",
    Path.CURVE3: "quadraticcurveto",
    Path.CURVE4: "curveto",
    Path.CLOSEPOLY: "close",
}


def source(chart: Chart, page: Page) -> str:
    """Return a chart as a `tikzpicture` with an `axis` of pgfplots for each panel.

    Parameters
    ----------
    chart : Chart
    page : Page
        As `layout.lay_out` returns it, under the same settings of matplotlib.
    """
    shown = [line for panel in chart.panels for line in (*panel.references, *panel.lines)]
    names = {key: f"curve {number}" for number, key in enumerate(dict.fromkeys(map(_key, shown)), start=1)}
    markers = [style["marker"] for style in map(style_of_line, shown) if _has_mark(style)]
    marks = {repr(marker): (f"mark {number}", marker) for number, marker in enumerate(dict.fromkeys(markers), start=1)}

    text = [f"% In the preamble: {PREAMBLE}", rf"\begin{{tikzpicture}}[font={_font(mpl.rcParams['axes.labelsize'])}]"]
    text += [_mark(name, marker) for name, marker in marks.values()]
    for line in {_key(line): line for line in reversed(shown)}.values():
        text += _style(names[_key(line)], line, marks)
    text.append(rf"\path[use as bounding box] (0in,0in) rectangle ({page.width:g}in,{page.height:g}in);")
    for panel, frame in zip(chart.panels, page.frames, strict=True):
        text += _axis(chart, page, frame)
        text += _legend([names[_key(line)] for line in panel.lines if line.label], frame.legend)
        for line in in_order((*panel.references, *panel.lines)):
            text += _plots(chart, line, names[_key(line)])
        text.append(r"\end{axis}")
        if panel.title:
            text.append(
                _node(panel.title, frame.x, frame.title_y, f"{_font(mpl.rcParams['axes.titlesize'])}\\bfseries")
            )
    if chart.legend:
        style = f"legend columns={page.legend.columns}, {_legend_style(page.legend.x, page.legend.y, 'in')}"
        box = "hide axis, scale only axis, width=1in, height=1in, xmin=0, xmax=1, ymin=0, ymax=1"
        text.append(rf"\begin{{axis}}[{box}, {style}]")
        text += [*_legend([names[_key(line)] for line in chart.legend], page.legend), r"\end{axis}"]
    for number, words in enumerate(reversed(page.caption)):
        text.append(
            _node(words, MARGIN, MARGIN + (number * LINE_HEIGHT + 0.2) * CAPTION_SIZE / 72, _font(CAPTION_SIZE))
        )
    return "\n".join([*text, r"\end{tikzpicture}%", ""])


def escaped(text: str) -> str:
    """Return a text as LaTeX shows it, on one line; letters that pdfLaTeX lacks become question marks."""
    plain = " ".join(text.split())
    known = (letter if letter.isprintable() and ord(letter) < 0x180 else "?" for letter in plain)
    return "".join(_ESCAPED.get(letter, letter) for letter in known)


def _key(line: Line) -> str:
    return repr((line.scheme, line.proposal, sorted(line.style.items())))


def _font(points: float) -> str:
    return rf"\fontsize{{{points:g}}}{{{LINE_HEIGHT * points:g}}}\selectfont"


def _node(words: str, x: float, y: float, font: str) -> str:
    return rf"\node[anchor=base west, inner sep=0pt, font={font}] at ({x:.4f}in,{y:.4f}in) {{{escaped(words)}}};"


def _has_mark(style: dict[str, Any]) -> bool:
    return style.get("marker") not in (None, "", " ", "None", "none")


def _mark(name: str, marker: Any) -> str:
    """Declare matplotlib's marker as a mark, so that both figures look alike."""
    made = MarkerStyle(marker)
    steps = []
    for ends, step in made.get_path().transformed(made.get_transform()).iter_segments(simplify=False):
        points = np.zeros((0, 2)) if step == Path.CLOSEPOLY else 2 * ends.reshape(-1, 2)
        where = "".join(rf"{{\pgfpoint{{{x:.4f}\pgfplotmarksize}}{{{y:.4f}\pgfplotmarksize}}}}" for x, y in points)
        steps.append(rf"\pgfpath{_STEPS[step]}{where}")
    use = r"\pgfusepathqfillstroke" if made.is_filled() else r"\pgfusepathqstroke"
    return rf"\pgfdeclareplotmark{{{name}}}{{{''.join(steps)}{use}}}"


def _style(name: str, line: Line, marks: dict[str, tuple[str, Any]]) -> list[str]:
    """Define colour and style of a line, under a name that the axes use."""
    style = cbook.normalize_kwargs(style_of_line(line), Line2D)
    width = style.get("linewidth", mpl.rcParams["lines.linewidth"])
    options = [f"color={_colour(name)}", f"line width={width:g}pt", *_dashes(style.get("linestyle", "-"), width)]
    colours = [("", style.get("color", "0.2"))]
    if _has_mark(style):
        size = style.get("markersize", mpl.rcParams["lines.markersize"])
        options += [f"mark={marks[repr(style['marker'])][0]}", f"mark size={size / 2:g}pt"]
        if repeat := style.get("markevery"):
            options.append(f"mark repeat={repeat}")
        edge = style.get("markeredgewidth", mpl.rcParams["lines.markeredgewidth"])
        own = [f"solid, line width={edge:g}pt"]
        for key, part in (("fill", "markerfacecolor"), ("draw", "markeredgecolor")):
            colour = style.get(part, style.get("color", "0.2"))
            own.append(f"{key}={'none' if str(colour) == 'none' else _colour(name, key)}")
            colours += [] if str(colour) == "none" else [(key, colour)]
        options.append(f"mark options={{{', '.join(own)}}}")
    return [
        f"% {escaped(line.label or line.scheme)}",
        *(
            rf"\definecolor{{{_colour(name, part)}}}{{HTML}}{{{to_hex(colour)[1:].upper()}}}"
            for part, colour in colours
        ),
        rf"\pgfplotsset{{{name}/.style={{{', '.join(options)}}}}}",
    ]


def _colour(name: str, part: str = "") -> str:
    return (name + part).replace(" ", "")


def _dashes(linestyle: Any, width: float) -> list[str]:
    settings = mpl.rcParams
    patterns = {
        **dict.fromkeys(("--", "dashed"), settings["lines.dashed_pattern"]),
        **dict.fromkeys(("-.", "dashdot"), settings["lines.dashdot_pattern"]),
        **dict.fromkeys((":", "dotted"), settings["lines.dotted_pattern"]),
    }
    if linestyle in ("", " ", "None", "none"):
        return ["only marks"]
    pattern = patterns.get(linestyle, ()) if isinstance(linestyle, str) else linestyle[1] or ()
    parts = [f"{word} {width * length:.3g}pt" for word, length in zip(itertools.cycle(("on", "off")), pattern)]
    return [f"dash pattern={' '.join(parts)}"] if parts else []


def _axis(chart: Chart, page: Page, frame: Frame) -> list[str]:
    ticks = ",".join(f"{chart.ticks[tick]:.6g}" for tick in page.ticks)
    labels = ",".join(f"{{{_tick(chart.tick_labels[tick])}}}" for tick in page.ticks)
    options = [
        f"scale only axis, width={frame.width:.4f}in, height={frame.height:.4f}in",
        f"at={{({frame.x:.4f}in,{frame.y:.4f}in)}}, anchor=south west",
        "xmin={:.6g}, xmax={:.6g}, ymin={:.6g}, ymax={:.6g}".format(*chart.x_range, *chart.y_range),
        f"xtick={{{ticks}}}, xticklabels={{{labels}}}, ytick={{{','.join(f'{tick:g}' for tick in page.y_ticks)}}}",
        "axis x line*=bottom, axis y line*=left, tick align=inside, unbounded coords=jump",
        "grid=major, grid style={line width=0.4pt, black!12}, axis line style={line width=0.6pt}",
        f"tick style={{black, line width=0.5pt}}, tick label style={{font={_font(mpl.rcParams['xtick.labelsize'])}}}",
        *(["x tick label style={rotate=90}"] if page.upright else []),
        *([f"xmode=log, log basis x={chart.log_base}"] if chart.log_base else []),
        *([f"xlabel={{{_lines(page.x_label)}}}, xlabel style={{align=center}}"] if frame.bottom else []),
        f"ylabel={{{escaped(chart.y_label)}}}" if frame.left else "yticklabels={}",
    ]
    if frame.legend.labels:
        x, y = (frame.legend.x - frame.x) / frame.width, (frame.legend.y - frame.y) / frame.height
        options.append(f"legend columns={frame.legend.columns}, {_legend_style(x, y)}")
    return [r"\begin{axis}[", *(f"  {option}," for option in options), "]"]


def _tick(label: str) -> str:
    return f"${label}$" if re.fullmatch(r"[-+]?\d+\.?\d*", label) else escaped(label)


def _legend_style(x: float, y: float, unit: str = "") -> str:
    size = mpl.rcParams["legend.fontsize"]
    style = [
        f"at={{({x:.4f}{unit},{y:.4f}{unit})}}, anchor=north west, draw=none, fill=none, inner sep=0pt",
        f"font={_font(mpl.rcParams['legend.fontsize'])}, cells={{anchor=west, align=left}}",
        "row sep=0pt, nodes={inner xsep=2pt, inner ysep=0.6pt}",
        f"/tikz/every even column/.append style={{column sep={COLUMN * size / 4:g}pt}}",
    ]
    ends = " ".join(f"({part * HANDLE * size:g}pt,0pt)" for part in (0, 0.5, 1))
    image = rf"\draw[mark repeat=2, mark phase=2, #1] plot coordinates {{{ends}}};"
    return f"legend style={{{', '.join(style)}}}, legend image code/.code={{{image}}}"


def _legend(names: list[str], legend: Legend) -> list[str]:
    """Name the lines; pgfplots fills its legend row by row, matplotlib column by column."""
    entries = np.array_split(np.arange(len(names)), max(1, legend.columns))
    rows = (column[row] for row in range(len(names)) for column in entries if row < len(column))
    return [rf"\addlegendimage{{{names[i]}}} \addlegendentry{{{_lines(legend.labels[i].splitlines())}}}" for i in rows]


def _lines(words: Iterable[str]) -> str:
    return r"\\".join(map(escaped, words))


def _plots(chart: Chart, line: Line, name: str) -> list[str]:
    """Write a line with its interval, its hatching and its single outcomes."""
    x, y, colour = line.x, line.y, _colour(name)
    plots, bars = [], bool(line.intervals) and not line.level and not chart.bands
    low, high = line.intervals or (y, y)
    if line.intervals and not bars:
        fill = (LEVEL_COLOUR, LEVEL_BAND) if line.level else (colour, BAND)
        plots += _areas(x, low, high, "fill={}, fill opacity={}".format(*fill))
    if line.hatched:
        top = y + HATCH * (chart.y_range[1] - chart.y_range[0])
        plots += _areas(x, y, top, f"pattern=north east lines, pattern color={colour}!{100 * (1 - HATCH_WHITE):g}")
    if line.points is not None:
        dots = _coordinates(np.repeat(x, line.points.shape[1]), line.points.ravel())
        plots.append(rf"\addplot[{name}, forget plot, mark=none] coordinates {{{_coordinates(x, y)}}};")
        return [*plots, rf"\addplot[{name}, forget plot, only marks] coordinates {{{dots}}};"]
    if not bars:
        return [*plots, rf"\addplot[{name}, forget plot] coordinates {{{_coordinates(x, y)}}};"]
    ends = (
        f"({a:.6g},{b:.6g}) += (0,{max(0, above - b):.6g}) -= (0,{max(0, b - below):.6g})"
        for a, b, below, above in zip(x, y, low, high, strict=True)
        if np.isfinite(b)
    )
    options = f"{name}, forget plot, error bars/.cd, y dir=both, y explicit, error bar style={{solid}}"
    return [*plots, rf"\addplot[{options}] coordinates {{{' '.join(ends)}}};"]


def _areas(x: np.ndarray, low: np.ndarray, high: np.ndarray, fill: str) -> list[str]:
    """Fill between two lines, wherever both are there."""
    there = np.isfinite(low) & np.isfinite(high)
    runs = np.split(np.arange(len(x)), np.flatnonzero(np.diff(there)) + 1)
    parts = [
        (np.append(x[run], x[run][::-1]), np.append(low[run], high[run][::-1])) for run in runs if there[run].all()
    ]
    return [
        rf"\addplot[draw=none, {fill}, forget plot] coordinates {{{_coordinates(*part)}}} -- cycle;" for part in parts
    ]


def _coordinates(x: Iterable[float], y: Iterable[float]) -> str:
    return " ".join(f"({a:.6g},{b:.6g})" for a, b in zip(x, y, strict=True))
