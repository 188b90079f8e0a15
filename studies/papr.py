"""Figure: peaks of each scheme's waveform, and task accuracy at equal peak power.

Left, the share of questions whose waveform exceeds a peak power, over the mean of all questions: the complementary
distribution. Digital schemes send QPSK where the table says two bits per symbol. Right, accuracy against the SNR that
the proposal has when every transmitter is allowed the same peak: whoever peaks higher has to send with less power.
"""

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
from studies.tables import PROPOSAL


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run papr -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=1000, ge=1)
    schemes: Curves = (
        *(PROPOSAL, "machine-tokens-uncompressed", "token-indices", "quantized-tokens", "deepjscc-small"),
        "question-only",
    )
    snr_db: SnrAxis = (-10.0, -5.0, 0.0, 5.0, 10.0, 20.0)


def ccdf(peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return peak powers in their order [dB], and the share of questions that exceed each."""
    ordered = np.sort(10 * np.log10(peaks))
    return ordered, 1 - np.arange(1, len(ordered) + 1) / len(ordered)


def draw(results: Results, *, folder: Path, name: str) -> list[Path]:
    """Draw both panels, and write the peaks that one question in ten, a hundred and a thousand exceeds."""
    snr_db, rows = results.axes["snr_db"], []
    reference = results.kept("peak_db", PROPOSAL) if PROPOSAL in results.schemes else np.zeros(len(snr_db))
    with mpl.rc_context(fname=drawing.STYLE):
        figure = Figure(figsize=(7.16, 3.0), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        for scheme in results.schemes:
            label, line, _ = plots.style_of(results, scheme)
            accuracy, peaks = 100 * results.along("accuracy", scheme), results.of("peak", scheme)
            if np.isnan(peaks).all():
                right.axhline(accuracy[-1], linewidth=1.0, label=label, **line)
                continue
            for index, at in enumerate(snr_db):
                exceeded = np.quantile(10 * np.log10(peaks[index]), [0.9, 0.99, 0.999])
                bits = results.kept("bits_per_symbol", scheme)[index]
                rows.append([scheme, f"{at:g}", f"{bits:.3g}", *(f"{level:.3f}" for level in exceeded)])
            level, share = ccdf(peaks[-1])
            left.semilogy(level[:-1], share[:-1], **{**line, "marker": "", "label": label})
            louder = results.kept("peak_db", scheme) - reference
            right.plot(snr_db + louder, accuracy, **{**line, "label": label})
        left.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
        left.set_xlabel("peak power over the mean [dB]")
        left.set_ylabel("share of questions that exceed it")
        right.set_xlabel("SNR at equal peak power [dB]")
        right.set_ylabel("task accuracy [%]")
        right.legend(loc="center right", bbox_to_anchor=(1.0, 0.3))
        drawing.write_caption(figure, plots.caption(results))
        paths = tikz.save(figure, folder, name)
    paths.append(folder / f"{name}.csv")
    header = ["scheme", "snr_db", "bits_per_symbol", *(f"peak_db_exceeded_by_{part}" for part in ("10%", "1%", "0.1%"))]
    write_atomically(paths[-1], csv_text(header, rows).encode())
    return paths


STUDY = Study(
    name="papr",
    Config=Config,
    axes=lambda config: {"snr_db": config.snr_db},
    tiny={"num_questions": 24, "batch_size": 12, "snr_db": [0.0, 20.0], "schemes": [PROPOSAL, "question-only"]},
    draw=draw,
)
main = STUDY.main
