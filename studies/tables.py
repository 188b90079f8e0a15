"""What a run prints, 80 columns wide: accuracies with intervals, families, comparisons, and what the link costs."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from rich import box
from rich.table import Table

from studies.archive import MISSING, Results
from studies.claims import Claim
from studies.statistics import Comparison, compare, wilson_interval

BOUNDS = ("accuracy", "accuracy_low", "accuracy_high")
PROPOSAL = "machine-tokens"
MOST_COLUMNS = 7  # of schemes that stand side by side
TABLE_SNR_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)

# Pairs worth a test, at the end of the axis.
COMPARISONS = (
    ("machine-tokens", "raw-image"),  # the price of the link, against all pixels
    ("machine-tokens", "question-only"),  # what the tokens tell
    ("machine-tokens", "machine-tokens-uncompressed"),  # the price of the code
    ("machine-tokens", "quantized-tokens"),  # what analog brings
    ("machine-tokens", "token-indices"),
    ("machine-tokens", "caption"),  # what a language of its own brings
    ("machine-tokens", "jpeg-ldpc"),
    ("machine-tokens", "deepjscc"),
    ("machine-tokens", "deepjscc-small"),
    ("deepjscc", "jpeg-ldpc"),  # what analog brings to images
    ("wrong-image", "question-only"),  # controls: should not differ
    ("silent-link", "question-only"),
)


def accuracy_table(results: Results) -> Table:
    """Accuracy of every scheme along the study's axes, in percent."""
    num_questions = len(results.coordinates["question"])
    title = f"Accuracy [%] ± half of the 95 % Wilson interval, {num_questions} questions per point"
    bounds = [results.variables[name] for name in BOUNDS]
    rows = {}
    for place in np.ndindex(*map(len, results.axes.values())):
        at = [f"{values[i]:g}" for i, values in zip(place, results.axes.values(), strict=True)]
        rows[", ".join(at)] = list(zip(*(bound[:, *place] for bound in bounds), strict=True))
    return _scheme_table(title, ", ".join(results.axes), results.schemes, rows)


def family_table(results: Results) -> Table:
    """Accuracy of every scheme by family of questions, at the end of the axis."""
    families = results.variables["family"]
    rows = {}
    for name in sorted(set(families)):
        cells = rows[f"{name} ({np.sum(families == name)})"] = []
        for scheme in results.schemes:
            correct = at_end(results, scheme)[families == name]
            accuracy = np.nan if (correct == MISSING).any() else correct.mean()
            cells.append((accuracy, *wilson_interval(np.sum(correct == 1), len(correct))))
    title = f"Accuracy [%] by family of questions (how many), at {_end(results)}"
    return _scheme_table(title, "family", results.schemes, rows)


def comparison_table(results: Results) -> Table:
    """Differences between schemes on the same questions and fades, at the end of the axis."""
    rows = []
    for first, second in COMPARISONS:
        if not {first, second} <= set(results.schemes):
            continue
        outcomes = [at_end(results, scheme) for scheme in (first, second)]
        if any((correct == MISSING).any() for correct in outcomes):
            continue
        found = compare(*outcomes, images=results.variables["image_index"])
        interval = f"{100 * found.low:+.1f} … {100 * found.high:+.1f}"
        rows.append([f"{first} - {second}", f"{100 * found.difference:+.1f}", interval, f"{found.p_value:.2g}"])
    title = f"Paired differences at {_end(results)}; interval: bootstrap over images"
    return _table(title, ["first - second", "points", "95 %", "McNemar p"], rows)


def quality_table(results: Results, axis: str = "snr_db") -> Table:
    """PSNR and SSIM of the images that reach a receiver, along an axis; no rows if no scheme sends images."""
    shown = [scheme for scheme in results.schemes if np.isfinite(results.of("ssim", scheme)).any()]
    rows = []
    for i, value in enumerate(results.coordinates[axis] if shown else []):
        pairs = [(results.of("psnr", scheme)[i], results.of("ssim", scheme)[i]) for scheme in shown]
        cells = ["none" if np.isnan(similarity) else f"{psnr:.2f} / {similarity:.3f}" for psnr, similarity in pairs]
        rows.append([f"{value:g}", *cells])
    return _table("PSNR (dB) and SSIM of the images that arrive", [axis, *map(_words, shown)], rows)


