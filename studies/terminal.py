"""What commands say: tables and lines on standard output, progress and warnings on standard error.

With `--json` everything that people read goes to standard error, and standard output gets one document.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from studies.config import expanded

if TYPE_CHECKING:
    from studies.documents import Document

# Tables fit 80 columns; where there is no terminal that could be wider, longer lines stay whole.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
Json = Annotated[
    bool, typer.Option("--json", help="one JSON document on standard output; tables and progress on standard error")
]


def place(text: str) -> Path:
    """Return the path that a user gives."""
    return Path(expanded(text))


def say(text: str) -> None:
    """Print a line as it is: paths are no markup, and are not broken."""
    console.print(text, markup=False, soft_wrap=True)


def one_line(error: OSError) -> str:
    """Write path and reason; errors that were raised with a sentence keep it."""
    return str(error) if error.filename is None or error.strerror is None else f"{error.filename}: {error.strerror}"


def warn(text: str) -> None:
    """Print a line on standard error."""
    typer.echo(f"tokenlink: {text}", err=True)


@contextmanager
def for_machines(json: bool) -> "Iterator[Callable[[Document], None]]":
    """Give a function that writes a command's document; it does nothing unless `json` asks for one.

    A document is written before a command ends with an error, too: its fields say what went wrong.
    """
    console.stderr = json
    try:
        yield (lambda document: typer.echo(document.written())) if json else (lambda document: None)
    finally:
        console.stderr = False


@contextmanager
def progress(workers: int) -> Iterator[dict[str, Any]]:
    """Show a bar with the time left on standard error; on a pipe, a line per job instead."""
    from studies import rates
    from studies.progress import TimeLeft

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    left: TimeLeft | None = None
    with bar:
        task = bar.add_task("starting", total=None)

        def on_start(folder: Path, jobs: Any) -> None:
            nonlocal left
            known = rates.Rates()
            try:
                known = rates.read()
            except ValueError as error:
                on_problem(str(error))
            left = TimeLeft(jobs, workers, known)
            bar.update(task, total=len(jobs))
            seconds = left.seconds() if jobs else None
            takes = "" if seconds is None else f", about {rates.in_words(seconds)}"
            resume = "; Ctrl-C stops, the same command resumes" if jobs else ""
            typer.echo(f"{folder}: {len(jobs)} jobs to run{takes}{resume}", err=True)

        def on_outcome(outcome: Any) -> None:
            assert left is not None
            left.add(outcome)
            seconds = left.seconds()
            rest = "" if seconds is None else f", about {rates.in_words(seconds)} left"
            bar.update(task, advance=1, description=f"{outcome.job.label}{rest}")
            if outcome.error or bar.disable:
                state = f"failed: {outcome.error}" if outcome.error else f"{outcome.seconds:.1f} s{rest}"
                bar.console.print(f"{outcome.job.label}: {state}", soft_wrap=True, markup=False, highlight=False)

        def on_problem(problem: str) -> None:
            bar.console.print(f"tokenlink: {problem}", soft_wrap=True, markup=False, highlight=False)

        yield {"on_start": on_start, "on_outcome": on_outcome, "on_problem": on_problem}
