"""The command `tokenlink`. What a command needs is imported when it runs: `--help` loads neither framework."""

import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from studies import slurm
from studies.cache_folder import cache_folder
from studies.config import ConfigError, expanded, resolve, shown
from studies.engines import parse_shard
from studies.jobs import StudyError
from studies.processes import num_cores, prepare_process

if TYPE_CHECKING:
    from studies.study import Study

BENCHMARKS = {
    name: f"studies.benchmarks.{name}"
    for name in ("phy", "estimation", "recovery", "bridge", "soak", "sensing", "latency")
}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn errors a user can mend into one clear message; anything else keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _warn("stopped; what is done is kept, and the same command resumes")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise  # `tokenlink list | head -1`: nobody reads on
    except (ValueError, OSError, StudyError) as error:
        if os.environ.get("TOKENLINK_TRACEBACK"):
            raise
        _warn(_one_line(error) if isinstance(error, OSError) else str(error))
        raise typer.Exit(1 if isinstance(error, StudyError) else 2) from error


class Commands(TyperGroup):
    """Commands of which none ends in a traceback over something that a user can mend."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with refusals():
            return super().invoke(ctx)


app = typer.Typer(
    name="tokenlink",
    cls=Commands,
    help="Two agents that talk in machine-language tokens over a simulated 3GPP link.",
    epilog="With TOKENLINK_TRACEBACK=1 in the environment, errors show where they come from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Tables fit 80 columns; where there is no terminal that could be wider, longer lines stay whole.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)


def place(text: str) -> Path:
    """Return the path that a user gives."""
    return Path(expanded(text))


FOLDER = typer.Argument(help="run folder", parser=place, metavar="FOLDER")


@app.command()
def run(
    context: typer.Context,
    study: Annotated[
        str, typer.Argument(help="which study; `tokenlink list` names them. One of your own: MODULE:ATTRIBUTE")
    ],
    config: Annotated[
        Path | None, typer.Option(help="YAML file with some of the keys", parser=place, metavar="FILE")
    ] = None,
    assign: Annotated[list[str] | None, typer.Option("-s", help="set one key, e.g. -s link.num_rx_ant=8")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="run folder; default: runs/ and a name made from the configuration", parser=place, metavar="FOLDER"
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="process, inline, or ray: the cluster that RAY_ADDRESS names, or one on this machine")
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="processes; default: one per core, at most 8; on a cluster of Ray as many as fit"),
    ] = None,
    shard: Annotated[str, typer.Option(help="compute the i-th of N parts, for several machines: i/N")] = "1/1",
    cache: Annotated[
        Path | None,
        typer.Option(
            help="folder of codes that runs share; default: codes/ in the user's cache folder, TOKENLINK_CACHE",
            parser=place,
            metavar="FOLDER",
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="compute all codes in this run, and share none")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="a few questions at two SNRs, to see it work")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be computed, and stop")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="print the resolved configuration, and stop")
    ] = False,
    print_slurm: Annotated[
        int | None,
        typer.Option(min=1, help="print a batch script for Slurm that computes N shards, and stop", metavar="N"),
    ] = None,
) -> None:
    """Run a study, or what is left of it: table, figure and results.h5. The same command again resumes it."""
    if engine not in ("inline", "process", "ray"):
        raise ConfigError(f"--engine {shown(engine)} is none; there is: inline, process, ray")
    part = parse_shard(shard)
    chosen = _study(study)
    resolved = resolve(chosen.Config, file=config, layers=[chosen.tiny] if tiny else [], assignments=assign or [])
    if print_config:
        typer.echo(resolved.to_yaml(), nl=False)
        return
    if print_slurm:
        if engine == "ray" or part != (1, 1):
            raise ConfigError("--print-slurm makes the shards by itself; leave --shard and --engine ray out")
        processes = 1 if engine == "inline" else workers or min(8, num_cores())
        given = _given(context, but=("shard", "print_slurm"))
        typer.echo(
            slurm.script(
                given if workers or engine == "inline" else [*given, "--workers", str(processes)],
                study=chosen.name,
                folder=out or chosen.folder(resolved),
                total=print_slurm,
                cpus=processes * resolved.num_threads,
            ),
            nl=False,
        )
        return
    prepare_process(resolved.num_threads, ["bridge"])
    if dry_run:
        _show_plan(chosen.plan(resolved, out), part, 1 if engine == "inline" else workers or min(8, num_cores()))
        return
    shared = None if no_cache else cache or cache_folder() / "codes"
    with ExitStack() as stack:
        stack.enter_context(_stopping(out or chosen.folder(resolved)))
        most = count = 1 if engine == "inline" else workers or min(8, num_cores())
        if engine == "ray":
            from studies.ray_engine import cluster

            most = workers or 0  # nodes may join
            count = stack.enter_context(cluster(most, resolved.num_threads))
        hooks = stack.enter_context(_progress(count))
        finished = chosen.main(resolved, out=out, engine=engine, workers=most, shard=part, cache=shared, **hooks)
    _show_results(finished.results, finished.folder)
    if finished.failed:
        _warn(f"{len(finished.failed)} job(s) failed; the same command repeats only these")
        raise typer.Exit(1)


@app.command("list")
def list_studies() -> None:
    """Name the studies, and the curves that they compare."""
    from studies import rates, study
    from studies.curves import CURVES

    table = Table(title="Studies: tokenlink run NAME", title_justify="left", box=None, show_header=False)
    for name in study.STUDIES:
        paragraph = importlib.import_module(study.STUDIES[name]).__doc__ or ""
        takes = rates.how_long_as_it_comes(name, min(8, num_cores()))
        table.add_row(f"  {name}", Text(paragraph.partition("\n")[0] + f" ({takes})" * bool(takes)))
    console.print(table)
    table = Table(
        title="Curves: -s schemes='[NAME, …]'; those with * run by default",
        title_justify="left",
        box=None,
        show_header=False,
    )
    for curve in CURVES.values():
        table.add_row(f"{'*' if curve.default else ' '} {curve.name}", Text(curve.about))
    console.print(table)


@app.command()
def plot(
    folder: Annotated[Path, FOLDER],
    width: Annotated[
        str | None, typer.Option(help="single (3.5 in) or double (7.16 in); default: what the curves need")
    ] = None,
    y_range: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", help="ends of the accuracy's axis [%]; default: tens around what is drawn"),
    ] = None,
) -> None:
    """Rebuild results.h5, figures and tables of a run folder from its points."""
    from studies import layout, plots, run_folder, study

    if width is not None:
        layout.page_width(width)
    if y_range is not None:
        plots.checked_range(y_range)
    results = run_folder.collect(folder, on_problem=_warn)
    figures, name = folder / "figures", str(results.attributes["study"])
    study.draw_figures(results, figures, name, width=width, y_range=y_range)
    _show_results(results, folder)


@app.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="run folders of one run's shards", parser=place, metavar="FOLDER...")
    ],
    out: Annotated[Path, typer.Option(help="run folder for all of it", parser=place, metavar="FOLDER")],
) -> None:
    """Join shards that shared no folder: points, results.h5, figure and tables. It says which points are missing."""
    from studies import merging, study

    merged = merging.merge(folders, out, on_problem=_warn)
    study.draw_figures(merged.results, out / "figures", str(merged.results.attributes["study"]))
    _show_results(merged.results, out)
    for shard, point in merged.missing:
        _say(f"missing: {point.label}; --shard {shard} computes it")
    if merged.missing:
        _warn(f"{len(merged.missing)} of {merged.num_points} points are missing; with --out {out}, `run` computes them")
        raise typer.Exit(1)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="run folders of accuracy-vs-snr, accuracy-vs-tokens, -width and -seed; files go to the first",
            parser=place,
            metavar="FOLDER...",
        ),
    ],
    html: Annotated[bool, typer.Option("--html", help="write one static page too: report.html")] = False,
    out: Annotated[Path | None, typer.Option(help="file of the page", parser=place, metavar="FILE")] = None,
    gallery: Annotated[
        int, typer.Option(min=0, max=24, help="questions that the page shows from image to answers; 0: load no model")
    ] = 6,
) -> None:
    """Compare the schemes of run folders, and judge the paper's claims: tables, comparison.csv, claims.json and .md."""
    from studies import archive, claims, overview, run_folder, tables

    if out and not html:
        raise ConfigError("--out names the page; give --html too")
    runs: dict[str, Any] = {}
    for folder in folders:
        results = run_folder.collect(folder, on_problem=_warn)
        name = str(results.attributes["study"])
        if name in runs:
            raise ConfigError(f"{folder} holds another run of {name}; give one folder of each study")
        runs[name] = results
    judged = claims.judge(runs.get("accuracy-vs-snr"), runs.get("accuracy-vs-tokens"))
    origin = {name: f"configuration {results.attributes['config_hash']}" for name, results in runs.items()}
    paths = claims.write(folders[0], judged, origin)
    if snr := runs.get("accuracy-vs-snr"):
        rows = overview.compared(snr)
        console.print(overview.overview_table(rows, runs.get("accuracy-vs-seed")), overview.mcnemar_table(rows))
        for make in (overview.equal_table, overview.bounds_table, tables.ledger_table):
            if (table := make(snr)).rows:
                console.print(table)
        paths.append(folders[0] / "comparison.csv")
        archive.write_atomically(paths[-1], overview.comparison_csv(rows).encode())
    for name in ("accuracy-vs-tokens", "accuracy-vs-width"):
        if name in runs:
            console.print(tables.uses_table(runs[name]))
    if seeds := runs.get("accuracy-vs-seed"):
        console.print(tables.spread_table(seeds))
    console.print(tables.claims_table(judged))
    if html:
        from studies.page import report_page

        by_folder = dict(zip(folders, runs.values(), strict=True))
        path = out or folders[0] / report_page.FILE
        paths.append(report_page.write(path, by_folder, judged, num_cases=gallery, on_problem=_warn))
    _say(", ".join(map(str, paths)))


