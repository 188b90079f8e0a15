"""Figure: task accuracy for each channel estimator and pilot pattern; the error of the codes beside it.

A value of the axis is an estimator and may say how far apart pilots are and how strong: "lmmse spacing 4 boost 3 dB".
`tokenlink bench estimation` compares the estimates themselves with their bound.
"""

import re
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field

from studies import link_axis
from studies.config import shown
from studies.study import Study
from studies.study_config import Curves, Distinct, SnrAxis, StudyConfig

AXIS = "estimator"


def settings(value: str) -> list[str]:
    """Return the keys that a value such as "lmmse spacing 4" sets.

    Raises
    ------
    ValueError
        If it is no such value.
    """
    match = re.fullmatch(r"([a-z]+(?:-[a-z]+)?)(?: spacing (\d+))?(?: boost (-?\d+(?:\.\d+)?) dB)?", value)
    if match is None:
        raise ValueError(
            f"{shown(value)} is no estimate: write an estimator, then, if you like, the pilots' spacing and boost, "
            'such as "lmmse spacing 4 boost 3 dB"'
        )
    estimator, spacing, boost = match.groups()
    keys = [f"link.estimator={estimator}"]
    keys += [f"link.pilot_spacing={spacing}"] * (spacing is not None)
    return keys + [f"link.pilot_boost_db={boost}"] * (boost is not None)


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run estimation -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=1000, ge=1)
    estimators: Annotated[tuple[str, ...], Distinct, AfterValidator(partial(link_axis.known, settings))] = (
        *("perfect", "lmmse-spatial", "lmmse", "lmmse-robust", "ls-linear", "ls-nearest"),
        *("lmmse-spatial spacing 2", "lmmse-spatial spacing 4", "lmmse-spatial boost 3 dB", "ls-linear spacing 4"),
    )
    schemes: Curves = ("machine-tokens", "raw-image", "question-only")
    snr_db: SnrAxis = (-10.0, -5.0, 0.0, 20.0)


STUDY = Study(
    name="estimation",
    Config=Config,
    axes=lambda config: {AXIS: config.estimators, "snr_db": config.snr_db},
    configure=partial(link_axis.configure, AXIS, settings),
    tiny={"num_questions": 24, "batch_size": 12, "snr_db": [0.0, 20.0], "estimators": ["perfect", "ls-linear"]},
    draw=link_axis.draw,
)
main = STUDY.main
