"""Figure: how much each scheme sends, beside the JPEG file of the image (the paper's figure 5).

An analog scheme sends real numbers, which have no bits; what they would take in memory is stated, 16 bits a number. A
digital scheme is charged the bytes of its payload. JPEG files are whole files of quality 75 with halved chroma, written
from the split's images. The full-size pair's numbers follow from its sizes, and are marked as computed.
"""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from pydantic import Field

from studies import drawing, plots, tikz
from studies.archive import Results, write_atomically
from studies.csv_text import csv_text
from studies.study import Study
from studies.study_config import Curves, SnrAxis, StudyConfig
from studies.tables import PROPOSAL, Grid

BITS_PER_REAL = 16  # of half precision, in which models of this kind keep their tokens
JPEG = "jpeg-file"
FULL_SIZE = {  # real numbers of the pair LLaVA-1.5-7B and LLaMA-2-7B: five tokens
    "full size, width 256 (computed)": 5 * 256,
    "full size, width 512 (computed)": 5 * 512,
    "full size, uncompressed (computed)": 5 * 4096,
}


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run compression -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=500, ge=1)
    schemes: Curves = (
        *(PROPOSAL, "machine-tokens-uncompressed", "token-indices", "quantized-tokens", "caption"),
        *("deepjscc", "deepjscc-small", "avif-ldpc", JPEG),
    )
    snr_db: SnrAxis = (10.0,)


def sizes(results: Results) -> Grid:
    """Return, for each scheme, what a question takes: bytes, ratio to the JPEG file, channel uses, milliseconds."""
    link = json.loads(str(results.attributes["config_json"]))["link"]
    per_re = link["num_tx_ant"] * (2 if link["modulation"] == "iq" else 1)
    jpeg = _last(results, "payload_bytes", JPEG) if JPEG in results.schemes else np.nan
    rows = []
    for scheme in results.schemes:
        num_bytes, data_res, pilots, active = (
            _last(results, name, scheme) for name in ("payload_bytes", "data_res", "pilot_res", "active_s")
        )
        analog = np.isnan(num_bytes) and np.isfinite(data_res)
        if analog:
            num_bytes = data_res * per_re * BITS_PER_REAL / 8
        if np.isfinite(num_bytes):
            rows.append([scheme, analog, num_bytes, jpeg / num_bytes, data_res + pilots, 1e3 * active])
    rows += [[name, True, reals * BITS_PER_REAL / 8, np.nan, np.nan, np.nan] for name, reals in FULL_SIZE.items()]
    cells = [
        [name, f"{BITS_PER_REAL}" if analog else "-", *(_or_dash(value) for value in values)]
        for name, analog, *values in rows
    ]
    title = (
        "What a question takes: bytes, real numbers counted with the bits stated; how many\n"
        "times smaller that is than the image's JPEG file; channel uses with pilots, and time"
    )
    return Grid(title, ["scheme", "bits a number", "bytes", "JPEG / bytes", "uses", "ms"], cells)


def draw(results: Results, *, folder: Path, name: str) -> list[Path]:
    """Draw bytes as bars on a logarithmic axis, with the ratio to the JPEG file at each, and write the table."""
    grid = sizes(results)
    names, values, ratios = ([row[column] for row in grid.rows] for column in (0, 2, 3))
    with mpl.rc_context(fname=drawing.STYLE):
        figure = Figure(figsize=(7.16, 0.28 * len(names) + 0.7), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        places = np.arange(len(names))[::-1]
        colours = ["0.75" if "computed" in text else plots.style_of(results, text)[1]["color"] for text in names]
        axes.barh(places, [float(value) for value in values], color=colours, height=0.6)
        for place, value, ratio in zip(places, values, ratios, strict=True):
            axes.annotate(f" {value}{_compared(ratio)}", (float(value), place), va="center", fontsize=7)
        axes.set_yticks(places, names)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
        axes.set_xlim(1, 40 * max(float(value) for value in values))
        axes.set_xlabel(f"bytes of a question; real numbers counted with {BITS_PER_REAL} bits each")
        drawing.write_caption(figure, plots.caption(results))
        paths = tikz.save(figure, folder, name)
    paths.append(folder / f"{name}.csv")
    write_atomically(paths[-1], csv_text([head.replace(" ", "_") for head in grid.header], grid.rows).encode())
    return paths


def _compared(ratio: str) -> str:
    if ratio in ("-", "1"):
        return ""
    return f"  ({ratio} x smaller)" if float(ratio) > 1 else f"  ({1 / float(ratio):.3g} x larger)"


def _last(results: Results, variable: str, scheme: str) -> float:
    return float(results.kept(variable, scheme)[-1])


def _or_dash(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" if np.isfinite(value) else "-"


STUDY = Study(
    name="compression",
    Config=Config,
    axes=lambda config: {"snr_db": config.snr_db},
    tiny={"num_questions": 24, "batch_size": 12, "schemes": [PROPOSAL, JPEG]},
    draw=draw,
    table=sizes,
)
main = STUDY.main