@app.command("claim-one")
def claim_one(
    folder: Annotated[Path, typer.Argument(help="what `tokenlink train arms` wrote", parser=place, metavar="FOLDER")],
    assign: Annotated[
        list[str] | None, typer.Option("-s", help="set one key of accuracy-vs-snr, e.g. -s data.folder=target")
    ] = None,
) -> None:
    """Ask the arms of the paper's first claim the same questions, and judge their differences: claim-one.json."""
    from studies import claim_one as trial

    config = resolve(_study(trial.STUDY).Config, layers=[{"snr_db": [20.0]}], assignments=assign or [])
    prepare_process(config.num_threads, ["bridge"])
    with _progress(1) as hooks:
        asked = trial.ask_arms(folder, config, **hooks)
    contrasts = trial.compare_arms(asked)
    console.print(*trial.tables(asked, contrasts))
    _say(str(trial.write(folder, asked, contrasts)))


@app.command()
def answers(
    folder: Annotated[Path, FOLDER],
    data: Annotated[
        Path | None,
        typer.Option(help="where the data set lies now, if not where the run found it", parser=place, metavar="FOLDER"),
    ] = None,
) -> None:
    """Write each question, its right answer and what every scheme answered at every point: answers/SCHEME.jsonl."""
    from studies import answers as of_run

    paths = of_run.write(folder, data=data, on_problem=_warn)
    _say(", ".join(map(str, paths)))


