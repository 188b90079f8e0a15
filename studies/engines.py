"""Running many jobs, each once, here or elsewhere, with what one failure costs kept to that job.

`process_engine.py` runs them in spawned workers, `ray_engine.py` on the nodes of a Ray cluster. The order of jobs, and
what a failure costs, are decided here for all of them.
"""

import importlib
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from traceback import format_exception
from typing import Any, Literal, NamedTuple, Protocol

from studies.config import shown

Engine = Literal["inline", "process", "ray"]
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
NO_QUOTA = 2**20


class StudyError(RuntimeError):
    """A run that came to nothing; the message says why."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes
    ----------
    id, label : str
    task : Any
        Argument of `execute`.
    needs : frozenset of str
        Jobs whose files it reads.
    kind : str
        Jobs of one kind take about equally long for a question.
    questions : int
        Number of questions that it works on.
    """

    id: str
    label: str
    task: Any
    needs: frozenset[str] = field(default_factory=frozenset)
    kind: str = ""
    questions: int = 1


class Attempt(NamedTuple):
    """What a process says of a job that it has run; its fields are those of `Outcome`."""

    seconds: float
    error: str = ""
    details: str = ""
    load_s: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    job : Job
    seconds : float
        What it took.
    error, details : str
        Empty if it succeeded; otherwise one line, and all there is to know.
    load_s : float or None
        Of the first job of a process: what the process took before to import what jobs need [s].
    """

    job: Job
    seconds: float
    error: str = ""
    details: str = ""
    load_s: float | None = None


class Pool(Protocol):
    """Where jobs run."""

    @property
    def num_free(self) -> int:
        """Number of jobs that it takes now."""
        ...

    def start(self, job: Job) -> None:
        """Take a job."""
        ...

    def ended(self) -> list[Outcome]:
        """Wait until a job has ended, and return those that have; nothing if none is running."""
        ...

    def stop(self) -> None:
        """End everything; what is still running is lost."""
        ...


def num_cores() -> int:
    """Return the number of cores that this process may use: those it is bound to, within its container's quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, int(cpu_quota())))


def cpu_quota(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the processor time that Linux' control groups (version 2) grant, in cores; a large number without a limit.

    Parameters
    ----------
    own : Path
        File that names the group of this process. The groups around it have limits too.
    root : Path
        Where the groups' files are.
    """
    quota = float(NO_QUOTA)
    try:
        groups = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
        names = [Path(name.strip("/")) for name in groups[:1]]
    except OSError:
        return quota  # another system
    for folder in (folder for name in names for folder in (name, *name.parents)):
        try:
            granted, period = (root / folder / "cpu.max").read_text().split()
            quota = min(quota, quota if granted == "max" else int(granted) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # the root has no such file
    return quota


def limit_threads(num_threads: int) -> None:
    """Fix the number of threads of every numerical library, here and in the processes started from here.

    It is part of a study's configuration because sums in another order round differently. The variables are read when
    the libraries are imported, so this comes first; torch, if loaded already, is told directly.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(num_threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(num_threads)


_loads: list[float] = []  # seconds of the imports of this process, until its first job tells


def prepare_process(num_threads: int, preload: Sequence[str] = ()) -> None:
    """Fix the number of threads, then import modules; a run's processes import what loads both frameworks."""
    started = time.monotonic()
    limit_threads(num_threads)
    for module in preload:
        importlib.import_module(module)
    _loads.append(time.monotonic() - started)


def attempt(execute: Callable[[Any], None], task: Any) -> Attempt:
    """Run a job in this process."""
    load_s = sum(_loads) if _loads else None
    _loads.clear()
    started, error, details = time.monotonic(), "", ""
    try:
        execute(task)
    except Exception as exception:
        error, details = f"{type(exception).__name__}: {exception}", "".join(format_exception(exception))
    return Attempt(time.monotonic() - started, error, details, load_s)


def run_jobs(
    jobs: Sequence[Job],
    execute: Callable[[Any], None],
    *,
    engine: Engine,
    workers: int,
    num_threads: int,
    preload: Sequence[str] = (),
    folder: Path = Path(),
) -> Iterator[Outcome]:
    """Run jobs, each as soon as those it needs are done, and yield their outcomes as they come.

    Parameters
    ----------
    jobs : earlier ones start first; `needs` may only name jobs of this list that come before
    execute : called with each job's `task`; but for "inline" an importable function, for it runs in other processes
    engine : "inline" runs everything here, one after the other; "process" uses processes of this machine; "ray" the
        nodes of a cluster
    workers : number of processes; on a cluster 0 for as many as it takes
    num_threads : threads of each process
    preload : modules that every process imports first
    folder : where jobs leave their results; every node of a cluster has to see it

    Yields
    ------
    Outcome
        A job that fails, or whose process dies, fails alone; those that need it fail with it, the rest goes on.
    """
    _check_order(jobs)
    if not jobs:
        return
    pool: Pool
    if engine == "inline":
        prepare_process(num_threads, preload)
        pool = _Here(execute)
    elif engine == "process":
        from studies.process_engine import Workers

        limit_threads(num_threads)  # children inherit the environment: it is there before anything is imported
        pool = Workers(execute, min(workers, len(jobs)), num_threads, preload)
    else:
        from studies.ray_engine import Nodes

        pool = Nodes(execute, workers, num_threads, preload, folder)
    waiting, done, failed, num_running = list(jobs), set[str](), set[str](), 0
    try:
        while waiting or num_running:
            for job in [job for job in waiting if job.needs & failed] if failed else ():
                waiting.remove(job)
                failed.add(job.id)
                yield Outcome(job, 0.0, "not started: a result that it needs is missing")
            ready = (job for job in waiting if job.needs <= done)
            for job in list(itertools.islice(ready, max(0, pool.num_free))):
                waiting.remove(job)
                pool.start(job)
                num_running += 1
            for outcome in pool.ended():
                num_running -= 1
                (failed if outcome.error else done).add(outcome.job.id)
                yield outcome
    finally:
        pool.stop()


class _Here:
    """The process that this is; it runs one job after the other."""

    def __init__(self, execute: Callable[[Any], None]):
        self._execute, self._jobs = execute, list[Job]()

    @property
    def num_free(self) -> int:
        return 1 - len(self._jobs)

    def start(self, job: Job) -> None:
        self._jobs.append(job)

    def ended(self) -> list[Outcome]:
        jobs, self._jobs = self._jobs, []
        return [Outcome(job, *attempt(self._execute, job.task)) for job in jobs]

    def stop(self) -> None:
        pass


def shard_of(jobs: Sequence[Job], shard: tuple[int, int]) -> list[Job]:
    """Jobs of shard i of N, counted from 1: every Nth of those that nothing else waits for, and all that these need."""
    number, total = shard
    needed = {job_id for job in jobs for job_id in job.needs}
    mine = [job for job in jobs if job.id not in needed][number - 1 :: total]
    wanted = {job_id for job in mine for job_id in job.needs} | {job.id for job in mine}
    return [job for job in jobs if job.id in wanted]


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``"2/3"``, the second of three shards."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, total = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= total:
        raise ValueError(f"--shard {shown(text)} is no shard; write i/N with i from 1 to N, such as 2/3")
    return number, total


def _check_order(jobs: Sequence[Job]) -> None:
    seen: set[str] = set()
    for job in jobs:
        if missing := job.needs - seen:
            raise ValueError(f"job {job.label!r} needs {sorted(missing)}, which no job before it makes")
        seen.add(job.id)
