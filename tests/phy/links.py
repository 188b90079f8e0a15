"""What the tests of the link have in common."""

import numpy as np
import tensorflow as tf

from phy import AnalogLink, CodePrior, LinkConfig
from phy.channel import Fades
from phy.config import CHANNELS

ALL_CHANNELS = CHANNELS


TEXTBOOK = {"estimator": "ls-linear", "recovery": "ls"}  # closed forms are those of least squares
DEFAULT = {"estimator": LinkConfig().estimator, "recovery": LinkConfig().recovery}


def make_link(**facts) -> AnalogLink:
    """A link with the receiver of textbooks; `DEFAULT` among the facts gives it the default one."""
    return AnalogLink(LinkConfig(**TEXTBOOK | facts))


def make_codes(batch, num_tokens=5, width=64, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, num_tokens, width)).astype(np.float32)


def complex_normal(rng, *shape):
    pair = rng.standard_normal((2, *shape)) / np.sqrt(2)
    return pair[0] + 1j * pair[1]


def fades_of(link, numbers, num_tokens=5, width=64) -> Fades:
    grid = link.transmission(num_tokens=num_tokens, width=width).grid.resources
    return tf.nest.map_structure(np.asarray, link.channel.fades(np.asarray(numbers), grid))


def antennas_first(h_hat):
    """A channel estimate in the order of axes of `Fades.h`."""
    return np.transpose(h_hat, [1, 2, 0, 3])


NUM_TOKENS, WIDTH = 3, 8
SIZE = NUM_TOKENS * WIDTH


def rotation(seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((SIZE, SIZE)))[0]


def draw(examples, *, seed, activity=1.0, decay=1e9):
    """Codes whose coefficients in a hidden basis are rare and get weaker along it; unit mean power, some mean."""
    rng = np.random.default_rng(seed)
    z = (
        rng.standard_normal((examples, SIZE))
        * np.exp(-np.arange(SIZE) / decay)
        * (rng.random((examples, SIZE)) < activity)
    )
    z *= np.sqrt(SIZE / (activity * np.sum(np.exp(-2 * np.arange(SIZE) / decay))))
    return (z @ rotation().T).reshape(examples, NUM_TOKENS, WIDTH) + 0.3


def link_with(prior: CodePrior | None, **facts) -> AnalogLink:
    config = LinkConfig(**TEXTBOOK | {"channel": "rayleigh", "estimator": "perfect", "fft_size": 16} | facts)
    return AnalogLink(config, prior=prior)