@app.command()
def check(
    folder: Annotated[Path, FOLDER],
    repair: Annotated[bool, typer.Option("--repair", help="rebuild results.h5 where the points say otherwise")] = False,
) -> None:
    """Read every file of a run folder again: whole, unchanged, and of one run. Writes nothing without --repair."""
    from studies import run_folder

    state = run_folder.check(folder, repair=repair)
    for line in (*state.problems, *state.remarks):
        _warn(line)
    _say(f"{state.num_done} of {state.num_points} points done, {len(state.problems)} problem(s)")
    if state.problems or state.num_done < state.num_points:
        raise typer.Exit(1)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="run folder, or its results.h5", parser=place, metavar="FOLDER")],
    second: Annotated[Path, typer.Argument(help="another one", parser=place, metavar="FOLDER")],
) -> None:
    """Compare two runs variable by variable, bit by bit; the exit status is 1 if anything differs."""
    from studies import tables
    from studies.compare import compare as compare_results
    from studies.compare import load

    differences = compare_results(load(first), load(second))
    console.print(tables.difference_table(differences))
    for difference in differences:
        for remark in difference.remarks:
            _say(f"{difference.name}: {remark}")
    num_different = sum(not difference.equal for difference in differences)
    _say(f"{num_different} of {len(differences)} variables differ" if num_different else "everything is equal")
    if num_different:
        raise typer.Exit(1)


# What follows hands its options on: they are the parameters of functions that only their own command loads.
HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=HANDED_ON)
def train(context: typer.Context) -> None:
    """Train a stage, or measure a table that ships; `tokenlink train --help` names them."""
    from studies.training import build_app

    build_app()(context.args or ["--help"], prog_name="tokenlink train", standalone_mode=False)


@app.command(context_settings=HANDED_ON)
def scenes(context: typer.Context) -> None:
    """Render scenes and ask questions about them, in CLEVR's layout. `tokenlink scenes --help` has the options."""
    from semantic.data.scenes import main
    from studies.training import as_command

    only = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    only.command()(as_command(main, workers=num_cores()))
    only(context.args or ["--help"], prog_name="tokenlink scenes", standalone_mode=False)


@app.command()
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
        archive.write_atomically(out, json.dumps([asdict(leak) for leak in leaks], indent=1).encode())


@app.command()
def selfcheck(
    published: Annotated[
        bool,
        typer.Option("--published", help="measure numbers that others published instead; minutes on all cores"),
    ] = False,
) -> None:
    """Measure the closed forms that a correct link obeys."""
    if published:
        _check_published()
        return
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
    if any(row.verdict != "ok" for row in checked):
        raise typer.Exit(1)


