"""How long the jobs that are left will take, from jobs like them."""

from collections.abc import Sequence

from studies.jobs import Job, Outcome
from studies.rates import Rates, measured, questions_by_kind, seconds_of


class TimeLeft:
    """An estimate from this run's jobs, and before these from earlier runs on this machine.

    Jobs of one kind take time in proportion to their questions; a kind that has never been measured, as much a question
    as the others on average. The first job of a process also loads weights and data, and is counted only where there is
    no other.

    Parameters
    ----------
    jobs : sequence of Job
    workers : int
    known : Rates
        What earlier runs measured.
    """

    def __init__(self, jobs: Sequence[Job], workers: int, known: Rates | None = None):
        self._left, self._num_left = questions_by_kind(jobs), len(jobs)
        self._outcomes = list[Outcome]()
        self._workers, self._known = workers, known or Rates()

    def add(self, outcome: Outcome) -> None:
        """Count a job that has ended."""
        self._left[outcome.job.kind] -= outcome.job.questions
        self._num_left -= 1
        self._outcomes.append(outcome)

    def seconds(self) -> float | None:
        """Return the estimate [s]; None before a job has been measured, in this run or an earlier one."""
        later = measured(outcome for outcome in self._outcomes if outcome.load_s is None)
        rates = {**measured(self._outcomes), **self._known.kinds, **later}
        if not rates:
            return None
        load_s = 0.0 if self._outcomes else self._known.load_s or 0.0
        return load_s + seconds_of(self._left, rates, max(1, min(self._workers, self._num_left)))
