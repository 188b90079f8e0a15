"""Archive and figure of the benchmark of latency: the time of a question by stages, as shares of the whole.

The archive is read by h5py, xarray and MATLAB as any other: arrays with dimension scales, each with its meaning.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from studies import drawing, tikz
from studies.archive import write_atomically

MEANINGS = {
    "seconds": "time of a question in a stage [s]; of the air, the time on the channel",
    "share": "time of a question in a stage over that in all of them",
    "decoding_seconds": "time of a payload in a digital decoder [s], in place of the recovery",
    "decoding_over_recovery": "time of a payload in a digital decoder over that of a question in the recovery",
}
SCHEMA, VERSION = "tokenlink-latency", 1
FLOOR = 1e-5  # left end of the logarithmic axis, of times [s]


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes
    ----------
    sizes : int [num_sizes]
        Questions at a time.
    stages : tuple of str
    seconds : float [num_sizes, num_stages]
        Time of a question [s].
    decoders : tuple of str
        Digital decoders.
    decoding : float [num_sizes, num_decoders]
        Time of a payload [s].
    replaced : str
        Stage in whose place they stand.
    attributes : mapping
        Of the file.
    """

    sizes: np.ndarray
    stages: tuple[str, ...]
    seconds: np.ndarray
    decoders: tuple[str, ...]
    decoding: np.ndarray
    replaced: str
    attributes: Mapping[str, str]

    @property
    def share(self) -> np.ndarray:
        """Time of each stage over that of all, [num_sizes, num_stages]."""
        return self.seconds / self.seconds.sum(-1, keepdims=True)

    @property
    def over_recovery(self) -> np.ndarray:
        """Time of each decoder over that of the stage in whose place it stands, [num_sizes, num_decoders]."""
        return self.decoding / self.seconds[:, [self.stages.index(self.replaced)]]


def write(figures: Figures, *, folder: Path, name: str) -> list[Path]:
    """Write the archive and the figure as PNG and PDF; return their paths."""
    path = folder / f"{name}.h5"
    write_atomically(path, archive(figures))
    return [path, *draw(figures, folder=folder, name=name)]


def archive(figures: Figures) -> bytes:
    """Return the content of the HDF5 file."""
    scales = {"questions_at_a_time": figures.sizes, "stage": figures.stages, "decoder": figures.decoders}
    by_stage, by_decoder = ("questions_at_a_time", "stage"), ("questions_at_a_time", "decoder")
    variables = {
        "seconds": (by_stage, figures.seconds),
        "share": (by_stage, figures.share),
        "decoding_seconds": (by_decoder, figures.decoding),
        "decoding_over_recovery": (by_decoder, figures.over_recovery),
    }
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for scale, values in scales.items():
            of_words = isinstance(values, tuple)
            data = np.asarray(values, dtype=object) if of_words else values
            file.create_dataset(scale, data=data, dtype=h5py.string_dtype() if of_words else None).make_scale(scale)
        for variable, (dimensions, values) in variables.items():
            dataset = file.create_dataset(variable, data=values)
            dataset.attrs["long_name"] = MEANINGS[variable]
            for axis, dimension in enumerate(dimensions):
                dataset.dims[axis].attach_scale(file[dimension])
        file.attrs.update({**figures.attributes, "schema": SCHEMA, "schema_version": VERSION})
    return buffer.getvalue()


def draw(figures: Figures, *, folder: Path, name: str) -> list[Path]:
    """Draw the time of each stage, and of each digital decoder, for every number of questions at a time."""
    with mpl.rc_context(fname=drawing.STYLE):
        figure = Figure(figsize=(7.16, 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(figures.sizes), sharey=True, squeeze=False)[0]
        for axes, number in zip(panels, range(len(figures.sizes)), strict=True):
            _draw_bars(axes, figures, number)
        caption = (
            "Processor time of a question on one core; of the air, the time on the channel. Shares are of the whole "
            f"chain; below, digital decoders over the {figures.replaced} in whose place they stand."
        )
        drawing.write_caption(figure, caption)
        return tikz.save(figure, folder, name)


def _draw_bars(axes: Axes, figures: Figures, number: int) -> None:
    """Draw one panel: bars of the stages, and of the decoders below them, on one logarithmic axis of time."""
    seconds = np.concatenate([figures.seconds[number], figures.decoding[number]])
    labels = [f"{100 * share:.2g} %" for share in figures.share[number]]
    labels += [f"{ratio:.3g} x" for ratio in figures.over_recovery[number]]
    is_stage = np.arange(len(seconds)) < len(figures.stages)
    places = -np.arange(len(seconds)) - 0.6 * ~is_stage
    axes.barh(places, 1e3 * seconds, color=np.where(is_stage, "tab:blue", "0.7"), height=0.7)
    for place, value, label in zip(places, seconds, labels, strict=True):
        axes.annotate(f" {label}", (1e3 * max(value, FLOOR), place), va="center", fontsize=7)
    axes.set_yticks(places, [*figures.stages, *figures.decoders])
    axes.set_xscale("log")
    axes.set_xlim(1e3 * FLOOR, 1e4 * figures.seconds.max())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:g}"))
    axes.set_xlabel("time of a question [ms]")
    axes.set_title(f"{figures.sizes[number]} question{'s' * bool(figures.sizes[number] > 1)} at a time")