def spread_table(results: Results, scheme: str = PROPOSAL) -> Table:
    """Accuracy of a scheme's trainings, which differ in their seed: mean, standard deviation, extremes."""
    num_seeds = len(results.coordinates["seed"])
    rows = []
    for at, accuracy in zip(results.coordinates["snr_db"], 100 * results.of("accuracy", scheme).T, strict=True):
        deviation = np.std(accuracy, ddof=1) if num_seeds > 1 else np.nan
        values = (accuracy.mean(), deviation, accuracy.min(), accuracy.max())
        rows.append([f"{at:g}", *("-" if np.isnan(value) else f"{value:.1f}" for value in values)])
    title = f"Accuracy [%] of {scheme} over {num_seeds} training seeds"
    return _table(title, ["snr_db", "mean", "standard deviation", "lowest", "highest"], rows)


def uses_table(results: Results) -> Table:
    """Accuracy against mean channel uses: of each scheme that spends them, at each place of the first axis and SNR."""
    axis, snr_db = next(iter(results.axes)), results.coordinates["snr_db"]
    rows = []
    for scheme in results.schemes:
        spent = results.along("data_res", scheme)
        bounds = [results.along(name, scheme) for name in BOUNDS]
        for i, value in enumerate(results.coordinates[axis] if np.isfinite(spent).any() else []):
            cells = [
                text
                for j in range(len(snr_db))
                for text in (f"{spent[i, j]:.0f}", _percent(*(bound[i, j] for bound in bounds)))
            ]
            rows.append([f"{scheme}, {value:g}", *cells])
    header = [text for at in snr_db for text in ("REs", f"{at:g} dB")]
    title = f"Accuracy [%] against mean REs of codes per question, by scheme and {axis}"
    return _table(title, ["scheme", *header], rows)


def ledger_table(results: Results) -> Table:
    """What one question costs on the air."""
    rows = []
    for scheme in results.schemes:
        values = [results.along(name, scheme) for name in ("data_res", "pilot_res", "resource_elements", "duration_s")]
        before = None
        for place in np.ndindex(*map(len, results.axes.values())):
            *counts, duration = (float(value[place]) for value in values)
            if np.isnan(counts).any() or counts == before:
                continue  # a line where something changes
            before = counts
            name = ", ".join([scheme, *_changing(results, values, place)])
            rows.append([name, *(f"{count:.0f}" for count in counts), f"{1e3 * duration:.3g}"])
    title = "On the air, per question: resource elements of codes, pilots and slots"
    return _table(title, ["scheme", "codes", "pilots", "slots", "ms"], rows)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], gap: int = 1) -> Table:
    """Columns as wide as their cells, headers broken between words: left alone, rich would break cells instead."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False)
    for i, name in enumerate(header):
        words = [*name.split(), *(row[i] for row in rows)] if i else [name, *(row[i] for row in rows)]
        table.add_column(name, justify="right" if i else "left", width=max(map(len, words)))
    for row in rows:
        table.add_row(*row)
    return table


def _scheme_table(
    title: str,
    corner: str,
    schemes: Sequence[str],
    rows: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike, ArrayLike]]],
) -> Table:
    """A column for each scheme; where they would be too many, a row for each, and intervals in whole numbers."""
    if len(schemes) <= MOST_COLUMNS:
        lines = [[name, *(_percent(*cell) for cell in cells)] for name, cells in rows.items()]
        return _table(title, [corner, *map(_words, schemes)], lines)
    columns = zip(*rows.values(), strict=True)
    lines = [[s, *(_percent(*cell, digits=0) for cell in column)] for s, column in zip(schemes, columns, strict=True)]
    return _table(title, [f"scheme / {corner}", *rows], lines, gap=0)


def _words(scheme: str) -> str:
    return scheme.replace("-", " ")  # so that a narrow column can break it


def compared_table(results: Results) -> Table:
    """Every scheme in a line: what it takes on the air, and its accuracy along SNR."""
    rows = []
    for line in compared(results):
        air = ["-", "-"] if np.isnan(line.data_res) else [f"{line.data_res:.0f}", f"{1e3 * line.duration_s:.2g}"]
        cells = [_percent(a, low, high, digits=0) for a, low, high in line.accuracy]
        rows.append([line.scheme, *air, *cells])
    title = "Accuracy [%] ± half of the 95 % Wilson interval; on the air, per question: REs of codes, ms"
    return _table(title, ["scheme", "REs", "ms", *(f"{at:g} dB" for at in _table_snr_db(results))], rows, gap=0)


def mcnemar_table(results: Results) -> Table:
    """Exact McNemar test of every scheme against the proposal, on the same questions and fades."""
    rows = []
    for line in compared(results):
        if line.scheme != PROPOSAL:
            rows.append([line.scheme, *("-" if c is None else f"{c.p_value:.1g}" for c in line.against)])
    title = f"McNemar p against {PROPOSAL}, none corrected for their number"
    return _table(title, ["scheme", *(f"{at:g} dB" for at in _table_snr_db(results))], rows)


@dataclass(frozen=True)
class Compared:
    """A scheme of a study along SNR; what it spends is its mean over SNR.

    Attributes
    ----------
    accuracy : (accuracy, low, high) at each of the table's SNRs
    against : its difference to the proposal at each of them; None where either is missing
    """

    scheme: str
    data_res: float
    resource_elements: float
    duration_s: float
    accuracy: list[tuple[float, ...]]
    against: list[Comparison | None]


def compared(results: Results) -> list[Compared]:
    """Compare every scheme with the proposal, at `TABLE_SNR_DB` as far as they were run."""
    lines = []
    places = [list(results.coordinates["snr_db"]).index(at) for at in _table_snr_db(results)]
    for scheme in results.schemes:
        spent = {name: results.along(name, scheme) for name in ("data_res", "resource_elements", "duration_s")}
        means = {name: np.nan if np.isnan(value).all() else float(np.nanmean(value)) for name, value in spent.items()}
        bounds = [results.of(name, scheme) for name in ("accuracy", "accuracy_low", "accuracy_high")]
        accuracy = [tuple(float(bound[place]) for bound in bounds) for place in places]
        against = [_against_proposal(results, scheme, place) for place in places]
        lines.append(Compared(scheme, **means, accuracy=accuracy, against=against))
    return lines


def comparison_csv(results: Results) -> str:
    """Return the two tables' numbers, a line for each scheme and SNR."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["scheme", "snr_db", "data_res", "resource_elements", "duration_ms", *BOUNDS]
    writer.writerow([*header, *(f"{name}_from_{PROPOSAL}" for name in ("difference", "low", "high")), "mcnemar_p"])
    for line in compared(results):
        for at, bounds, found in zip(_table_snr_db(results), line.accuracy, line.against, strict=True):
            spent = (line.data_res, line.resource_elements, 1e3 * line.duration_s)
            difference = ("",) * 4 if found is None else (found.difference, found.low, found.high, found.p_value)
            numbers = (value if value == "" else f"{value:.6g}" for value in (at, *spent, *bounds, *difference))
            writer.writerow([line.scheme, *numbers])
    return text.getvalue()


