"""When not to answer: the risk of the answers that remain, against their share, and whether confidences are true.

Questions are answered in the order of the answering model's confidence. A receiver that abstains below a threshold
answers a share of them, its coverage, and is wrong in a share of these, its risk.
"""

from pathlib import Path

import numpy as np

from studies import plots
from studies.archive import MISSING, Results, write_atomically
from studies.axes import axis_of, named, written
from studies.chart import Chart, Line
from studies.csv_text import csv_text
from studies.panels import arrange, lighter
from studies.tables import PROPOSAL, Grid

COVERAGE = np.arange(5, 101, 5) / 100
STATED_RISK = 0.05  # of the coverage that the table names
BINS = 10  # of confidence, with as many answers each
FILE = "risk-coverage"
MARKED = 4  # every so many coverages

Points = dict[tuple[str, tuple[int, ...]], tuple[np.ndarray, np.ndarray]]  # right or wrong, and confidence


def risk_at(correct: np.ndarray, confidence: np.ndarray, coverage: np.ndarray = COVERAGE) -> np.ndarray:
    """Return the share of wrong answers among the surest ones.

    Parameters
    ----------
    correct : bool or int [num_questions]
    confidence : float [num_questions]
    coverage : float [n]
        Shares of the questions that are answered; at least one is.
    """
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(1 - correct[order].astype(np.float64)) / np.arange(1, len(order) + 1)
    return risk[np.maximum(np.round(coverage * len(order)).astype(int), 1) - 1]


def coverage_at(correct: np.ndarray, confidence: np.ndarray, risk: float = STATED_RISK) -> float:
    """Return the largest share of questions that can be answered at a risk; arguments as for `risk_at`."""
    shares = np.arange(1, len(correct) + 1) / len(correct)
    allowed = np.flatnonzero(risk_at(correct, confidence, shares) <= risk)
    return float(shares[allowed[-1]]) if len(allowed) else 0.0


def calibration_error(correct: np.ndarray, confidence: np.ndarray, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy, over bins of equally many answers.

    Source: K. Nguyen, B. O'Connor, "Posterior calibration and exploratory analysis for natural language processing
    models", EMNLP 2015.
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(confidence[part].mean() - correct[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))


def confident_points(results: Results) -> Points:
    """Return right or wrong, and confidence, of every finished point whose answering model says how sure it is."""
    found = {}
    for scheme in results.schemes if "confidence" in results.variables else ():  # older archives have none
        correct, confidence = (results.of(name, scheme) for name in ("correct", "confidence"))
        for index in np.ndindex(*correct.shape[:-1]):
            if (correct[index] != MISSING).all() and np.isfinite(confidence[index]).all():
                found[scheme, index] = correct[index], confidence[index]
    return found


def risk_table(results: Results) -> Grid:
    """Coverage at `STATED_RISK` and gap between confidence and accuracy, along the first axis; no rows without them."""
    points, (axis, *others) = confident_points(results), results.axes
    rows: dict[str, list[str]] = {}
    for (scheme, (index, *rest)), (correct, confidence) in points.items():
        at = [named(other, results.axes[other][i].item()) for other, i in zip(others, rest, strict=True)]
        cells = rows.setdefault(", ".join([scheme, *at]), ["missing"] * len(results.axes[axis]))
        cells[index] = (
            f"{100 * coverage_at(correct, confidence):.0f}\n{100 * calibration_error(correct, confidence):.1f}"
        )
    title = (
        f"Questions that can be answered, the surest first, with {STATED_RISK:.0%} of the answers wrong [%];\n"
        "below, the mean gap between confidence and accuracy [points]"
    )
    heads = [written(value) for value in results.axes[axis].tolist()]
    return Grid(title, [f"scheme / {axis_of(axis).head}", *heads], [[name, *cells] for name, cells in rows.items()])


def draw_risk(results: Results, *, folder: Path, width: str | None = None) -> list[Path]:
    """Draw risk against coverage and write PNG, PDF, PGF and CSV; nothing if no answering model says how sure it is.

    There is a line for each point of a curve that depends on the SNR, light at its first value and dark at its last.

    Parameters
    ----------
    results : Results
    folder : Path
        Where the files go.
    width : {"single", "double"}, optional
        3.5 or 7.16 inches; by default as many curves need.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        If there is no such width.
    """
    points = confident_points(results)
    if not points:
        return []
    paths = plots.write(risk_chart(results, points), folder=folder, name=FILE, width=width)
    paths.append(folder / f"{FILE}.csv")
    write_atomically(paths[-1], _to_csv(results, points).encode())
    return paths


def risk_chart(results: Results, points: Points) -> Chart:
    """Return what the figure shows, of the points that `confident_points` returns."""
    last = {scheme: index for scheme, index in points}
    lines = []
    for (scheme, index), (correct, confidence) in points.items():
        label, style, level = plots.style_of(results, scheme)
        if level:
            continue
        share = 1 - (1 + np.ravel_multi_index(index, _shape(results))) / np.prod(_shape(results), dtype=int)
        style |= {"color": lighter(style.get("color", "0.2"), 0.75 * share), "markevery": MARKED}
        named = label if index == last[scheme] else ""
        risk = 100 * risk_at(correct, confidence)
        lines.append(
            Line(
                label=named,
                x=100 * COVERAGE,
                y=risk,
                style=style,
                scheme=scheme,
                group=plots.look_of(results, scheme)["group"],
                proposal=scheme == PROPOSAL,
            )
        )
    panels, legend = arrange(lines)
    ends = [_at(results, tuple(index)) for index in (np.zeros(len(results.axes), int), np.array(_shape(results)) - 1)]
    ticks = np.arange(0, 101, 20)
    highest = max((np.max(line.y) for line in lines), default=0.0)
    return Chart(
        panels=panels,
        legend=legend,
        x_label="questions that are answered, the surest first [%]",
        y_label="wrong among these [%]",
        ticks=ticks,
        tick_labels=[f"{tick}" for tick in ticks],
        x_range=(0.0, 103.0),
        y_range=(0.0, 10.0 * max(1, np.ceil(highest / 10))),
        caption=plots.caption(results, [f"Light to dark: {ends[0]} to {ends[1]}"]),
    )


def _to_csv(results: Results, points: Points) -> str:
    rows = []
    for (scheme, index), (correct, confidence) in points.items():
        at = [written(along[i].item()) for i, along in zip(index, results.axes.values(), strict=True)]
        summary = coverage_at(correct, confidence), calibration_error(correct, confidence)
        rows.append([scheme, *at, *(f"{number:.4f}" for number in (*summary, *risk_at(correct, confidence)))])
    head = [f"coverage at {STATED_RISK:.0%} risk", "calibration error", *(f"risk at {share:.0%}" for share in COVERAGE)]
    return csv_text(["scheme", *results.axes, *head], rows)


def _shape(results: Results) -> tuple[int, ...]:
    return tuple(map(len, results.axes.values()))


def _at(results: Results, index: tuple[int, ...]) -> str:
    return ", ".join(named(name, along[i].item()) for i, (name, along) in zip(index, results.axes.items(), strict=True))
