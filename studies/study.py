"""A study as an object: its configuration, its axes, and how a coordinate changes the configuration.

A figure's file holds one `Study` and a paragraph. `plan` lays out the points, `main` runs them and draws the figure.
"""

import ast
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from studies import outside
from studies.axes import AxisValue, Coordinates
from studies.config import ConfigError, checked_name, content_hash, shown
from studies.engines import Engine
from studies.jobs import Job, Outcome, StudyError
from studies.study_config import StudyConfig

if TYPE_CHECKING:
    from studies.archive import Results
    from studies.sweep import Sweep
    from studies.tables import Grid

ConfigType = TypeVar("ConfigType", bound=StudyConfig)
FIRST = "first-stage"  # folder, within a run's, of the run that says how many questions are needed
STUDIES = {  # name: module, which holds a STUDY
    "accuracy-vs-snr": "studies.accuracy_vs_snr",
    "comparison": "studies.comparison",
    "accuracy-vs-tokens": "studies.accuracy_vs_tokens",
    "accuracy-vs-width": "studies.accuracy_vs_width",
    "accuracy-vs-seed": "studies.accuracy_vs_seed",
    "antennas": "studies.antennas",
    "channels": "studies.channels",
    "estimation": "studies.estimation",
    "impairments": "studies.impairments",
    "papr": "studies.papr",
    "bandwidth": "studies.bandwidth",
    "compression": "studies.compression",
    "gradients": "studies.gradients",
}


class Run(NamedTuple):
    """What a run comes to.

    Attributes
    ----------
    results : Results
        Also in `results.h5` and `figures/` of the folder.
    failed : list of Outcome
        The jobs that failed. Their points are missing; running the study again repeats only these.
    folder : Path
    """

    results: "Results"
    failed: list[Outcome]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Study(Generic[ConfigType]):
    """One figure.

    Attributes
    ----------
    name : str
        Name of the figure's files and, by default, of run folders.
    Config : type
        Its configuration; every field has a default.
    axes : callable
        Returns name and values of each axis of a configuration, the figure's horizontal one first. Values are numbers
        or strings; `studies/axes.py` has labels and units.
    configure : callable
        Returns the configuration at some coordinates. An axis along which a curve does not change is left out of them.
        Only `snr_db` needs no change of the configuration: carriers are given it. Raises `Impossible` where there can
        be no point; the study goes on without it, and says so.
    tiny : mapping
        Configuration of `--tiny`.
    draw : callable, optional
        Draws the figure: takes results, `folder` and `name` of its files, and returns their paths. By default
        accuracy along the first axis, as `plots.draw_accuracy` does.
    table : callable, optional
        Returns a table of results that this study alone has.
    """

    name: str
    Config: type[ConfigType]
    axes: Callable[[ConfigType], Mapping[str, Sequence[AxisValue]]]
    configure: Callable[[ConfigType, Coordinates], StudyConfig] = lambda config, coordinates: config
    tiny: Mapping[str, Any]
    draw: Callable[..., list[Path]] | None = None
    table: "Callable[[Results], Grid] | None" = None

    def __post_init__(self):
        checked_name(self.name)

    def folder(self, config: ConfigType) -> Path:
        """Return the run folder that a configuration gets where none is named."""
        return Path("runs") / f"{self.name}-{content_hash(config.plain())[:8]}"

    def plan(self, config: ConfigType, out: Path | None = None) -> "Sweep":
        """Lay out the points. Nothing is computed or written.

        Parameters
        ----------
        config : Config
        out : Path, optional
            Run folder; by default one named after the configuration, below `runs/`.
        """
        from studies.sweep import Sweep  # h5py, SciPy and the frameworks load only when a plan is made

        return Sweep(
            self.name,
            config,
            axes=self.axes(config),
            folder=out or self.folder(config),
            configure=lambda coordinates: self.configure(config, coordinates),
        )

    def main(
        self,
        config: ConfigType,
        *,
        out: Path | None = None,
        engine: Engine = "inline",
        workers: int = 1,
        shard: tuple[int, int] = (1, 1),
        cache: Path | None = None,
        on_start: Callable[[Path, Sequence[Job]], Any] = lambda folder, jobs: None,
        on_outcome: Callable[[Outcome], Any] = lambda outcome: None,
        on_problem: Callable[[str], Any] = lambda problem: None,
    ) -> Run:
        """Run the study, or what is left of it, and draw the figure.

        Parameters
        ----------
        config : Config
        out : Path, optional
            Run folder.
        engine, workers
            Where points are computed. They change no number. On a cluster of Ray, 0 workers are as many as it takes.
        shard : (i, N)
            Compute only the i-th of N parts.
        cache : Path, optional
            Folder of what runs share: codes, and points that cross no link.
        on_start : callable
            Called with the folder and the jobs that are to run.
        on_outcome : callable
            Called as each job ends.
        on_problem : callable
            Called with a sentence for each file that is there and cannot be used.
        """
        hooks: Any = {"on_start": on_start, "on_outcome": on_outcome, "on_problem": on_problem}
        options: Any = {"engine": engine, "workers": workers, "shard": shard, "cache": cache, **hooks}
        folder = out or self.folder(config)
        if config.interval_width is not None:
            config = self._sized(config, folder, options)
        sweep = self.plan(config, folder)
        results, failed = sweep.complete(**options)
        draw_figures(results, sweep.folder / "figures", self.name, self.draw)
        return Run(results, failed, sweep.folder)

    def _sized(self, config: ConfigType, folder: Path, options: Mapping[str, Any]) -> ConfigType:
        """Return the configuration with as many questions as `interval_width` needs, told by a first run of a few."""
        from studies.stop_rule import FIRST_STAGE, needed

        if options["shard"][1] > 1:
            raise ConfigError(
                "interval_width: shards cannot wait for a first run of all points; give num_questions instead"
            )
        assert config.interval_width is not None
        few = config.updated({"num_questions": min(FIRST_STAGE, config.num_questions), "interval_width": None})
        results, failed = self.plan(few, folder / FIRST).complete(**options)
        if failed:
            raise StudyError(f"the first stage failed: {failed[0].job.label}: {failed[0].error}")
        number = needed(results, config.interval_width / 100)
        if number > config.num_questions:
            options["on_problem"](
                f"interval_width={config.interval_width:g} needs {number} questions, and num_questions allows "
                f"{config.num_questions}: intervals will be wider"
            )
        return config.updated({"num_questions": min(number, config.num_questions)})


