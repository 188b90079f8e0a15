"""A study's points: which there are, which are done already, and running the others."""

import contextlib
import functools
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from studies import archive, curves, rates
from studies.axes import AxisValue, Coordinates, Impossible, named
from studies.code_cache import CodeCache
from studies.config import ConfigError, content_hash, differences, read_yaml, validate
from studies.engines import Engine, run_jobs, shard_of
from studies.evaluation import evaluate
from studies.events import EventLog
from studies.jobs import Job, Outcome, StudyError
from studies.plan import Plan, PlannedPoint
from studies.provenance import code_version, git_state, package_versions, source_hash
from studies.run_folder import at_work, collect
from studies.schemes.scheme import Scheme
from studies.study_config import DataConfig, StudyConfig
from studies.workbench import Workbench

# Modules that the numbers of every curve depend on, beside those of its parts.
ROOTS = ("studies.evaluation", "studies.questions", "studies.workbench")
KEPT = 32  # schemes in memory: more than there are curves, whatever the number of links that a study varies


@dataclass(frozen=True)
class EncodeTask:
    """Let the encoder of a curve work on one batch, and keep its codes."""

    config: StudyConfig
    curve: str
    folder: Path
    batch: int
    key: dict[str, Any]


@dataclass(frozen=True)
class PointTask:
    """Evaluate one curve at some coordinates."""

    config: StudyConfig
    curve: str
    folder: Path
    coordinates: Coordinates
    key: dict[str, Any]
    codes: tuple[str, ...]


