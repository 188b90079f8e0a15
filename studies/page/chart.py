"""The figure as inline SVG: lines that can be switched off, points that tell their interval on hover or focus."""

import json
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike

from studies.archive import Results
from studies.axes import axis_of, named, written
from studies.page.lines import Line, Style, key_of, lines_of
from studies.page.markup import Html, element, joined
from studies.plots import positions, style_of
from studies.tables import PROPOSAL

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 66, 704, 14, 366  # edges of what is drawn in
MARKER = 7.5  # size of a marker
DIGIT, DIGIT_ON_PHONES = 8, 14  # width of a digit: style.css writes larger on narrow screens
HAIR, BETWEEN_HAIRS = 6, 11  # of a bound
STEPS = (1, 2, 5, 10, 20)  # between ticks of accuracy, [%]
MOST_TICKS = 8


class Frame:
    """From coordinates and percentages to the figure's own units.

    Parameters
    ----------
    x, y : array_like
        Everything that has to fit; NaN does not count.
    """

    def __init__(self, x: ArrayLike, y: ArrayLike):
        self.x_range = float(np.min(x)), float(np.max(x))
        low, high = float(np.nanmin(y)), float(np.nanmax(y))
        self.step = next((step for step in STEPS if (high - low) / step <= MOST_TICKS - 1), STEPS[-1])
        bottom, top = self.step * np.floor(low / self.step), self.step * np.ceil(high / self.step)
        self.bottom, self.top = float(bottom), float(max(top, bottom + self.step))

    def across(self, x: float) -> float:
        """Return the horizontal place of a value."""
        first, last = self.x_range
        share = (x - first) / (last - first) if last > first else 0.5
        return round(LEFT + 16 + share * (RIGHT - LEFT - 32), 1)

    def up(self, percent: float) -> float:
        """Return the vertical place of an accuracy."""
        return round(BOTTOM - (percent - self.bottom) / (self.top - self.bottom) * (BOTTOM - TOP), 1)

    def ticks(self) -> list[float]:
        """Return the accuracies with a line of the grid."""
        return np.arange(self.bottom, self.top + self.step / 2, self.step).tolist()


def chart(results: Results, name: str, heading: str) -> Html:
    """Return accuracy along the first axis as a figure with its switches.

    Parameters
    ----------
    results : Results
    name : str
        Start of the identifiers in it.
    heading : str
        Identifier of the heading that names it.
    """
    axis, *others = results.axes
    lines, along = lines_of(results), positions(results, axis)
    if not lines:
        return element("p", "No curve of this run is complete yet.")
    reached = np.concatenate([part for line in lines for part in (line.low, line.high)])
    frame = Frame([*along, *(x for line in lines for x in line.x if not line.level)], reached)
    heads = [written(value) for value in results.coordinates[axis].tolist()]
    front = sorted(lines, key=lambda line: line.scheme == PROPOSAL)  # the proposal is never hidden
    drawn = element(
        "svg",
        _axes(frame, [frame.across(x) for x in along], heads, axis_of(axis).label),
        *(_level(frame, line) if line.level else _line(frame, line) for line in front),
        element("g", element("rect", rx=3), element("text"), element("text"), class_="tip", hidden=True),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="group",
        aria_labelledby=heading,
    )
    notes = [f"{len(results.coordinates['question'])} questions per point; intervals: 95 % Wilson"]
    if any(line.level for line in lines):
        notes.append("levels without markers do not depend on the link")
    if any(line.bound for line in lines):
        notes.append("a line with hairs is a bound: what it bounds is not to lie above it")
    help_ = "A point tells its interval under the pointer or, reached by Tab and arrow keys, in focus. "
    switches = [
        _switches("Schemes", [(line.scheme, style_of(results, line.scheme)[0], line) for line in _first_lines(lines)])
    ]
    for other in others:
        values = {key_of(other, value): named(other, value) for value in results.axes[other].tolist()}
        examples = {key: line for line in reversed(lines) for key in line.keys}
        entries = [(key, text, examples.get(key)) for key, text in values.items()]
        switches.append(_switches(axis_of(other).label, entries))
    return element(
        "figure", drawn, element("figcaption", f"{help_}{'; '.join(notes)}."), *switches, class_="chart", id=name
    )


