"""What a run prints: accuracies with their intervals, families, comparisons, and what the link costs."""

import numpy as np
from numpy.typing import ArrayLike
from rich.table import Table

from studies.archive import MISSING, Results
from studies.statistics import compare, wilson_interval

# Pairs worth a test, both at the highest SNR: (first, second, what a difference would say)
COMPARISONS = (
    ("machine-tokens", "raw-image", "the price of the link, against all pixels"),
    ("machine-tokens", "question-only", "what the tokens tell"),
    ("machine-tokens", "machine-tokens-uncompressed", "the price of the JTCC"),
    ("wrong-image", "question-only", "control: should be 0"),
    ("silent-link", "question-only", "control: should be 0"),
)


def accuracy_table(results: Results, axis: str = "snr_db") -> Table:
    """Accuracy of every scheme along an axis, in percent."""
    num_questions = len(results.coordinates["question"])
    table = Table(
        title=f"Accuracy [%], 95 % Wilson interval, {num_questions} questions per point", title_justify="left"
    )
    table.add_column("scheme")
    for value in results.coordinates[axis]:
        table.add_column(f"{value:g} dB", justify="right")
    for scheme in results.schemes:
        cells = zip(*(results.of(name, scheme) for name in ("accuracy", "accuracy_low", "accuracy_high")), strict=True)
        table.add_row(scheme, *(_percent(*cell) for cell in cells))
    return table


def family_table(results: Results) -> Table:
    """Accuracy of every scheme by family of questions, at the end of the axis."""
    families = results.variables["family"]
    names = sorted(set(families))
    table = Table(title=f"By family, at {_end(results)}", title_justify="left")
    table.add_column("scheme")
    for name in names:
        table.add_column(f"{name} ({np.sum(families == name)})", justify="right")
    for scheme in results.schemes:
        correct = results.of("correct", scheme)[-1]
        if (correct == MISSING).any():
            continue
        groups = [correct[families == name] for name in names]
        table.add_row(scheme, *(_percent(g.mean(), *wilson_interval(g.sum(), len(g))) for g in groups))
    return table


def comparison_table(results: Results) -> Table:
    """Differences between schemes on the same questions and fades, at the end of the axis."""
    table = Table(
        title=f"Paired differences at {_end(results)} (interval: bootstrap over images)", title_justify="left"
    )
    table.add_column("first")
    table.add_column("second")
    table.add_column("points", justify="right")
    table.add_column("McNemar p", justify="right")
    table.add_column("")
    for first, second, meaning in COMPARISONS:
        if not {first, second} <= set(results.schemes):
            continue
        outcomes = [results.of("correct", scheme)[-1] for scheme in (first, second)]
        if any((correct == MISSING).any() for correct in outcomes):
            continue
        found = compare(*outcomes, images=results.variables["image_index"])
        points = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        table.add_row(first, second, points, f"{found.p_value:.2g}", meaning)
    return table


def ledger_table(results: Results) -> Table:
    """What one question costs on the air."""
    table = Table(title="On the air, per question", title_justify="left")
    table.add_column("scheme")
    for column in ("code elements' REs", "pilot REs", "all REs of the slots", "ms"):
        table.add_column(column, justify="right")
    for scheme in results.schemes:
        names = ("data_res", "pilot_res", "resource_elements")
        counts = [float(results.of(name, scheme)) for name in names]
        if not np.isnan(counts).any():
            milliseconds = 1e3 * float(results.of("duration_s", scheme))
            table.add_row(scheme, *(f"{count:.0f}" for count in counts), f"{milliseconds:.3g}")
    return table


def _end(results: Results) -> str:
    return f"{results.coordinates['snr_db'][-1]:g} dB"


def _percent(accuracy: ArrayLike, low: ArrayLike, high: ArrayLike) -> str:
    accuracy, low, high = (100 * np.asarray(value, dtype=float) for value in (accuracy, low, high))
    if np.isnan(accuracy):
        return "missing"
    return f"{accuracy:.1f} [{low:.1f}, {high:.1f}]"
