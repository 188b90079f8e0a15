"""Figure: task accuracy of agents that differ in nothing but the seed of their training.

What training leaves to chance: differences between schemes that are smaller than this spread say nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from studies import pairs, plots, sweep
from studies.archive import Results
from studies.config import Distinct, SnrAxis
from studies.engines import Engine, Outcome

NAME, AXIS = "accuracy-vs-seed", "seed"


class Config(pairs.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-seed -s KEY=VALUE`, or a YAML file with the same keys."""

    schemes: Annotated[tuple[pairs.SchemeName, ...], Distinct] = ("machine-tokens", "raw-image", "question-only")
    pairs: Annotated[tuple[str, ...], Distinct] = ("clevr-mini", "clevr-mini-seed-1", "clevr-mini-seed-2")
    snr_db: SnrAxis = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


TINY = {"num_questions": 24, "batch_size": 12, "pairs": ["clevr-mini", "clevr-mini-seed-1"], "snr_db": [0, 15]}


def plan(config: Config, out: Path | None = None) -> sweep.Sweep:
    """Lay out the points. Nothing is computed or written; `out` defaults to a folder named after the configuration."""
    return pairs.plan(NAME, AXIS, config, out)


def main(
    config: Config,
    *,
    out: Path | None = None,
    engine: Engine = "inline",
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
    on_start: Callable[[int], Any] = lambda num_jobs: None,
    on_outcome: Callable[[Outcome], Any] = lambda outcome: None,
) -> tuple[Results, list[Outcome]]:
    """Run the study, or what is left of it, and draw the figure; the options are those of `accuracy_vs_snr.main`."""
    study = plan(config, out)
    results, failed = study.complete(
        engine=engine, workers=workers, shard=shard, on_start=on_start, on_outcome=on_outcome
    )
    plots.draw_accuracy(results, axis=AXIS, folder=study.folder / "figures", name=NAME)
    return results, failed
