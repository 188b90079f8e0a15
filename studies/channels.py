"""Figure: task accuracy over channel models, delay spreads and speeds that the agents were not trained for.

A value of the axis is a model of TR 38.901 and may say a delay spread and a speed: "cdl-c 300 ns 120 km/h". Where the
normal cyclic prefix is shorter than the channel's delays, a longer one is taken and charged. With several pairs, each
line is a pair over a channel: what was trained for one and tested on another.
"""

import math
import re
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field

from phy.config import LinkConfig, excess_delay
from studies import link_axis
from studies.axes import Coordinates
from studies.config import shown
from studies.study import Study
from studies.study_config import Curves, Distinct, Place, SnrAxis, StudyConfig, without_folder

AXIS, TRAINED = "channel", "pair"


def parts(value: str) -> tuple[str, float | None, float | None]:
    """Return model, delay spread [s] and speed [m/s] of a value such as "cdl-c 300 ns 120 km/h".

    Raises
    ------
    ValueError
        If it is no such value.
    """
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"([a-z]+(?:-[a-e])?)(?: {number} ns)?(?: {number} km/h)?", value)
    if match is None:
        raise ValueError(
            f"{shown(value)} is no channel: write a model, then, if you like, a delay spread and a speed, such as "
            '"cdl-c 300 ns 120 km/h"'
        )
    model, delay, speed = match.groups()
    return model, float(delay) * 1e-9 if delay else None, float(speed) / 3.6 if speed else None


def settings(link: LinkConfig, value: str) -> list[str]:
    """Return the keys that a value sets on a link, a longer cyclic prefix included where the delays need it."""
    model, delay_spread, speed = parts(value)
    LinkConfig(channel=model, delay_spread=0.0)  # refuses a model that does not exist
    keys = [f"link.channel={model}"]
    keys += [f"link.delay_spread={delay_spread!r}"] * (delay_spread is not None)
    keys += [f"link.speed={speed!r}"] * (speed is not None)
    needed = excess_delay(model, link.delay_spread if delay_spread is None else delay_spread)
    samples = math.ceil(needed * link.fft_size * link.subcarrier_spacing)
    longer = needed > link.cyclic_prefix_duration and samples <= link.fft_size  # no prefix is longer than its symbol
    return keys + [f"link.cyclic_prefix_length={samples}"] * longer


Known = AfterValidator(partial(link_axis.known, partial(settings, LinkConfig())))


class Config(StudyConfig, frozen=True):
    """What can be set: `tokenlink run channels -s KEY=VALUE`, or a YAML file with the same keys."""

    num_questions: int = Field(default=1000, ge=1)
    channels: Annotated[
        tuple[str, ...], Distinct, AfterValidator(partial(link_axis.known, partial(settings, LinkConfig())))
    ] = (
        *("awgn", "rayleigh", "tdl-a", "tdl-b", "tdl-c", "tdl-d", "tdl-e"),
        *("cdl-a", "cdl-b", "cdl-c", "cdl-d", "cdl-e", "umi", "uma", "rma"),
        *("cdl-c 10 ns", "cdl-c 30 ns", "cdl-c 300 ns", "cdl-c 1000 ns"),
        *("cdl-c 1 km/h", "cdl-c 30 km/h", "cdl-c 120 km/h"),
    )
    pairs: Annotated[tuple[Place, ...], Distinct] = Field(
        default=("clevr-mini",), description="pairs of agents, trained for different channels"
    )
    schemes: Curves = ("machine-tokens", "raw-image", "question-only")
    snr_db: SnrAxis = (-10.0, 0.0, 20.0)

    def public(self) -> dict:
        """Return the configuration as it may be published: folders of this machine are reduced to their last part."""
        return {**super().public(), "pairs": [without_folder(name) for name in self.pairs]}


def axes(config: Config) -> dict:
    """Return channel, SNR and, if there are several, pairs."""
    pairs = [without_folder(name) for name in config.pairs]
    return {AXIS: config.channels, "snr_db": config.snr_db} | ({TRAINED: pairs} if len(pairs) > 1 else {})


def configure(config: Config, coordinates: Coordinates) -> StudyConfig:
    """Return the configuration of a channel and a pair."""
    pairs = {without_folder(name): name for name in config.pairs}
    pair = pairs[str(coordinates[TRAINED])] if TRAINED in coordinates else config.pairs[0]
    chosen = config.updated({"models": {"machine_tokens": pair}})
    return link_axis.configure(AXIS, partial(settings, config.link), chosen, coordinates)


STUDY = Study(
    name="channels",
    Config=Config,
    axes=axes,
    configure=configure,
    tiny={"num_questions": 24, "batch_size": 12, "snr_db": [0.0, 20.0], "channels": ["cdl-c", "cdl-c 1000 ns"]},
    draw=link_axis.draw,
)
main = STUDY.main
