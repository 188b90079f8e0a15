"""A published number, measured again: what a card holds, when its verdict falls, and how all cards run."""

import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text
from scipy.stats import beta

from studies.processes import prepare_worker

MODULES = tuple(f"studies.cards.{name}" for name in ("sionna_tutorials", "tables_38901", "closed_forms"))
CONFIDENCE = 0.95
SURE = 0.999  # to be off; of as many points as there are, a few would be off by chance otherwise
MIN_ERRORS = 30  # before an interval is read, so that repeated looks at it rarely mislead
COLOURS = {"ok": "green", "off": "red", "undecided": "yellow"}


class Measurement(NamedTuple):
    """A value, and what it was counted from.

    Attributes
    ----------
    value : float
    likely, sure : tuple of two floats
        Intervals that hold the true value with the probabilities `CONFIDENCE` and `SURE`.
    sample : str
    """

    value: float
    likely: tuple[float, float]
    sure: tuple[float, float]
    sample: str = ""

    @classmethod
    def exact(cls, value: float, sample: str = "") -> "Measurement":
        """Return a value without uncertainty."""
        return cls(value, (value, value), (value, value), sample)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A number that a source prints.

    Attributes
    ----------
    at : float or str
        Where on the axis of its card.
    printed : float
    errors : int, optional
        Errors that the source counted; its own uncertainty follows from them. None for what is not counted.
    """

    at: float | str
    printed: float
    errors: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """Numbers of one source, and how to measure them again.

    Attributes
    ----------
    title, source, settings : str
    ours : str
        What TokenLink does itself, and what is taken from elsewhere.
    axis : str
        What `Point.at` is.
    tolerance : float
        Relative deviation that counts as agreement, beside two standard errors of what the source counted.
    points : tuple of Point
    measure : callable
        Takes the card, returns one `Measurement` per point.
    """

    title: str
    source: str
    settings: str
    ours: str
    axis: str
    tolerance: float
    points: tuple[Point, ...]
    measure: Callable[["Card"], Sequence[Measurement]]

    def band(self, point: Point) -> float:
        """Relative deviation from a printed number that still counts as agreement."""
        return self.tolerance + (2 * point.errors**-0.5 if point.errors else 0.0)

    def verdict(self, point: Point, measured: Measurement) -> str:
        """Ok: the likely interval is within the band around the printed number; off: the sure one is outside of it."""
        half = self.band(point) * abs(point.printed)
        low, high = point.printed - half, point.printed + half
        if low <= measured.likely[0] and measured.likely[1] <= high:
            return "ok"
        return "undecided" if measured.sure[0] <= high and low <= measured.sure[1] else "off"


class Row(NamedTuple):
    """One point of an outcome, and the relative deviation that it was allowed."""

    point: Point
    band: float
    measured: Measurement
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a card.

    Attributes
    ----------
    title, axis : str
    facts : tuple of str
        Source, settings, what is our own, tolerance.
    rows : tuple of Row
    reason : str
        Why the card failed; empty if it did not.
    seconds : float
        Processor time.
    """

    title: str
    axis: str
    facts: tuple[str, ...]
    rows: tuple[Row, ...]
    reason: str
    seconds: float

    @property
    def verdict(self) -> str:
        """Off for any point that is off, or a card that broke; ok if at least one point agrees."""
        if self.reason:
            return "off"
        return "ok" if any(row.verdict == "ok" for row in self.rows) else "undecided"


def run_card(card: Card) -> Outcome:
    """Measure a card. One that raises fails with the error as its reason."""
    start, rows = time.process_time(), ()
    try:
        measured = card.measure(card)
        rows = tuple(
            Row(point, card.band(point), one, card.verdict(point, one))
            for point, one in zip(card.points, measured, strict=True)
        )
        off = [row for row in rows if row.verdict == "off"]
        reason = "; ".join(
            f"{_number(row.measured.value)} instead of {_number(row.point.printed)} at {_place(row.point)}"
            for row in off
        )
    except Exception as error:  # a card that breaks leaves the others their say
        reason = f"{type(error).__name__}: {error}"
    sampled = ", and two standard errors of what the source counted" if any(p.errors for p in card.points) else ""
    facts = (
        f"source: {card.source}",
        f"settings: {card.settings}",
        f"ours: {card.ours}",
        f"tolerance: {card.tolerance:.3g} of the printed number{sampled}",
    )
    return Outcome(
        title=card.title,
        axis=card.axis,
        facts=facts,
        rows=rows,
        reason=reason,
        seconds=time.process_time() - start,
    )


