"""A study's points: which there are, which are done already, and running the others."""

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studies import archive
from studies.config import ConfigError, content_hash, read_yaml
from studies.engines import Engine, Job, Outcome, StudyError, run_jobs, shard_of
from studies.provenance import code_version, git_state, package_versions, source_hash
from studies.questions import Batch
from studies.run_folder import PLAN_SCHEMA, EventLog, collect
from studies.schemes.scheme import Scheme
from studies.workbench import StudyConfig, Workbench

Build = Callable[[Workbench], Scheme]
# (scheme, batches, codes, coordinates) -> arrays and scalars of the point
Evaluate = Callable[[Scheme, Sequence[Batch], np.ndarray | None, Mapping[str, float]], "Evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """What evaluating one point gives: `correct` and `answer` per question, and what `archive.SCALARS` names."""

    correct: np.ndarray
    answers: list[str]
    code_nmse: float
    loss_rate: float = float("nan")
    undetected_rate: float = float("nan")
    psnr: float = float("nan")
    ssim: float = float("nan")


@dataclass(frozen=True)
class EncodeTask:
    """Let the sensor look at one batch and keep its codes."""

    config: StudyConfig
    build: Build
    folder: Path
    batch: int
    key: dict[str, Any]


@dataclass(frozen=True)
class PointTask:
    """Evaluate one scheme at one place of the axes."""

    config: StudyConfig
    build: Build
    folder: Path
    evaluate: Evaluate
    coordinates: dict[str, float]
    key: dict[str, Any]
    codes: tuple[str, ...]


class Sweep:
    """The points of a study.

    Parameters
    ----------
    name : the study's name
    config : StudyConfig
    schemes : name and how to build it, in the order of the legend
    axes : name and values; every scheme that crosses the link has a point at each combination of those it follows
    configure : the configuration at a place of the axes; left out, it is the same everywhere
    evaluate : importable function that computes a point
    folder : the run folder
    """

    def __init__(
        self,
        name: str,
        config: StudyConfig,
        *,
        schemes: Mapping[str, Build],
        axes: Mapping[str, Sequence[float]],
        evaluate: Evaluate,
        folder: Path,
        configure: Callable[[Mapping[str, float]], StudyConfig] | None = None,
    ):
        self.name, self.config, self.folder = name, config, folder
        self.configure = configure or (lambda coordinates: config)
        self.schemes, self.axes, self.evaluate = dict(schemes), {k: list(v) for k, v in axes.items()}, evaluate
        self.workbench = workbench_for(config)

    @functools.cached_property
    def jobs(self) -> list[Job]:
        """Every job of the study, done or not: codes first, then what needs no link, then the rest.

        Schemes that send the same codes stand together: the fades that they share are then still in the link's cache.
        """
        encoding: dict[str, Job] = {}
        points: list[Job] = []
        for name, build in self.schemes.items():
            followed = self._followed(scheme_for(build, self.config))
            for values in itertools.product(*followed.values()):
                coordinates = dict(zip(followed, values, strict=True))
                config = self.configure(coordinates) if coordinates else self.config
                scheme = scheme_for(build, config)
                codes = self._encode_jobs(name, build, config)
                for job in codes:
                    encoding.setdefault(job.id, job)
                key = self._key("point", scheme.determined_by(), scheme=name, **coordinates)
                if scheme.crosses_link:
                    key["link"] = config.plain()["link"]
                task = PointTask(
                    config, build, self.folder, self.evaluate, coordinates, key, tuple(job.id for job in codes)
                )
                label = ", ".join([name, *(f"{axis} {value:g}" for axis, value in coordinates.items())])
                job = Job(content_hash(key), label, task, frozenset(task.codes))
                points.append(job)
        place = {job_id: number for number, job_id in enumerate(encoding)}
        points.sort(key=lambda job: min((place[job_id] for job_id in job.needs), default=-1))
        return [*encoding.values(), *points]

    @property
    def points(self) -> list[Job]:
        """The jobs that compute points."""
        return [job for job in self.jobs if isinstance(job.task, PointTask)]

    def pending(self, shard: tuple[int, int] = (1, 1)) -> list[Job]:
        """Jobs of a shard that have still to run: points that are not done, and codes that these need and lack."""
        jobs = shard_of(self.jobs, shard)
        missing = [job for job in jobs if isinstance(job.task, PointTask) and not self._is_done(job)]
        needed = {job_id for job in missing for job_id in job.needs}
        encode = [job for job in jobs if job.id in needed and not self._is_done(job)]
        waiting = frozenset(job.id for job in encode)
        return [*encode, *(Job(job.id, job.label, job.task, job.needs & waiting) for job in missing)]

    def claim_folder(self) -> None:
        """Write `config.yaml` and `plan.json`, and delete what killed runs were in the middle of writing.

        Raises
        ------
        ConfigError
            If the folder holds a run with another configuration.
        """
        path = self.folder / "config.yaml"
        config = self.config.plain()
        if path.exists() and (found := read_yaml(path)) != config:
            keys = ", ".join(_differences(found, config))
            raise ConfigError(
                f"{self.folder} holds a run with another configuration ({keys}). Give another --out; or delete its "
                "config.yaml to let this configuration take over, which keeps every finished point that still applies."
            )
        header = f"# tokenlink run {self.name} --config {path.name}\n"
        archive.write_atomically(path, (header + self.config.to_yaml()).encode())
        archive.write_atomically(self.folder / "plan.json", json.dumps(self.plan(), indent=1).encode())
        archive.remove_leftovers(self.folder)

    def plan(self) -> dict[str, Any]:
        """Return which points make up the run, and the attributes of its archive."""
        return {
            "schema": PLAN_SCHEMA,
            "schema_version": archive.SCHEMA_VERSION,
            "study": self.name,
            "schemes": list(self.schemes),
            "axes": self.axes,
            "points": [
                {"hash": job.id, "scheme": job.task.key["scheme"], "coordinates": job.task.coordinates}
                for job in self.points
            ],
            "attributes": self.attributes(),
        }

    def attributes(self) -> dict[str, str | int]:
        """Return where the numbers come from. Nothing in it names a machine, a user or a place."""
        config = self.config.public()
        facts = self.workbench.question_facts()
        models: dict[str, list[str]] = {}  # of a scheme whose models change along an axis, all of them, in its order
        for job in self.points:
            parts = job.task.key["models"]
            for part, found in parts.items():
                name = f"model_hash_{job.task.key['scheme']}{f'_{part}' * (len(parts) > 1)}".replace("-", "_")
                hashes = models.setdefault(name, [])
                hashes += [str(found)] * (str(found) not in hashes)
        return {
            "study": self.name,
            "config_json": json.dumps(config, sort_keys=True),
            "config_hash": content_hash(config),
            "seed": self.config.seed,
            "link_seed": self.config.link.seed,
            "data_hash": self.workbench.dataset.data_hash,
            **{name: " ".join(hashes) for name, hashes in models.items()},
            "num_images": len(np.unique(facts["image_index"])),
            "num_realisations": len(np.unique(facts["realisation"])),
            "code_version": code_version(),
            "source_hash": source_hash(),
            **git_state(),
            **{f"version_{name}": version for name, version in package_versions().items()},
        }

    def run(
        self, jobs: Sequence[Job], *, engine: Engine, workers: int, on_outcome: Callable[[Outcome], None]
    ) -> list[Outcome]:
        """Run jobs and return those that failed; everything else is on disk as soon as it is done.

        Raises
        ------
        StudyError
            If afterwards there is no point at all.
        """
        events = EventLog(self.folder / "events.jsonl")
        events.write("started", jobs=len(jobs), engine=engine, workers=workers)
        failed = []
        threads = self.config.num_threads
        for outcome in run_jobs(
            jobs, execute, engine=engine, workers=workers, num_threads=threads, preload=("bridge",)
        ):
            facts = {"job": outcome.job.label, "hash": outcome.job.id, "seconds": round(outcome.seconds, 2)}
            if outcome.error:
                failed.append(outcome)
                events.write("failed", **facts, error=outcome.error, details=outcome.details)
            else:
                events.write("done", **facts)
            on_outcome(outcome)
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
        on_start: Callable[[int], None],
        on_outcome: Callable[[Outcome], None],
    ) -> tuple[archive.Results, list[Outcome]]:
        """Run a shard, or what is left of it, and collect what is done: results, and the jobs that failed."""
        self.claim_folder()
        jobs = self.pending(shard)
        on_start(len(jobs))
        failed = self.run(jobs, engine=engine, workers=workers, on_outcome=on_outcome)
        return collect(self.folder), failed

    def _followed(self, scheme: Scheme) -> dict[str, list[float]]:
        """Return the axes along which a scheme's answers change."""
        if not scheme.crosses_link:
            return {}
        return {axis: values for axis, values in self.axes.items() if axis not in scheme.ignores}

    def _encode_jobs(self, name: str, build: Build, config: StudyConfig) -> list[Job]:
        if (encoded_by := scheme_for(build, config).encoded_by()) is None:
            return []
        jobs = []
        for number in range(len(self.workbench.batches)):
            key = self._key("codes", encoded_by, batch=number)
            task = EncodeTask(config, build, self.folder, number, key)
            jobs.append(Job(content_hash(key), f"{name}, codes {number + 1}/{len(self.workbench.batches)}", task))
        return jobs

    def _key(self, kind: str, models: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
        return {
            "kind": kind,
            "study": self.name,
            "source": source_hash(),
            "packages": package_versions(),
            "questions": self.workbench.determined_by(),
            "models": dict(models),
            **facts,
        }

    def _is_done(self, job: Job) -> bool:
        return archive.is_done(self.folder / ("codes" if isinstance(job.task, EncodeTask) else "points"), job.task.key)


def execute(task: EncodeTask | PointTask) -> None:
    """Do one job and leave its result on disk; runs in any process."""
    workbench = workbench_for(task.config)
    scheme = scheme_for(task.build, task.config)
    if isinstance(task, EncodeTask):
        codes = scheme.encode(workbench.batches[task.batch])
        archive.write_point(task.folder / "codes", task.key, {"codes": codes})
        return
    evaluation = task.evaluate(scheme, workbench.batches, read_codes(task.folder, task.codes), task.coordinates)
    archive.write_point(
        task.folder / "points",
        task.key,
        {**workbench.question_facts(), "correct": evaluation.correct.astype(np.uint8), "answer": evaluation.answers},
        {
            **{name: getattr(evaluation, name) for name in archive.SCALARS},
            **scheme.cost(task.coordinates.get("snr_db", np.inf)),
        },
    )


@functools.cache
def workbench_for(config: StudyConfig) -> Workbench:
    """Return this process's workbench for a configuration."""
    return Workbench(config)


@functools.cache
def scheme_for(build: Build, config: StudyConfig) -> Scheme:
    """Return this process's scheme for a configuration."""
    return build(workbench_for(config))


@functools.lru_cache(maxsize=4)
def read_codes(folder: Path, hashes: tuple[str, ...]) -> np.ndarray | None:
    """Read the codes of all questions, [num_questions, num_tokens, width]; None for a scheme without codes."""
    if not hashes:
        return None
    return np.concatenate([archive.read_point(folder / "codes" / f"{name}.h5").arrays["codes"] for name in hashes])


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key in sorted({*old, *new}):
        if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
            yield from _differences(old[key], new[key], f"{prefix}{key}.")
        elif old.get(key) != new.get(key):
            yield f"{prefix}{key}: {old.get(key)!r} there, {new.get(key)!r} here"
