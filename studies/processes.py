"""A process and the machine under it: cores, threads, what it imports first, its end, and running a job in it."""

import ctypes
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import format_exception
from typing import Any

from studies.jobs import Attempt

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
NO_QUOTA = 2**20
PR_SET_PDEATHSIG = 1  # of Linux' prctl


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


def prepare_worker(parent: int, num_threads: int, preload: Sequence[str] = ()) -> None:
    """Prepare a spawned process, which ends when `parent` does; where there is no prctl it ends with its job."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before it could be watched
            os.kill(os.getpid(), signal.SIGKILL)
    prepare_process(num_threads, preload)


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
