"""The command `tokenlink`. What a command needs is imported when it runs: `--help` loads neither framework."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from studies import measuring, slurm
from studies.cache_folder import cache_folder
from studies.config import ConfigError, resolve, shown
from studies.engines import parse_shard
from studies.jobs import StudyError
from studies.processes import num_cores, prepare_process
from studies.terminal import Json, console, for_machines, one_line, place, progress, say, warn

if TYPE_CHECKING:
    from studies.study import Study


@contextmanager
def refusals() -> Iterator[None]:
    """Turn errors a user can mend into one clear message; anything else keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        warn("stopped; what is done is kept, and the same command resumes")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise  # `tokenlink list | head -1`: nobody reads on
    except (ValueError, OSError, StudyError) as error:
        if os.environ.get("TOKENLINK_TRACEBACK"):
            raise
        warn(one_line(error) if isinstance(error, OSError) else str(error))
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
    json: Json = False,
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
        hooks = stack.enter_context(progress(count))
        finished = chosen.main(resolved, out=out, engine=engine, workers=most, shard=part, cache=shared, **hooks)
    _show_results(finished.results, finished.folder, json, finished.failed)
    if finished.failed:
        warn(f"{len(finished.failed)} job(s) failed; the same command repeats only these")
        raise typer.Exit(1)


