"""Figure: task accuracy of agents that were trained with the straight-through gradient and with the exact one.

None of these pairs ships. Two trainings that differ in nothing else make them:

    tokenlink train agents --out straight --data scenes --sensor sensor --task task-agent --steps 400
    tokenlink train agents --out exact --data scenes --sensor sensor --task task-agent --steps 400 --gradient exact
    tokenlink run gradients -s pairs='[straight, exact]'

`tokenlink bench bridge` measures the cosine between both gradients for every recovery and estimate.
"""

from typing import Any

from pydantic import Field

from studies.axes import Coordinates
from studies.config import ConfigError
from studies.study import Study
from studies.study_config import Curves, Place, SnrAxis, StudyConfig, without_folder

AXIS = "pair"


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run gradients -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=1000, ge=1)
    pairs: tuple[Place, ...] = Field(
        default=(), description="folders of pairs that were trained with different gradients"
    )
    schemes: Curves = ("machine-tokens", "raw-image", "question-only")
    snr_db: SnrAxis = (-10.0, -5.0, 0.0, 20.0)

    def public(self) -> dict[str, Any]:
        """Return the configuration as it may be published: folders of this machine are reduced to their last part."""
        return {**super().public(), "pairs": [without_folder(name) for name in self.pairs]}


def axes(config: Config) -> dict[str, Any]:
    """Return SNR and the pairs' names."""
    if len({without_folder(name) for name in config.pairs}) < max(2, len(config.pairs)):
        raise ConfigError(
            "pairs: two pairs of agents with different names are needed, trained with `tokenlink train agents` without "
            "and with --gradient exact, and else alike: -s pairs='[straight, exact]'"
        )
    return {"snr_db": config.snr_db, AXIS: [without_folder(name) for name in config.pairs]}


def configure(config: Config, coordinates: Coordinates) -> StudyConfig:
    """Return the configuration with a pair in place of `models.machine_tokens`."""
    pairs = {without_folder(name): name for name in config.pairs}
    return (
        config.updated({"models": {"machine_tokens": pairs[str(coordinates[AXIS])]}}) if AXIS in coordinates else config
    )


STUDY = Study(
    name="gradients",
    Config=Config,
    axes=axes,
    configure=configure,
    tiny={
        "num_questions": 24,
        "batch_size": 12,
        "snr_db": [0.0, 20.0],
        "pairs": ["clevr-mini-seed-0", "clevr-mini-seed-1"],
    },
)
main = STUDY.main
