"""What a run prints, 80 columns wide: accuracies with intervals, families, comparisons, and what the link costs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from rich import box
from rich.table import Table

from studies.archive import MISSING, Results
from studies.statistics import compare, wilson_interval

# Pairs worth a test, at the end of the axis.
COMPARISONS = (
    ("machine-tokens", "raw-image"),  # the price of the link, against all pixels
    ("machine-tokens", "question-only"),  # what the tokens tell
    ("machine-tokens", "machine-tokens-uncompressed"),  # the price of the code
    ("machine-tokens", "quantized-tokens"),  # what analog brings
    ("machine-tokens", "token-indices"),
    ("machine-tokens", "caption"),  # what a language of its own brings
    ("machine-tokens", "jpeg-ldpc"),
    ("wrong-image", "question-only"),  # controls: should not differ
    ("silent-link", "question-only"),
)


def accuracy_table(results: Results) -> Table:
    """Accuracy of every scheme along the study's axes, in percent."""
    num_questions = len(results.coordinates["question"])
    title = f"Accuracy [%] ± half of the 95 % Wilson interval, {num_questions} questions per point"
    bounds = [results.variables[name] for name in ("accuracy", "accuracy_low", "accuracy_high")]
    rows = []
    for place in np.ndindex(*map(len, results.axes.values())):
        cells = zip(*(bound[:, *place] for bound in bounds), strict=True)
        at = [f"{values[i]:g}" for i, values in zip(place, results.axes.values(), strict=True)]
        rows.append([", ".join(at), *(_percent(*cell) for cell in cells)])
    return _table(title, [", ".join(results.axes), *map(_words, results.schemes)], rows)


def family_table(results: Results) -> Table:
    """Accuracy of every scheme by family of questions, at the end of the axis."""
    families = results.variables["family"]
    rows = []
    for name in sorted(set(families)):
        row = [f"{name} ({np.sum(families == name)})"]
        for scheme in results.schemes:
            correct = at_end(results, scheme)[families == name]
            accuracy = np.nan if (correct == MISSING).any() else correct.mean()
            row.append(_percent(accuracy, *wilson_interval(np.sum(correct == 1), len(correct))))
        rows.append(row)
    title = f"Accuracy [%] by family of questions (how many), at {_end(results)}"
    return _table(title, ["family", *map(_words, results.schemes)], rows)


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
            constant = all(np.nanmax(value) == np.nanmin(value) for value in values)
            name = scheme if constant else f"{scheme}, {_place(results, place)}"
            rows.append([name, *(f"{count:.0f}" for count in counts), f"{1e3 * duration:.3g}"])
    title = "On the air, per question: resource elements of codes, pilots and slots"
    return _table(title, ["scheme", "codes", "pilots", "slots", "ms"], rows)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Columns as wide as their cells, headers broken between words: left alone, rich would break cells instead."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(header):
        words = [*name.split(), *(row[i] for row in rows)] if i else [name, *(row[i] for row in rows)]
        table.add_column(name, justify="right" if i else "left", width=max(map(len, words)))
    for row in rows:
        table.add_row(*row)
    return table


def _words(scheme: str) -> str:
    return scheme.replace("-", " ")  # so that a narrow column can break it


def at_end(results: Results, scheme: str) -> np.ndarray:
    """Return each question's outcome at the last place of every axis."""
    return results.of("correct", scheme)[(-1,) * len(results.axes)]


def _end(results: Results) -> str:
    return _place(results, (-1,) * len(results.axes))


def _place(results: Results, place: tuple[int, ...]) -> str:
    named = zip(place, results.axes.items(), strict=True)
    return ", ".join(
        f"{values[i]:g} dB" if axis == "snr_db" else f"{axis} {values[i]:g}" for i, (axis, values) in named
    )


def _percent(accuracy: ArrayLike, low: ArrayLike, high: ArrayLike) -> str:
    accuracy, low, high = (100 * np.asarray(value, dtype=float) for value in (accuracy, low, high))
    half = (high - low) / 2
    return "missing" if np.isnan(accuracy) else f"{accuracy:.1f}±{half:.{1 if half < 10 else 0}f}"