def claims_table(claims: Sequence[Claim]) -> Table:
    """Return the paper's claims and what became of them."""
    table = Table(title="The paper's claims", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "claim", "verdict", "numbers"):
        table.add_column(name, overflow="fold")
    for claim in claims:
        verdict = claim.found.verdict + (f": {claim.found.conditions}" if claim.found.conditions else "")
        table.add_row(str(claim.number), claim.text, verdict, "\n".join(map(str, claim.found.numbers)))
    return table


def _table_snr_db(results: Results) -> list[float]:
    return [at for at in TABLE_SNR_DB if at in results.coordinates["snr_db"]]


def _against_proposal(results: Results, scheme: str, place: int) -> Comparison | None:
    if PROPOSAL not in results.schemes:
        return None
    outcomes = [results.of("correct", name)[place] for name in (scheme, PROPOSAL)]
    if any((correct == MISSING).any() for correct in outcomes):
        return None
    return compare(*outcomes, images=results.variables["image_index"])


def at_end(results: Results, scheme: str) -> np.ndarray:
    """Return each question's outcome at the last place of every axis."""
    return results.of("correct", scheme)[(-1,) * len(results.axes)]


def _end(results: Results) -> str:
    return _place(results, (-1,) * len(results.axes))


def _changing(results: Results, values: Sequence[np.ndarray], place: tuple[int, ...]) -> list[str]:
    """Name a place by those axes along which one of the values changes."""
    named = []
    for number, (axis, along) in enumerate(results.axes.items()):
        if any(np.any(np.fmin.reduce(value, axis=number) != np.fmax.reduce(value, axis=number)) for value in values):
            named.append(_named(axis, along[place[number]]))
    return named


def _place(results: Results, place: tuple[int, ...]) -> str:
    return ", ".join(_named(axis, values[i]) for i, (axis, values) in zip(place, results.axes.items(), strict=True))


def _named(axis: str, value: float) -> str:
    return f"{value:g} dB" if axis == "snr_db" else f"{axis} {value:g}"


def _percent(accuracy: ArrayLike, low: ArrayLike, high: ArrayLike, digits: int = 1) -> str:
    accuracy, low, high = (100 * np.asarray(value, dtype=float) for value in (accuracy, low, high))
    half = (high - low) / 2
    return "missing" if np.isnan(accuracy) else f"{accuracy:.1f}±{half:.{digits if half < 10 else 0}f}"
