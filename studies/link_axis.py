"""Axes along settings of the link: each value is a text, and a function says which keys it sets."""

from collections.abc import Callable, Sequence

from studies.axes import Coordinates, Impossible
from studies.config import ConfigError, merge, parse_assignment
from studies.study_config import StudyConfig

Settings = Callable[[str], Sequence[str]]  # from a value to assignments, such as link.num_rx_ant=8


def configure(axis: str, settings: Settings, config: StudyConfig, coordinates: Coordinates) -> StudyConfig:
    """Return the configuration with the keys that a value of the axis sets.

    Raises
    ------
    Impossible
        If there can be no such link, for example least squares with too few receive antennas.
    """
    if axis not in coordinates:
        return config
    value, changes = str(coordinates[axis]), {}
    for assignment in settings(value):
        changes = merge(changes, parse_assignment(assignment))
    try:
        return config.updated(changes)
    except ConfigError as error:
        reason = str(error).removeprefix("link: ").partition(" (got ")[0]
        raise Impossible(f"{value}: {reason}") from error
