"""Charts drawn by matplotlib: PNG to look at, PDF for the paper."""

import io
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

STYLE = Path(__file__).with_name("tokenlink.mplstyle")
BAND, LEVEL_BAND = 0.16, 0.12  # opacity
PROPOSAL = {"linewidth": 1.8, "markeredgecolor": "white", "markeredgewidth": 0.6, "markersize": 4.6}
HATCH = 0.035  # height of a bound's hatching, of the vertical range


def style_of_line(line: Line) -> dict[str, Any]:
    """Return all of a line's keywords."""
    return {**line.style, **(PROPOSAL if line.proposal else {})}


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
        axes.set_xlim(*chart.x_range)
        axes.set_ylim(*chart.y_range)
        _label(axes, chart, page, frame)
        handles = {line: _draw_line(axes, chart, line, 2 + 0.01 * order) for order, line in enumerate(in_order((*panel.references, *panel.lines)))}
        if panel.title:
            figure.text(frame.x / size[0], frame.title_y / size[1], panel.title, fontsize=mpl.rcParams["axes.titlesize"], fontweight="bold")
        _draw_legend(axes, [handles[line] for line in panel.lines if line.label], frame.legend, figure, size)
    if chart.legend:
        _draw_legend(figure, [Line2D([], [], **style_of_line(line)) for line in chart.legend], page.legend, figure, size)
    for number, text in enumerate(reversed(page.caption)):
        height = MARGIN + (number * LINE_HEIGHT + 0.2) * CAPTION_SIZE / 72
        figure.text(MARGIN / size[0], height / size[1], text, fontsize=CAPTION_SIZE, color="0.25")
    return figure


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
    axes.set_xlim(*chart.x_range)
    if frame.bottom:
        axes.set_xlabel(chart.x_label)
    if frame.left:
        axes.set_ylabel(chart.y_label)
    else:
        axes.tick_params(labelleft=False)


def _draw_line(axes: Axes, chart: Chart, line: Line, order: float) -> Line2D:
    style = style_of_line(line)
    color = style.get("color", "0.2")
    if line.level:
        if line.intervals:
            low, high = (float(bound[0]) for bound in line.intervals)
            axes.axhspan(low, high, color="0.5", alpha=LEVEL_BAND, linewidth=0, zorder=0.5)
        handle = axes.axhline(float(line.y[0]), **{"linewidth": 1.0, **style}, zorder=order)
    else:
        if line.intervals and chart.bands:
            axes.fill_between(line.x, *line.intervals, color=color, alpha=BAND, linewidth=0, zorder=1)
        elif line.intervals:
            length = np.maximum([line.y - line.intervals[0], line.intervals[1] - line.y], 0)
            axes.errorbar(line.x, line.y, yerr=length, fmt="none", ecolor=color, elinewidth=0.8, zorder=order)
        if line.points is not None:
            x = np.broadcast_to(line.x[:, None], line.points.shape)
            axes.scatter(x, line.points, s=5, facecolors="white", edgecolors=color, linewidths=0.5, zorder=order - 0.005)
        (handle,) = axes.plot(line.x, line.y, **style, zorder=order)
    if line.hatched:
        x, y = (chart.x_range, line.y[[0, 0]]) if line.level else (line.x, line.y)
        height = HATCH * (chart.y_range[1] - chart.y_range[0])
        axes.fill_between(x, y, y + height, facecolor="none", edgecolor=color, hatch="//////", linewidth=0, zorder=1.5)
    return handle


def _draw_legend(owner: Axes | Figure, handles: list[Line2D], legend: Legend, figure: Figure, size: np.ndarray) -> None:
    if legend.labels:
        owner.legend(
            handles, legend.labels, ncols=legend.columns, loc="upper left", bbox_transform=figure.transFigure,
            bbox_to_anchor=(legend.x / size[0], legend.y / size[1]), borderaxespad=0, borderpad=0,
            handlelength=HANDLE, handletextpad=PAD, columnspacing=COLUMN, labelspacing=LINE_HEIGHT - 1.16,
        )
