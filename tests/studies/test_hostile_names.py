"""Names and values from archives of others: shown as they are, never computed, typeset or obeyed."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from studies import claims, overview, plots, risk, tables
from studies.archive import Results
from studies.csv_text import csv_text
from studies.schemes.scheme import LEDGER
from tests.studies.test_tables import printed

HOSTILE = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    " =cmd|' /C calc'!A0",
    "＝1+1",
    "$\\frac{1}{0}$ costs $5",
    "<script>alert(1)</script>",
    "[red]x[/]",
    "[/]",
    "\x1b]0;title\x07",
    'a","b',
]


def results(name, at="good", axis="snr_db", values=(0.0, 20.0)):
    """Results in which a scheme, and an axis beside the first one, are called as somebody likes."""
    schemes, second = np.array([name, "machine-tokens"]), np.array([at, "other"])
    shape, num_questions = (2, len(values), 2), 40
    correct = (np.random.default_rng(0).random((*shape, num_questions)) < 0.6).astype(np.uint8)
    over = ("scheme", axis, "mood")
    scalars = ("accuracy", "accuracy_low", "accuracy_high", "code_nmse", *LEDGER)
    return Results(
        coordinates={"scheme": schemes, axis: np.array(values), "mood": second, "question": np.arange(num_questions)},
        variables={
            "correct": correct,
            "confidence": np.full(correct.shape, 0.5, np.float32),
            **{scalar: np.full(shape, 0.5) for scalar in scalars},
            "accuracy_low": np.full(shape, 0.2),
            "image_index": np.arange(num_questions),
            "realisation": np.arange(num_questions),
            "family": np.array([name] * num_questions),
        },
        attributes={},
        dimensions={"correct": (*over, "question"), **dict.fromkeys(scalars, over)},
    )


def without_mood(found):
    """The same at the first value of the second axis."""
    variables = {n: v[:, :, 0] if v.ndim > 1 else v for n, v in found.variables.items()}
    coordinates = {n: v for n, v in found.coordinates.items() if n != "mood"}
    return Results(
        coordinates, variables, {}, {n: tuple(d for d in ds if d != "mood") for n, ds in found.dimensions.items()}
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_no_cell_of_a_csv_starts_a_formula(name):
    found = results(name, at=name)
    for text in (
        plots.to_csv(found),
        risk._to_csv(found, risk.confident_points(found)),
        overview.comparison_csv(overview.compared(without_mood(found))),
    ):
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert len({len(row) for row in rows}) == 1
        cells = {cell for row in rows for cell in row}
        assert name in {cell.removeprefix("'") for cell in cells}  # nothing is lost
        for cell in cells:
            if cell.lstrip()[:1] in ("=", "+", "-", "@", "＝") or cell[:1] in ("\t", "\r"):
                assert np.isfinite(float(cell))


def test_numbers_stay_numbers():
    row = ["-10", "+1e5", "-inf", "nan", "-1.5e-07", "0.5", -3, -0.25]
    assert csv_text(["name"], [row]) == "name\n-10,+1e5,-inf,nan,-1.5e-07,0.5,-3,-0.25\n"
    assert csv_text(["-1-1"], [["-1e5e5"], ["plain - text"]]) == "'-1-1\n'-1e5e5\nplain - text\n"


@pytest.mark.parametrize("name", ["$\\frac{1}{0}$ costs $5", "$x$", "[red]x[/]", "=1+1"])
def test_figures_draw_names_as_they_are(name, drawn, tmp_path):
    found = results(name, at=name, axis=name, values=(name, "other"))
    plots.draw_accuracy(found, folder=tmp_path, name="figure")
    risk.draw_risk(found, folder=tmp_path)
    for figure in drawn:
        texts = [
            *figure.axes[0].get_legend().get_texts(),
            figure.axes[0].xaxis.label,
            *figure.axes[0].get_xticklabels(),
        ]
        assert not any(text.get_parse_math() for text in texts)
    (axes,) = drawn[0].axes
    assert name in axes.get_xlabel()
    assert [text.get_text() for text in axes.get_xticklabels()] == [name, "other"]
    assert any(text.get_text().startswith(name) for text in axes.get_legend().get_texts())


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_print_names_as_they_are_and_no_command_of_a_terminal(name):
    found = results(name, at=name)
    flat = without_mood(found)
    grids = [tables.accuracy_table(found), tables.family_table(found), tables.ledger_table(found)]
    rows = overview.compared(flat)
    for grid in (*grids, overview.overview_table(rows), overview.mcnemar_table(rows)):
        text = printed(grid, force_terminal=True, color_system="truecolor")
        assert "\x1b]" not in text
        assert "\x1b[31m" not in text
        assert "\x07" not in text
    console = Console(width=200, file=io.StringIO())
    console.print(tables.claims_table([claims.Claim(1, name, name, claims.Verdict("reproduced", name))]))
    if name.isprintable():
        assert name.split()[0] in console.file.getvalue()
