"""Where everything of a figure stands on paper, in inches: the width is what a journal wants, the height follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from studies.chart import Chart, Line
from studies.config import shown

WIDTHS = {"single": 3.5, "double": 7.16}  # one and two columns of an IEEE page [in]
MARGIN, GAP = 0.04, 0.06  # around everything, and between its parts
Y_LABELS = 0.44  # what the vertical axis takes beside the first panel
RIGHT, BETWEEN = 0.06, 0.18  # behind the last panel, and between panels
CAPTION_SIZE = 6.0  # [pt]
HANDLE, PAD, COLUMN = 2.6, 0.5, 1.2  # of a legend: its line, the blank behind it and between columns [font sizes]
LINE_HEIGHT = 1.3  # [font sizes]
SLACK, CAPTION_SLACK = 0.96, 0.92  # shares of a width that text may take: LaTeX's fonts are a little wider
_RENDERER = RendererAgg(1, 1, 300)  # as pictures are saved


@dataclass(frozen=True, kw_only=True)
class Legend:
    """A legend: its upper left corner, labels as they are broken, number of columns, and height."""

    x: float
    y: float
    labels: list[str]
    columns: int
    height: float


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A panel: its axes' box, its title's base line, its legend, and which labels it bears."""

    x: float
    y: float
    width: float
    height: float
    title_y: float
    legend: Legend
    bottom: bool
    left: bool


@dataclass(frozen=True, kw_only=True)
class Page:
    """A figure on paper, its corner at the lower left.

    Attributes
    ----------
    width, height : float
    frames : list of Frame
        One for each panel.
    legend : Legend
        Of what the panels share.
    caption : list of str
        Its lines, which stand at the lower left.
    x_label : list of str
        Lines of the horizontal axis' label.
    ticks : list of int
        Which values of the horizontal axis have a label.
    y_ticks : list of float
        Values of the vertical axis.
    upright : bool
        Whether these labels are turned.
    """

    width: float
    height: float
    frames: list[Frame]
    legend: Legend
    caption: list[str]
    x_label: list[str]
    ticks: list[int]
    y_ticks: list[float]
    upright: bool


def lay_out(chart: Chart, width: str | None = None) -> Page:
    """Place the parts of a figure; fonts are those of matplotlib's present settings.

    Parameters
    ----------
    chart : Chart
    width : {"single", "double"}, optional
        By default one column for one panel, and two for several.

    Raises
    ------
    ValueError
        If there is no such width.
    """
    several = len(chart.panels) > 1
    page = page_width(width or ("double" if several else "single"))
    num_columns = 1 if page < 5 or not several else 2 if len(chart.panels) in (2, 4) else 3
    rows = [chart.panels[i : i + num_columns] for i in range(0, len(chart.panels), num_columns)]
    frame_width = (page - 2 * MARGIN - Y_LABELS - RIGHT - (num_columns - 1) * BETWEEN) / num_columns
    frame_height = (
        min(0.66 * frame_width, 2.5) if not several else 1.15 if num_columns == 1 else min(0.78 * frame_width, 1.7)
    )
    columns = [MARGIN + Y_LABELS + number * (frame_width + BETWEEN) for number in range(num_columns)]

    ticks, upright, tick_height = _ticks(chart, frame_width)
    x_label = wrapped(chart.x_label, frame_width, mpl.rcParams["axes.labelsize"])
    label_height = len(x_label) * LINE_HEIGHT * mpl.rcParams["axes.labelsize"] / 72
    title_height = LINE_HEIGHT * mpl.rcParams["axes.titlesize"] / 72 if several else 0.0
    own = [[fitted(_labels(panel.lines if several else ()), frame_width) for panel in row] for row in rows]
    free = len(rows[-1]) < num_columns  # there is a place for the legend beside the last panel
    legend = fitted(
        _labels(chart.legend if several else chart.panels[0].lines), frame_width if free else page - 2 * MARGIN
    )
    caption = wrapped(chart.caption, CAPTION_SLACK * (page - 2 * MARGIN), CAPTION_SIZE)

    y = MARGIN + len(caption) * CAPTION_SIZE * LINE_HEIGHT / 72 + GAP  # upwards from the bottom
    if not free and legend.labels:
        middle = MARGIN + max(0, (page - 2 * MARGIN - _width(legend)) / 2)
        legend = replace(legend, x=middle, y=y + legend.height)
        y += legend.height + GAP
    frames: list[Frame] = []
    for number in reversed(range(len(rows))):
        num_below = len(rows[number + 1]) if number + 1 < len(rows) else 0
        y += tick_height + (label_height if num_below < num_columns else 0)
        top = y + frame_height + max(above.height for above in own[number]) + (GAP if several else 0)
        frames[:0] = [
            Frame(
                x=x,
                y=y,
                width=frame_width,
                height=frame_height,
                title_y=top + 0.04,
                legend=replace(above, x=x, y=top) if several else legend,
                bottom=column >= num_below,
                left=column == 0,
            )
            for column, (x, above) in enumerate(zip(columns, own[number], strict=False))
        ]
        if free and not num_below:
            legend = replace(legend, x=columns[len(rows[-1])], y=y + frame_height)
        y = top + title_height + GAP
    return Page(
        width=page,
        height=math.ceil(100 * (y + MARGIN)) / 100,  # whole pixels
        frames=frames,
        legend=legend,
        caption=caption,
        x_label=x_label,
        ticks=ticks,
        y_ticks=_y_ticks(*chart.y_range),
        upright=upright,
    )


