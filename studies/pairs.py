"""Studies along a property of trained agents: each place of the axis has a pair of agents of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from studies import plots, sweep, workbench
from studies.accuracy_vs_snr import evaluate
from studies.archive import Results
from studies.config import ConfigError, Distinct, SnrAxis, content_hash
from studies.engines import Engine, Outcome
from studies.schemes import machine_tokens, machine_tokens_adaptive, question_only, raw_image
from studies.workbench import StudyConfig, without_place

SCHEMES = {
    "machine-tokens": machine_tokens.build,
    "machine-tokens-adaptive": machine_tokens_adaptive.build,
    "raw-image": raw_image.build,
    "question-only": question_only.build,
}
SchemeName = Literal["machine-tokens", "machine-tokens-adaptive", "raw-image", "question-only"]


Axis = Literal["num_tokens", "width", "seed"]


class PairsConfig(StudyConfig, frozen=True):
    """What can be set in a study along a property of agents.

    `models.machine_tokens` is the pair of the lines that do not depend on the axis.
    """

    pairs: Annotated[tuple[str, ...], Distinct] = Field(
        default=(), description="weights, a shipped name or a folder for each place"
    )
    schemes: Annotated[tuple[SchemeName, ...], Distinct] = get_args(SchemeName)
    snr_db: SnrAxis = (0.0, 15.0)

    def public(self) -> dict[str, Any]:
        """Return the configuration as it may be published: folders of this machine are reduced to their last part."""
        return {**super().public(), "pairs": [without_place(name) for name in self.pairs]}


def plan(name: str, axis: Axis, config: PairsConfig, out: Path | None = None) -> sweep.Sweep:
    """Lay out the points of a study along what the pairs' weights say of themselves. Nothing is computed or written.

    `out` defaults to a folder named after the configuration.

    Raises
    ------
    FileNotFoundError
        If there is no pair of a name.
    ConfigError
        If a pair does not say where its place is, or two have the same.
    """
    places: dict[float, str] = {}
    for pair in config.pairs:
        place = getattr(workbench.load_agents(pair), axis)
        if place is None:
            raise ConfigError(f"pairs: {pair} was saved without its {axis}; write it to agents.json, or leave it out")
        if place in places:
            raise ConfigError(f"pairs: {places[place]} and {pair} both have {axis} {place}; leave one out")
        places[place] = pair

    def configure(coordinates: Mapping[str, float]) -> StudyConfig:
        if axis not in coordinates:
            return config
        return config.updated({"models": {"machine_tokens": places[coordinates[axis]]}})

    return sweep.Sweep(
        name,
        config,
        schemes={scheme: SCHEMES[scheme] for scheme in config.schemes},
        axes={axis: sorted(places), "snr_db": config.snr_db},
        evaluate=evaluate,
        folder=out or Path("runs") / f"{name}-{content_hash(config.plain())[:8]}",
        configure=configure,
    )


def main(
    name: str,
    axis: Axis,
    config: PairsConfig,
    *,
    out: Path | None = None,
    engine: Engine = "inline",
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
    on_start: Callable[[int], Any] = lambda num_jobs: None,
    on_outcome: Callable[[Outcome], Any] = lambda outcome: None,
) -> tuple[Results, list[Outcome]]:
    """Run a study, or what is left of it, and draw the figure; the options are those of `accuracy_vs_snr.main`."""
    study = plan(name, axis, config, out)
    results, failed = study.complete(
        engine=engine, workers=workers, shard=shard, on_start=on_start, on_outcome=on_outcome
    )
    plots.draw_accuracy(results, axis=axis, folder=study.folder / "figures", name=name)
    return results, failed
