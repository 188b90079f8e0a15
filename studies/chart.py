"""What a figure shows, before anything draws it: lines in panels, one axis, a caption. Neither pixels nor TeX."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One line of a panel.

    Attributes
    ----------
    label : str
        In the legend; empty: not there.
    x, y : float [n]
        NaN where there is no point.
    low, high : float [n], optional
        Ends of the interval.
    points : float [n, m], optional
        Single outcomes, of which `y` is the mean.
    style : mapping
        Matplotlib's keywords of a line.
    scheme, group, at : str
        Its scheme, the kind of scheme, and its value of the axes that are not drawn along.
    level : bool
        Whether it runs across the panel, from end to end: all `y` are the same.
    hatched : bool
        Whether it is a bound: hatched above.
    proposal : bool
        Whether it is drawn last, thicker and with a white edge around its markers.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    points: np.ndarray | None = None
    style: Mapping[str, Any] = field(default_factory=dict)
    scheme: str = ""
    group: str = ""
    at: str = ""
    level: bool = False
    hatched: bool = False
    proposal: bool = False

    @property
    def intervals(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Both ends of the interval, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines in one frame.

    Attributes
    ----------
    title : str
    lines : tuple of Line
        Those that this panel is about; its legend names them.
    references : tuple of Line
        Those that all panels show, for comparison; the chart's legend names them.
    """

    title: str = ""
    lines: tuple[Line, ...]
    references: tuple[Line, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure.

    Attributes
    ----------
    panels : tuple of Panel
    legend : tuple of Line
        What all panels share.
    x_label, y_label : str
    ticks, tick_labels : sequences [n]
        Of the horizontal axis.
    log_base : int, optional
        Base of the horizontal axis, if it is logarithmic.
    x_range, y_range : (float, float)
    words : bool
        Whether values of the horizontal axis are words, of which none may be left out.
    bands : bool
        Whether intervals are bands; else they are bars.
    caption : str
    """

    panels: tuple[Panel, ...]
    legend: tuple[Line, ...] = ()
    x_label: str
    y_label: str
    ticks: np.ndarray
    tick_labels: list[str]
    log_base: int | None = None
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    words: bool = False
    bands: bool = True
    caption: str = ""
