"""Figure: task accuracy of agents that differ in nothing but the seed of their training.

What training leaves to chance: differences between schemes that are smaller than this spread say nothing.
"""

from functools import partial
from typing import Annotated

from studies import pairs
from studies.config import Distinct, SnrAxis

NAME, AXIS = "accuracy-vs-seed", "seed"


class Config(pairs.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-seed -s KEY=VALUE`, or a YAML file with the same keys."""

    schemes: Annotated[tuple[pairs.SchemeName, ...], Distinct] = ("machine-tokens", "raw-image", "question-only")
    pairs: Annotated[tuple[str, ...], Distinct] = ("clevr-mini-seed-0", "clevr-mini-seed-1", "clevr-mini-seed-2")
    snr_db: SnrAxis = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


TINY = {"num_questions": 24, "batch_size": 12, "pairs": ["clevr-mini-seed-0", "clevr-mini-seed-1"], "snr_db": [0, 15]}
plan, main = partial(pairs.plan, NAME, AXIS), partial(pairs.main, NAME, AXIS)
