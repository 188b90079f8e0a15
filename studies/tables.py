"""What a run prints, 80 columns wide: accuracies with intervals, families, comparisons, and what the link costs."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from studies.archive import MISSING, Results
from studies.axes import axis_of, named, written
from studies.claims import Claim
from studies.compare import Difference
from studies.schemes.scheme import LEDGER
from studies.statistics import compare, wilson_interval

WIDTH = 80  # columns of a terminal
BOUNDS = ("accuracy", "accuracy_low", "accuracy_high")
PROPOSAL = "machine-tokens"

# Pairs worth a test, at the end of the axis.
COMPARISONS = (
    ("machine-tokens", "raw-image"),  # the price of the link, against all pixels
    ("machine-tokens", "question-only"),  # what the tokens tell
    ("machine-tokens", "machine-tokens-uncompressed"),  # the price of the code
    ("machine-tokens", "quantized-tokens"),  # analog against bits, the same codes
    ("machine-tokens", "token-indices"),
    ("machine-tokens", "caption"),  # what a language of its own brings
    ("machine-tokens", "jpeg-ldpc"),
    ("machine-tokens", "deepjscc"),
    ("machine-tokens", "deepjscc-small"),
    ("deepjscc", "jpeg-ldpc"),  # analog against bits, for images
    ("wrong-image", "question-only"),  # controls: should not differ
    ("silent-link", "question-only"),
)


@dataclass(frozen=True)
class Grid:
    """A table: text in rows and columns, printed without markup.

    Attributes
    ----------
    title : str
    header : sequence of str
        Heads of the columns; units in brackets. They break between words.
    rows : list of list of str
        Cells may have several lines.
    """

    title: str
    header: Sequence[str]
    rows: list[list[str]]

    def __rich__(self) -> Group:
        """Render it; columns that do not fit `WIDTH` follow in further blocks, behind the first column."""
        blocks = [self._block(columns) for columns in self._blocks()]
        return Group(_text(self.title), *(part for block in blocks for part in (block, Text(""))))

    def _width(self, column: int) -> int:
        cells = [row[column] for row in self.rows]
        head = self.header[column].split() if column else [self.header[column]]
        return max(len(line) for text in (*head, *cells) for line in (text.split("\n") or [""]))

    def _blocks(self) -> Iterator[list[int]]:
        start = 2 + self._width(0)  # with the table's edges
        block, used = [0], start
        for column in range(1, len(self.header)):
            if used + 1 + self._width(column) > WIDTH and len(block) > 1:
                yield block
                block, used = [0], start
            block.append(column)
            used += 1 + self._width(column)
        yield block

    def _block(self, columns: list[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
        for column in columns:
            justify = "right" if column else "left"
            width = min(WIDTH - 2, self._width(column))  # a longer text goes on in the next line
            table.add_column(_text(self.header[column]), justify=justify, width=width, overflow="fold")
        for row in self.rows:
            table.add_row(*(_text(row[column]) for column in columns))
        return table


def accuracy_table(results: Results) -> Grid:
    """Accuracy along the study's first axis: a row for each scheme and each value of the other axes."""
    axis, *others = results.axes
    along = results.axes[axis]
    cells: dict[str, list[tuple[ArrayLike, ...]]] = {}
    for scheme in results.schemes:
        bounds = [results.along(name, scheme) for name in BOUNDS]
        for index in np.ndindex(*(len(results.axes[other]) for other in others)):
            constant = all(np.array_equal(bound, np.full(bound.shape, bound.flat[0])) for bound in bounds)
            if constant and any(index):
                continue  # the same everywhere: one row says it
            at = [named(other, results.axes[other][i].item()) for other, i in zip(others, index, strict=True)]
            name = ", ".join([scheme, *([] if constant else at)])
            cells[name] = [tuple(bound[(i, *index)] for bound in bounds) for i in range(len(along))]
    title = f"Accuracy [%], 95 % Wilson interval, {len(results.coordinates['question'])} questions per point"
    heads = [written(value) for value in along.tolist()]
    absent = "missing" if results.attributes.get("num_missing_points") else "-"  # there can be no such point
    return _accuracies(title, f"scheme / {axis_of(axis).head}", heads, cells, absent)


def family_table(results: Results) -> Grid:
    """Accuracy of every scheme by family of questions, at the end of the axes."""
    families = results.variables["family"]
    names = sorted(set(families))
    cells = {}
    for scheme in results.schemes:
        correct, cells[scheme] = at_end(results, scheme), []
        for name in names:
            chosen = correct[families == name]
            accuracy = np.nan if (chosen == MISSING).any() else chosen.mean()
            cells[scheme].append((accuracy, *wilson_interval(np.sum(chosen == 1), len(chosen))))
    title = f"Accuracy [%], 95 % Wilson interval, by family, at {_end(results)}"
    return _accuracies(title, "scheme / family", [f"{name} ({np.sum(families == name)})" for name in names], cells)