@app.command("list")
def list_studies(json: Json = False) -> None:
    """Name the studies, and the curves that they compare."""
    from studies import rates, study
    from studies.curves import CURVES

    abouts = {name: study.about(name) for name in study.STUDIES}
    if json:
        from studies.documents import ListDocument, Named

        named = [Named(name=name, about=about, default=False) for name, about in abouts.items()]
        known = [Named(name=curve.name, about=curve.about, default=curve.default) for curve in CURVES.values()]
        typer.echo(ListDocument(studies=tuple(named), curves=tuple(known)).written())
        return
    table = Table(title="Studies: tokenlink run NAME", title_justify="left", box=None, show_header=False)
    for name, about in abouts.items():
        takes = rates.how_long_as_it_comes(name, min(8, num_cores()))
        table.add_row(f"  {name}", Text(about + f" ({takes})" * bool(takes)))
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
    results = run_folder.collect(folder, on_problem=warn)
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

    merged = merging.merge(folders, out, on_problem=warn)
    study.draw_figures(merged.results, out / "figures", str(merged.results.attributes["study"]))
    _show_results(merged.results, out)
    for shard, point in merged.missing:
        say(f"missing: {point.label}; --shard {shard} computes it")
    if merged.missing:
        warn(f"{len(merged.missing)} of {merged.num_points} points are missing; with --out {out}, `run` computes them")
        raise typer.Exit(1)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="run folders, one of each study; comparison or accuracy-vs-snr is judged; files go to the first",
            parser=place,
            metavar="FOLDER...",
        ),
    ],
    html: Annotated[bool, typer.Option("--html", help="write one static page too: report.html")] = False,
    out: Annotated[Path | None, typer.Option(help="file of the page", parser=place, metavar="FILE")] = None,
    gallery: Annotated[
        int, typer.Option(min=0, max=24, help="questions that the page shows from image to answers; 0: load no model")
    ] = 6,
    data: Annotated[
        Path | None,
        typer.Option(
            help="where the gallery's data set lies, if not where its run found it", parser=place, metavar="FOLDER"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare the schemes of run folders, and judge the paper's claims: tables, comparison.csv, claims.json and .md."""
    from studies import claims, documents, overview, run_folder
    from studies.archive import write_atomically

    for name, given in (("--out", out), ("--data", data)):
        if given and not html:
            raise ConfigError(f"{name} is for the page; give --html too")
    runs: dict[str, Any] = {}
    for folder in folders:
        results = run_folder.collect(folder, on_problem=warn)
        name = str(results.attributes["study"])
        if name in runs:
            raise ConfigError(f"{folder} holds another run of {name}; give one folder of each study")
        runs[name] = results
    snr = runs.get("comparison") or runs.get("accuracy-vs-snr")
    judged = claims.judge(snr, runs.get("accuracy-vs-tokens"))
    origin = {name: f"configuration {results.attributes['config_hash']}" for name, results in runs.items()}
    paths, rows = claims.write(folders[0], judged, origin), overview.compared(snr) if snr else []
    with for_machines(json) as write:
        _show_report(runs, snr, rows, judged)
        if rows:
            paths.append(folders[0] / "comparison.csv")
            write_atomically(paths[-1], overview.comparison_csv(rows).encode())
        if html:
            from studies.page import report_page

            by_folder = dict(zip(folders, runs.values(), strict=True))
            path = out or folders[0] / report_page.FILE
            paths.append(report_page.write(path, by_folder, judged, num_cases=gallery, data=data, on_problem=warn))
        say(", ".join(map(str, paths)))
        write(documents.of_report([*map(str, folders)], rows, judged, [*map(str, paths)]))


def _show_report(runs: Mapping[str, Any], snr: Any, rows: Sequence[Any], judged: Sequence[Any]) -> None:
    from studies import overview, tables

    if rows:
        console.print(overview.overview_table(rows, runs.get("accuracy-vs-seed")), overview.mcnemar_table(rows))
        for make in (overview.equal_table, overview.bounds_table, tables.ledger_table):
            if (table := make(snr)).rows:
                console.print(table)
    for results in runs.values():
        if results is not snr:
            _show_own_tables(results)
    console.print(tables.claims_table(judged))


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
    with progress(1) as hooks:
        asked = trial.ask_arms(folder, config, **hooks)
    contrasts = trial.compare_arms(asked)
    console.print(*trial.tables(asked, contrasts))
    say(str(trial.write(folder, asked, contrasts)))


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

    paths = of_run.write(folder, data=data, on_problem=warn)
    say(", ".join(map(str, paths)))


@app.command()
def check(
    folder: Annotated[Path, FOLDER],
    repair: Annotated[bool, typer.Option("--repair", help="rebuild results.h5 where the points say otherwise")] = False,
    json: Json = False,
) -> None:
    """Read every file of a run folder again: whole, unchanged, and of one run. Writes nothing without --repair."""
    from studies import documents, run_folder

    state = run_folder.check(folder, repair=repair)
    for line in (*state.problems, *state.remarks):
        warn(line)
    with for_machines(json) as write:
        say(f"{state.num_done} of {state.num_points} points done, {len(state.problems)} problem(s)")
        write(documents.of_check(state, str(folder)))
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
            say(f"{difference.name}: {remark}")
    num_different = sum(not difference.equal for difference in differences)
    say(f"{num_different} of {len(differences)} variables differ" if num_different else "everything is equal")
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
def agents(context: typer.Context) -> None:
    """Put untrained agents between two models, by folder or hub id. `tokenlink agents --help` has the options."""
    from studies.pairs import make_agents

    _hand_on(context, make_agents)


@app.command(context_settings=HANDED_ON)
def scenes(context: typer.Context) -> None:
    """Render scenes and ask questions about them, in CLEVR's layout. `tokenlink scenes --help` has the options."""
    from semantic.data.scenes import main

    _hand_on(context, main, workers=num_cores())


def _hand_on(context: typer.Context, function: Callable[..., None], **defaults: Any) -> None:
    """Call a function with the options of a command."""
    from studies.training import as_command

    only = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    only.command()(as_command(function, **defaults))
    only(context.args or ["--help"], prog_name=f"tokenlink {context.info_name}", standalone_mode=False)


@app.command(context_settings=HANDED_ON)
def gguf(context: typer.Context) -> None:
    """Turn a language model in a GGUF file, or a wheel with one, into a folder. `tokenlink gguf --help` says how."""
    from semantic.gguf_models import main

    _hand_on(context, main)


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


@contextmanager
def _stopping(folder: Path) -> Iterator[None]:
    """Say, when Ctrl-C stops a run, where it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        warn(f"stopped; what is done is kept in {folder}, and the same command resumes")
        raise typer.Exit(130) from None


def _show_plan(plan: Any, part: tuple[int, int], workers: int) -> None:
    from studies import rates

    pending = plan.pending(part)
    say(f"{len(plan.points)} points; {len(pending)} jobs to run in {plan.folder}")
    say(f"{rates.how_long(pending, workers)}; {workers} at a time" if pending else "nothing is left to do")
    for job in pending:
        say(f"  {job.label}")


def _show_results(results: Any, folder: Path, json: bool = False, failed: Sequence[Any] = ()) -> None:
    from studies import documents

    with for_machines(json) as write:
        _show_tables(results, folder)
        write(documents.of_run(results, str(folder), failed))


def _show_tables(results: Any, folder: Path) -> None:
    from studies import link_tables, overview, tables

    for reason in link_tables.refusals(results):
        say(f"no point at {reason}\n")
    if not link_tables.along_settings(results):
        console.print(tables.accuracy_table(results))
        for make in (tables.family_table, tables.comparison_table, tables.ledger_table):
            console.print(make(results))
    _show_own_tables(results)
    for make in (overview.equal_table, overview.bounds_table):
        if (table := make(results)).rows:
            console.print(table)
    if list(results.axes) == ["snr_db"] and (quality := tables.quality_table(results)).rows:
        console.print(quality)
    if missing := results.attributes["num_missing_points"]:
        say(f"{missing} points are missing so far")
    say(f"{folder / 'results.h5'}, {folder / 'figures'}")


def _show_own_tables(results: Any) -> None:
    """Print the tables that not all studies have."""
    from studies import link_tables, study, tables

    name = str(results.attributes["study"])
    if link_tables.along_settings(results):
        console.print(link_tables.settings_table(results))
    elif "seed" in results.axes:
        console.print(tables.spread_table(results))
    elif list(results.axes)[1:] == ["snr_db"]:
        console.print(tables.uses_table(results))
    if name in study.STUDIES and (table := study.find(name).table):
        console.print(table(results))


for command in (measuring.probe, measuring.selfcheck, measuring.bench, measuring.doctor):
    app.command()(command)


if __name__ == "__main__":
    app()
