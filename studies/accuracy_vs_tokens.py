"""Figure: task accuracy against the number of tokens, at a low and a high SNR (the paper's figure 7).

Each number has agents of its own, trained with it. The adaptive scheme is one code whose first tokens suffice: it has a
point for the same number on average, drawn at the mean that is sent. The CSV has what each point takes on the air.
"""

from functools import partial
from typing import Annotated

from studies import pairs
from studies.config import Distinct

NAME, AXIS = "accuracy-vs-tokens", "num_tokens"


class Config(pairs.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-tokens -s KEY=VALUE`, or a YAML file with the same keys."""

    pairs: Annotated[tuple[str, ...], Distinct] = (
        "clevr-mini-1",
        "clevr-mini-2",
        "clevr-mini-3",
        "clevr-mini",
        "clevr-mini-8",
    )


TINY = {"num_questions": 24, "batch_size": 12, "pairs": ["clevr-mini-1", "clevr-mini"]}
plan, main = partial(pairs.plan, NAME, AXIS), partial(pairs.main, NAME, AXIS)