def comparison_table(results: Results) -> Grid:
    """Differences between schemes on the same questions and fades, at the end of the axes."""
    rows = []
    for first, second in COMPARISONS:
        if not {first, second} <= set(results.schemes):
            continue
        outcomes = [at_end(results, scheme) for scheme in (first, second)]
        if any((correct == MISSING).any() for correct in outcomes):
            continue
        paired = compare(*outcomes, images=results.variables["image_index"])
        interval = f"{100 * paired.low:+.1f} to {100 * paired.high:+.1f}"
        rows.append([f"{first} - {second}", f"{100 * paired.difference:+.1f}", interval, f"{paired.p_value:.2g}"])
    title = f"Paired differences at {_end(results)}; interval: bootstrap over images"
    return Grid(title, ["first - second", "points [%]", "95 % interval", "McNemar p"], rows)


def quality_table(results: Results, axis: str = "snr_db") -> Grid:
    """PSNR and SSIM of the images that reach a receiver, along an axis; no rows if no scheme sends images."""
    rows = []
    for scheme in results.schemes:
        quality = zip(results.along("psnr", scheme), results.along("ssim", scheme), strict=True)
        cells = ["none" if np.isnan(ssim) else f"{psnr:.2f}\n{ssim:.3f}" for psnr, ssim in quality]
        if set(cells) - {"none"}:
            rows.append([scheme, *cells])
    heads = [written(value) for value in results.coordinates[axis].tolist()]
    title = "PSNR [dB] and, below it, SSIM of the images that arrive"
    return Grid(title, [f"scheme / {axis_of(axis).head}", *heads], rows)


def spread_table(results: Results, scheme: str = PROPOSAL) -> Grid:
    """Accuracy of a scheme's trainings, which differ in their seed: mean, standard deviation, extremes."""
    num_seeds = len(results.coordinates["seed"])
    rows = []
    for at, accuracy in zip(results.coordinates["snr_db"], 100 * results.along("accuracy", scheme).T, strict=True):
        deviation = np.std(accuracy, ddof=1) if num_seeds > 1 else np.nan
        values = (accuracy.mean(), deviation, accuracy.min(), accuracy.max())
        rows.append([f"{at:g}", *("-" if np.isnan(value) else f"{value:.1f}" for value in values)])
    title = f"Accuracy [%] of {scheme} over {num_seeds} training seeds"
    return Grid(title, ["SNR [dB]", "mean", "standard deviation", "lowest", "highest"], rows)


def uses_table(results: Results) -> Grid:
    """Accuracy against mean channel uses: of each scheme that spends them, at each value of the first axis and SNR."""
    axis, snr_db = next(iter(results.axes)), results.coordinates["snr_db"]
    rows = []
    for scheme in results.schemes:
        spent = results.along("data_res", scheme) + results.along("pilot_res", scheme)
        bounds = [results.along(name, scheme) for name in BOUNDS]
        for i, value in enumerate(results.coordinates[axis].tolist() if np.isfinite(spent).any() else []):
            cells = [
                text
                for j in range(len(snr_db))
                for text in (f"{spent[i, j]:.0f}", percent(*(bound[i, j] for bound in bounds)))
            ]
            rows.append([f"{scheme}, {named(axis, value)}", *cells])
    header = [text for at in snr_db for text in ("REs", f"{at:g} dB")]
    title = "Accuracy [%], 95 % Wilson interval, against resource elements (REs), pilots included"
    return Grid(title, ["scheme", *header], rows)


# Columns of the ledger's table: head, and how a scheme's costs are written in it.
AIR: dict[str, Callable[[dict[str, float]], str]] = {
    "codes [REs]": lambda cost: f"{cost['data_res']:.0f}",
    "pilots [REs]": lambda cost: f"{cost['pilot_res']:.0f}",
    "both [REs]": lambda cost: f"{cost['data_res'] + cost['pilot_res']:.0f}",
    "slots [REs]": lambda cost: f"{cost['resource_elements']:.0f}",
    "time [ms]": lambda cost: f"{1e3 * cost['duration_s']:.3g}",
    "energy": lambda cost: _or(UNKNOWN, cost["energy"], ".0f"),
    "guard [REs]": lambda cost: _or(UNKNOWN, cost["guard_res"], ".0f"),
    "idle [REs]": lambda cost: _or(UNKNOWN, cost["idle_res"], ".0f"),
    "mini-slots": lambda cost: _or(UNKNOWN, cost["mini_slots"], ".3g"),
    "active [ms]": lambda cost: _or(UNKNOWN, 1e3 * cost["active_s"], ".3g"),
    "span [ms]": lambda cost: _or(UNKNOWN, 1e3 * cost["span_s"], ".3g"),
    "transmissions": lambda cost: _or(UNKNOWN, cost["num_transmissions"], ".3g"),
    "peak [dB]": lambda cost: _or(NONE, cost["peak_db"], ".1f"),
    "payload [bytes]": lambda cost: _or(NONE, cost["payload_bytes"], ".4g"),
    "payload [bits]": lambda cost: _or(NONE, cost["payload_bits"], ".4g"),
    "bits per symbol": lambda cost: _or(NONE, cost["bits_per_symbol"], ".3g"),
    "code rate": lambda cost: _or(NONE, cost["code_rate"], ".3f"),
    "prompt [bits]": lambda cost: _or(NONE, cost["prompt_bits"], ".2f"),
}
UNKNOWN, NONE = "?", "-"


