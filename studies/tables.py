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
    ("machine-tokens", "deepjscc"),
    ("machine-tokens", "deepjscc-small"),
    ("deepjscc", "jpeg-ldpc"),  # what analog brings to images
    ("wrong-image", "question-only"),  # controls: should not differ
    ("silent-link", "question-only"),
)


def accuracy_table(results: Results, axis: str = "snr_db") -> Table:
    """Accuracy of every scheme along an axis, in percent."""
    num_questions = len(results.coordinates["question"])
    title = f"Accuracy [%] ± half of the 95 % Wilson interval, {num_questions} questions per point"
    bounds = [results.variables[name] for name in ("accuracy", "accuracy_low", "accuracy_high")]
    rows = []
    for i, value in enumerate(results.coordinates[axis]):
        cells = zip(*(bound[:, i] for bound in bounds), strict=True)
        rows.append([f"{value:g}", *(_percent(*cell) for cell in cells)])
    return _table(title, [axis, *map(_words, results.schemes)], rows)


def family_table(results: Results) -> Table:
    """Accuracy of every scheme by family of questions, at the end of the axis."""
    families = results.variables["family"]
    rows = []
    for name in sorted(set(families)):
        row = [f"{name} ({np.sum(families == name)})"]
        for scheme in results.schemes:
            correct = results.of("correct", scheme)[-1][families == name]
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
        outcomes = [results.of("correct", scheme)[-1] for scheme in (first, second)]
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


def ledger_table(results: Results) -> Table:
    """What one question costs on the air."""
    rows = []
    for scheme in results.schemes:
        counts = [float(results.of(name, scheme)) for name in ("data_res", "pilot_res", "resource_elements")]
        if not np.isnan(counts).any():
            milliseconds = 1e3 * float(results.of("duration_s", scheme))
            rows.append([scheme, *(f"{count:.0f}" for count in counts), f"{milliseconds:.3g}"])
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


def _end(results: Results) -> str:
    return f"{results.coordinates['snr_db'][-1]:g} dB"


def _percent(accuracy: ArrayLike, low: ArrayLike, high: ArrayLike) -> str:
    accuracy, low, high = (100 * np.asarray(value, dtype=float) for value in (accuracy, low, high))
    half = (high - low) / 2
    return "missing" if np.isnan(accuracy) else f"{accuracy:.1f}±{half:.{1 if half < 10 else 0}f}"
