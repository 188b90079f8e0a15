"""How long jobs took on this machine: `rates.json` in the user's cache folder, and what a run will take by it.

No number of a study depends on it. It holds seconds per question for each kind of job, the time in which a process
loads what jobs need, and the work of whole studies as they come. What has never run here is estimated by figures that
ship.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated

from pydantic import Field, ValidationError

from studies.cache_folder import cache_folder
from studies.config import Record
from studies.jobs import Job, Outcome

MOST_KINDS = 300  # the longest unused ones go first
MOST_BYTES = 200_000
Seconds = Annotated[float, Field(ge=0, le=1e7)]


class Rate(Record, frozen=True):
    """Seconds per question of a kind of job, and the questions of the jobs that it was measured on."""

    seconds: Seconds
    questions: Annotated[int, Field(ge=1)]


class Rates(Record, frozen=True):
    """Content of `rates.json`.

    Attributes
    ----------
    load_s : float or None
        Time in which a process loads frameworks, weights and data, before its first job or in it [s].
    kinds : dict
        Rate of each kind of job.
    studies : dict
        Seconds of all jobs of a study as it comes, one after the other.
    """

    load_s: Seconds | None = None
    kinds: dict[str, Rate] = Field(default={}, max_length=MOST_KINDS)
    studies: dict[str, Seconds] = Field(default={}, max_length=MOST_KINDS)


# Processor time on the default link, 60 to 200 questions, weights and tables loaded; of studies, scaled from these.
SHIPPED = Rates(
    load_s=20,
    kinds={
        name: Rate(seconds=seconds, questions=60)
        for name, seconds in {
            "codes by tokens": 0.036,
            "codes by captions": 0.073,
            "codes by answers": 0.038,
            "codes by image_codes": 0.006,
            "raw-image": 0.032,
            "question-only": 0.0029,
            "silent-link": 0.0043,
            "wrong-image": 0.0044,
            "machine-tokens": 0.0045,
            "machine-tokens-uncompressed": 0.0058,
            "jpeg-ldpc": 0.12,
            "jpeg-ldpc-fixed": 0.21,
            "avif-ldpc": 0.37,
            "avif-small": 0.20,
        }.items()
    },
    studies={
        "accuracy-vs-snr": 430,
        "accuracy-vs-tokens": 670,
        "accuracy-vs-width": 560,
        "accuracy-vs-seed": 440,
    },
)
ELSEWHERE = "on two cores of the machine that it was measured on"


def rates_path() -> Path:
    """Where the file is."""
    return cache_folder() / "rates.json"


def read() -> Rates:
    """Read the file; without one, nothing is known.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    path = rates_path()
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("it is too long")
        return Rates.model_validate_json(content)
    except FileNotFoundError:
        return Rates()
    except (OSError, ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"{path} cannot be used: {reason}; the next run writes it anew") from error


def learn(outcomes: Iterable[Outcome], study: str = "") -> None:
    """Add what jobs took to the file.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Of jobs that ran on this machine.
    study : str
        Name of the study that they make up as it comes; empty if they do not.
    """
    from studies import archive  # HDF5 loads only when something is learned

    done = [outcome for outcome in outcomes if not outcome.error]
    if not done:
        return
    try:
        known = read()
    except ValueError:
        known = Rates()  # damaged: written anew
    kinds = dict(known.kinds)
    for kind, rate in measured(done).items():
        earlier = kinds.pop(kind, None)  # what comes last was used last
        keep = earlier is not None and 2 * rate.questions < earlier.questions  # a few questions tell less
        kinds[kind] = earlier if keep and earlier else rate
    loads = [
        outcome.load_s + max(0.0, outcome.seconds - kinds[outcome.job.kind].seconds * outcome.job.questions)
        for outcome in done
        if outcome.load_s is not None
    ]
    studies = {name: seconds for name, seconds in known.studies.items() if name != study}
    if study:
        studies[study] = sum(outcome.seconds for outcome in done)
    learned = Rates(
        load_s=mean(loads) if loads else known.load_s,
        kinds=dict(list(kinds.items())[-MOST_KINDS:]),
        studies=dict(list(studies.items())[-MOST_KINDS:]),
    )
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs estimates, and no run
        archive.write_atomically(rates_path(), learned.model_dump_json(indent=1).encode())


def measured(outcomes: Iterable[Outcome]) -> dict[str, Rate]:
    """Return the rate of each kind; the first job of a process, which also loads, counts where there is no other."""
    first, later = defaultdict[str, list[Outcome]](list), defaultdict[str, list[Outcome]](list)
    for outcome in outcomes:
        if not outcome.error:
            (later if outcome.load_s is None else first)[outcome.job.kind].append(outcome)
    rates = {}
    for kind, of_kind in {**first, **later}.items():
        questions = sum(outcome.job.questions for outcome in of_kind)
        seconds = sum(outcome.seconds for outcome in of_kind) / questions
        rates[kind] = Rate(seconds=seconds, questions=max(outcome.job.questions for outcome in of_kind))
    return rates


def questions_by_kind(jobs: Iterable[Job]) -> Counter[str]:
    """Count the questions that jobs of each kind work on."""
    questions = Counter[str]()
    for job in jobs:
        questions[job.kind] += job.questions
    return questions


def how_long(jobs: Sequence[Job], workers: int) -> str:
    """Say how long jobs will take."""
    try:
        known, damage = read(), ""
    except ValueError as error:
        known, damage = Rates(), f" ({error})"
    questions = questions_by_kind(jobs)
    kinds = {**SHIPPED.kinds, **known.kinds}
    if unknown := sorted(set(questions) - set(kinds)):
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        return f"how long it takes is not known: nothing was measured of {', '.join(unknown[:3])}{more}{damage}"
    here = not set(questions) - set(known.kinds)
    load_s = known.load_s if here else SHIPPED.load_s
    seconds = seconds_of(questions, kinds, min(workers, len(jobs)) if here else 2) + (load_s or 0)
    return f"about {in_words(seconds)}{'' if here else f' {ELSEWHERE}'}{damage}"


def how_long_as_it_comes(study: str, workers: int) -> str:
    """Say how long a study takes as it comes, all of it; an empty string if that is not known."""
    try:
        known = read()
    except ValueError:
        known = Rates()
    if study in known.studies:
        return f"about {in_words(known.studies[study] / workers + (known.load_s or 0))}"
    if study in SHIPPED.studies:
        return f"about {in_words(SHIPPED.studies[study] / 2 + (SHIPPED.load_s or 0))} {ELSEWHERE}"
    return ""


def seconds_of(questions: Mapping[str, int], kinds: Mapping[str, Rate], workers: int) -> float:
    """Return how long jobs take side by side [s]; of a kind that is not known, as long as of others on average."""
    seconds = {kind: count * kinds[kind].seconds for kind, count in questions.items() if kind in kinds}
    others = sum(count for kind, count in questions.items() if kind not in kinds)
    of_others = mean(rate.seconds for rate in kinds.values()) * others if others else 0.0
    return (sum(seconds.values()) + of_others) / workers


def in_words(seconds: float) -> str:
    """Write a duration: "40 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