def run_all(workers: int, modules: Sequence[str] = MODULES) -> Iterator[Outcome]:
    """Measure the cards of modules, each card in a process with one thread, and yield outcomes as they come."""
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=prepare_worker, initargs=(os.getpid(), 1, modules)
    )
    with pool:
        number = pool.submit(_number_of_cards, modules).result()
        for done in as_completed([pool.submit(_run_numbered, modules, index) for index in range(number)]):
            yield done.result()


def _cards(modules):
    return [card for module in modules for card in importlib.import_module(module).CARDS]


def _number_of_cards(modules):
    return len(_cards(modules))


def _run_numbered(modules, index):
    return run_card(_cards(modules)[index])


def count_errors(card: Card, draw: Callable[[int], Callable[[float], np.ndarray]], batches: int) -> list[Measurement]:
    """Count errors at all points of a card over the same fades, at each until its verdict falls.

    Parameters
    ----------
    card : Card
        With numbers in `Point.at`.
    draw : callable
        Takes the number of a batch, returns a function from `Point.at` to errors, bool [fades, words].
    batches : int
        Number of batches after which a point stays undecided.
    """
    counted: list[list[np.ndarray]] = [[] for _ in card.points]
    measured = [Measurement(float("nan"), (0.0, 1.0), (0.0, 1.0))] * len(card.points)
    pending = range(len(card.points))
    for batch in range(batches):
        errors_at = draw(batch)
        for index in pending:
            counted[index].append(errors_at(float(card.points[index].at)))
            measured[index] = error_rate(np.concatenate(counted[index]))
        pending = [
            index for index in pending if not _is_decided(card, card.points[index], counted[index], measured[index])
        ]
        if not pending:
            break
    return measured


def _is_decided(card, point, counted, measured):
    enough = sum(int(errors.sum()) for errors in counted) >= MIN_ERRORS
    return enough and card.verdict(point, measured) != "undecided"


def error_rate(errors: np.ndarray) -> Measurement:
    """Error rate with its exact interval, of Clopper and Pearson.

    Words over one fade fail together more often than others. Their number is then divided by the factor by which that
    raises the variance of the rate.

    Parameters
    ----------
    errors : np.ndarray, bool, [fades, words]

    Source: C. J. Clopper, E. S. Pearson, Biometrika 26, 1934; E. L. Korn, B. I. Graubard, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24, 1998.
    """
    words, wrong = errors.size, int(errors.sum())
    rate = wrong / words
    spread = errors.mean(1).var() * errors.shape[1] / (rate * (1 - rate)) if 0 < wrong < words else 1.0
    k, n = wrong / max(1.0, spread), words / max(1.0, spread)

    def interval(confidence):
        low = beta.ppf((1 - confidence) / 2, k, n - k + 1) if wrong else 0.0
        high = beta.ppf((1 + confidence) / 2, k + 1, n - k) if wrong < words else 1.0
        return float(low), float(high)

    return Measurement(rate, interval(CONFIDENCE), interval(SURE), f"{wrong} of {words}")


def table(outcome: Outcome) -> Table:
    """Return the points of an outcome, a row each."""
    made = Table(box=None, pad_edge=False)
    for column in ("", outcome.axis, "printed", "±", "measured", "95 % interval", "counted"):
        made.add_column(Text(column), justify="left" if column in ("", "counted") else "right")
    for point, band, measured, verdict in outcome.rows:
        low, high = measured.likely
        interval = f"{_number(low)} … {_number(high)}" if low < high else ""
        cells = (_place(point), _number(point.printed), f"{band:.2g}", _number(measured.value), interval)
        made.add_row(Text(verdict, COLOURS[verdict]), *cells, measured.sample)
    return made


def _number(value):
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _place(point):
    return point.at if isinstance(point.at, str) else f"{point.at:g}"
