"""Figure: task accuracy against channel uses at fixed SNR, and against energy, for every scheme and size of code.

Channel uses are complex resource elements of a question, pilots included. A second figure gives every scheme the energy
that it spends: all SNRs, each moved by the energy per question. Pairs with other numbers of tokens, or of real numbers
per token, stand here as curves of their own.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from studies import plots
from studies.archive import Results, write_atomically
from studies.chart import Chart, Line, Panel
from studies.csv_text import csv_text
from studies.curves import ANALOG, Curve
from studies.panels import arrange
from studies.schemes.carriers import analog
from studies.schemes.encoders.tokens import tokens
from studies.schemes.readers.prefix import prefix
from studies.study import Study
from studies.study_config import Curves, SnrAxis, StudyConfig
from studies.tables import PROPOSAL

MARKERS = {"width": "o", "1": "1", "2": "2", "3": "3", "8": "4"}


def _pair(weights: str, about: str) -> Curve:
    return Curve(
        name=f"{PROPOSAL}, {about}",
        encoder=tokens,
        carrier=analog.codes,
        reader=prefix,
        about=f"{PROPOSAL} with {about}",
        label=f"machine tokens, {about}",
        line={"color": "#6baed6", "marker": MARKERS[about.split()[0]], "markerfacecolor": "white"},
        group=ANALOG,
        weights=weights,
    )


ONE_TOKEN, TWO_TOKENS = _pair("clevr-mini-1", "1 token"), _pair("clevr-mini-2", "2 tokens")
THREE_TOKENS, EIGHT_TOKENS = _pair("clevr-mini-3", "3 tokens"), _pair("clevr-mini-8", "8 tokens")
WIDTH_8, WIDTH_16 = _pair("clevr-mini-width-8", "width 8"), _pair("clevr-mini-width-16", "width 16")
WIDTH_32, WIDTH_128 = _pair("clevr-mini-width-32", "width 32"), _pair("clevr-mini-width-128", "width 128")
HEADER = ["scheme", "snr_db", "accuracy", "low", "high", "channel_uses", "uses_per_image_number", "energy"]
SIZES = ("ONE_TOKEN", "TWO_TOKENS", "THREE_TOKENS", "EIGHT_TOKENS", "WIDTH_8", "WIDTH_16", "WIDTH_32", "WIDTH_128")


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run bandwidth -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=500, ge=1)
    schemes: Curves = (
        *(f"studies.bandwidth:{size}" for size in SIZES),
        *("machine-tokens-uncompressed", "token-indices", "quantized-tokens", "caption"),
        *("deepjscc", "deepjscc-small", "avif-ldpc", "avif-small"),
        *("raw-image", "question-only", PROPOSAL),
    )
    snr_db: SnrAxis = (-10.0, 0.0, 20.0)


def draw(results: Results, *, folder: Path, name: str) -> list[Path]:
    """Draw accuracy over channel uses at each SNR and, in another figure, over energy; write the numbers of both."""
    paths = plots.write(over_uses(results), folder=folder, name=name)
    paths += plots.write(over_energy(results), folder=folder, name=f"{name}-energy")
    paths.append(folder / f"{name}.csv")
    write_atomically(paths[-1], csv_text(HEADER, _rows(results)).encode())
    return paths


def over_uses(results: Results) -> Chart:
    """Return a panel for each SNR: a point for each scheme at its channel uses; levels run across."""
    found = {scheme: _uses(results, scheme) for scheme in results.schemes}
    spent = np.concatenate([uses[np.isfinite(uses)] for uses in found.values()])
    ends = (float(spent.min()) / 1.2, float(spent.max()) * 1.2)
    panels, lines = [], list[Line]()
    for index, at in enumerate(results.axes["snr_db"]):
        lines = []
        for scheme in results.schemes:
            line, uses = _line(results, scheme), found[scheme][index]
            accuracy, low, high = (100 * results.along(bound, scheme)[[index]] for bound in plots.BOUNDS)
            if np.isnan(uses):
                y, low, high = (np.repeat(part, 2) for part in (accuracy, low, high))
                lines.append(replace(line, x=np.array(ends), y=y, low=low, high=high, level=True))
            else:
                style = {**line.style, "linestyle": ""}
                lines.append(replace(line, x=np.array([uses]), y=accuracy, low=low, high=high, style=style))
        panels.append(Panel(title=f"{at:g} dB", lines=tuple(replace(line, label="") for line in lines)))
    ticks = 2.0 ** np.arange(np.ceil(np.log2(ends[0])), np.floor(np.log2(ends[1])) + 1)
    return Chart(
        panels=tuple(panels),
        legend=tuple(lines),
        x_label="channel uses of a question, pilots included",
        y_label="task accuracy [%]",
        ticks=ticks,
        tick_labels=[f"{tick:g}" for tick in ticks],
        log_base=2,
        x_range=ends,
        y_range=(30.0, 100.0),
        bands=False,
        caption=plots.caption(results, ["Bars: 95 % Wilson intervals"]),
    )


def over_energy(results: Results) -> Chart:
    """Return accuracy over the energy of a question, relative to the noise density: all SNRs of each scheme."""
    lines, levels = [], []
    for scheme in results.schemes:
        line, energy = _line(results, scheme), results.kept("energy", scheme)
        accuracy, low, high = (100 * results.along(bound, scheme) for bound in plots.BOUNDS)
        if np.isnan(energy).all():
            levels.append(replace(line, y=accuracy[:1], low=low[:1], high=high[:1], level=True))
        else:
            at = 10 * np.log10(energy) + results.axes["snr_db"]
            lines.append(replace(line, x=at, y=accuracy, low=low, high=high))
    at = np.concatenate([line.x for line in lines])
    ends = (float(np.nanmin(at)) - 1, float(np.nanmax(at)) + 1)
    lines += [
        replace(level, x=np.array(ends), **{part: np.repeat(getattr(level, part), 2) for part in ("y", "low", "high")})
        for level in levels
    ]
    panels, legend = arrange(lines)
    ticks = np.arange(10 * np.ceil(ends[0] / 10), ends[1], 10)
    return Chart(
        panels=panels,
        legend=legend,
        x_label="energy of a question over the noise density [dB]",
        y_label="task accuracy [%]",
        ticks=ticks,
        tick_labels=[f"{tick:g}" for tick in ticks],
        x_range=ends,
        y_range=(30.0, 100.0),
        caption=plots.caption(results, ["Bands: 95 % Wilson intervals"]),
    )


def _line(results: Results, scheme: str) -> Line:
    look, none = plots.look_of(results, scheme), np.zeros(0)
    return Line(
        label=look["label"],
        x=none,
        y=none,
        style=look["line"],
        scheme=scheme,
        group=look["group"],
        proposal=scheme == PROPOSAL,
    )


def _uses(results: Results, scheme: str) -> np.ndarray:
    return results.along("data_res", scheme) + results.along("pilot_res", scheme)


def _rows(results: Results) -> list[list[str]]:
    size = np.prod([int(part) for part in str(results.attributes["image_shape"]).split("x")])
    rows = []
    for scheme in results.schemes:
        uses, energy = _uses(results, scheme), results.kept("energy", scheme)
        bounds = [100 * results.along(bound, scheme) for bound in plots.BOUNDS]
        for index, at in enumerate(results.axes["snr_db"] if np.isfinite(uses).any() else []):
            cells = [*(bound[index] for bound in bounds), uses[index], uses[index] / size, energy[index]]
            rows.append([scheme, f"{at:g}", *(f"{cell:.6g}" for cell in cells)])
    return rows


STUDY = Study(
    name="bandwidth",
    Config=Config,
    axes=lambda config: {"snr_db": config.snr_db},
    tiny={
        "num_questions": 24,
        "batch_size": 12,
        "snr_db": [0.0, 20.0],
        "schemes": ["studies.bandwidth:WIDTH_16", "raw-image", "question-only", PROPOSAL],
    },
    draw=draw,
)
main = STUDY.main