def page_width(name: str) -> float:
    """Return the width of that name [in]; raises ValueError if there is none."""
    if name not in WIDTHS:
        raise ValueError(f"width {shown(name)} is neither 'single' (3.5 in) nor 'double' (7.16 in)")
    return WIDTHS[name]


def text_width(text: str, size: float) -> float:
    """Return how wide a text is [in], at a size of font [pt]."""
    return _RENDERER.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0] / 300


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Break a text into lines of at most a width [in]; words that are longer are broken anywhere."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(longer, size) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and text_width(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def fitted(labels: Sequence[str], width: float) -> Legend:
    """Arrange a legend in as many columns as fit a width [in]; labels that are too long for one are broken."""
    size = mpl.rcParams["legend.fontsize"]
    room = SLACK * width - (HANDLE + PAD) * size / 72
    broken = ["\n".join(wrapped(label, room, size)) for label in labels]
    for columns in range(len(broken), 0, -1):
        legend = _arranged(broken, columns)
        if _width(legend) <= SLACK * width:
            return legend
    return _arranged(broken, 1)


def _arranged(labels: list[str], columns: int) -> Legend:
    size = mpl.rcParams["legend.fontsize"]
    parts = np.array_split(np.array(labels, dtype=object), columns)
    heights = [sum((label.count("\n") + 1) * LINE_HEIGHT for label in part) * size / 72 for part in parts]
    return Legend(x=0, y=0, labels=labels, columns=columns, height=max(heights, default=0))


def _width(legend: Legend) -> float:
    size = mpl.rcParams["legend.fontsize"]
    parts = np.array_split(np.array(legend.labels, dtype=object), max(1, legend.columns))
    widths = [
        max((text_width(text, size) for label in part for text in label.split("\n")), default=0) for part in parts
    ]
    return sum(widths) + (len(parts) * (HANDLE + PAD) + (len(parts) - 1) * COLUMN) * size / 72


def _labels(lines: Sequence[Line]) -> list[str]:
    return [line.label for line in lines if line.label]


def _y_ticks(low: float, high: float) -> list[float]:
    values = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]


def _ticks(chart: Chart, width: float) -> tuple[list[int], bool, float]:
    """Choose which values get a label so that none overlap; words are turned instead. Also how high all are [in]."""
    size = mpl.rcParams["xtick.labelsize"]
    widths = [text_width(label, size) for label in chart.tick_labels]
    where = np.log(chart.ticks) if chart.log_base else np.asarray(chart.ticks, float)
    low, high = np.log(chart.x_range) if chart.log_base else chart.x_range
    at = (where - low) / (high - low) * width
    flat = LINE_HEIGHT * size / 72 + 0.05
    chosen: list[int] = []
    for i in range(len(at)):
        if not chosen or at[i] - at[chosen[-1]] >= (widths[i] + widths[chosen[-1]]) / 2 + 0.06:
            chosen.append(i)
    if len(chosen) == len(at) or not chart.words:
        return chosen, False, flat
    return list(range(len(at))), True, max(widths) + 0.07
