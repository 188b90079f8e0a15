"""CSV whose text a spreadsheet shows and never computes."""

import re
from collections.abc import Iterable, Sequence

# What spreadsheets take for the start of a formula, in both widths, also behind blanks and line feeds.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*([eE][-+]?[0-9]+)?|inf|nan)")


def csv_text(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV, RFC 4180 with line feeds.

    Text that starts as a formula does gets an apostrophe in front, with which spreadsheets mark text. Numbers, written
    or not, stay as they are.

    Parameters
    ----------
    header : sequence
    rows : iterable of sequences
    """
    return "".join(",".join(_written(str(cell)) for cell in row) + "\n" for row in (header, *rows))


def _written(cell: str) -> str:
    if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        cell = f"'{cell}"
    if re.search(r'[",\r\n]', cell):  # Python's writer leaves a carriage return bare
        cell = '"' + cell.replace('"', '""') + '"'
    return cell
