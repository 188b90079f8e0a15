"""Figure: task accuracy of agents from several seeds of the last training stage.

They share vision tower, sensor model and task agent, and training stopped by the clock (950, 950 and 1 100 steps): the
spread is that of the last stage, a lower bound of what training leaves to chance.
"""

from functools import partial

from studies import agents_axis
from studies.study import Study
from studies.study_config import SnrAxis


class Config(agents_axis.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-seed -s KEY=VALUE`, or a YAML file with the same keys."""

    pairs: agents_axis.Pairs = ("clevr-mini-seed-0", "clevr-mini-seed-1", "clevr-mini-seed-2")
    snr_db: SnrAxis = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


STUDY = Study(
    name="accuracy-vs-seed",
    Config=Config,
    axes=partial(agents_axis.axes, "seed"),
    configure=partial(agents_axis.configure, "seed"),
    tiny={
        "num_questions": 24,
        "batch_size": 12,
        "pairs": ["clevr-mini-seed-0", "clevr-mini-seed-1"],
        "snr_db": [0, 15],
    },
)
main = STUDY.main
