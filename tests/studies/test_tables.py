"""A `Grid` as a terminal shows it."""

import io

import pytest
from rich.console import Console

from studies.tables import WIDTH, Grid


def printed(grid, **options):
    console = Console(width=WIDTH, file=io.StringIO(), highlight=False, **options)
    console.print(grid)
    return console.file.getvalue()


@pytest.mark.parametrize("num_columns", [1, 5, 9, 30])
def test_a_wide_table_goes_on_in_blocks_of_80_columns_behind_its_first_column(num_columns):
    header = ["scheme", *(f"head-{i}" for i in range(num_columns))]
    rows = [[f"scheme-{name}", *(f"{name}{i}\n{i}-{i + 1}" for i in range(num_columns))] for name in "abc"]
    lines = printed(Grid("title", header, rows)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "title"
    heads = [line.split() for line in lines if "head-" in line]
    assert [name for head in heads for name in head[1:]] == header[1:]
    assert all(head[0] == "scheme" for head in heads)
    assert (len(heads) > 1) == (num_columns > 9)
    for row in rows:
        shown = [word for line in lines if line.split()[:1] == [row[0]] for word in line.split()[1:]]
        assert shown == [cell.split("\n")[0] for cell in row[1:]]
    words = [word for line in lines for word in line.split()]
    assert all(words.count(f"{i}-{i + 1}") == 3 for i in range(num_columns))


def test_a_head_of_several_words_breaks_between_them():
    lines = printed(Grid("", ["scheme", "codes [REs]", "McNemar p"], [["a", "1", "2"]])).splitlines()
    heads = [line.split() for line in lines if set(line.split()) & {"codes", "[REs]"}]
    assert heads in ([["codes", "McNemar"], ["scheme", "[REs]", "p"]], [["scheme", "codes", "McNemar"], ["[REs]", "p"]])


def test_what_looks_like_markup_is_printed_as_it_is():
    label = "[red]x[/]"
    grid = Grid(f"of {label}", ["name", label], [[label, "[bold]1"], [r"\[x]", "[/]"]])
    text = printed(grid, force_terminal=True, color_system="truecolor")
    assert "\x1b[31m" not in text
    for shown in (f"of {label}", label, "[bold]1", r"\[x]", "[/]"):
        assert shown in text.replace("\x1b[0m", "").replace("\x1b[1m", "")


def test_a_cell_wider_than_the_terminal_is_folded_and_not_cut():
    text = "".join(f"{i:04d}" for i in range(30))
    lines = printed(Grid("", ["name"], [[text]])).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "".join("".join(lines).split()).endswith(text)
