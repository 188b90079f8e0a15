"""Figure: task accuracy against the number of tokens, at a low and a high SNR (the paper's figure 7).

Each number has agents of its own, trained with it. The adaptive scheme, one code whose first tokens suffice, stands
where its mean number is; the CSV has what each point takes on the air.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from studies import pairs, plots, sweep
from studies.archive import Results
from studies.config import Distinct
from studies.engines import Engine, Outcome

NAME, AXIS = "accuracy-vs-tokens", "num_tokens"


class Config(pairs.PairsConfig, frozen=True):
    """What can be set: `tokenlink run accuracy-vs-tokens -s KEY=VALUE`, or a YAML file with the same keys."""

    schemes: Annotated[tuple[pairs.SchemeName, ...], Distinct] = ("machine-tokens", "raw-image", "question-only")
    pairs: Annotated[tuple[str, ...], Distinct] = ("clevr-mini-1", "clevr-mini-2", "clevr-mini-3", "clevr-mini")


TINY = {"num_questions": 24, "batch_size": 12, "pairs": ["clevr-mini-1", "clevr-mini"]}


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