@app.command()
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
) -> None:
    """Measure, side by side with other libraries where there are any, in one process and on one thread."""
    from studies.benchmarks.clock import write_json

    if what not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {shown(what)}; there is: {', '.join(BENCHMARKS)}")
    try:
        prepare_process(1, ["phy.startup", BENCHMARKS[what]])  # TensorFlow starts without a word
    except ModuleNotFoundError as error:
        raise ConfigError(f"this needs {error.name}, which comes with the extra 'dev' of this package") from error
    benchmark = importlib.import_module(BENCHMARKS[what])
    report = benchmark.measure(rounds=rounds, on_case=lambda name: typer.echo(f"{name} …", err=True))
    for table in benchmark.tables(report):
        console.print(table)
    path = out or Path(f"bench-{what}.json")
    write_json(path, report)
    _say(str(path))
    missed = benchmark.shortfalls(report)
    for line in missed:
        _warn(line)
    if missed:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say what this machine offers and whether the libraries fit each other."""
    from studies.doctor import diagnose

    findings = diagnose()
    table = Table(box=None, show_header=False)
    for finding in findings:
        table.add_row("[green]ok[/]" if finding.fine else "[red]mend[/]", Text(finding.subject), Text(finding.text))
    console.print(table)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


def _check_published() -> None:
    from studies.cards import card

    outcomes = []
    for outcome in card.run_all(num_cores()):
        colour = card.COLOURS[outcome.verdict]
        console.print(Text.assemble((outcome.verdict, colour), f"  {outcome.title}; {outcome.seconds:.0f} CPU seconds"))
        for fact in (*outcome.facts, *([f"fails: {outcome.reason}"] if outcome.reason else [])):
            _say(f"    {fact}")
        console.print(card.table(outcome))
        _say("")
        outcomes.append(outcome)
    verdicts = [row.verdict for outcome in outcomes for row in outcome.rows]
    points = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in card.COLOURS)
    failed = [outcome.title for outcome in outcomes if outcome.verdict == "off"]
    _say(f"{len(outcomes)} cards, {len(failed)} failed; {len(verdicts)} points: {points}")
    for title in failed:
        _warn(f"failed: {title}")
    if failed:
        raise typer.Exit(1)


def _study(name: str) -> "Study[Any]":
    from studies import study

    return study.find(name)


def _given(context: typer.Context, but: Sequence[str]) -> list[str]:
    """Return the command and the arguments that a user gave it, but for some."""
    arguments = [str(context.info_name)]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name in but or getattr(context.get_parameter_source(name), "name", "") != "COMMANDLINE":
            continue
        option = parameter.opts[-1]
        if parameter.param_type_name == "argument":
            arguments.append(str(value))
        elif isinstance(value, bool):
            arguments.append(option if value else parameter.secondary_opts[-1])
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                arguments += [option, str(one)]
    return arguments


def _say(text: str) -> None:
    """Print a line as it is: paths are no markup, and are not broken."""
    console.print(text, markup=False, soft_wrap=True)


def _one_line(error: OSError) -> str:
    """Write path and reason; errors that were raised with a sentence keep it."""
    return str(error) if error.filename is None or error.strerror is None else f"{error.filename}: {error.strerror}"


def _warn(text: str) -> None:
    typer.echo(f"tokenlink: {text}", err=True)


@contextmanager
def _stopping(folder: Path) -> Iterator[None]:
    """Say, when Ctrl-C stops a run, where it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        _warn(f"stopped; what is done is kept in {folder}, and the same command resumes")
        raise typer.Exit(130) from None


def _show_plan(plan: Any, part: tuple[int, int], workers: int) -> None:
    from studies import rates

    pending = plan.pending(part)
    _say(f"{len(plan.points)} points; {len(pending)} jobs to run in {plan.folder}")
    _say(f"{rates.how_long(pending, workers)}; {workers} at a time" if pending else "nothing is left to do")
    for job in pending:
        _say(f"  {job.label}")


def _show_results(results: Any, folder: Path) -> None:
    from studies import link_tables, overview, tables

    console.print(tables.accuracy_table(results))
    for reason in link_tables.refusals(results):
        _say(f"no point at {reason}\n")
    if list(results.axes)[:1] == ["snr_db"] and len(results.axes) == 2:
        console.print(link_tables.settings_table(results))
    else:
        for make in (tables.family_table, tables.comparison_table, tables.ledger_table):
            console.print(make(results))
    for make in (overview.equal_table, overview.bounds_table):
        if (table := make(results)).rows:
            console.print(table)
    if list(results.axes) == ["snr_db"] and (quality := tables.quality_table(results)).rows:
        console.print(quality)
    if "seed" in results.axes:
        console.print(tables.spread_table(results))
    elif list(results.axes)[1:] == ["snr_db"]:
        console.print(tables.uses_table(results))
    if missing := results.attributes["num_missing_points"]:
        _say(f"{missing} points are missing so far")
    _say(f"{folder / 'results.h5'}, {folder / 'figures'}")


@contextmanager
def _progress(workers: int) -> Iterator[dict[str, Any]]:
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


if __name__ == "__main__":
    app()
