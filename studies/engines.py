"""Running many jobs, each once, here or elsewhere, with what one failure costs kept to that job.

`process_engine.py` runs them in spawned workers, `ray_engine.py` on the nodes of a Ray cluster. The order of jobs, and
what a failure costs, are decided here for all of them.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from studies.config import shown
from studies.jobs import Job, Outcome, Pool
from studies.processes import attempt, limit_threads, prepare_process

Engine = Literal["inline", "process", "ray"]


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
