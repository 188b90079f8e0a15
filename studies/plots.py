"""Figures of accuracy: PNG to look at, PDF and PGF for the paper, CSV with the numbers behind them."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import cbook
from matplotlib.lines import Line2D

from studies import curves, drawing, pgfplots
from studies.archive import Results, write_atomically
from studies.axes import axis_of, named, written
from studies.chart import Chart, Line
from studies.csv_text import csv_text
from studies.layout import lay_out
from studies.panels import arrange
from studies.tables import PROPOSAL

BOUNDS = ("accuracy", "accuracy_low", "accuracy_high")
COSTS = ("code_nmse", "data_res")  # of the CSV
SEED = "seed"  # the axis over which means are taken
FEWEST = 3  # values of an axis from which on intervals are bands
SPARE_COLOURS, SPARE_DASHES = ("#08306b", "#d94801", "#4a9b57", "#9e9ac8"), ("-", "--", ":", "-.")  # if none is told


def draw_accuracy(
    results: Results,
    *,
    folder: Path,
    name: str,
    width: str | None = None,
    y_range: tuple[float, float] | None = None,
) -> list[Path]:
    """Draw accuracy along the first axis, with Wilson intervals, and write PNG, PDF, PGF and CSV.

    A study of two axes has a curve for each scheme and each value of the second. Values that are strings stand side by
    side in their order. Of training seeds, mean and standard deviation are drawn along the other axis.

    Parameters
    ----------
    results : Results
    folder : Path
        Where the files go.
    name : str
        Name of the files.
    width : {"single", "double"}, optional
        3.5 or 7.16 inches; by default as many curves need.
    y_range : (float, float), optional
        Ends of the vertical axis [%]; by default the tens around everything that is drawn.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        If there is no such width, or no such range.
    """
    paths = write(accuracy_chart(results, y_range), folder=folder, name=name, width=width)
    paths.append(folder / f"{name}.csv")
    write_atomically(paths[-1], to_csv(results).encode())
    return paths


def write(chart: Chart, *, folder: Path, name: str, width: str | None = None) -> list[Path]:
    """Write a chart as PNG, PDF and PGF, all of the same size, and return the paths."""
    with mpl.rc_context(fname=drawing.STYLE):
        page = lay_out(chart, width)
        paths = drawing.save(drawing.draw(chart, page), folder, name)
        paths.append(folder / f"{name}.pgf")
        write_atomically(paths[-1], pgfplots.source(chart, page).encode())
    return paths


def accuracy_chart(results: Results, y_range: tuple[float, float] | None = None) -> Chart:
    """Return what the figure shows; parameters as of `draw_accuracy`."""
    axis = next((name for name in results.axes if name != SEED), SEED)
    over_seeds = axis != SEED and len(results.axes.get(SEED, ())) > 1
    along, words = positions(results, axis), results.axes[axis].dtype.kind in "UO"
    log_base = axis_of(axis).log_base if not words and (along > 0).all() else None
    x_range = _x_range(along, words, log_base)
    lines = [line for scheme in results.schemes for line in _lines(results, axis, scheme, over_seeds, x_range)]
    panels, legend = arrange(lines)
    if words:
        panels = tuple(replace(panel, lines=_side_by_side(panel.lines)) for panel in panels)
    bands = not words and len(along) >= FEWEST
    return Chart(
        panels=panels,
        legend=legend,
        x_label=axis_of(axis).label,
        y_label="task accuracy [%]",
        ticks=along,
        tick_labels=[written(value) for value in results.axes[axis].tolist()],
        log_base=log_base,
        x_range=x_range,
        y_range=_rounded_range(lines) if y_range is None else checked_range(y_range),
        words=words,
        bands=bands,
        caption=caption(results, _of_intervals(results, lines, bands, over_seeds)),
    )


def style_of(results: Results, scheme: str) -> tuple[str, dict[str, Any], bool]:
    """Return label, line and whether it is a level; of a curve from outside of the table as the archive has them."""
    look = look_of(results, scheme)
    return look["label"], dict(look["line"]), look["level"]


def look_of(results: Results, scheme: str) -> dict[str, Any]:
    """Return what `Curve.look` does; of a curve from outside of the table as the archive has it."""
    if scheme in curves.CURVES:
        return curves.CURVES[scheme].look()
    look: dict[str, Any] = {"label": scheme, "line": {"marker": "."}, "level": False, "group": "", "hatched": False}
    look |= json.loads(str(results.attributes.get("own_curves_json", "{}"))).get(scheme, {})
    dashes, colour = divmod(results.schemes.index(scheme), len(SPARE_COLOURS))
    line: dict[str, Any] = {"color": SPARE_COLOURS[colour], "linestyle": SPARE_DASHES[dashes % len(SPARE_DASHES)]}
    line |= cbook.normalize_kwargs(look["line"], Line2D)
    if isinstance(line["linestyle"], list):  # JSON has no tuples
        line["linestyle"] = tuple(line["linestyle"])
    return {**look, "line": line}


def positions(results: Results, axis: str) -> np.ndarray:
    """Return where the values of an axis stand: at themselves, or at 0, 1, 2 … if they are strings."""
    values = results.coordinates[axis]
    return np.arange(len(values)) if values.dtype.kind in "UO" else values


def caption(results: Results, more: Sequence[str] = ()) -> str:
    """Return what the numbers are of: channel, antennas and receiver, unless an axis changes them, and questions."""
    link = json.loads(str(results.attributes.get("config_json", "{}"))).get("link", {})
    antennas = f"{link.get('num_tx_ant')}x{link.get('num_rx_ant')} antennas" if "num_tx_ant" in link else ""
    known = {
        "channel": link.get("channel", ""),
        "antennas": antennas,
        "estimator": f"{link['estimator']} estimate" if "estimator" in link else "",
        "recovery": f"{link['recovery']} recovery" if "recovery" in link else "",
    }
    facts = [text for axis, text in known.items() if text and axis not in results.axes]
    num_questions = len(results.coordinates["question"])
    missing = results.attributes.get("num_missing_points", 0)
    refused = [text.partition(":")[0] for text in json.loads(str(results.attributes.get("refusals_json", "{}")))]
    more = [*more, *([f"No such link: {', '.join(refused)}"] if refused else [])]
    sentences = [", ".join([*facts, f"{num_questions} questions per point"]), *more]
    return ". ".join([*sentences, *([f"{missing} points are missing"] if missing else [])]) + "."


def checked_range(y_range: tuple[float, float]) -> tuple[float, float]:
    """Return a range of the vertical axis; raises ValueError if accuracy has none such."""
    low, high = y_range
    if not 0 <= low < high <= 100:
        raise ValueError(
            f"range {low:g} {high:g} is none of accuracy; give two values from 0 to 100 %, the lower first"
        )
    return low, high


def to_csv(results: Results) -> str:
    """Return the figure's numbers, a line per point."""
    num_questions, rows = len(results.coordinates["question"]), []
    for scheme in results.schemes:
        values = {name: results.along(name, scheme) for name in (*BOUNDS, *COSTS)}
        for index in np.ndindex(*map(len, results.axes.values())):
            at = [written(along[i].item()) for i, along in zip(index, results.axes.values(), strict=True)]
            row = [f"{values[name][index]:.6f}" for name in BOUNDS]
            rows.append([scheme, *at, *row, num_questions, *(f"{values[name][index]:.6g}" for name in COSTS)])
    return csv_text(["scheme", *results.axes, *BOUNDS, "num_questions", *COSTS], rows)


