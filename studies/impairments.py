"""Figure: task accuracy against the strength of each radio impairment, and the strength at which one point is lost.

A value of the axis is an impairment and its strength, such as "amplifier 3 dB"; "none" is the link without any.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydantic import AfterValidator, Field

from studies import drawing, link_axis, plots, tikz
from studies.archive import MISSING, Results, write_atomically
from studies.config import shown
from studies.csv_text import csv_text
from studies.statistics import compare
from studies.study import Study
from studies.study_config import Curves, Distinct, SnrAxis, StudyConfig
from studies.tables import PROPOSAL, Grid

AXIS, NONE = "impairment", "none"
STATED_LOSS = 0.01


@dataclass(frozen=True)
class Kind:
    """One impairment: unit, the keys that a strength sets, and strengths from weak to strong."""

    unit: str
    keys: tuple[str, ...]
    strengths: tuple[str, ...]


KINDS = {
    "amplifier": Kind("dB back-off", ("pa_backoff_db={}",), ("12", "9", "6", "3", "0", "-3")),
    "clipping": Kind("dB over rms", ("clipping_db={}",), ("9", "6", "3", "0", "-3")),
    "converters": Kind("bits", ("dac_bits={}", "adc_bits={}"), ("8", "6", "4", "3", "2")),
    "I/Q gain": Kind("dB", ("tx_iq_imbalance=[{}, 0]", "rx_iq_imbalance=[{}, 0]"), ("0.3", "1", "2", "4")),
    "I/Q phase": Kind("degrees", ("tx_iq_imbalance=[0, {}]", "rx_iq_imbalance=[0, {}]"), ("2", "5", "10", "20")),
    "frequency offset": Kind("Hz", ("carrier_frequency_offset={}",), ("30", "100", "300", "1000", "3000")),
    "phase noise": Kind("Hz linewidth", ("phase_noise_linewidth={}",), ("10", "30", "100", "300", "1000")),
    "old estimate": Kind("s", ("csi_delay={}",), ("0.001", "0.003", "0.01", "0.03")),
    "noise misjudged": Kind("dB", ("noise_error_db={}",), ("-10", "-3", "3", "10")),
}


def parts(value: str) -> tuple[str, str]:
    """Return kind and strength of a value such as "amplifier 3 dB back-off"; the unit may be left out.

    Raises
    ------
    ValueError
        If it is no such value.
    """
    match = re.fullmatch(rf"({'|'.join(KINDS)}) (-?\d+(?:\.\d+)?)(?: (.+))?", value)
    if match is None or match[3] not in (None, KINDS[match[1]].unit):
        raise ValueError(
            f"{shown(value)} is no impairment: write 'none', or one of {', '.join(KINDS)} and its strength, such as "
            f'"{named("amplifier", "3")}"'
        )
    return match[1], match[2]


def named(kind: str, strength: str) -> str:
    """Write a value of the axis."""
    return f"{kind} {strength} {KINDS[kind].unit}"


def settings(value: str) -> list[str]:
    """Return the keys that a value sets."""
    if value == NONE:
        return []
    kind, strength = parts(value)
    return [f"link.{key.format(strength)}" for key in KINDS[kind].keys]


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run impairments -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=1000, ge=1)
    impairments: Annotated[tuple[str, ...], Distinct, AfterValidator(partial(link_axis.known, settings))] = (
        NONE,
        *(named(kind, strength) for kind, of_kind in KINDS.items() for strength in of_kind.strengths),
    )
    schemes: Curves = (PROPOSAL,)
    snr_db: SnrAxis = (0.0, 20.0)


def draw(results: Results, *, folder: Path, name: str) -> list[Path]:
    """Draw a panel for each impairment, and write the strengths at which one point is lost."""
    values = results.axes[AXIS].tolist()
    kinds = [kind for kind in KINDS if any(value.startswith(f"{kind} ") for value in values)]
    bounds = [100 * results.along(bound, PROPOSAL) for bound in plots.BOUNDS]  # [impairments, snr_db]
    with mpl.rc_context(fname=drawing.STYLE):
        figure = Figure(figsize=(7.16, 1.7 * -(-max(len(kinds), 1) // 3)), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(-(-max(len(kinds), 1) // 3), 3, sharey=True, squeeze=False).ravel()
        for panel, kind in zip(panels, kinds, strict=False):
            chosen = [i for i, value in enumerate(values) if value == NONE or value.startswith(f"{kind} ")]
            for row, (at, marker) in enumerate(zip(results.axes["snr_db"], "os^Dv<>" * 4, strict=False)):
                accuracy, low, high = (bound[chosen, row] for bound in bounds)
                panel.plot(accuracy, color="black", marker=marker, linestyle="-" if row else "--", label=f"{at:g} dB")
                panel.fill_between(range(len(chosen)), low, high, color="0.5", alpha=0.2, linewidth=0)
            heads = [values[i] if values[i] == NONE else parts(values[i])[1] for i in chosen]
            panel.set_xticks(range(len(chosen)), heads)
            panel.set_xlabel(f"{kind} [{KINDS[kind].unit}]")
        for panel in panels[len(kinds) :]:
            panel.set_visible(False)
        for panel in panels[::3]:
            panel.set_ylabel("task accuracy [%]")
        panels[0].legend()
        drawing.write_caption(figure, plots.caption(results, ["Bands: 95 % Wilson intervals"]))
        paths = tikz.save(figure, folder, name)
    grid = losses(results)
    paths.append(folder / f"{name}.csv")
    write_atomically(paths[-1], csv_text([head.replace("\n", " ") for head in grid.header], grid.rows).encode())
    return paths


def losses(results: Results) -> Grid:
    """Return the points that each strength costs at each SNR and, for each impairment, where one point is lost.

    That strength stands on the straight line between the last that costs less and the first that costs more.
    """
    values, snr_db = results.axes[AXIS].tolist(), results.axes["snr_db"].tolist()
    outcomes, images = results.of("correct", PROPOSAL), results.variables["image_index"]  # [impairments, snr_db, …]
    rows = []
    for kind in KINDS:
        chosen = [i for i, value in enumerate(values) if value.startswith(f"{kind} ")]
        if NONE not in values or not chosen or (outcomes[[values.index(NONE), *chosen]] == MISSING).any():
            continue
        ideal, strengths = outcomes[values.index(NONE)], np.array([float(parts(values[i])[1]) for i in chosen])
        paired = [[compare(outcomes[i, at], ideal[at], images=images) for at in range(len(snr_db))] for i in chosen]
        for i, along in zip(chosen, paired, strict=True):
            cells = [f"{100 * one.difference:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f})" for one in along]
            rows.append([values[i], *cells])
        lost = -np.array([[one.difference for one in along] for along in paired])
        rows.append([f"{kind}: one point lost at", *(_where(strengths, lost[:, at]) for at in range(len(snr_db)))])
    title = "Accuracy with an impairment less that without, points [%], 95 % bootstrap over images"
    return Grid(title, ["impairment / SNR [dB]", *(f"{at:g}" for at in snr_db)], rows)


def _where(strengths: np.ndarray, lost: np.ndarray) -> str:
    over = np.flatnonzero(lost >= STATED_LOSS)
    if not len(over):
        return "none of these"
    if over[0] == 0:
        return f"{strengths[0]:g} or weaker"
    before, after = over[0] - 1, over[0]
    share = (STATED_LOSS - lost[before]) / (lost[after] - lost[before])
    return f"{strengths[before] + share * (strengths[after] - strengths[before]):.3g}"


STUDY = Study(
    name="impairments",
    Config=Config,
    axes=lambda config: {AXIS: config.impairments, "snr_db": config.snr_db},
    configure=partial(link_axis.configure, AXIS, settings),
    tiny={
        "num_questions": 24,
        "batch_size": 12,
        "snr_db": [20.0],
        "impairments": [NONE, named("amplifier", "0"), named("converters", "3")],
    },
    draw=draw,
    table=losses,
)
main = STUDY.main
