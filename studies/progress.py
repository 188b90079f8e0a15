"""How long the jobs that are left will take, from jobs like them."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from studies.engines import Job, Outcome


class TimeLeft:
    """An estimate that starts once a job has been measured.

    Jobs of one kind are taken to last as long as their mean so far; a kind that has not been measured, as long as the
    mean of all. The first job of a process also loads the frameworks, and is counted only where there is no other.

    Parameters
    ----------
    jobs : sequence of Job
    workers : int
    """

    def __init__(self, jobs: Sequence[Job], workers: int):
        self._left = Counter(job.kind for job in jobs)
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._workers, self._num_done = workers, 0

    def add(self, outcome: Outcome) -> None:
        """Count a job that has ended."""
        self._left[outcome.job.kind] -= 1
        self._num_done += 1
        if outcome.error:
            return
        if self._num_done == self._workers + 1:
            self._seconds.clear()  # what came before were the first jobs of the processes
        self._seconds[outcome.job.kind].append(outcome.seconds)

    def seconds(self) -> float | None:
        """Return the estimate [s]; None before the first job has been measured."""
        everything = [seconds for measured in self._seconds.values() for seconds in measured]
        if not everything:
            return None
        mean = {kind: sum(measured) / len(measured) for kind, measured in self._seconds.items()}
        overall = sum(everything) / len(everything)
        return sum(count * mean.get(kind, overall) for kind, count in self._left.items()) / self._workers


def in_words(seconds: float) -> str:
    """Write a duration: "40 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
