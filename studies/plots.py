"""Figures: PNG to look at, PDF for the paper, CSV with the numbers behind them."""

import csv
import io
import itertools
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from studies.archive import Results, write_atomically

STYLE = Path(__file__).with_name("tokenlink.mplstyle")
AXIS_LABELS = {
    "snr_db": "SNR per receive antenna [dB]",
    "num_tokens": "number of tokens",
    "width": "real numbers per token",
    "seed": "training seed",
}
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
    "machine-tokens-adaptive": {
        "label": "machine tokens, adaptive number",
        "color": "#3182bd",
        "marker": "*",
        "markersize": 7,
        "linestyle": "-",
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
BOUNDS = ("accuracy", "accuracy_low", "accuracy_high")
COSTS = ("code_nmse", "data_res")  # of the CSV
OTHER_PLACES: tuple[dict[str, Any], ...] = (  # curves of one scheme, from the last place of the second axis backwards
    {},
    {"linestyle": "--", "markerfacecolor": "white"},
    {"linestyle": ":", "markerfacecolor": "white"},
    {"linestyle": "-.", "markerfacecolor": "white"},
)


def draw_accuracy(results: Results, *, axis: str, folder: Path, name: str) -> list[Path]:
    """Draw accuracy along the first axis, with Wilson bars, and write PNG, PDF and CSV.

    A study of two axes has a curve for each scheme and each place of the second.

    Parameters
    ----------
    results : Results
    axis : the first of the study's axes
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
    write_atomically(paths[-1], to_csv(results).encode())
    return paths


def to_csv(results: Results) -> str:
    """Return the figure's numbers, a line per point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scheme", *results.axes, *BOUNDS, "num_questions", *COSTS])
    num_questions = len(results.coordinates["question"])
    for scheme in results.schemes:
        values = {name: results.along(name, scheme) for name in (*BOUNDS, *COSTS)}
        for place in np.ndindex(*map(len, results.axes.values())):
            at = [f"{axis[i]:g}" for i, axis in zip(place, results.axes.values(), strict=True)]
            row = [f"{values[name][place]:.6f}" for name in BOUNDS]
            writer.writerow([scheme, *at, *row, num_questions, *(f"{values[name][place]:.6g}" for name in COSTS)])
    return text.getvalue()


def _draw_scheme(axes: Axes, results: Results, axis: str, scheme: str) -> None:
    bounds = [100 * results.along(name, scheme) for name in BOUNDS]
    if np.isnan(bounds[0]).all():
        return
    if scheme in LINES:
        accuracy, low, high = (float(bound.flat[0]) for bound in bounds)
        axes.axhspan(low, high, color="0.5", alpha=0.12, linewidth=0)
        axes.axhline(accuracy, linewidth=1.0, **LINES[scheme])
        return
    style = CURVES.get(scheme) or CONTROLS.get(scheme) or {"label": scheme, "marker": "."}
    others = {name: place for name, place in results.axes.items() if name != axis}
    combinations = list(np.ndindex(*map(len, others.values())))
    for place, change in zip(reversed(combinations), itertools.cycle(OTHER_PLACES), strict=False):
        accuracy, low, high = (bound[:, *place] for bound in bounds)
        at = "".join(
            f", {_named(name, float(values[i]))}" for i, (name, values) in zip(place, others.items(), strict=True)
        )
        axes.errorbar(
            _where(results, axis, scheme, place),
            accuracy,
            yerr=np.maximum([accuracy - low, high - accuracy], 0),
            elinewidth=0.8,
            **{**style, **change, "label": style["label"] + at},
        )


def _where(results: Results, axis: str, scheme: str, place: tuple[int, ...]) -> np.ndarray:
    """Return where a curve's points stand: those of the adaptive scheme where the proposal takes as much on the air."""
    along = results.coordinates[axis]
    if scheme != "machine-tokens-adaptive" or axis != "num_tokens" or "machine-tokens" not in results.schemes:
        return along
    spent, proposal = (results.along("data_res", name)[:, *place] for name in (scheme, "machine-tokens"))
    return np.interp(spent, proposal, along)


def _named(axis: str, value: float) -> str:
    return f"{value:g} dB" if axis == "snr_db" else f"{value:g} {axis.replace('_', ' ')}"


def _rounded_range(results: Results) -> tuple[float, float]:
    """The tens of percent around everything that is drawn."""
    low, high = (results.variables[name] for name in ("accuracy_low", "accuracy_high"))
    return 10 * np.floor(10 * np.nanmin(low)), 10 * np.ceil(10 * np.nanmax(high))
