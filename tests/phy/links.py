"""What the tests of the link have in common."""

import numpy as np

from phy import AnalogLink, LinkConfig
from phy.channel import Fades
from phy.config import CHANNELS

ALL_CHANNELS = CHANNELS


def make_link(**facts) -> AnalogLink:
    return AnalogLink(LinkConfig(**facts))


def make_codes(batch, num_tokens=5, width=64, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, num_tokens, width)).astype(np.float32)


def complex_normal(rng, *shape):
    pair = rng.standard_normal((2, *shape)) / np.sqrt(2)
    return pair[0] + 1j * pair[1]


def fades_of(link, numbers, num_tokens=5, width=64) -> Fades:
    return link.channel.fades(np.asarray(numbers), link.transmission(num_tokens=num_tokens, width=width).grid)
