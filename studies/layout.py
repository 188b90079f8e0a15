"""Where everything of a figure stands on paper, in inches: the width is what a journal wants, the height follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from studies.chart import Chart

WIDTHS = {"single": 3.5, "double": 7.16}  # one and two columns of an IEEE page [in]
MARGIN = 0.04
Y_LABELS = 0.44  # what the vertical axis takes beside the first panel
BETWEEN = 0.14  # panels side by side
CAPTION_SIZE = 6.0  # [pt]
HANDLE, PAD, COLUMN = 2.4, 0.6, 1.4  # of a legend: its line, the blank behind it and between columns [font sizes]
LINE_HEIGHT = 1.3  # [font sizes]
_RENDERER = RendererAgg(1, 1, 720)


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
    ticks : list of int
        Which values of the horizontal axis have a label.
    upright : bool
        Whether these labels are turned.
    """

    width: float
    height: float
    frames: list[Frame] = field(default_factory=list)
    legend: Legend
    caption: list[str]
    ticks: list[int]
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
    inches = page_width(width or ("double" if several else "single"))
    num_columns = 1 if inches < 5 or not several else 2 if len(chart.panels) in (2, 4) else 3
    rows = [chart.panels[i : i + num_columns] for i in range(0, len(chart.panels), num_columns)]
    frame_width = (inches - 2 * MARGIN - Y_LABELS - 0.06 - (num_columns - 1) * BETWEEN) / num_columns
    frame_height = min(0.66 * frame_width, 2.5) if not several else 0.78 * frame_width if inches > 5 else 0.5 * frame_width
    ticks, upright, tick_height = _ticks(chart, frame_width)
    label_height = LINE_HEIGHT * mpl.rcParams["axes.labelsize"] / 72
    title_height = LINE_HEIGHT * mpl.rcParams["axes.titlesize"] / 72 if several else 0.0

    caption = wrapped(chart.caption, inches - 2 * MARGIN, CAPTION_SIZE)
    caption_height = len(caption) * CAPTION_SIZE * LINE_HEIGHT / 72
    free = len(rows[-1]) < num_columns  # a place for the legend
    shared = [line.label for line in (chart.legend if several else chart.panels[0].lines) if line.label]
    legend = fitted(shared, frame_width if free else inches - 2 * MARGIN)
    top = [[fitted([line.label for line in panel.lines if line.label] if several else [], frame_width) for panel in row] for row in rows]

    # from the bottom to the top
    y = MARGIN + caption_height + (0.05 if caption else 0)
    if not free:
        legend = _moved(legend, MARGIN + max(0, (inches - 2 * MARGIN - _width(legend)) / 2), y + legend.height)
        y += legend.height + (0.06 if shared else 0)
    frames: list[list[Frame]] = []
    for number in reversed(range(len(rows))):
        last = number == len(rows) - 1
        y += tick_height + (label_height if last or len(rows[number + 1]) < num_columns else 0)
        height = title_height + max(legend_.height for legend_ in top[number]) + (0.04 if several else 0)
        row = []
        for column, above in enumerate(top[number]):
            x = MARGIN + Y_LABELS + column * (frame_width + BETWEEN)
            bottom = last or column >= len(rows[number + 1])
            placed = _moved(above, x, y + frame_height + 0.04 + above.height) if several else legend
            row.append(Frame(x=x, y=y, width=frame_width, height=frame_height, title_y=y + frame_height + 0.06 + above.height, legend=placed, bottom=bottom, left=column == 0))
        if last and free:
            x = MARGIN + Y_LABELS + len(row) * (frame_width + BETWEEN)
            legend = _moved(legend, x, y + frame_height)
        frames.insert(0, row)
        y += frame_height + height + 0.07
    page_height = math.ceil(100 * (y + MARGIN)) / 100
    return Page(
        width=inches, height=page_height, frames=[frame for row in frames for frame in row], legend=legend,
        caption=caption, ticks=ticks, upright=upright,
    )


def page_width(name: str) -> float:
    """Return the width of that name [in]; raises ValueError if there is none."""
    if name not in WIDTHS:
        raise ValueError(f"width {name!r} is neither 'single' (3.5 in) nor 'double' (7.16 in)")
    return WIDTHS[name]


def text_width(text: str, size: float) -> float:
    """Return how wide a text is [in], at a size of font [pt]."""
    return _RENDERER.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0] / 720


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
    room = width - (HANDLE + PAD) * size / 72
    broken = ["\n".join(wrapped(label, room, size)) for label in labels]
    for columns in range(len(broken), 0, -1):
        legend = _arranged(broken, columns)
        if _width(legend) <= width:
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
    widths = [max((text_width(text, size) for label in part for text in label.split("\n")), default=0) for part in parts]
    return sum(widths) + (len(parts) * (HANDLE + PAD) + (len(parts) - 1) * COLUMN) * size / 72


def _moved(legend: Legend, x: float, y: float) -> Legend:
    return Legend(x=x, y=y, labels=legend.labels, columns=legend.columns, height=legend.height)


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