def marker_path(marker: str) -> tuple[str, bool]:
    """Return a marker of matplotlib as a path of SVG around the origin, and whether it has an inside."""
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform() + Affine2D().scale(MARKER, -MARKER))
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    parts = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        numbers = " ".join(f"{number + 0.0:.2f}".rstrip("0").rstrip(".") for number in points)
        parts.append("Z" if code == Path.CLOSEPOLY else f"{letters[code]}{numbers}")
    return "".join(parts), style.is_filled()


def _axes(frame: Frame, places: Sequence[float], heads: Sequence[str], label: str) -> Html:
    across = [element("line", x1=LEFT, x2=RIGHT, y1=frame.up(at), y2=frame.up(at)) for at in frame.ticks()]
    beside = [element("text", f"{at:g}", x=LEFT - 9, y=frame.up(at), dy="0.35em") for at in frame.ticks()]
    marks = [element("line", x1=x, x2=x, y1=BOTTOM, y2=BOTTOM + 5) for x in places]
    gap, longest = min([*np.diff(sorted(places)), float(RIGHT)]), max(map(len, heads))
    every, on_phones = (math.ceil((width * longest + 6) / max(gap, 1.0)) for width in (DIGIT, DIGIT_ON_PHONES))
    on_phones = every * math.ceil(on_phones / every)  # a part of the others
    below = [
        element("text", head, x=x, y=BOTTOM + 7, dy="1em", class_="dense" if i % on_phones else None)
        for i, (x, head) in enumerate(zip(places, heads, strict=True))
        if i % every == 0
    ]
    titles = (
        element("text", label, x=(LEFT + RIGHT) / 2, y=HEIGHT - 8, class_="title"),
        element(
            "text", "task accuracy [%]", class_="title", transform=f"translate(16 {(TOP + BOTTOM) / 2}) rotate(-90)"
        ),
    )
    return joined(
        [
            element("g", *across, class_="grid"),
            element("g", *beside, class_="beside"),
            element("g", *marks, class_="marks"),
            element("g", *below, class_="below"),
            *titles,
        ]
    )


def _line(frame: Frame, line: Line) -> Html:
    places = [(frame.across(x), y) for x, y in zip(line.x, line.accuracy, strict=True)]
    path = _path([(x, frame.up(y)) if np.isfinite(y) else None for x, y in places])
    known = [i for i, (_, y) in enumerate(places) if np.isfinite(y)]
    ends = [[(places[i][0], frame.up(end[i])) for i in known] for end in (line.high, line.low)]
    return element(
        "g",
        element("path", d=_path([*ends[0], *ends[1][::-1]]) + "Z", class_="band"),
        *([element("path", d=_hairs([(places[i][0], frame.up(places[i][1])) for i in known]))] if line.bound else []),
        element("path", d=path, stroke_dasharray=line.style.dashes or None),
        *(_point(frame, line, i) for i in known),
        class_=f"line {_colour(line.style)}",
        tabindex="0",
        role="group",
        aria_label=f"{line.label}, {len(known)} points",
        data_of=json.dumps(line.keys),
    )


