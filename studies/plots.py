"""Figures: PNG to look at, PDF for the paper, CSV with the numbers behind them."""

import csv
import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from studies.archive import Results, write_atomically

STYLE = Path(__file__).with_name("tokenlink.mplstyle")
AXIS_LABELS = {"snr_db": "SNR per receive antenna [dB]"}
# A bound or a blind line is no curve that was measured along the axis: it has no markers, and says what it is.
LINES: dict[str, dict[str, Any]] = {
    "raw-image": {"label": "raw image (upper bound)", "color": "0.15", "linestyle": "--"},
    "question-only": {"label": "question only (blind)", "color": "0.15", "linestyle": ":"},
    "silent-link": {"label": "control: silent link", "color": "0.65", "linestyle": "-."},
    "caption-error-free": {"label": "caption, none lost (bound)", "color": "#31a354", "linestyle": "--"},
}
CURVES: dict[str, dict[str, Any]] = {
    "machine-tokens": {"label": "machine tokens", "color": "#08519c", "marker": "o", "linestyle": "-"},
    "machine-tokens-uncompressed": {
        "label": "machine tokens, uncompressed",
        "color": "#e6550d",
        "marker": "s",
        "linestyle": "-",
        "markerfacecolor": "white",
    },
    "quantized-tokens": {"label": "quantized tokens", "color": "#756bb1", "marker": "^", "linestyle": "-"},
    "token-indices": {
        "label": "token indices",
        "color": "#756bb1",
        "marker": "v",
        "linestyle": "-.",
        "markerfacecolor": "white",
    },
    "caption": {"label": "caption", "color": "#31a354", "marker": "D", "linestyle": "-"},
    "jpeg-ldpc": {"label": "JPEG, LDPC", "color": "#a63603", "marker": "P", "linestyle": "-"},
    "jpeg-ldpc-fixed": {
        "label": "JPEG, LDPC, made for 10 dB",
        "color": "#a63603",
        "marker": "P",
        "linestyle": ":",
        "markerfacecolor": "white",
    },
    "answer-text": {
        "label": "answer alone (sees the question: bound)",
        "color": "0.15",
        "marker": "*",
        "linestyle": "--",
    },
}
CONTROLS: dict[str, dict[str, Any]] = {
    "wrong-image": {"label": "control: another image's tokens", "color": "0.5", "marker": "x", "linestyle": "-"},
}
COLUMNS = ("scheme", "accuracy", "accuracy_low", "accuracy_high", "num_questions", "code_nmse")


def draw_accuracy(results: Results, *, axis: str, folder: Path, name: str) -> list[Path]:
    """Draw accuracy along one axis, with Wilson bars, and write PNG, PDF and CSV.

    Parameters
    ----------
    results : Results
    axis : the coordinate to draw along
    folder : where the files go
    name : of the files

    Returns
    -------
    list of Path
    """
    with mpl.rc_context(fname=STYLE):
        figure = Figure()
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for scheme in results.schemes:
            _draw_scheme(axes, results, axis, scheme)
        axes.set_xlabel(AXIS_LABELS.get(axis, axis))
        axes.set_ylabel("task accuracy [%]")
        axes.set_xticks(results.coordinates[axis])
        axes.set_ylim(*_rounded_range(results))
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.19), ncols=2)
        paths = []
        for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, metadata=metadata)  # no date: the same numbers give the same file
            paths.append(folder / f"{name}.{suffix}")
            write_atomically(paths[-1], buffer.getvalue())
    paths.append(folder / f"{name}.csv")
    write_atomically(paths[-1], to_csv(results, axis).encode())
    return paths


def to_csv(results: Results, axis: str) -> str:
    """Return the figure's numbers, a line per point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scheme", axis, *COLUMNS[1:]])
    num_questions = len(results.coordinates["question"])
    for scheme in results.schemes:
        for i, place in enumerate(results.coordinates[axis]):
            values = [results.of(name, scheme)[i] for name in ("accuracy", "accuracy_low", "accuracy_high")]
            row = [f"{value:.6f}" for value in values]
            writer.writerow([scheme, f"{place:g}", *row, num_questions, f"{results.of('code_nmse', scheme)[i]:.6g}"])
    return text.getvalue()


def _draw_scheme(axes: Axes, results: Results, axis: str, scheme: str) -> None:
    place = results.coordinates[axis]
    accuracy, low, high = (100 * results.of(name, scheme) for name in ("accuracy", "accuracy_low", "accuracy_high"))
    if np.isnan(accuracy).all():
        return
    if scheme in LINES:
        axes.axhspan(float(low[0]), float(high[0]), color="0.5", alpha=0.12, linewidth=0)
        axes.axhline(float(accuracy[0]), linewidth=1.0, **LINES[scheme])
        return
    style = CURVES.get(scheme) or CONTROLS.get(scheme) or {"label": scheme, "marker": "."}
    bars = np.maximum([accuracy - low, high - accuracy], 0)
    axes.errorbar(place, accuracy, yerr=bars, elinewidth=0.8, **style)


def _rounded_range(results: Results) -> tuple[float, float]:
    """The tens of percent around everything that is drawn."""
    low, high = (results.variables[name] for name in ("accuracy_low", "accuracy_high"))
    return 10 * np.floor(10 * np.nanmin(low)), 10 * np.ceil(10 * np.nanmax(high))
