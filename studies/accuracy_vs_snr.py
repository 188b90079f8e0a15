"""Figure: task accuracy against SNR.

The sensor agent sees the image and a vague description of the task; the task agent has to answer the detailed question
from what reaches it over the link. Every scheme meets the same questions and, question by question, the same fades.
"""

from studies.study import Study
from studies.study_config import SnrAxis, StudyConfig


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-snr -s KEY=VALUE`, or a YAML file with the same keys."""

    snr_db: SnrAxis = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


STUDY = Study(
    name="accuracy-vs-snr",
    Config=Config,
    axes=lambda config: {"snr_db": config.snr_db},
    tiny={"num_questions": 24, "batch_size": 12, "snr_db": [0.0, 20.0]},
)
main = STUDY.main
