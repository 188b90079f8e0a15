"""The commands that measure this installation: selfcheck, bench, doctor, probe."""

import importlib
import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from studies.config import ConfigError, shown
from studies.processes import num_cores, prepare_process
from studies.terminal import Json, console, for_machines, place, say, warn

if TYPE_CHECKING:
    from studies.documents import SelfcheckDocument

BENCHMARKS = {
    name: f"studies.benchmarks.{name}"
    for name in ("phy", "estimation", "recovery", "bridge", "soak", "sensing", "latency")
}


def probe(
    data: Annotated[
        Path | None,
        typer.Option(help="folder in CLEVR's layout; default: the shipped split", parser=place, metavar="FOLDER"),
    ] = None,
    split: Annotated[str, typer.Option(help="split to read from the folder")] = "val",
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures", parser=place, metavar="FILE")] = None,
) -> None:
    """Measure how much of a question can be guessed from the vague description that the sensor gets."""
    from semantic.data import shipped_split
    from semantic.data.clevr import ClevrDataset
    from semantic.obfuscation import obfuscate
    from studies import archive, obfuscation_leak

    dataset = shipped_split() if data is None else ClevrDataset(data, split)
    leaks = obfuscation_leak.probe(dataset.questions, obfuscate)
    console.print(obfuscation_leak.table(leaks))
    if out is not None:
        archive.write_atomically(out, json_text.dumps([asdict(leak) for leak in leaks], indent=1).encode())


def selfcheck(
    published: Annotated[
        bool,
        typer.Option("--published", help="measure numbers that others published instead; minutes on all cores"),
    ] = False,
    json: Json = False,
) -> None:
    """Measure the closed forms that a correct link obeys."""
    with for_machines(json) as write:
        document = _published() if published else _closed_forms()
        write(document)
    if document.failed:
        raise typer.Exit(1)


def _closed_forms() -> "SelfcheckDocument":
    prepare_process(num_cores(), ["phy.startup", "phy.selfcheck"])
    from phy.selfcheck import rows

    checked = rows()
    table = Table(box=None)
    for column in ("", "check", "at", "expected", "measured"):
        table.add_column(column, justify="right" if column in ("expected", "measured") else "left")
    for row in checked:
        verdict = "[green]ok[/]" if row.verdict == "ok" else "[red]off[/]"
        table.add_row(verdict, Text(row.name), Text(row.requested), f"{row.expected:.4g}", f"{row.measured:.4g}")
    console.print(table)
    from studies.documents import CheckedNumber, SelfcheckDocument

    numbers = [
        CheckedNumber(
            check=row.name, at=row.requested, expected=row.expected, measured=row.measured, verdict=row.verdict
        )
        for row in checked
    ]
    failed = tuple(f"{row.name}, {row.requested}" for row in checked if row.verdict != "ok")
    return SelfcheckDocument(published=False, numbers=tuple(numbers), failed=failed)


def bench(
    what: Annotated[
        str,
        typer.Argument(
            help="phy: the link against Sionna's own chain; estimation: channel estimates against their bound; "
            "recovery: against PyLops; bridge: what crossing costs and how its gradients differ; soak: memory over a "
            "long training; sensing: images read once; latency: where the time of a question goes"
        ),
    ],
    rounds: Annotated[
        int, typer.Option(min=1, help="measurements of which the median is taken; soak: rounds of 1000 steps")
    ] = 5,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file for the figures; default: bench-WHAT.json", parser=place, metavar="FILE"),
    ] = None,
    json: Json = False,
) -> None:
    """Measure, side by side with other libraries where there are any, in one process and on one thread."""
    from studies.benchmarks.clock import write_json
    from studies.documents import BenchDocument

    if what not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {shown(what)}; there is: {', '.join(BENCHMARKS)}")
    try:
        prepare_process(1, ["phy.startup", BENCHMARKS[what]])  # TensorFlow starts without a word
    except ModuleNotFoundError as error:
        raise ConfigError(f"this needs {error.name}, which comes with the extra 'dev' of this package") from error
    benchmark = importlib.import_module(BENCHMARKS[what])
    report = benchmark.measure(rounds=rounds, on_case=lambda name: typer.echo(f"{name} …", err=True))
    missed = benchmark.shortfalls(report)
    with for_machines(json) as write:
        for table in benchmark.tables(report):
            console.print(table)
        path = out or Path(f"bench-{what}.json")
        write_json(path, report)
        drawn = benchmark.draw(report, folder=path.parent, name=path.stem) if hasattr(benchmark, "draw") else []
        say(", ".join(map(str, [path, *drawn])))
        write(BenchDocument(benchmark=what, figures=report, missed=tuple(missed)))
    for line in missed:
        warn(line)
    if missed:
        raise typer.Exit(1)


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of a run: say what of its data and weights is missing, and what its agents take",
            parser=place,
            metavar="FILE",
        ),
    ] = None,
    study: Annotated[str, typer.Option(help="study whose keys the file has")] = "accuracy-vs-snr",
) -> None:
    """Say what this machine offers and whether the libraries fit each other; or what a run lacks and takes."""
    from studies import doctor, preflight
    from studies.config import resolve
    from studies.study import find

    findings = doctor.diagnose() if config is None else preflight.diagnose(resolve(find(study).Config, file=config))
    table = Table(box=None, show_header=False)
    for finding in findings:
        table.add_row("[green]ok[/]" if finding.fine else "[red]mend[/]", Text(finding.subject), Text(finding.text))
    console.print(table)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


def _published() -> "SelfcheckDocument":
    from studies.cards import card
    from studies.documents import of_cards

    outcomes = []
    for outcome in card.run_all(num_cores()):
        colour = card.COLOURS[outcome.verdict]
        console.print(Text.assemble((outcome.verdict, colour), f"  {outcome.title}; {outcome.seconds:.0f} CPU seconds"))
        for fact in (*outcome.facts, *([f"fails: {outcome.reason}"] if outcome.reason else [])):
            say(f"    {fact}")
        console.print(card.table(outcome))
        say("")
        outcomes.append(outcome)
    verdicts = [row.verdict for outcome in outcomes for row in outcome.rows]
    points = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in card.COLOURS)
    failed = [outcome.title for outcome in outcomes if outcome.verdict == "off"]
    say(f"{len(outcomes)} cards, {len(failed)} failed; {len(verdicts)} points: {points}")
    for title in failed:
        warn(f"failed: {title}")
    return of_cards(outcomes)
