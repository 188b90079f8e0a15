"""What a figure draws: a line for each scheme and each value of the axes beside the first, as in `studies/plots.py`."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import is_color_like, to_hex
from matplotlib.lines import Line2D

from studies import plots
from studies.archive import Results
from studies.axes import AxisValue, named, written
from studies.panels import CHANGES

DASHES = {"-": "", "--": "6 3", ":": "1.6 2.6", "-.": "7 2.5 1.6 2.5"}
OTHER_COLOUR = "#555555"  # of a curve whose archive names none


@dataclass(frozen=True)
class Style:
    """How a line looks.

    Attributes
    ----------
    colour : str
        As #rrggbb.
    dashes : str
        Of SVG; empty for a solid line.
    marker : str
        As matplotlib names it; empty for none.
    hollow : bool
        Whether markers are filled with the colour of the page.
    """

    colour: str
    dashes: str
    marker: str
    hollow: bool


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes
    ----------
    scheme, label : str
    keys : tuple of str
        What can be switched off, and the line with it: the scheme, and values of axes as AXIS=VALUE.
    at : list of str
        Each point in words, such as "5 dB"; empty for a level.
    x : float [num_points]
    accuracy, low, high : float [num_points], [%]
        NaN where a point is missing.
    style : Style
    level : bool
        The same across the figure.
    bound : bool
        The schemes that it bounds are not to lie above it.
    """

    scheme: str
    label: str
    keys: tuple[str, ...]
    at: list[str]
    x: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    style: Style
    level: bool = False
    bound: bool = False


def lines_of(results: Results) -> list[Line]:
    """Return the lines of a study's figure; none for a scheme of which no point is done."""
    return [line for scheme in results.schemes for line in _lines(results, scheme)]


def key_of(axis: str, value: AxisValue) -> str:
    """Return the key that stands for a value of an axis beside the first."""
    return f"{axis}={written(value)}"


def _lines(results: Results, scheme: str) -> Iterator[Line]:
    axis, *rest = results.axes
    accuracy, low, high = (100 * results.along(name, scheme) for name in plots.BOUNDS)
    if np.isnan(accuracy).all():
        return
    label, style, level = plots.style_of(results, scheme)
    if level:
        values = (value.flat[:1] for value in (accuracy, low, high))
        yield Line(
            scheme, label, (scheme,), [], np.zeros(1), *values, style=_style({**style, "marker": ""}), level=True
        )
        return
    others = {name: results.axes[name] for name in rest}
    indices = list(np.ndindex(*map(len, others.values())))
    for index, change in zip(reversed(indices), itertools.cycle(CHANGES), strict=False):
        at = [(name, along[i].item()) for i, (name, along) in zip(index, others.items(), strict=True)]
        yield Line(
            scheme,
            ", ".join([label, *(named(name, value) for name, value in at)]),
            (scheme, *(key_of(name, value) for name, value in at)),
            [named(axis, value) for value in results.axes[axis].tolist()],
            np.asarray(plots.positions_of(results, axis, scheme, index), float),
            *(value[:, *index] for value in (accuracy, low, high)),
            style=_style({**style, **change}),
            bound=plots.look_of(results, scheme)["hatched"],
        )


def _style(line: Mapping[str, Any]) -> Style:
    """Return a style from matplotlib's keywords; an archive of others may hold anything in their place."""
    colour, marker, linestyle = (line.get(name) for name in ("color", "marker", "linestyle"))
    return Style(
        colour=to_hex(colour) if colour is not None and is_color_like(colour) else OTHER_COLOUR,
        dashes=_dashes(linestyle),
        marker=marker if isinstance(marker, str) and marker in Line2D.markers else "",
        hollow=line.get("markerfacecolor") == "white",
    )


def _dashes(linestyle: Any) -> str:
    """Return dashes as SVG writes them; beside names, matplotlib knows (offset, lengths)."""
    match linestyle:
        case str():
            return DASHES.get(linestyle, "")
        case [_, [*lengths]] if all(isinstance(length, int | float) for length in lengths):
            return " ".join(f"{2 * length:g}" for length in lengths if 0 < length < math.inf)
    return ""
