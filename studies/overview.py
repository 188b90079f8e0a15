"""Schemes side by side: one table of what they cost and reach, comparisons on equal terms, and bounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from studies import curves
from studies.archive import MISSING, Results
from studies.axes import axis_of
from studies.csv_text import csv_text
from studies.schemes.scheme import LEDGER
from studies.statistics import Comparison, clustered_interval, compare, holm
from studies.tables import PROPOSAL, Grid

TABLE_SNR_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
ALPHA = 0.05
COLUMNS = ("accuracy", "low", "high")  # of comparison.csv


@dataclass(frozen=True)
class Compared:
    """A scheme at one SNR.

    Attributes
    ----------
    accuracy, low, high : float
        NaN where the point is missing. The interval knows which questions share an image, a fade or a training.
    cost : dict
        By the names of `LEDGER`; NaN where the archive does not keep it.
    against : Comparison, optional
        Difference to the proposal; None where either is missing, for the proposal itself, and for bounds.
    p_holm : float
        McNemar's p-value, corrected for the number of tests of all schemes and SNRs; NaN without a test.
    """

    scheme: str
    snr_db: float
    accuracy: float
    low: float
    high: float
    cost: dict[str, float]
    against: Comparison | None
    p_holm: float


def compared(results: Results) -> list[Compared]:
    """Compare every scheme of a study along SNR with the proposal, at those of `TABLE_SNR_DB` that were run."""
    at_snr = {at: list(results.coordinates["snr_db"]).index(at) for at in table_snr_db(results)}
    points = [(scheme, at) for scheme in results.schemes for at in at_snr]
    against = [_against_proposal(results, scheme, at_snr[at]) for scheme, at in points]
    corrected = holm([np.nan if paired is None else paired.p_value for paired in against])
    rows = []
    for (scheme, at), paired, p_holm in zip(points, against, corrected, strict=True):
        index = at_snr[at]
        cost = {name: float(results.kept(name, scheme)[index]) for name in LEDGER}
        bounds = _accuracy(results.of("correct", scheme)[index][None], results)
        rows.append(Compared(scheme, at, *bounds, cost=cost, against=paired, p_holm=float(p_holm)))
    return rows


def trainings(results: Results) -> dict[str, list[tuple[float, float, float]]]:
    """Return accuracy and interval over all trainings of each scheme of accuracy-vs-seed, at `table_snr_db`.

    The interval is that of another training on other questions. Schemes that have one training are left out.
    """
    if len(results.coordinates["seed"]) < 2:
        return {}
    indices = [list(results.coordinates["snr_db"]).index(at) for at in table_snr_db(results)]
    axis, found = list(results.axes).index("seed"), {}
    for scheme in results.schemes:
        outcomes = np.moveaxis(results.of("correct", scheme), axis, 0)  # [seed, snr_db, question]
        if np.isfinite(results.kept("data_res", scheme)).any() and (outcomes != outcomes[:1]).any():
            found[scheme] = [_accuracy(outcomes[:, index], results) for index in indices]
    return found


def overview_table(rows: Sequence[Compared], seeds: Results | None = None) -> Grid:
    """Every scheme in a row: what it takes on the air, and its accuracy along SNR.

    Parameters
    ----------
    rows : sequence of Compared
        Of accuracy-vs-snr.
    seeds : Results, optional
        Of accuracy-vs-seed: its schemes have a row more, over all trainings.
    """
    snr_db, written = _snr_db(rows), []
    for scheme, of_scheme in _by_scheme(rows).items():
        cells = [_percent(row.accuracy, row.low, row.high) + _star(row) for row in of_scheme]
        written.append([scheme, *_air([row.cost for row in of_scheme]), *cells])
    for scheme, bounds in (trainings(seeds) if seeds is not None else {}).items():
        assert seeds is not None
        known = dict(zip(table_snr_db(seeds), bounds, strict=True))
        name = f"{scheme}, {len(seeds.coordinates['seed'])} trainings"
        written.append([name, *[""] * 3, *(_percent(*known[at]) if at in known else "" for at in snr_db)])
    title = (
        "Accuracy [%], 95 % interval over images, fades and trainings; per question, means\n"
        "over SNR: channel uses and energy [data symbols], pilots included, and time of the\n"
        f"OFDM symbols in use. *: differs from {PROPOSAL}, McNemar p < {ALPHA:g} after Holm\n"
        "over all schemes and SNRs of the table"
    )
    heads = ["uses", "energy", "ms", *(f"{at:g}" for at in snr_db)]
    return Grid(title, [f"scheme / {axis_of('snr_db').head}", *heads], written)


def mcnemar_table(rows: Sequence[Compared]) -> Grid:
    """Exact McNemar test of every scheme against the proposal, on the same questions and fades."""
    written = [
        [scheme, *(_or_dash(row.p_holm, ".1g") for row in of_scheme)]
        for scheme, of_scheme in _by_scheme(rows).items()
        if scheme != PROPOSAL
    ]
    num_tests = sum(row.against is not None for row in rows)
    title = f"McNemar p against {PROPOSAL}, after Holm for the {num_tests} tests of this table"
    return Grid(title, [f"scheme / {axis_of('snr_db').head}", *(f"{at:g}" for at in _snr_db(rows))], written)


def comparison_csv(rows: Sequence[Compared]) -> str:
    """Return the numbers of both tables, a line for each scheme and SNR."""
    paired = [f"{name}_from_{PROPOSAL}" for name in ("difference", "low", "high")]
    header = ["scheme", "snr_db", "channel_uses", *LEDGER, *COLUMNS, *paired, "mcnemar_p", "mcnemar_p_holm"]
    lines = []
    for row in rows:
        uses = row.cost["data_res"] + row.cost["pilot_res"]
        other = row.against
        difference = (np.nan,) * 4 if other is None else (other.difference, other.low, other.high, other.p_value)
        numbers = (row.snr_db, uses, *row.cost.values(), row.accuracy, row.low, row.high, *difference, row.p_holm)
        lines.append([row.scheme, *("" if math.isnan(number) else f"{number:.6g}" for number in numbers)])
    return csv_text(header, lines)


# --- equal terms ---------------------------------------------------------------------------------------------------


def equal_table(results: Results) -> Grid:
    """Accuracy of each scheme with no more energy, or peak power, than the proposal; no rows without the proposal.

    A scheme whose energy is r times the proposal's does with it what it does 10 log10(r) dB lower with its own, pilots
    included. So it is with peak power. Accuracies stand between the SNRs of the study on straight lines.
    """
    if PROPOSAL not in results.schemes or list(results.axes) != ["snr_db"]:
        return Grid("", [""], [])
    snr_db, rows = np.asarray(results.coordinates["snr_db"], float), []
    own = {name: results.kept(name, PROPOSAL) for name in ("energy", "peak_db", "data_res", "pilot_res")}
    proposal = results.along("accuracy", PROPOSAL)
    for scheme in results.schemes:
        if scheme == PROPOSAL or np.isnan(results.along("data_res", scheme)).all():
            continue
        cost, accuracy = {name: results.kept(name, scheme) for name in own}, results.along("accuracy", scheme)
        uses = (cost["data_res"] + cost["pilot_res"]) / (own["data_res"] + own["pilot_res"])
        more_db, louder_db = 10 * np.log10(cost["energy"] / own["energy"]), cost["peak_db"] - own["peak_db"]
        if np.isnan(louder_db).all() and np.allclose(more_db, 0):
            continue  # a bound: its terms are equal already, and it has no waveform
        lines = (
            accuracy,
            shifted(snr_db, accuracy, -more_db),
            shifted(snr_db, accuracy, -louder_db),
            shifted(snr_db, proposal, 10 * np.log10(uses)),
        )
        cells = ["\n".join(_or_dash(100 * line[i], ".1f") for line in lines) for i in range(len(snr_db))]
        means = (_mean(uses, ".3g") + " x", _mean(more_db, "+.1f"), _mean(louder_db, "+.1f"))
        rows.append([f"{scheme}\n at equal energy\n at equal peak power\n proposal in its REs", *means, *cells])
    title = (
        f"Accuracy [%] as it is; with the energy of {PROPOSAL}; with its peak power; below\n"
        f"that {PROPOSAL} sent again until it takes as many REs and as much energy, if\n"
        "that gains no diversity"
    )
    heads = (f"{at:g}" for at in snr_db)
    return Grid(title, [f"scheme / {axis_of('snr_db').head}", "REs", "energy [dB]", "peak [dB]", *heads], rows)


def shifted(snr_db: np.ndarray, accuracy: np.ndarray, by_db: np.ndarray) -> np.ndarray:
    """Return the accuracy so many dB higher, on straight lines between the points; NaN beyond the last ones."""
    known = np.isfinite(accuracy)
    if known.sum() < 1:
        return np.full(accuracy.shape, np.nan)
    at = snr_db + by_db
    found = np.interp(at, snr_db[known], accuracy[known])
    slack = 1e-9
    inside = (at >= snr_db[known][0] - slack) & (at <= snr_db[known][-1] + slack)
    return np.where(inside, found, np.nan)


# --- bounds --------------------------------------------------------------------------------------------------------

BELOW, AT, ABOVE = "below", "not above", "ABOVE"


def bounds_table(results: Results) -> Grid:
    """Say for every scheme that a curve of the run bounds whether it stays below; no rows if there is no such pair."""
    if not (pairs := bounded(results)):
        return Grid("", [""], [])
    rows = []
    for bound, scheme in pairs:
        cells = []
        for index in range(len(results.coordinates["snr_db"])):
            outcomes = [results.of("correct", name)[index] for name in (scheme, bound)]
            if any((correct == MISSING).any() for correct in outcomes):
                cells.append("missing")
                continue
            paired = compare(*outcomes, images=results.variables["image_index"])
            verdict = ABOVE if paired.low > 0 else BELOW if paired.high < 0 else AT
            cells.append(
                f"{100 * paired.difference:+.1f}\n{100 * paired.low:+.1f} to\n{100 * paired.high:+.1f}\n{verdict}"
            )
        rows.append([f"{scheme}\n - {bound}", *cells])
    heads = (f"{at:g}" for at in results.coordinates["snr_db"])
    title = "Schemes less their bounds, points [%], 95 % bootstrap over images, and the verdict"
    return Grid(title, [f"scheme / {axis_of('snr_db').head}", *heads], rows)


def bounded(results: Results) -> list[tuple[str, str]]:
    """Return the pairs of a bound and a scheme that were both run, in a study along SNR alone."""
    if list(results.axes) != ["snr_db"]:
        return []
    known = [curves.CURVES[name] for name in results.schemes if name in curves.CURVES]
    return [(curve.name, scheme) for curve in known for scheme in curve.bounds if scheme in results.schemes]


def table_snr_db(results: Results) -> list[float]:
    """Return those of `TABLE_SNR_DB` that were run."""
    return [at for at in TABLE_SNR_DB if at in results.coordinates["snr_db"]]


def _by_scheme(rows: Sequence[Compared]) -> dict[str, list[Compared]]:
    return {scheme: [row for row in rows if row.scheme == scheme] for scheme in dict.fromkeys(r.scheme for r in rows)}


def _snr_db(rows: Sequence[Compared]) -> list[float]:
    return list(dict.fromkeys(row.snr_db for row in rows))


def _accuracy(outcomes: np.ndarray, results: Results) -> tuple[float, float, float]:
    """Return accuracy and interval of outcomes [num_trainings, num_questions]; NaN where one is missing."""
    if (outcomes == MISSING).any():
        return np.nan, np.nan, np.nan
    training = np.arange(len(outcomes))[:, None]
    levels = (results.variables["image_index"], results.variables["realisation"], training)
    low, high = clustered_interval(outcomes.ravel(), [np.broadcast_to(of, outcomes.shape).ravel() for of in levels])
    return float(outcomes.mean()), low, high


def _against_proposal(results: Results, scheme: str, index: int) -> Comparison | None:
    is_bound = scheme in curves.CURVES and curves.CURVES[scheme].bounds  # no rival, and no test to correct for
    if PROPOSAL not in results.schemes or scheme == PROPOSAL or is_bound:
        return None
    outcomes = [results.of("correct", name)[index] for name in (scheme, PROPOSAL)]
    if any((correct == MISSING).any() for correct in outcomes):
        return None
    return compare(*outcomes, images=results.variables["image_index"])


def _air(costs: Sequence[Mapping[str, float]]) -> list[str]:
    """Write mean channel uses, energy and milliseconds in use."""
    uses = [cost["data_res"] + cost["pilot_res"] for cost in costs]
    if np.isnan(uses).all():
        return ["-"] * 3
    energy, active = ([cost[name] for cost in costs] for name in ("energy", "active_s"))
    known = not np.isnan(energy).all()
    return [
        f"{np.nanmean(uses):.0f}",
        f"{np.nanmean(energy):.0f}" if known else "?",
        f"{1e3 * np.nanmean(active):.2g}" if known else "?",
    ]


def _star(row: Compared) -> str:
    return "*" if row.p_holm < ALPHA else ""


def _percent(accuracy: float, low: float, high: float) -> str:
    if math.isnan(accuracy):
        return "missing"
    return f"{100 * accuracy:.1f}\n{math.floor(100 * low)}-{math.ceil(100 * high)}"


def _or_dash(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _mean(values: np.ndarray, form: str) -> str:
    return "-" if np.isnan(values).all() else format(np.nanmean(values), form)