class Sweep:
    """The points of a study.

    Parameters
    ----------
    name : str
        Name of the study.
    config : StudyConfig
        Its `schemes` are the curves, in the order of the legend.
    axes : mapping
        Name and values of each axis. A curve that crosses the link has a point at each combination of the axes that
        change it.
    configure : callable
        Returns the configuration at some coordinates.
    folder : Path
        The run folder.
    """

    def __init__(
        self,
        name: str,
        config: StudyConfig,
        *,
        axes: Mapping[str, Sequence[AxisValue]],
        configure: Callable[[Coordinates], StudyConfig],
        folder: Path,
    ):
        import bridge  # noqa: F401 -- schemes use both frameworks, and bridge loads them in a fixed order

        self.name, self.config, self.folder, self.configure = name, config, folder, configure
        self.axes = {axis: list(values) for axis, values in axes.items()}
        self.refusals: dict[str, Coordinates] = {}  # why some coordinates have no point, and the first of these
        self.workbench = workbench_for(config)

    @functools.cached_property
    def jobs(self) -> list[Job]:
        """Every job of the study, done or not: codes first, then what needs no link, then the rest.

        Points of one link stand together, and curves that send the same codes: fades are then still in the cache.
        """
        encoding: dict[str, Job] = {}
        points: list[Job] = []
        for name in self.config.schemes:
            curve = curves.find(name)
            followed = self._followed(name)
            for values in itertools.product(*followed.values()):
                coordinates = dict(zip(followed, values, strict=True))
                try:
                    config = self.configure(coordinates) if coordinates else self.config
                except Impossible as error:
                    self.refusals.setdefault(str(error), coordinates)
                    continue
                scheme = scheme_for(name, config)
                codes = self._encode_jobs(name, config)
                for job in codes:
                    encoding.setdefault(job.id, job)
                source, models = self._source(curve.modules), scheme.determined_by()
                key = self._key("point", source, models, scheme=curve.name, coordinates=coordinates)
                if scheme.crosses_link:
                    key["link"] = config.model_dump(mode="json", include={"link"})["link"]
                task = PointTask(config, name, self.folder, coordinates, key, tuple(job.id for job in codes))
                label = ", ".join([curve.name, *(named(axis, value) for axis, value in coordinates.items())])
                points.append(
                    Job(content_hash(key), label, task, frozenset(task.codes), curve.name, config.num_questions)
                )
        order = {job_id: number for number, job_id in enumerate(encoding)}
        links: dict[str, int] = {}
        of_link = {job.id: links.setdefault(content_hash(job.task.key.get("link")), len(links)) for job in points}
        points.sort(key=lambda job: (min((order[job_id] for job_id in job.needs), default=-1), of_link[job.id]))
        return [*encoding.values(), *points]

    @property
    def points(self) -> list[Job]:
        """The jobs that compute points."""
        return [job for job in self.jobs if isinstance(job.task, PointTask)]

    def pending(
        self, shard: tuple[int, int] = (1, 1), on_problem: Callable[[str], Any] = lambda problem: None
    ) -> list[Job]:
        """Jobs of a shard that have still to run: points that are not done, and codes that these need and lack.

        `on_problem` is called with a sentence for each file that is there and cannot be used.
        """
        jobs = shard_of(self.jobs, shard)
        missing = [job for job in jobs if isinstance(job.task, PointTask) and not self._is_done(job, on_problem)]
        needed = {job_id for job in missing for job_id in job.needs}
        encode = [job for job in jobs if job.id in needed and not self._is_done(job, on_problem)]
        waiting = frozenset(job.id for job in encode)
        return [*encode, *(replace(job, needs=job.needs & waiting) for job in missing)]

    def claim_folder(self, plan: Plan | None = None) -> None:
        """Write `config.yaml` and `plan.json`, and delete what killed runs were in the middle of writing.

        Raises
        ------
        ConfigError
            If the folder holds a run with another configuration.
        """
        path = self.folder / "config.yaml"
        config = self.config.plain()
        take_over = (
            "delete its config.yaml to let this configuration take over, which keeps every finished point that still "
            "applies."
        )
        try:
            earlier = read_yaml(path) if path.exists() else config
        except ConfigError as error:
            raise ConfigError(f"{error}. Give another --out; or {take_over}") from error
        if earlier != config:
            keys = ", ".join(differences(earlier, config))
            raise ConfigError(
                f"{self.folder} holds a run with another configuration ({keys}). Give another --out; or {take_over}"
            )
        plan = plan or self.plan()
        header = f"# tokenlink run {self.name} --config {path.name}\n"
        archive.write_atomically(path, (header + self.config.to_yaml()).encode())
        archive.write_atomically(self.folder / "plan.json", plan.written())
        archive.remove_leftovers(self.folder)

    def plan(self) -> Plan:
        """Return which points make up the run, and the attributes of its archive."""
        points = [
            PlannedPoint(hash=job.id, scheme=job.task.key["scheme"], coordinates=job.task.coordinates)
            for job in self.points
        ]
        content = {
            "study": self.name,
            "schemes": [curves.find(name).name for name in self.config.schemes],
            "axes": self.axes,
            "points": points,
            "config": content_hash(self.config.plain()),
            "attributes": self.attributes(),
        }
        return validate(Plan, content)

    def attributes(self) -> dict[str, str | int]:
        """Return where the numbers come from. Nothing in it names a machine, a user or a folder."""
        config = self.config.public()
        columns = self.workbench.question_columns()
        models: dict[str, list[str]] = {}  # of a scheme whose models change along an axis, all of them, in its order
        sources: dict[str, str] = {}
        for job in self.points:
            parts, scheme = job.task.key["models"], job.task.key["scheme"].replace("-", "_")
            sources[f"source_hash_{scheme}"] = job.task.key["source"]
            for part, value in parts.items():
                hashes = models.setdefault(f"model_hash_{scheme}{f'_{part}' * (len(parts) > 1)}", [])
                hashes += [str(value)] * (str(value) not in hashes)
        own = [curves.find(name) for name in self.config.schemes if name not in curves.CURVES]
        styles = {curve.name: curve.look() for curve in own}
        return {
            "study": self.name,
            "config_json": json.dumps(config, sort_keys=True),
            **({"refusals_json": json.dumps(self.refusals, sort_keys=True)} if self.refusals else {}),
            **({"own_curves_json": json.dumps(styles, sort_keys=True)} if own else {}),
            "config_hash": content_hash(config),
            "seed": self.config.seed,
            "link_seed": self.config.link.seed,
            "data_hash": self.workbench.dataset.data_hash,
            **{name: " ".join(hashes) for name, hashes in models.items()},
            "image_shape": "x".join(map(str, self.workbench.batches[0].image_shape)),
            "num_images": len(np.unique(columns["image_index"])),
            "num_realisations": len(np.unique(columns["realisation"])),
            "code_version": code_version(),
            **sources,
            **git_state(),
            **{f"version_{name}": version for name, version in package_versions().items()},
        }

    def run(
        self,
        jobs: Sequence[Job],
        *,
        engine: Engine,
        workers: int,
        on_outcome: Callable[[Outcome], Any],
        shard: tuple[int, int] = (1, 1),
    ) -> list[Outcome]:
        """Run jobs and return those that failed; everything else is on disk as soon as it is done.

        How long they took is kept for estimates, if they ran on this machine.

        Raises
        ------
        StudyError
            If afterwards there is no point at all.
        """
        events = EventLog(self.folder / "events.jsonl")
        part = "{}/{}".format(*shard)
        events.write("started", jobs=len(jobs), engine=engine, workers=workers, shard=part)
        outcomes, failed = list[Outcome](), []
        try:
            for outcome in run_jobs(
                jobs,
                execute,
                engine=engine,
                workers=workers,
                num_threads=self.config.num_threads,
                preload=("bridge",),
                folder=self.folder,
            ):
                fields = {"job": outcome.job.label, "hash": outcome.job.id, "seconds": round(outcome.seconds, 2)}
                if outcome.error:
                    failed.append(outcome)
                    events.write("failed", **fields, error=outcome.error, details=outcome.details)
                else:
                    events.write("done", **fields)
                outcomes.append(outcome)
                on_outcome(outcome)
        finally:
            if engine != "ray":
                as_it_comes = self.config == type(self.config)() and len(outcomes) - len(failed) == len(self.jobs)
                rates.learn(outcomes, self.name if as_it_comes else "")
        events.write("finished", failed=len(failed))
        if failed and not any(self._is_done(job) for job in self.points):
            first = failed[0]
            raise StudyError(f"no point could be computed; the first job that failed: {first.job.label}: {first.error}")
        return failed

    def complete(
        self,
        *,
        engine: Engine,
        workers: int,
        shard: tuple[int, int],
        cache: Path | None,
        on_start: Callable[[Path, Sequence[Job]], Any],
        on_outcome: Callable[[Outcome], Any],
        on_problem: Callable[[str], Any],
    ) -> tuple[archive.Results, list[Outcome]]:
        """Run a shard, or what is left of it, and collect what is done: results, and the jobs that failed."""
        plan = self.plan()  # before anything is written: it may refuse the configuration
        with at_work(self.folder, shared=shard[1] > 1):
            self.claim_folder(plan)
            jobs = self.pending(shard, on_problem)
            shared = CodeCache(cache, on_problem=on_problem) if cache else None
            if shared:
                jobs = self._without_shared(jobs, shared)

            def ended(outcome: Outcome) -> None:
                if shared and not outcome.error and _crosses_no_link(outcome.job):
                    shared.keep(self._path(outcome.job))
                on_outcome(outcome)

            on_start(self.folder, jobs)
            failed = self.run(jobs, engine=engine, workers=workers, on_outcome=ended, shard=shard)
            if shared:
                shared.trim()
            return collect(self.folder, on_problem=on_problem), failed

    def _without_shared(self, jobs: Sequence[Job], shared: CodeCache) -> list[Job]:
        """Copy what other runs have computed into the run folder, and return the jobs that are left."""
        events = EventLog(self.folder / "events.jsonl")
        copied = set[str]()
        for job in filter(_crosses_no_link, jobs):
            if shared.fetch(job.task.key, self._path(job).parent):
                copied.add(job.id)
                events.write("copied", job=job.label, hash=job.id)
        left = [replace(job, needs=job.needs - copied) for job in jobs if job.id not in copied]
        needed = {job_id for job in left for job_id in job.needs}
        return [job for job in left if isinstance(job.task, PointTask) or job.id in needed]

    def _followed(self, name: str) -> dict[str, list[AxisValue]]:
        """Return the axes along which a curve's answers change: SNR, and those that change its parts or its link."""
        if not scheme_for(name, self.config).crosses_link:
            return {}
        if "snr_db" not in self.axes:
            raise ConfigError(
                f"{curves.find(name).name} crosses the link, and {self.name} has no axis snr_db; give it one value, "
                "such as (10.0,)"
            )
        return {
            axis: values for axis, values in self.axes.items() if axis == "snr_db" or self._changes(name, axis, values)
        }

    def _changes(self, name: str, axis: str, values: Sequence[AxisValue]) -> bool:
        first = {other: along[0] for other, along in self.axes.items()}
        configs = [self.config]
        for value in values:
            with contextlib.suppress(Impossible):  # it has no point, and is named with the others that have none
                configs.append(self.configure({**first, axis: value}))
        contents = [[scheme_for(name, config).determined_by(), config.plain()["link"]] for config in configs]
        return len({content_hash(content) for content in contents}) > 1

    def _encode_jobs(self, name: str, config: StudyConfig) -> list[Job]:
        curve, encoder = curves.find(name), scheme_for(name, config).encoder
        if encoder is None or curve.encoder is None:
            return []
        source, total = self._source((curve.encoder.__module__,)), len(self.workbench.batches)
        jobs = []
        for number in range(total):
            key = self._key("codes", source, encoder.encoded_by(), batch=number)
            task = EncodeTask(config, name, self.folder, number, key)
            label, questions = f"{curve.name}, codes {number + 1}/{total}", len(self.workbench.batches[number].numbers)
            kind = f"codes by {curve.encoder.__name__}"
            jobs.append(Job(content_hash(key), label, task, kind=kind, questions=questions))
        return jobs

    def _source(self, modules: tuple[str, ...]) -> str:
        return source_hash((*modules, *ROOTS, type(self.workbench.dataset).__module__))

    def _key(self, kind: str, source: str, models: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        return {
            "kind": kind,
            "source": source,
            "packages": package_versions(),
            "questions": self.workbench.determined_by(),
            "models": dict(models),
            **fields,
        }

    def _is_done(self, job: Job, on_problem: Callable[[str], Any] = lambda problem: None) -> bool:
        return archive.is_done(self._path(job).parent, job.task.key, on_problem)

    def _path(self, job: Job) -> Path:
        """Return the file that a job leaves."""
        folder = self.folder / ("codes" if isinstance(job.task, EncodeTask) else "points")
        return archive.point_path(folder, job.task.key)


def _crosses_no_link(job: Job) -> bool:
    return "link" not in job.task.key


def execute(task: EncodeTask | PointTask) -> None:
    """Do one job and leave its result on disk; runs in any process."""
    workbench, scheme = workbench_for(task.config), scheme_for(task.curve, task.config)
    if isinstance(task, EncodeTask):
        assert scheme.encoder is not None
        codes = scheme.encoder.encode(workbench.batches[task.batch])
        archive.write_point(task.folder / "codes", task.key, {"codes": codes})
        return
    snr_db = float(task.coordinates.get("snr_db", np.inf))  # none where nothing crosses the link
    evaluation = evaluate(scheme, workbench.batches, read_codes(task.folder, task.codes), snr_db)
    archive.write_point(
        task.folder / "points",
        task.key,
        {
            **workbench.question_columns(),
            "correct": evaluation.correct.astype(np.uint8),
            "answer": [storable(answer) for answer in evaluation.answers],
            "confidence": evaluation.confidence,
            "peak": evaluation.peaks,
        },
        {
            **{name: getattr(evaluation, name) for name in archive.SCALARS},
            **{name: value * evaluation.num_transmissions for name, value in scheme.carrier.cost(snr_db).items()},
            **evaluation.payload,
            "num_transmissions": evaluation.num_transmissions,
            "peak_db": evaluation.peak_db,
            "prompt_bits": scheme.prompt_bits([question.question for question in workbench.questions]),
        },
    )


def storable(text: str) -> str:
    """Text as HDF5 holds it: U+FFFD stands for NUL and for halves of surrogate pairs, which a model may write."""
    return re.sub("[\0\ud800-\udfff]", "\ufffd", text)


@functools.cache
def dataset_for(data: DataConfig) -> Any:
    """Return this process's data set of a configuration."""
    from semantic.data import load_dataset

    return load_dataset(data.folder, data.split, data.layout)


@functools.lru_cache(maxsize=KEPT)
def workbench_for(config: StudyConfig) -> Workbench:
    """Return this process's workbench for a configuration."""
    return Workbench(config, dataset_for(config.data))


@functools.lru_cache(maxsize=KEPT)
def scheme_for(curve: str, config: StudyConfig) -> Scheme:
    """Return this process's scheme of a curve for a configuration; the link in it keeps its fades."""
    return curves.find(curve).build(workbench_for(config))


@functools.lru_cache(maxsize=4)
def read_codes(folder: Path, hashes: tuple[str, ...]) -> np.ndarray | None:
    """Read the codes of all questions, [num_questions, num_tokens, width]; None for a scheme without codes."""
    if not hashes:
        return None
    return np.concatenate([archive.read_point(folder / "codes" / f"{name}.h5").arrays["codes"] for name in hashes])
