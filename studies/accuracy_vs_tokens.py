"""Figure: task accuracy against the number of tokens, at a low and a high SNR (the paper's figure 7).

Each number has agents of its own, trained with it. The adaptive scheme is one code whose first tokens suffice: it has a
point for the same number on average, drawn at the mean that is sent. The CSV has what each point takes on the air.
"""

from functools import partial

from studies import agents_axis
from studies.study import Study
from studies.study_config import Curves


class Config(agents_axis.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-tokens -s KEY=VALUE`, or a YAML file with the same keys."""

    schemes: Curves = ("machine-tokens", "machine-tokens-adaptive", "raw-image", "question-only")
    pairs: agents_axis.Pairs = (
        "clevr-mini-1",
        "clevr-mini-2",
        "clevr-mini-3",
        "clevr-mini",
        "clevr-mini-8",
    )


STUDY = Study(
    name="accuracy-vs-tokens",
    Config=Config,
    axes=partial(agents_axis.axes, "num_tokens"),
    configure=partial(agents_axis.configure, "num_tokens"),
    tiny={"num_questions": 24, "batch_size": 12, "pairs": ["clevr-mini-1", "clevr-mini"]},
)
main = STUDY.main
