"""Figures: PNG to look at, PDF for the paper, CSV with the numbers behind them."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from studies import curves
from studies.archive import Results, write_atomically
from studies.axes import axis_of, named, written
from studies.csv_text import csv_text

STYLE = Path(__file__).with_name("tokenlink.mplstyle")
BOUNDS = ("accuracy", "accuracy_low", "accuracy_high")
COSTS = ("code_nmse", "data_res")  # of the CSV
OTHER_LINES: tuple[dict[str, Any], ...] = (  # curves of one scheme, from the last value of the second axis backwards
    {},
    {"linestyle": "--", "markerfacecolor": "white"},
    {"linestyle": ":", "markerfacecolor": "white"},
    {"linestyle": "-.", "markerfacecolor": "white"},
)


def draw_accuracy(results: Results, *, folder: Path, name: str) -> list[Path]:
    """Draw accuracy along the first axis, with Wilson bars, and write PNG, PDF and CSV.

    A study of two axes has a curve for each scheme and each value of the second. Values that are strings stand side by
    side in their order.

    Parameters
    ----------
    results : Results
    folder : Path
        Where the files go.
    name : str
        Name of the files.

    Returns
    -------
    list of Path
    """
    axis = next(iter(results.axes))
    along = positions(results, axis)
    with mpl.rc_context(fname=STYLE):
        figure = Figure()
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for scheme in results.schemes:
            _draw_scheme(axes, results, axis, scheme)
        axes.set_xlabel(axis_of(axis).label)
        axes.set_ylabel("task accuracy [%]")
        axes.set_xticks(along, [written(value) for value in results.coordinates[axis].tolist()])
        axes.set_ylim(*_rounded_range(results))
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.19), ncols=2)
        paths = save(figure, folder, name)
    paths.append(folder / f"{name}.csv")
    write_atomically(paths[-1], to_csv(results).encode())
    return paths


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and PDF; the same numbers give the same files, as no date is written."""
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=metadata)
        paths.append(folder / f"{name}.{suffix}")
        write_atomically(paths[-1], buffer.getvalue())
    return paths


def positions(results: Results, axis: str) -> np.ndarray:
    """Return where the values of an axis stand: at themselves, or at 0, 1, 2 … if they are strings."""
    values = results.coordinates[axis]
    return np.arange(len(values)) if values.dtype.kind in "UO" else values


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


def _draw_scheme(axes: Axes, results: Results, axis: str, scheme: str) -> None:
    bounds = [100 * results.along(name, scheme) for name in BOUNDS]
    if np.isnan(bounds[0]).all():
        return
    label, line, level = style_of(results, scheme)
    if level:
        accuracy, low, high = (float(bound.flat[0]) for bound in bounds)
        axes.axhspan(low, high, color="0.5", alpha=0.12, linewidth=0)
        axes.axhline(accuracy, linewidth=1.0, label=label, **line)
        return
    others = {name: along for name, along in results.axes.items() if name != axis}
    indices = list(np.ndindex(*map(len, others.values())))
    for index, change in zip(reversed(indices), itertools.cycle(OTHER_LINES), strict=False):
        accuracy, low, high = (bound[:, *index] for bound in bounds)
        at = "".join(
            f", {named(name, along[i].item())}" for i, (name, along) in zip(index, others.items(), strict=True)
        )
        axes.errorbar(
            positions_of(results, axis, scheme, index),
            accuracy,
            yerr=np.maximum([accuracy - low, high - accuracy], 0),
            elinewidth=0.8,
            **{**line, **change, "label": label + at},
        )


def style_of(results: Results, scheme: str) -> tuple[str, dict[str, Any], bool]:
    """Return label, line and whether it is a level; of a curve from outside of the table as the archive has them."""
    if scheme in curves.CURVES:
        curve = curves.CURVES[scheme]
        return curve.label, dict(curve.line), curve.level
    style = json.loads(str(results.attributes.get("own_curves_json", "{}"))).get(scheme, {})
    return style.get("label", scheme), style.get("line", {"marker": "."}), style.get("level", False)


def positions_of(results: Results, axis: str, scheme: str, index: tuple[int, ...]) -> np.ndarray:
    """Return where a curve's points stand: those of the adaptive scheme where the proposal takes as much on the air."""
    along = positions(results, axis)
    if scheme != "machine-tokens-adaptive" or axis != "num_tokens" or "machine-tokens" not in results.schemes:
        return along
    spent, proposal = (results.along("data_res", name)[:, *index] for name in (scheme, "machine-tokens"))
    return np.interp(spent, proposal, along)


def _rounded_range(results: Results) -> tuple[float, float]:
    """The tens of percent around everything that is drawn."""
    low, high = (results.variables[name] for name in ("accuracy_low", "accuracy_high"))
    return 10 * np.floor(10 * np.nanmin(low)), 10 * np.ceil(10 * np.nanmax(high))