def _lines(results: Results, axis: str, scheme: str, over_seeds: bool, x_range: tuple[float, float]) -> list[Line]:
    accuracy, low, high = (100 * results.along(name, scheme) for name in BOUNDS)
    if np.isnan(accuracy).all():
        return []
    look = look_of(results, scheme)
    line = Line(
        label=look["label"],
        x=positions(results, axis),
        y=accuracy,
        style=look["line"],
        scheme=scheme,
        group=look["group"],
        hatched=look["hatched"],
        level=look["level"],
        proposal=scheme == PROPOSAL,
    )
    if line.level:
        y, low, high = (np.repeat(values.flat[0], 2) for values in (accuracy, low, high))
        return [replace(line, x=np.array(x_range), y=y, low=low, high=high)]
    names, means = list(results.axes), [SEED] if over_seeds else []
    order = [axis, *(name for name in names if name not in (axis, *means)), *means]
    accuracy, low, high = (values.transpose([names.index(name) for name in order]) for values in (accuracy, low, high))
    others = {name: results.axes[name] for name in order[1:] if name not in means}
    lines = []
    for index in np.ndindex(*map(len, others.values())):
        at = ", ".join(named(name, along[i].item()) for i, (name, along) in zip(index, others.items(), strict=True))
        here = (slice(None), *index)
        found = replace(line, at=at, y=accuracy[here], low=low[here], high=high[here])
        if over_seeds:
            found = _spread(found)
        lines.append(replace(found, x=positions_of(results, axis, scheme, index)))
    return lines


