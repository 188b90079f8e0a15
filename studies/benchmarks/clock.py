"""Processor time of rivals that take turns."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from studies.archive import write_atomically


def take_turns(rivals: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Median processor time of each rival.

    Processor time instead of the clock on the wall, and one after the other in every round: what else the machine does
    then burdens all of them alike. With one thread, as the benchmarks run, it is the time on an idle core.

    Parameters
    ----------
    rivals : dict of functions without arguments
    rounds : int
        After one that compiles and is not counted.

    Returns
    -------
    dict of float, [s]
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for counts in [False] + [True] * rounds:
        for name, run in rivals.items():
            start = time.process_time()
            run()
            if counts:
                seconds[name].append(time.process_time() - start)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a benchmark's figures; after a crash the file is there as a whole, or as it was before."""
    write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
