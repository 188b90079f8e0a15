"""Charts drawn by matplotlib: PNG to look at, PDF for the paper."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from studies.archive import write_atomically
from studies.chart import Chart, Line
from studies.layout import CAPTION_SIZE, COLUMN, HANDLE, LINE_HEIGHT, MARGIN, PAD, Frame, Legend, Page
from studies.panels import lighter

STYLE = Path(__file__).with_name("tokenlink.mplstyle")
BAND, LEVEL_BAND = 0.16, 0.12  # opacity
LEVEL_WIDTH, LEVEL_COLOUR = 1.0, "gray"
PROPOSAL = {"linewidth": 1.8, "markersize": 4.6}
EDGE = {"markeredgecolor": "white", "markeredgewidth": 0.6}  # where markers are filled
HATCH, HATCH_WHITE = 0.03, 0.4  # of a bound: height, of the vertical range, and share of white


def style_of_line(line: Line) -> dict[str, Any]:
    """Return all of a line's keywords."""
    if line.level:
        return {"linewidth": LEVEL_WIDTH, **line.style}
    if not line.proposal:
        return dict(line.style)
    return {**PROPOSAL, **({} if line.style.get("markerfacecolor") == "white" else EDGE), **line.style}


def in_order(lines: Sequence[Line]) -> list[Line]:
    """Return lines in the order in which they are drawn: levels, curves, the proposal."""
    return sorted(lines, key=lambda line: (not line.level, line.proposal))


def draw(chart: Chart, page: Page) -> Figure:
    """Draw a chart on a page of its exact size.

    Parameters
    ----------
    chart : Chart
    page : Page
        As `layout.lay_out` returns it, under the same settings of matplotlib.
    """
    figure = Figure(figsize=(page.width, page.height))
    FigureCanvasAgg(figure)
    size = np.array([page.width, page.height])
    for panel, frame in zip(chart.panels, page.frames, strict=True):
        axes = figure.add_axes((frame.x / size[0], frame.y / size[1], frame.width / size[0], frame.height / size[1]))
        _label(axes, chart, page, frame)
        for order, line in enumerate(in_order((*panel.references, *panel.lines))):
            _draw_line(axes, chart, line, 2 + order / 1000)
        if panel.title:
            figure.text(
                frame.x / size[0],
                frame.title_y / size[1],
                panel.title,
                fontsize=mpl.rcParams["axes.titlesize"],
                fontweight="bold",
            )
        _draw_legend(axes, panel.lines, frame.legend, figure)
    if chart.legend:
        _draw_legend(figure, chart.legend, page.legend, figure)
    for number, text in enumerate(reversed(page.caption)):
        height = MARGIN + (number * LINE_HEIGHT + 0.2) * CAPTION_SIZE / 72
        figure.text(MARGIN / size[0], height / size[1], text, fontsize=CAPTION_SIZE, color="0.25")
    return figure


def write_caption(figure: Figure, text: str) -> None:
    """Write a caption below a figure of constrained layout, in lines that fit a page."""
    lines = textwrap.fill(text, int(20 * figure.get_figwidth()))
    figure.supxlabel(lines, x=0.005, ha="left", fontsize=CAPTION_SIZE, color="0.25")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and PDF; the same numbers give the same files, as no date is written."""
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=metadata)
        paths.append(folder / f"{name}.{suffix}")
        write_atomically(paths[-1], buffer.getvalue())
    return paths


def _label(axes: Axes, chart: Chart, page: Page, frame: Frame) -> None:
    if chart.log_base:
        axes.set_xscale("log", base=chart.log_base)
        axes.xaxis.set_minor_locator(NullLocator())
    shown = {tick: chart.tick_labels[tick] for tick in page.ticks}
    axes.set_xticks(chart.ticks[list(shown)], list(shown.values()), rotation=90 if page.upright else 0)
    axes.set_yticks(page.y_ticks)
    axes.set_xlim(*chart.x_range)
    axes.set_ylim(*chart.y_range)
    if frame.bottom:
        axes.set_xlabel("\n".join(page.x_label))
    if frame.left:
        axes.set_ylabel(chart.y_label)
    else:
        axes.tick_params(labelleft=False)


def _draw_line(axes: Axes, chart: Chart, line: Line, order: float) -> None:
    style = style_of_line(line)
    color = style.get("color", "0.2")
    x, y = line.x, line.y
    if line.intervals:
        low, high = line.intervals
        if line.level:
            axes.fill_between(x, low, high, color=LEVEL_COLOUR, alpha=LEVEL_BAND, linewidth=0, zorder=0.5)
        elif chart.bands:
            axes.fill_between(x, low, high, color=color, alpha=BAND, linewidth=0, zorder=1)
        else:
            length = np.maximum([y - low, high - y], 0)
            axes.errorbar(x, y, yerr=length, fmt="none", ecolor=color, elinewidth=0.8, zorder=order)
    if line.hatched:
        height = HATCH * (chart.y_range[1] - chart.y_range[0])
        edge = lighter(color, HATCH_WHITE)
        axes.fill_between(x, y, y + height, facecolor="none", edgecolor=edge, hatch="//////", linewidth=0, zorder=1.5)
    if line.points is None:
        axes.plot(x, y, **style, label=line.label, zorder=order)
    else:
        axes.plot(x, y, **{**style, "marker": ""}, label=line.label, zorder=order)
        dots = np.repeat(x, line.points.shape[1]), line.points.ravel()
        axes.plot(*dots, **{**style, "linestyle": ""}, zorder=order)


def _draw_legend(owner: Axes | Figure, lines: Sequence[Line], legend: Legend, figure: Figure) -> None:
    named = [line for line in lines if line.label]
    if named:
        owner.legend(
            [Line2D([], [], **style_of_line(line)) for line in named],
            legend.labels,
            ncols=legend.columns,
            loc="upper left",
            bbox_to_anchor=(legend.x / figure.get_figwidth(), legend.y / figure.get_figheight()),
            bbox_transform=figure.transFigure,
            borderaxespad=0,
            borderpad=0,
            handlelength=HANDLE,
            handletextpad=PAD,
            columnspacing=COLUMN,
            labelspacing=LINE_HEIGHT - 1,
        )
