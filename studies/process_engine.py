"""Jobs in spawned workers of this machine: one that dies costs its own job only."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from traceback import format_exception
from typing import Any

from pebble import ProcessPool

from studies.jobs import Job, Outcome
from studies.processes import attempt, prepare_worker


class Workers:
    """Processes that are spawned, never forked: neither TensorFlow nor torch survives a fork.

    Parameters
    ----------
    execute : callable
        Importable function of a job's `task`.
    count : int
        Number of processes. No more jobs are in flight: one that dies takes with it what was already handed to it.
    num_threads, preload
        As in `run_jobs`.
    """

    def __init__(self, execute: Callable[[Any], None], count: int, num_threads: int, preload: Sequence[str]):
        self._execute, self._count = execute, count
        self._pool = ProcessPool(
            max_workers=count,
            context=multiprocessing.get_context("spawn"),
            initializer=prepare_worker,
            initargs=(os.getpid(), num_threads, preload),
        )
        self._running: dict[Future[Any], tuple[Job, float]] = {}

    @property
    def num_free(self) -> int:
        """Number of jobs that it takes now."""
        return self._count - len(self._running)

    def start(self, job: Job) -> None:
        """Hand a job to a process."""
        self._running[self._pool.schedule(attempt, args=[self._execute, job.task])] = job, time.monotonic()

    def ended(self) -> list[Outcome]:
        """Wait until a job has ended, and return those that have; nothing if none is running."""
        finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [self._outcome(future) for future in finished]

    def _outcome(self, future: Future[Any]) -> Outcome:
        job, started = self._running.pop(future)
        if exception := future.exception():  # of the process: those of jobs come as results
            seconds, details = time.monotonic() - started, "".join(format_exception(exception))
            return Outcome(job, seconds, f"{type(exception).__name__}: {exception}", details)
        return Outcome(job, *future.result())

    def stop(self) -> None:
        """End the processes, whatever they are doing."""
        self._pool.stop()
        self._pool.join()