def _point(frame: Frame, line: Line, index: int) -> Html:
    accuracy, low, high = (float(part[index]) for part in (line.accuracy, line.low, line.high))
    x, y, bottom, top = (frame.across(line.x[index]), *map(frame.up, (accuracy, low, high)))
    return element(
        "g",
        element("path", d=f"M{x:g} {bottom:g}V{top:g}m-3 0h6m-3 {bottom - top:g}m-3 0h6", class_="interval"),
        element("circle", cx=x, cy=y, r=10, class_="hit"),
        *_marker(line.style, x, y),
        class_="point",
        tabindex="-1",
        role="img",
        aria_label=f"{line.label}, {line.at[index]}: {_interval(accuracy, low, high)}",
        data_label=f"{line.label}, {line.at[index]}",
        data_value=_interval(accuracy, low, high),
        data_x=x,
        data_y=y,
    )


def _level(frame: Frame, line: Line) -> Html:
    accuracy, low, high = (float(part[0]) for part in (line.accuracy, line.low, line.high))
    y, bottom, top = map(frame.up, (accuracy, low, high))
    return element(
        "g",
        element("rect", x=LEFT, y=top, width=RIGHT - LEFT, height=round(bottom - top, 1), class_="band"),
        element("path", d=f"M{LEFT} {y:g}H{RIGHT}", stroke_dasharray=line.style.dashes or None),
        element("path", d=f"M{LEFT} {y:g}H{RIGHT}", class_="hit"),
        class_=f"line level point {_colour(line.style)}",
        tabindex="0",
        role="img",
        aria_label=f"{line.label}: {_interval(accuracy, low, high)}",
        data_of=json.dumps(line.keys),
        data_label=line.label,
        data_value=_interval(accuracy, low, high),
        data_x=(LEFT + RIGHT) / 2,
        data_y=y,
    )


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Return a path through points; None breaks it."""
    parts, letter = [], "M"
    for point in points:
        if point is not None:
            parts.append(f"{letter}{point[0]:g} {point[1]:g}")
        letter = "M" if point is None else "L"
    return "".join(parts)


def _hairs(points: Sequence[tuple[float, float]]) -> str:
    """Return short strokes above a line, at equal distances along it."""
    if len(points) < 2:
        return ""
    x, y = np.array(points).T
    places = np.arange(x.min(), x.max(), BETWEEN_HAIRS)
    order = np.argsort(x)
    heights = np.interp(places, x[order], y[order])
    return "".join(f"M{at:.1f} {height:.1f}v-{HAIR}" for at, height in zip(places, heights, strict=True))


def _marker(style: Style, x: float, y: float) -> list[Html]:
    if not style.marker:
        return []
    path, filled = marker_path(style.marker)
    kind = "hollow" if style.hollow else "filled"
    return [element("path", d=path, transform=f"translate({x:g} {y:g})", class_=f"marker {kind if filled else 'open'}")]


def _first_lines(lines: Sequence[Line]) -> list[Line]:
    """Return each scheme's first line, which has its own style."""
    return list({line.scheme: line for line in reversed(lines)}.values())[::-1]


def _switches(legend: str, entries: Sequence[tuple[str, str, Line | None]]) -> Html:
    boxes = [
        element(
            "label",
            element("input", type="checkbox", checked=True, autocomplete="off", value=key),
            *([_swatch(line)] if line else []),
            label,
        )
        for key, label, line in entries
    ]
    buttons = [element("button", f"{word}", type="button", data_all=word) for word in ("all", "none")]
    return element(
        "fieldset", element("legend", legend), *boxes, element("span", *buttons, class_="buttons"), disabled=True
    )


def _swatch(line: Line) -> Html:
    return element(
        "svg",
        *([element("path", d=_hairs([(1, 9), (36, 9)]))] if line.bound else []),
        element("path", d="M1 9H37", stroke_dasharray=line.style.dashes or None),
        *_marker(line.style, 19, 9),
        viewBox="0 0 38 18",
        class_=f"line {_colour(line.style)}",
        aria_hidden="true",
    )


def _colour(style: Style) -> str:
    return f"c{style.colour.removeprefix('#')}"


def _interval(accuracy: float, low: float, high: float) -> str:
    return f"{accuracy:.1f} %, 95 % interval {low:.1f} to {high:.1f}"
