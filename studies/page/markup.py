"""HTML from plain text: whatever is not `Html` already is escaped, so that text of others stays text."""

import html
from collections.abc import Iterable

from studies.tables import Grid, visible

VOID = ("br", "img", "input", "meta")  # elements without an end


class Html(str):
    """Text that is HTML already."""


def text(content: str) -> Html:
    """Escape plain text; control characters become visible, and halves of surrogate pairs writable."""
    return Html(html.escape(visible(content)))


def joined(parts: Iterable[str]) -> Html:
    """Return parts one after the other; those that are not `Html` are escaped."""
    return Html("".join(part if isinstance(part, Html) else text(part) for part in parts))


def element(name: str, /, *content: str, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
    content : str
        What it holds; escaped unless it is `Html`.
    attributes
        By name, with _ for - and an _ at the end where Python keeps the name for itself. True stands alone; None and
        False leave the attribute out.
    """
    written = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {key}")
        elif value is not None and value is not False:
            written.append(f' {key}="{text(value if isinstance(value, str) else f"{value:g}")}"')
    start = f"<{name}{''.join(written)}>"
    return Html(start if name in VOID else f"{start}{joined(content)}</{name}>")


def table(grid: Grid) -> Html:
    """Return a `Grid` as a table: title as caption, heads of columns and rows as such; it scrolls where it is wide."""
    head = element("tr", *(element("th", cell, scope="col") for cell in grid.header))
    rows = [
        element("tr", element("th", _cell(row[0]), scope="row"), *(element("td", _cell(cell)) for cell in row[1:]))
        for row in grid.rows
    ]
    title = grid.title.replace("\n", " ")
    content = element("table", element("caption", title), element("thead", head), element("tbody", *rows))
    return scrolling(content, title)


def scrolling(content: Html, label: str) -> Html:
    """Put something wide into a frame that scrolls, by keyboard too."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def _cell(cell: str) -> Html:
    first, *rest = cell.split("\n")
    return joined([first, *(element("small", line) for line in rest)])
