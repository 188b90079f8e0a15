"""Figure: every scheme side by side, through one receiver, on the same questions and fades.

`tokenlink report` makes the table of it: channel uses, energy and time, accuracy with intervals over images, fades and
trainings, McNemar's test with Holm's correction, bounds, equal energy and equal peak power, and the paper's claims.
"""

from pydantic import Field

from studies.study import Study
from studies.study_config import Curves, SnrAxis, StudyConfig

ANALOG = (
    *("machine-tokens-uncompressed", "machine-tokens-adaptive"),
    *("machine-tokens-arq", "machine-tokens-arq-2", "machine-tokens-arq-answer"),
)
DIGITAL = (
    *("token-indices", "token-indices-harq", "token-indices-cqi"),
    *("quantized-tokens", "quantized-tokens-harq", "quantized-tokens-cqi"),
    *("caption", "caption-harq"),
)
IMAGES = ("deepjscc", "deepjscc-small", "avif-ldpc", "avif-small", "jpeg-ldpc")
BOUNDS = (
    "bound-linear",
    "bound-digital",
    "bound-digital-reached",
    "bound-indices",
    "caption-error-free",
    "answer-text",
    "raw-image",
)
CONTROLS = ("question-only", "silent-link", "wrong-image", "gaussian-codes", "rotated-codes")


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run comparison -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=500, ge=1)
    schemes: Curves = ("machine-tokens", *ANALOG, *DIGITAL, *IMAGES, *BOUNDS, *CONTROLS)
    snr_db: SnrAxis = (-10.0, -5.0, 0.0, 5.0, 20.0)


STUDY = Study(
    name="comparison",
    Config=Config,
    axes=lambda config: {"snr_db": config.snr_db},
    tiny={
        "num_questions": 24,
        "batch_size": 12,
        "snr_db": [0.0, 20.0],
        "schemes": ["machine-tokens", "token-indices", "raw-image", "question-only"],
    },
)
main = STUDY.main
