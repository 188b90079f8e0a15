"""A job, how it ended, and what a place where jobs run has to offer."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


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
