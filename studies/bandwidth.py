"""Figure: task accuracy against channel uses at fixed SNR, and against energy, for every scheme and size of code.

Channel uses are complex resource elements of a question, pilots included. The last panel gives every scheme the energy
that it spends: all SNRs, each moved by the energy per question over the noise density. The pairs with other numbers of
tokens, or of real numbers a token, stand here as curves of their own.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydantic import Field

from studies import drawing, plots
from studies.archive import Results, write_atomically
from studies.csv_text import csv_text
from studies.curves import Curve
from studies.schemes.carriers import analog
from studies.schemes.encoders.tokens import tokens
from studies.schemes.readers.prefix import prefix
from studies.study import Study
from studies.study_config import Curves, SnrAxis, StudyConfig
from studies.tables import PROPOSAL


def _pair(weights: str, about: str) -> Curve:
    return Curve(
        name=f"{PROPOSAL}, {about}",
        encoder=tokens,
        carrier=analog.codes,
        reader=prefix,
        about=f"{PROPOSAL} with {about}",
        label=f"machine tokens, {about}",
        line={"color": "#6baed6", "marker": "."},
        weights=weights,
    )


ONE_TOKEN, TWO_TOKENS = _pair("clevr-mini-1", "1 token"), _pair("clevr-mini-2", "2 tokens")
THREE_TOKENS, EIGHT_TOKENS = _pair("clevr-mini-3", "3 tokens"), _pair("clevr-mini-8", "8 tokens")
WIDTH_8, WIDTH_16 = _pair("clevr-mini-width-8", "width 8"), _pair("clevr-mini-width-16", "width 16")
WIDTH_32, WIDTH_128 = _pair("clevr-mini-width-32", "width 32"), _pair("clevr-mini-width-128", "width 128")
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
    """Draw a panel for each SNR and one over energy, and write uses, uses per number of the image, and energy."""
    snr_db, rows = results.axes["snr_db"], []
    size = np.prod([int(part) for part in str(results.attributes["image_shape"]).split("x")])
    with mpl.rc_context(fname=drawing.STYLE):
        figure = Figure(figsize=(7.16, 2.5 * -(-(len(snr_db) + 1) // 2)))
        FigureCanvasAgg(figure)
        panels = figure.subplots(-(-(len(snr_db) + 1) // 2), 2, sharey=True, squeeze=False).ravel()
        for scheme in results.schemes:
            label, line, _ = plots.style_of(results, scheme)
            accuracy, low, high = (100 * results.along(bound, scheme) for bound in plots.BOUNDS)
            uses = results.along("data_res", scheme) + results.along("pilot_res", scheme)
            energy = results.kept("energy", scheme)
            for index, panel in enumerate(panels[: len(snr_db)]):
                if np.isnan(uses[index]):
                    panel.axhline(accuracy[index], linewidth=1.0, label=label, **line)
                    continue
                error = [[accuracy[index] - low[index]], [high[index] - accuracy[index]]]
                panel.errorbar(uses[index], accuracy[index], yerr=error, **{**line, "linestyle": "", "label": label})
                cells = [accuracy[index], low[index], high[index], uses[index], uses[index] / size, energy[index]]
                rows.append([scheme, f"{snr_db[index]:g}", *(f"{cell:.6g}" for cell in cells)])
            if not np.isnan(uses).all():
                panels[len(snr_db)].plot(10 * np.log10(energy) + snr_db, accuracy, **{**line, "label": label})
        for panel, at in zip(panels, snr_db, strict=False):
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
            panel.set_xlabel(f"channel uses of a question, pilots included, at {at:g} dB")
        panels[len(snr_db)].set_xlabel("energy of a question over the noise density [dB]")
        for panel in panels[len(snr_db) + 1 :]:
            panel.set_visible(False)
        for panel in panels[::2]:
            panel.set_ylabel("task accuracy [%]")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.tight_layout(rect=(0, 0.03 * -(-len(labels) // 3), 1, 1))
        figure.legend(handles, labels, loc="lower center", ncols=3)
        paths = drawing.save(figure, folder, name)
    paths.append(folder / f"{name}.csv")
    header = ["scheme", "snr_db", "accuracy", "low", "high", "channel_uses", "uses_per_image_number", "energy"]
    write_atomically(paths[-1], csv_text(header, rows).encode())
    return paths


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
