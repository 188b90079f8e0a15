"""Running many jobs, each once: in this process or in spawned workers, with what one failure costs kept to that job."""

import ctypes
import importlib
import itertools
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from traceback import format_exception
from typing import Any, Literal

from pebble import ProcessPool

from studies.config import shown

Engine = Literal["inline", "process"]
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


NO_QUOTA = 2**20
PR_SET_PDEATHSIG = 1  # of Linux' prctl


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
        Jobs of one kind take about equally long.
    """

    id: str
    label: str
    task: Any
    needs: frozenset[str] = field(default_factory=frozenset)
    kind: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `error` is empty if it succeeded, one line otherwise, with all there is to know in `details`."""

    job: Job
    seconds: float
    error: str = ""
    details: str = ""


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


def prepare_process(num_threads: int, preload: Sequence[str] = ()) -> None:
    """Fix the number of threads, then import modules; a run's processes import what loads both frameworks."""
    limit_threads(num_threads)
    for module in preload:
        importlib.import_module(module)


def prepare_worker(parent: int, num_threads: int, preload: Sequence[str] = ()) -> None:
    """Prepare a spawned process, which ends when `parent` does; where there is no prctl it ends with its job."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before it could be watched
            os.kill(os.getpid(), signal.SIGKILL)
    prepare_process(num_threads, preload)


def run_jobs(
    jobs: Sequence[Job],
    execute: Callable[[Any], None],
    *,
    engine: Engine,
    workers: int,
    num_threads: int,
    preload: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Run jobs, each as soon as those it needs are done, and yield their outcomes as they come.

    Parameters
    ----------
    jobs : earlier ones start first; `needs` may only name jobs of this list that come before
    execute : called with each job's `task`; for "process" an importable function, for it runs in spawned workers
    engine : "inline" runs everything here, one after the other; "process" uses `workers` processes
    workers : number of processes
    num_threads : threads of each process
    preload : modules that every process imports first

    Yields
    ------
    Outcome
        A job that fails, or whose process dies, fails alone; those that need it fail with it, the rest goes on.
    """
    _check_order(jobs)
    if not jobs:
        return
    if engine == "inline":
        prepare_process(num_threads, preload)
        yield from _run_inline(jobs, execute)
    else:
        limit_threads(num_threads)  # children inherit the environment: it is there before anything is imported
        yield from _run_in_processes(jobs, execute, min(workers, len(jobs)), (num_threads, preload))


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


def _run_inline(jobs: Sequence[Job], execute: Callable[[Any], None]) -> Iterator[Outcome]:
    failed: set[str] = set()
    for job in jobs:
        if job.needs & failed:
            failed.add(job.id)
            yield _skipped(job)
            continue
        started, exception = time.monotonic(), None
        try:
            execute(job.task)
        except Exception as caught:
            exception = caught
            failed.add(job.id)
        yield _outcome(job, started, exception)


def _run_in_processes(
    jobs: Sequence[Job], execute: Callable[[Any], None], workers: int, preparation: tuple[int, Sequence[str]]
) -> Iterator[Outcome]:
    # Spawned, never forked: neither TensorFlow nor torch survives a fork. No more tasks in flight than workers:
    # one that dies takes with it whatever was already handed to it.
    pool = ProcessPool(
        max_workers=workers,
        context=multiprocessing.get_context("spawn"),
        initializer=prepare_worker,
        initargs=(os.getpid(), *preparation),
    )
    waiting, done, failed = list(jobs), set[str](), set[str]()
    running: dict[Future[Any], tuple[Job, float]] = {}
    try:
        while waiting or running:
            for job in [job for job in waiting if job.needs & failed] if failed else ():
                waiting.remove(job)
                failed.add(job.id)
                yield _skipped(job)
            ready = (job for job in waiting if job.needs <= done)
            for job in list(itertools.islice(ready, max(0, workers - len(running)))):
                waiting.remove(job)
                running[pool.schedule(execute, args=[job.task])] = job, time.monotonic()
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                job, started = running.pop(future)
                exception = future.exception()
                (failed if exception else done).add(job.id)
                yield _outcome(job, started, exception)
        pool.close()
    finally:
        pool.stop()
        pool.join()


def _skipped(job: Job) -> Outcome:
    return Outcome(job, 0.0, "not started: a result that it needs is missing")


def _outcome(job: Job, started: float, exception: BaseException | None) -> Outcome:
    seconds = time.monotonic() - started
    if exception is None:
        return Outcome(job, seconds)
    return Outcome(job, seconds, f"{type(exception).__name__}: {exception}", "".join(format_exception(exception)))
