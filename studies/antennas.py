"""Figure: task accuracy for different numbers of antennas, at some SNRs; the error of the codes beside it.

Least squares needs half as many receive antennas as there are transmit antennas, the linear MMSE estimate and sparse
recovery do not. A value of the axis is a pair of numbers, such as "4x8", and may name a recovery and say that the
receiver knows the codes' moments: "8x2 vamp prior". Where a recovery has no solution, the study says so and goes on.
"""

import re
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field

from studies import link_axis
from studies.config import shown
from studies.study import Study
from studies.study_config import Curves, Distinct, SnrAxis, StudyConfig

AXIS = "antennas"


def settings(value: str) -> list[str]:
    """Return the keys that a value such as "8x2 vamp prior" sets.

    Raises
    ------
    ValueError
        If it is no such value.
    """
    match = re.fullmatch(r"(\d+)x(\d+)(?: ((?!prior)[a-z-]+))?( prior)?", value)
    if match is None:
        raise ValueError(
            f"{shown(value)} is no set of antennas: write transmit x receive antennas, then, if you like, a recovery "
            'and the word prior, such as "4x8" or "8x2 vamp prior"'
        )
    num_tx_ant, num_rx_ant, recovery, prior = match.groups()
    keys = [f"link.num_tx_ant={int(num_tx_ant)}", f"link.num_rx_ant={int(num_rx_ant)}"]
    keys += [f"link.recovery={recovery}"] * (recovery is not None)
    return keys + ["models.code_prior=own"] * (prior is not None)


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run antennas -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=1000, ge=1)
    antennas: Annotated[tuple[str, ...], Distinct, AfterValidator(partial(link_axis.known, settings))] = (
        *("1x1", "1x2", "2x2", "2x4", "4x2", "4x4", "4x8", "8x8", "8x16", "16x32"),
        *("8x2", "8x2 ls", "8x2 lmmse prior", "8x2 vamp prior", "8x2 omp prior"),
        *("8x3", "8x3 ls", "8x3 lmmse prior", "8x3 vamp prior", "8x3 omp prior"),
    )
    schemes: Curves = ("machine-tokens", "raw-image", "question-only")
    snr_db: SnrAxis = (-10.0, 0.0, 10.0, 20.0)


STUDY = Study(
    name="antennas",
    Config=Config,
    axes=lambda config: {AXIS: config.antennas, "snr_db": config.snr_db},
    configure=partial(link_axis.configure, AXIS, settings),
    tiny={"num_questions": 24, "batch_size": 12, "snr_db": [0.0, 20.0], "antennas": ["2x4", "8x2", "8x2 ls"]},
    draw=link_axis.draw,
)
main = STUDY.main