def about(name: str) -> str:
    """Return the first line of a study's file, which nothing has to be loaded for."""
    spec = importlib.util.find_spec(STUDIES[name])
    assert spec is not None
    assert spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (text or "").partition("\n")[0]


def draw_figures(
    results: "Results",
    folder: Path,
    name: str,
    draw: Callable[..., list[Path]] | None = None,
    **options: Any,
) -> None:
    """Draw a study's figure, and that of risk against coverage where answers have a confidence.

    Parameters
    ----------
    results : Results
    folder : Path
        Where the files go.
    name : str
        Name of the study.
    draw : callable, optional
        The figure of a study that is not in the table; by default that of the table, or accuracy along the first axis.
    **options
        Of `plots.draw_accuracy`, each None by default.

    Raises
    ------
    ConfigError
        If there are options, and the study has a figure of its own.
    """
    from studies import plots, risk

    own = draw or (find(name).draw if name in STUDIES else None) or plots.draw_accuracy
    given = {option: value for option, value in options.items() if value is not None}
    if unknown := set(given) - set(inspect.signature(own).parameters):
        raise ConfigError(f"{name} draws a figure of its own, which has no {' and no '.join(unknown)}; leave it out")
    own(results, folder=folder, name=name, **given)
    risk.draw_risk(results, folder=folder, width=options.get("width"))


def find(name: str) -> Study[Any]:
    """Return a study by its name, or one of your own as MODULE:ATTRIBUTE.

    Raises
    ------
    ValueError
        If there is none.
    """
    if ":" in name:
        return outside.load(name, Study)
    if name not in STUDIES:
        raise ConfigError(f"there is no study {shown(name)}; there is: {', '.join(STUDIES)}")
    return outside.load(f"{STUDIES[name]}:STUDY", Study)
