"""Axes along which trained agents differ: each value has a pair of agents of its own, which says it of itself."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from studies.axes import AxisValue, Coordinates
from studies.config import ConfigError
from studies.study_config import Curves, Distinct, Place, SnrAxis, StudyConfig, without_folder
from studies.workbench import load_agents

Pairs = Annotated[tuple[Place, ...], Distinct]


class PairsConfig(StudyConfig, frozen=True):
    """What can be set in a study along a property of agents.

    `models.machine_tokens` is the pair of the lines that do not depend on the axis.
    """

    pairs: Pairs = Field(default=(), description="weights, a shipped name or a folder for each value of the axis")
    schemes: Curves = ("machine-tokens", "raw-image", "question-only")
    snr_db: SnrAxis = (0.0, 15.0)

    def public(self) -> dict[str, Any]:
        """Return the configuration as it may be published: folders of this machine are reduced to their last part."""
        return {**super().public(), "pairs": [without_folder(name) for name in self.pairs]}


def axes(axis: str, config: PairsConfig) -> Mapping[str, Sequence[AxisValue]]:
    """Return the axes of a study along `axis`, a property of `AgentLink`, and SNR."""
    return {axis: sorted(pairs_by_value(axis, config)), "snr_db": config.snr_db}


def configure(axis: str, config: PairsConfig, coordinates: Coordinates) -> StudyConfig:
    """Return the configuration with the pair of a value in place of `models.machine_tokens`."""
    if axis not in coordinates:
        return config
    return config.updated({"models": {"machine_tokens": pairs_by_value(axis, config)[coordinates[axis]]}})


def pairs_by_value(axis: str, config: PairsConfig) -> dict[AxisValue, str]:
    """Return the configured pairs by what their weights say of themselves.

    Raises
    ------
    FileNotFoundError
        If there is no pair of a name.
    ConfigError
        If a pair does not say its value, or two say the same.
    """
    pairs: dict[AxisValue, str] = {}
    for pair in config.pairs:
        value = getattr(load_agents(pair), axis)
        if value is None:
            raise ConfigError(f"pairs: {pair} was saved without its {axis}; write it to agents.json, or leave it out")
        if value in pairs:
            raise ConfigError(f"pairs: {pairs[value]} and {pair} both have {axis} {value}; leave one out")
        pairs[value] = pair
    return pairs