def _spread(line: Line) -> Line:
    """Return the line of means over the last axis, with a standard deviation to both sides."""
    num_seeds = np.isfinite(line.y).sum(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN where points are missing
        mean, deviation = np.nanmean(line.y, axis=-1), np.nanstd(line.y, axis=-1, ddof=1)
    deviation = np.where(num_seeds > 1, deviation, np.nan)
    style = {**line.style, "markerfacecolor": "white", "markersize": 3.2}
    return replace(line, y=mean, low=mean - deviation, high=mean + deviation, points=line.y, style=style)


def _side_by_side(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Move lines apart, whose values are words: bars of all of them can be read."""
    moving = [line for line in lines if not line.level]
    step = min(0.2, 0.7 / max(1, len(moving)))
    shifts = {line: step * (number - (len(moving) - 1) / 2) for number, line in enumerate(moving)}
    return tuple(replace(line, x=line.x + shifts.get(line, 0.0)) for line in lines)


def _of_intervals(results: Results, lines: Sequence[Line], bands: bool, over_seeds: bool) -> list[str]:
    kind, texts = "bands" if bands else "bars", []
    if over_seeds:
        texts.append(f"Mean of {len(results.axes[SEED])} training seeds; {kind}: standard deviation; dots: each seed")
    else:
        texts.append(f"{kind.capitalize()}: 95 % Wilson intervals")
    if any(line.hatched for line in lines):
        texts.append("Hatched: above a bound")
    return texts


def positions_of(results: Results, axis: str, scheme: str, index: tuple[int, ...]) -> np.ndarray:
    """Return where a curve's points stand: those of the adaptive scheme where the proposal takes as much on the air."""
    along = positions(results, axis)
    elsewhere = scheme != "machine-tokens-adaptive" or axis != "num_tokens" or PROPOSAL not in results.schemes
    if elsewhere or SEED in results.axes:
        return along
    spent, proposal = (results.along("data_res", name)[:, *index] for name in (scheme, PROPOSAL))
    return np.interp(spent, proposal, along)


def _x_range(along: np.ndarray, words: bool, log_base: int | None) -> tuple[float, float]:
    low, high = float(along.min()), float(along.max())
    if words:
        return low - 0.5, high + 0.5
    if log_base:
        margin = (high / low) ** 0.05 if high > low else log_base
        return low / margin, high * margin
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _rounded_range(lines: Sequence[Line]) -> tuple[float, float]:
    """The tens of percent around everything that is drawn."""
    ends = [part for line in lines for part in (line.y, line.low, line.high, line.points) if part is not None]
    drawn = np.concatenate([np.ravel(part) for part in ends])
    low, high = 10 * np.floor(np.nanmin(drawn) / 10), 10 * np.ceil(np.nanmax(drawn) / 10)
    return max(0.0, low), min(100.0, max(high, low + 10))
