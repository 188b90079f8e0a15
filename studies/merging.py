"""Run folders of shards that shared none, joined: `tokenlink merge DIR… --out DIR`."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies import archive, run_folder
from studies.config import ConfigError, differences, shown
from studies.engines import parse_shard
from studies.events import read_events
from studies.plan import Plan, PlannedPoint, read_plan

# Of which commit the code was that computed a point: its file's name tells already that the code it needs is the same.
GIT = ("git_commit", "git_dirty")


@dataclass(frozen=True)
class Merged:
    """What came of it.

    Attributes
    ----------
    results : archive.Results
        Also in `results.h5`.
    num_points : int
        Points of the run.
    missing : list of (str, PlannedPoint)
        Points that no folder has, each with the shard that computes it, such as "2/3".
    """

    results: archive.Results
    num_points: int
    missing: list[tuple[str, PlannedPoint]]


def merge(folders: Sequence[Path], out: Path, *, on_problem: Callable[[str], Any] = lambda problem: None) -> Merged:
    """Copy what is valid in some run folders into another one, and build its `results.h5`.

    Nothing is changed in the folders. What `out` holds of the same run stays, and counts.

    Parameters
    ----------
    folders : sequence of Path
        Run folders of one plan.
    out : Path
        Another folder.
    on_problem : callable
        Called with a sentence for each file that cannot be used.

    Raises
    ------
    ConfigError
        If a folder holds another run; the message says what differs.
    ValueError
        If a folder holds no run, or there is no point in any.
    """
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise ConfigError(f"--out {out} is one of the folders, in which nothing is changed; give another")
    sources = [*([out] if (out / "plan.json").exists() else []), *folders]
    plan = _common_plan(sources, on_problem)
    found = {point.hash: next(_valid(sources, point, on_problem), None) for point in plan.points}
    if not any(found.values()):
        raise ValueError(f"no point of {', '.join(map(str, folders))} is done; run the shards first")
    with run_folder.at_work(out, shared=False):
        if out not in sources:
            _copy_plan(folders, out, plan, on_problem)
        for path in (*filter(None, found.values()), *_codes(folders, on_problem)):
            archive.write_atomically(out / path.parent.name / path.name, path.read_bytes())
        results = run_folder.collect(out, on_problem=on_problem)
    total = _num_shards(folders)
    missing = [
        (f"{index % total + 1}/{total}", point)  # as `engines.shard_of` deals them out
        for index, point in enumerate(plan.points)
        if not found[point.hash]
    ]
    return Merged(results, len(plan.points), missing)


def _common_plan(folders: Sequence[Path], on_problem: Callable[[str], Any]) -> Plan:
    """Return the plan of the first folder; all others have to be of the same."""
    first = read_plan(folders[0])
    for folder in folders[1:]:
        other = read_plan(folder)
        if found := list(_differences(first, other)):
            raise ConfigError(
                f"{folder} holds another run than {folders[0]}: {'; '.join(found[:4])}{' …' * (len(found) > 4)}. "
                "Merge shards of one run"
            )
        for name in GIT:
            mine, theirs = first.attributes.get(name), other.attributes.get(name)
            if mine != theirs:
                on_problem(
                    f"{folder} has {name} {shown(theirs)}, results.h5 will have that of {folders[0]}, {shown(mine)}; "
                    "the code that points depend on is the same"
                )
    return first


def _differences(first: Plan, other: Plan) -> Iterator[str]:
    """Say what makes another plan's results others: anything but folders of a machine, and commits."""
    for what in ("study", "schemes", "axes"):
        if getattr(first, what) != getattr(other, what):
            yield f"{what}: {shown(getattr(other, what))} there, {shown(getattr(first, what))} here"
    for name in sorted({*first.attributes, *other.attributes} - {*GIT, "config_hash"}):
        mine, theirs = first.attributes.get(name), other.attributes.get(name)
        if mine == theirs:
            continue
        if name == "config_json":
            yield from differences(json.loads(str(theirs)), json.loads(str(mine)))
        else:
            yield f"{name}: {shown(theirs)} there, {shown(mine)} here"
    if first.points != other.points:
        theirs = {point.label: point.hash for point in other.points}
        changed = [point.label for point in first.points if theirs.get(point.label) != point.hash]
        yield f"{len(changed)} points are others, first that of {changed[0]}" if changed else "points in another order"


def _valid(folders: Sequence[Path], point: PlannedPoint, on_problem: Callable[[str], Any]) -> Iterator[Path]:
    """Find the files of a point that can be used."""
    for folder in folders:
        try:
            if run_folder.read_planned(folder, point) is not None:
                yield folder / "points" / f"{point.hash}.h5"
        except ValueError as error:
            on_problem(f"{folder}: {error}")


def _codes(folders: Sequence[Path], on_problem: Callable[[str], Any]) -> Iterator[Path]:
    """Find the codes that can be used, each once: points that are missing need them."""
    seen = set[str]()
    for path in (path for folder in folders for path in sorted((folder / "codes").glob("*.h5"))):
        if path.name in seen:
            continue
        try:
            archive.read_point(path)
        except ValueError as error:
            on_problem(f"{path.parent}: {error}")
        else:
            seen.add(path.name)
            yield path


def _copy_plan(folders: Sequence[Path], out: Path, plan: Plan, on_problem: Callable[[str], Any]) -> None:
    path = folders[0] / "config.yaml"
    if problems := run_folder.config_problems(folders[0], plan):
        on_problem(f"{problems[0]}; it is left out")
    else:
        archive.write_atomically(out / path.name, path.read_bytes())
    archive.write_atomically(out / "plan.json", (folders[0] / "plan.json").read_bytes())


def _num_shards(folders: Sequence[Path]) -> int:
    """Return how many shards the run was cut into, as the folders' events say; else one for each folder."""
    totals = []
    for line in (line for folder in folders for line in read_events(folder / "events.jsonl")):
        with contextlib.suppress(ValueError):  # of before shards were named there
            totals.append(parse_shard(str(line.get("shard")))[1])
    return max(totals, default=len(folders))
