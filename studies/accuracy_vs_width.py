"""Figure: task accuracy against the width of the code, the real numbers sent for each token.

Each width has agents of its own, trained with it. Every number has the same power: half the width takes half of the
resource elements, and half of the energy; the CSV has what each takes on the air.
"""

from functools import partial

from studies import agents_axis
from studies.study import Study
from studies.study_config import SnrAxis


class Config(agents_axis.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-width -s KEY=VALUE`, or a YAML file with the same keys."""

    pairs: agents_axis.Pairs = (
        "clevr-mini-width-8",
        "clevr-mini-width-16",
        "clevr-mini-width-32",
        "clevr-mini",
        "clevr-mini-width-128",
    )
    snr_db: SnrAxis = (-5.0, 0.0, 15.0)


STUDY = Study(
    name="accuracy-vs-width",
    Config=Config,
    axes=partial(agents_axis.axes, "width"),
    configure=partial(agents_axis.configure, "width"),
    tiny={"num_questions": 24, "batch_size": 12, "pairs": ["clevr-mini-width-16", "clevr-mini"], "snr_db": [0, 15]},
)
main = STUDY.main
