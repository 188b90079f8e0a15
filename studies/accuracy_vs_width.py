"""Figure: task accuracy against the width of the code, the real numbers sent for each token.

Each width has agents of its own, trained with it.
"""

from functools import partial
from typing import Annotated

from studies import pairs
from studies.config import Distinct

NAME, AXIS = "accuracy-vs-width", "width"


class Config(pairs.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-width -s KEY=VALUE`, or a YAML file with the same keys."""

    schemes: Annotated[tuple[pairs.SchemeName, ...], Distinct] = ("machine-tokens", "raw-image", "question-only")
    pairs: Annotated[tuple[str, ...], Distinct] = ("clevr-mini-width-16", "clevr-mini")


TINY = {"num_questions": 24, "batch_size": 12, "pairs": ["clevr-mini-width-16", "clevr-mini"]}
plan, main = partial(pairs.plan, NAME, AXIS), partial(pairs.main, NAME, AXIS)