def ledger_table(results: Results) -> Grid:
    """What one question costs on the air: a row where something changes."""
    rows, unknown = [], False
    for scheme in results.schemes:
        values = {name: results.kept(name, scheme) for name in LEDGER}
        finite = [value for value in values.values() if np.isfinite(value).any()]
        before: list[str] = []
        for index in np.ndindex(*map(len, results.axes.values())):
            cost = {name: float(value[index]) for name, value in values.items()}
            if math.isnan(cost["data_res"]):
                continue
            cells = [write(cost) for write in AIR.values()]
            if cells != before:
                rows.append([", ".join([scheme, *_changing(results, finite, index)]), *cells])
            before, unknown = cells, unknown or UNKNOWN in cells
    title = (
        "On the air, per question: resource elements (REs), whole slots and their time;\n"
        "energy, pilots included, in data symbols; OFDM symbols in use: mini-slots of two,\n"
        "time, and from the first to the last; transmissions, all of them charged; peak\n"
        "power over the mean; payload and rate of digital schemes; vague description\n"
        "over the downlink"
    )
    note = f"\n{UNKNOWN}: not kept by archives of this age; run the study again" if unknown else ""
    return Grid(title + note, ["scheme", *AIR], rows)


def difference_table(differences: Sequence[Difference]) -> Grid:
    """Compare two archives: a row for each variable."""
    rows = []
    for difference in differences:
        largest = "-" if math.isnan(difference.largest) else f"{difference.largest:.3g}"
        verdict = "equal" if difference.equal else "different"
        rows.append([difference.name, str(difference.num_values), str(difference.num_different), largest, verdict])
    return Grid("Variables of both archives", ["name", "values", "different", "largest gap", "verdict"], rows)


def claims_table(claims: Sequence[Claim]) -> Table:
    """Return the paper's claims with their verdicts."""
    table = Table(title=Text("The paper's claims"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "claim", "verdict", "numbers"):
        table.add_column(name, overflow="fold")
    for claim in claims:
        cells = (
            str(claim.number),
            claim.text,
            claim.judgement.in_words(),
            "\n".join(map(str, claim.judgement.numbers)),
        )
        table.add_row(*map(Text, cells))
    return table


def visible(text: str) -> str:
    """Return a text whose control characters, which a terminal would obey, are written out; line feeds are left."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _text(text: str) -> Text:
    """Text without markup and control characters."""
    return Text(visible(text))


def _accuracies(
    title: str,
    corner: str,
    heads: Sequence[str],
    cells: dict[str, list[tuple[ArrayLike, ...]]],
    absent: str = "missing",
) -> Grid:
    """A row for each name; the interval stands below the accuracy, with one digit where that fits `WIDTH`."""
    first = max(map(len, (corner, *cells)))
    digits = 1 if 2 + first + len(heads) * (len("88.8-99.9") + 1) <= WIDTH else 0
    rows = [[name, *(percent(*cell, digits=digits, absent=absent) for cell in row)] for name, row in cells.items()]
    return Grid(title, [corner, *heads], rows)


def at_end(results: Results, scheme: str) -> np.ndarray:
    """Return each question's outcome at the last value of every axis."""
    return results.of("correct", scheme)[(-1,) * len(results.axes)]


def _end(results: Results) -> str:
    return ", ".join(named(axis, along[-1].item()) for axis, along in results.axes.items())


def _changing(results: Results, values: Sequence[np.ndarray], index: tuple[int, ...]) -> list[str]:
    """Name coordinates by those axes along which one of the values changes."""
    names = []
    for number, (axis, along) in enumerate(results.axes.items()):
        if any(np.any(np.fmin.reduce(value, axis=number) != np.fmax.reduce(value, axis=number)) for value in values):
            names.append(named(axis, along[index[number]].item()))
    return names


def _or(otherwise: str, value: float, form: str) -> str:
    """Write a number, or something else where there is none."""
    return otherwise if math.isnan(value) else format(value, form)


def percent(accuracy: ArrayLike, low: ArrayLike, high: ArrayLike, digits: int = 1, absent: str = "missing") -> str:
    """Write an accuracy and, below it, its interval; whole numbers are rounded outwards."""
    accuracy, low, high = (100 * float(np.asarray(value)) for value in (accuracy, low, high))
    if math.isnan(accuracy):
        return absent
    ends = f"{low:.1f}-{high:.1f}" if digits else f"{math.floor(low)}-{math.ceil(high)}"
    return f"{accuracy:.1f}\n{ends}"
