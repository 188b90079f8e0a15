"""Axes along settings of the link: each value is a text, and a function says which keys it sets."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studies.axes import Coordinates, Impossible
from studies.config import ConfigError, merge, parse_assignment
from studies.study_config import StudyConfig

if TYPE_CHECKING:
    from studies.archive import Results

MANY = 8  # settings; more of them take the width of a page
Settings = Callable[[str], Sequence[str]]  # from a value to assignments, such as link.num_rx_ant=8


def known(settings: Settings, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of an axis; refuse one that `settings` does not understand, as it does."""
    for value in values:
        settings(value)
    return values


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


def draw(
    results: "Results",
    *,
    folder: Path,
    name: str,
    width: str | None = None,
    y_range: tuple[float, float] | None = None,
) -> list[Path]:
    """Draw accuracy at each setting, and in another figure the error of the codes; parameters as `draw_accuracy`'s."""
    from studies import plots

    if width is None and len(next(iter(results.axes.values()))) > MANY:
        width = "double"
    paths = plots.draw_accuracy(results, folder=folder, name=name, width=width, y_range=y_range)
    error_db = 10 * np.log10(results.variables["code_nmse"])
    if not np.isfinite(error_db).any():
        return paths
    in_place = dict.fromkeys(plots.BOUNDS, error_db / 100)  # a chart is of percent
    chart = plots.accuracy_chart(replace(results, variables={**results.variables, **in_place}), (0, 100))
    ends = 5 * np.floor(np.nanmin(error_db) / 5), 5 * np.ceil(np.nanmax(error_db) / 5)
    caption = plots.caption(results)
    chart = replace(chart, y_label="NMSE of the codes [dB]", y_range=ends, caption=caption)
    return [*paths, *plots.write(chart, folder=folder, name=f"{name}-nmse", width=width)]
