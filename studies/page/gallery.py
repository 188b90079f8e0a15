"""A few questions of a run from image to answers: codes as sent and as received are computed again, answers are read.

Each question is sent over its own realisation, on the very link of the run; data set and weights have to be those of
the run. What every scheme answered comes from `points/`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studies import answers, study, sweep
from studies.archive import Results
from studies.axes import AxisValue, named
from studies.config import ConfigError, read_yaml, validate
from studies.engines import prepare_process
from studies.plan import Plan, PlannedPoint, read_plan
from studies.questions import Batch, choose_questions
from studies.run_folder import read_planned
from studies.schemes.scheme import Scheme
from studies.tables import PROPOSAL

MOST_SNRS = 5
Arrived = tuple[str, np.ndarray]  # answer and codes


@dataclass(frozen=True)
class Answered:
    """What a scheme answered to one question, at one SNR."""

    answer: str
    correct: bool


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes
    ----------
    number : int
        Its number in the study, and that of the realisation that it meets.
    question, description, right_answer, family : str
        `description` is all that the sensor is told.
    image : uint8 [height, width, 3]
    sent : float [num_tokens, width]
    received : float [num_snrs, num_tokens, width]
    answers : dict
        By scheme, for each SNR; one for a scheme that does not cross the link, and None for a missing point.
    """

    number: int
    question: str
    description: str
    right_answer: str
    family: str
    image: np.ndarray
    sent: np.ndarray
    received: np.ndarray
    answers: dict[str, list[Answered | None]]


@dataclass(frozen=True)
class Gallery:
    """Some questions of a run.

    Attributes
    ----------
    snr_db : list of float
    at : str
        Where the other axes stand, in words.
    cases : list of Case
    num_changed : int
        Answers of the proposal that this version gives otherwise than the run did.
    """

    snr_db: list[float]
    at: str
    cases: list[Case]
    num_changed: int


def collect(folder: Path, results: Results, count: int, data: Path | None = None) -> Gallery:
    """Choose questions of a run, send them again, and read what was answered.

    They are chosen by the seed of the run, evenly over the families, without a look at any answer.

    Parameters
    ----------
    folder : Path
        Run folder.
    results : Results
        Of this folder.
    count : int
        Number of questions; all of them if the run has fewer.
    data : Path, optional
        Folder of the data set, if it is another than `config.yaml` says.

    Raises
    ------
    ValueError, OSError, ImportError
        If data set, weights or frameworks are not there, or not those of the run.
    """
    plan = read_plan(folder)
    if PROPOSAL not in plan.schemes or "snr_db" not in plan.axes:
        raise ConfigError(f"{folder} has no {PROPOSAL} along snr_db, whose codes a gallery shows")
    of_run = study.find(plan.study)
    configured = validate(of_run.Config, read_yaml(folder / "config.yaml"))
    prepare_process(configured.num_threads, ["bridge"])
    answers.dataset_of(folder, plan, data)  # refuses another than that of the run
    if data is not None:
        configured = configured.updated({"data": {"folder": str(data)}})
    last = {axis: along[-1] for axis, along in plan.axes.items() if axis != "snr_db"}
    config = of_run.configure(configured, last)
    workbench, sender = sweep.workbench_for(config), sweep.scheme_for(PROPOSAL, config)
    _check_weights(plan, sender.determined_by())
    snr_db = chosen_snrs(results.coordinates["snr_db"].tolist())
    told = _answers(folder, plan, last, snr_db)
    count = min(count, len(workbench.questions))
    cases, num_changed = list[Case](), 0
    for number in choose_questions(workbench.questions, count, config.seed).tolist():
        answered = {
            scheme: [None if point is None else point[number] for point in along] for scheme, along in told.items()
        }
        asked = workbench.questions[number]
        sent, arrived = _send(sender, Batch(number, (asked,), workbench.dataset), len(workbench.questions), snr_db)
        num_changed += sum(
            old is not None and old.answer != new for old, (new, _) in zip(answered[PROPOSAL], arrived, strict=True)
        )
        cases.append(
            Case(
                number=number,
                question=asked.question,
                description=workbench.agents("machine_tokens").describe([asked.question])[0],
                right_answer=asked.answer,
                family=asked.family,
                image=workbench.dataset.image(asked.image_index),
                sent=sent,
                received=np.stack([codes_hat for _, codes_hat in arrived]),
                answers=answered,
            )
        )
    return Gallery(snr_db, ", ".join(named(axis, value) for axis, value in last.items()), cases, num_changed)


def chosen_snrs(snr_db: list[float]) -> list[float]:
    """Return at most `MOST_SNRS` of a run's SNRs, spread from the first to the last."""
    if len(snr_db) <= MOST_SNRS:
        return snr_db
    return [snr_db[i] for i in np.linspace(0, len(snr_db) - 1, MOST_SNRS).astype(int)]


def _send(sender: Scheme, batch: Batch, num_questions: int, snr_db: list[float]) -> tuple[np.ndarray, list[Arrived]]:
    """Send one question's codes at every SNR; return them, and answers and codes as they arrive."""
    assert sender.encoder is not None
    encoded = sender.encoder.encode(batch)
    codes = np.zeros((num_questions, *encoded.shape[1:]), encoded.dtype)
    codes[batch.numbers] = encoded
    arrived = []
    for at in snr_db:
        written, delivery = sender.answer(codes, batch, at)
        assert delivery.codes_hat is not None
        arrived.append((sweep.storable(written[0]), delivery.codes_hat[0]))
    return encoded[0], arrived


def _answers(
    folder: Path, plan: Plan, last: dict[str, AxisValue], snr_db: list[float]
) -> dict[str, list[list[Answered] | None]]:
    """Return every question's answers, by scheme and SNR; None for points that cannot be used."""
    found: dict[str, list[list[Answered] | None]] = {}
    for scheme in plan.schemes:
        at = {
            point.coordinates.get("snr_db"): point
            for point in plan.points
            if point.scheme == scheme and all(last.get(axis, at) == at for axis, at in point.coordinates.items())
        }
        found[scheme] = [_read(folder, at[each]) for each in ([None] if None in at else snr_db)]
    return found


def _read(folder: Path, planned: PlannedPoint) -> list[Answered] | None:
    try:
        point = read_planned(folder, planned)
    except ValueError:
        return None  # `run_folder.collect` has said why
    if point is None:
        return None
    pairs = zip(point.arrays["answer"].tolist(), point.arrays["correct"].tolist(), strict=True)
    return [Answered(answer, bool(correct)) for answer, correct in pairs]


def _check_weights(plan: Plan, parts: dict[str, Any]) -> None:
    """Refuse weights other than those that the proposal had in the run."""
    for part, value in parts.items():
        name = f"model_hash_{PROPOSAL.replace('-', '_')}{f'_{part}' * (len(parts) > 1)}"
        if str(value) not in str(plan.attributes.get(name, "")).split():
            raise ConfigError(f"{part} of {PROPOSAL} is not what the run was computed with")
