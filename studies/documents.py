"""What commands say to machines: one JSON document each, with `--json`, of records whose every field is checked.

A number that there is none of is null. `document` names it and `schema_version` its form; fields may be added to a
version, and none changes its meaning.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from studies.axes import AxisValue
from studies.config import Record
from studies.link_tables import refusals
from studies.schemes.scheme import LEDGER

if TYPE_CHECKING:
    from studies.archive import Results
    from studies.cards.card import Outcome as CardOutcome
    from studies.claims import Claim
    from studies.engines import Outcome
    from studies.overview import Compared
    from studies.run_folder import Check

Number = Annotated[float | None, BeforeValidator(lambda value: _number(value))]  # NaN and infinity are null


class Document(Record, frozen=True):
    """What every document has: its name and the version of its form."""

    schema_version: int = 1

    def written(self) -> str:
        """Return it as JSON, in one piece."""
        return self.model_dump_json(indent=1, by_alias=True)


class PointRecord(Record, frozen=True):
    """One scheme at some coordinates."""

    scheme: str
    coordinates: dict[str, AxisValue]
    accuracy: Number
    accuracy_low: Number
    accuracy_high: Number
    code_nmse: Number
    loss_rate: Number
    cost: Mapping[str, Number]


class FailedJob(Record, frozen=True):
    """A job that failed, and why."""

    job: str
    error: str


class RunDocument(Document, frozen=True):
    """Of `run`, `plot` and `merge`: every point of a run folder."""

    document: Literal["tokenlink-run"] = "tokenlink-run"
    folder: str
    study: str
    num_questions: int
    num_missing_points: int
    points: tuple[PointRecord, ...]
    no_point_at: tuple[str, ...]
    failed: tuple[FailedJob, ...]


class Named(Record, frozen=True):
    """A study or a curve, what it is, and whether it runs by default."""

    name: str
    about: str
    default: bool


class ListDocument(Document, frozen=True):
    """Of `list`: studies and curves."""

    document: Literal["tokenlink-list"] = "tokenlink-list"
    studies: tuple[Named, ...]
    curves: tuple[Named, ...]


class ComparedRecord(Record, frozen=True):
    """A scheme at one SNR beside the proposal."""

    scheme: str
    snr_db: float
    accuracy: Number
    low: Number
    high: Number
    difference: Number
    difference_low: Number
    difference_high: Number
    mcnemar_p: Number
    mcnemar_p_holm: Number
    cost: Mapping[str, Number]


class ClaimRecord(Record, frozen=True):
    """A claim of the paper, its rule, and the verdict with its numbers."""

    number: int
    text: str
    rule: str
    verdict: str
    conditions: str
    numbers: tuple[dict[str, str | int | Number], ...]


class ReportDocument(Document, frozen=True):
    """Of `report`: schemes side by side, and the claims."""

    document: Literal["tokenlink-report"] = "tokenlink-report"
    folders: tuple[str, ...]
    compared: tuple[ComparedRecord, ...]
    claims: tuple[ClaimRecord, ...]
    files: tuple[str, ...]


class CheckDocument(Document, frozen=True):
    """Of `check`: whether a run folder is whole."""

    document: Literal["tokenlink-check"] = "tokenlink-check"
    folder: str
    num_points: int
    num_done: int
    problems: tuple[str, ...]
    remarks: tuple[str, ...]


class CheckedNumber(Record, frozen=True):
    """A number that was measured again, and what is expected."""

    check: str
    at: str
    expected: Number
    measured: Number
    verdict: str


class SelfcheckDocument(Document, frozen=True):
    """Of `selfcheck`: closed forms, or published numbers, measured again; `failed` names what is off."""

    document: Literal["tokenlink-selfcheck"] = "tokenlink-selfcheck"
    published: bool
    numbers: tuple[CheckedNumber, ...]
    failed: tuple[str, ...]


class BenchDocument(Document, frozen=True):
    """Of `bench`: the figures of a benchmark, as in its file, and which goals they miss."""

    document: Literal["tokenlink-bench"] = "tokenlink-bench"
    benchmark: str
    figures: dict[str, Any]
    missed: tuple[str, ...]


DOCUMENTS: dict[str, type[Document]] = {
    "run": RunDocument,
    "list": ListDocument,
    "report": ReportDocument,
    "check": CheckDocument,
    "selfcheck": SelfcheckDocument,
    "bench": BenchDocument,
}


# --- from what commands have -----------------------------------------------------------------------------------------


def of_run(results: "Results", folder: str, failed: "Sequence[Outcome]" = ()) -> RunDocument:
    """Return the document of a run."""
    names = ("accuracy", "accuracy_low", "accuracy_high", "code_nmse", "loss_rate")
    points = []
    for scheme in results.schemes:
        values = {name: results.kept(name, scheme) for name in names}
        costs = {name: results.kept(name, scheme) for name in LEDGER}
        for index in np.ndindex(*map(len, results.axes.values())):
            at = {axis: along[i].item() for i, (axis, along) in zip(index, results.axes.items(), strict=True)}
            record = {name: float(value[index]) for name, value in values.items()}
            cost = {name: float(value[index]) for name, value in costs.items()}
            points.append(PointRecord(scheme=scheme, coordinates=at, cost=cost, **record))
    return RunDocument(
        folder=folder,
        study=str(results.attributes["study"]),
        num_questions=len(results.coordinates["question"]),
        num_missing_points=int(results.attributes["num_missing_points"]),
        points=tuple(points),
        no_point_at=tuple(refusals(results)),
        failed=tuple(FailedJob(job=outcome.job.label, error=outcome.error) for outcome in failed),
    )


def of_report(
    folders: Sequence[str], compared: "Sequence[Compared]", claims: "Sequence[Claim]", files: Sequence[str]
) -> ReportDocument:
    """Return the document of a report."""
    rows = []
    for row in compared:
        other = row.against
        paired = (math.nan,) * 4 if other is None else (other.difference, other.low, other.high, other.p_value)
        rows.append(
            ComparedRecord(
                scheme=row.scheme,
                snr_db=row.snr_db,
                accuracy=row.accuracy,
                low=row.low,
                high=row.high,
                difference=paired[0],
                difference_low=paired[1],
                difference_high=paired[2],
                mcnemar_p=paired[3],
                mcnemar_p_holm=row.p_holm,
                cost=row.cost,
            )
        )
    judged = [
        ClaimRecord(
            number=claim.number,
            text=claim.text,
            rule=claim.rule,
            verdict=claim.judgement.verdict,
            conditions=claim.judgement.conditions,
            numbers=tuple(dataclasses.asdict(estimate) for estimate in claim.judgement.numbers),
        )
        for claim in claims
    ]
    return ReportDocument(folders=tuple(folders), compared=tuple(rows), claims=tuple(judged), files=tuple(files))


def of_check(state: "Check", folder: str) -> CheckDocument:
    """Return the document of a check."""
    return CheckDocument(
        folder=folder,
        num_points=state.num_points,
        num_done=state.num_done,
        problems=tuple(state.problems),
        remarks=tuple(state.remarks),
    )


def of_cards(outcomes: "Sequence[CardOutcome]") -> SelfcheckDocument:
    """Return the document of published numbers."""
    numbers = [
        CheckedNumber(
            check=outcome.title,
            at=f"{outcome.axis} {row.point.at}",
            expected=row.point.printed,
            measured=row.measured.value,
            verdict=row.verdict,
        )
        for outcome in outcomes
        for row in outcome.rows
    ]
    failed = tuple(outcome.title for outcome in outcomes if outcome.verdict == "off")
    return SelfcheckDocument(published=True, numbers=tuple(numbers), failed=failed)


def _number(value: Any) -> Any:
    """Return null for NaN and infinity, which JSON has no word for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
