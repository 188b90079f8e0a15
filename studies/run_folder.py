"""A run's folder: its files, its results, and whether it is whole.

It holds `config.yaml`, `plan.json` (the points that make up the run, and what its archive says of their origin),
`codes/` (what the sensor sends, once per question), `points/`, `events.jsonl`, `results.h5` and `figures/`. The
last two are made from the plan and the points alone, at any time; nothing here needs a model or a link.
"""

import contextlib
import errno
import fcntl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from studies import archive
from studies.config import ConfigError, content_hash, read_yaml, shown
from studies.events import event_problems
from studies.plan import Plan, PlannedPoint, read_plan


def collect(
    folder: Path, *, write: bool = True, on_problem: Callable[[str], Any] = lambda problem: None
) -> archive.Results:
    """Rebuild a run folder's `results.h5` from its plan and its points, and read it.

    A point that cannot be used counts as missing. A `results.h5` of the same plan that lacks fewer points stays.

    Parameters
    ----------
    folder : Path
    write : bool
        False leaves the file as it is.
    on_problem : callable
        Called with a sentence for each point that cannot be used.

    Raises
    ------
    ValueError
        If the folder holds no run, or no point of it is done.
    """
    plan = read_plan(folder)
    points, problems = _read_points(folder, plan)
    for problem in problems:
        on_problem(problem)
    if not any(points):
        raise ValueError(f"no point of {folder} is done yet; run the study first")
    content = _build(plan, points)
    results, path = archive.parse_results(content), folder / "results.h5"
    if write and _has_more(path, results):
        on_problem(
            f"{path} stays as it is: it holds points that are missing now. Run the study again, it computes them"
        )
    elif write:
        archive.write_atomically(path, content)
    return results


def _read_points(folder: Path, plan: Plan) -> tuple[list[archive.Point | None], list[str]]:
    """Return the points of a plan in its order, None for those that are not done, and what is wrong with files."""
    points, problems, shared = list[archive.Point | None](), list[str](), dict[str, np.ndarray]()
    for planned in plan.points:
        try:
            point = read_planned(folder, planned)
        except ValueError as error:
            problems.append(str(error))
            point = None
        points.append(point and _without_copies(point, shared))
    return points, problems


def _without_copies(point: archive.Point, shared: dict[str, np.ndarray]) -> archive.Point:
    """Leave out of a point what results do not hold, and share the columns that are the same in every point."""
    arrays = {name: array for name, array in point.arrays.items() if name != "answer"}
    for name in archive.QUESTION_COLUMNS:
        if np.array_equal(arrays[name], shared.setdefault(name, arrays[name])):
            arrays[name] = shared[name]
    return replace(point, arrays=arrays)


def read_planned(folder: Path, planned: PlannedPoint) -> archive.Point | None:
    """Return a point of a run's plan; None if it has not been computed yet.

    Raises
    ------
    ValueError
        If its file cannot be used, or holds another point.
    """
    path = folder / "points" / f"{planned.hash}.h5"
    if not path.exists():
        return None
    point = archive.read_point(path)
    _compare(planned, point)
    return point


def _compare(planned: PlannedPoint, point: archive.Point) -> None:
    """Refuse a point that is another than the plan says, or that cannot stand in results."""
    name = f"point {planned.hash}.h5"
    of = {"scheme": point.key.get("scheme"), **_coordinates(point.key)}
    if of != {"scheme": planned.scheme, **planned.coordinates}:
        raise ValueError(f"{name} is of {shown(of)}, in plan.json of {planned.scheme} at {shown(planned.coordinates)}")
    columns = [point.arrays.get(column, np.zeros(0)).shape for column in (*archive.QUESTION_COLUMNS, "correct")]
    if len(set(columns)) > 1 or len(columns[0]) != 1 or not columns[0][0] or not {*archive.COSTS} <= {*point.scalars}:
        raise ValueError(f"{name} does not hold an outcome for each question; delete it, the next run computes it")


def _coordinates(key: dict[str, Any]) -> dict[str, Any]:
    """Return a point's coordinates; keys of older versions have them beside the rest."""
    rest = ("kind", "source", "packages", "questions", "models", "scheme", "link")
    return key.get("coordinates", {name: value for name, value in key.items() if name not in rest})


def _build(plan: Plan, points: list[archive.Point | None]) -> bytes:
    placed = [
        ({"scheme": planned.scheme, **planned.coordinates}, point)
        for planned, point in zip(plan.points, points, strict=True)
    ]
    attributes = {**plan.attributes, **({"plan_hash": plan.hash} if plan.config else {})}
    return archive.build_results(placed, plan.schemes, plan.axes, attributes)


def _has_more(path: Path, results: archive.Results) -> bool:
    """Whether a file holds results of the same plan with fewer points missing."""
    try:
        earlier = archive.read_results(path)
    except (ValueError, OSError):
        return False
    same = earlier.attributes.get("plan_hash") == results.attributes.get("plan_hash")
    return same and earlier.attributes.get("num_missing_points", np.inf) < results.attributes["num_missing_points"]


# --- checking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """State of a run folder; `remarks` are about what an older version left without a hash."""

    num_points: int
    num_done: int
    problems: list[str]
    remarks: list[str] = field(default_factory=list)


def check(folder: Path, *, repair: bool = False) -> Check:
    """Read every file of a run folder again, and compare those that say the same; writes nothing.

    Parameters
    ----------
    folder : Path
    repair : bool
        Whether a `results.h5` that is not what the points say is rebuilt, if no point is lost by it.
    """
    problems, of_points, remarks = list[str](), list[str](), list[str]()
    plan, points = None, list[archive.Point | None]()
    try:
        plan = read_plan(folder)
    except ValueError as error:
        if not (folder / "plan.json").exists():
            raise
        problems.append(str(error))
    if plan is not None:
        points, of_points = _read_points(folder, plan)
        problems += of_points + config_problems(folder, plan)
    planned = {f"{point.hash}.h5" for point in plan.points} if plan else set[str]()
    others = [path for path in sorted((folder / "points").glob("*.h5")) if path.name not in planned]
    num_unhashed = sum(not point.hashed for point in points if point)
    for path in (*others, *sorted((folder / "codes").glob("*.h5"))):
        try:
            num_unhashed += not archive.read_point(path).hashed
        except ValueError as error:
            problems.append(str(error))
    if plan is not None and any(points) and not of_points:
        problems += _results_problems(folder, plan, points, repair)
    of_events, num_unhashed_events = event_problems(folder / "events.jsonl")
    problems += of_events
    if num_unhashed or (plan and not plan.config):
        remarks.append(
            f"{num_unhashed} point(s) and codes{'' if plan and plan.config else ', and the plan,'} are of an older "
            "version and carry no hash: damage that leaves them readable is not noticed"
        )
    if num_unhashed_events:
        remarks.append(f"{num_unhashed_events} line(s) of events.jsonl are of an older version and carry no hash")
    return Check(len(plan.points) if plan else 0, sum(point is not None for point in points), problems, remarks)


def config_problems(folder: Path, plan: Plan) -> list[str]:
    """Say why a run folder's `config.yaml` is not what its plan was made from; nothing if it is."""
    if plan.config is None:
        return []
    path = folder / "config.yaml"
    try:
        found = content_hash(read_yaml(path))
    except ValueError as error:
        return [f"{error}; delete it, the same `tokenlink run` writes it anew"]
    if found != plan.config:
        return [
            f"{path} is not the configuration that plan.json was made from; the same `tokenlink run` says what differs"
        ]
    return []


def _results_problems(folder: Path, plan: Plan, points: list[archive.Point | None], repair: bool) -> list[str]:
    path = folder / "results.h5"
    try:
        content = _build(plan, points)
    except ValueError as error:
        return [str(error)]
    results = archive.parse_results(content)
    try:
        problem = "" if _equal(archive.read_results(path), results) else f"{path} is not what the points say"
    except FileNotFoundError:
        if not all(points):
            return []  # stopped before its end
        problem = f"{path} is missing"
    except ValueError as error:
        problem = str(error)
    if not problem:
        return []
    if not repair:
        return [f"{problem}; --repair rebuilds it"]
    if _has_more(path, results):
        return [f"{problem}; it stays, as it holds points that are missing now. Run the study again"]
    archive.write_atomically(path, content)
    return [f"{problem}; it has been rebuilt"]


def _equal(one: archive.Results, other: archive.Results) -> bool:
    """Whether two results hold the same: one of an older version may lack what has been added since."""
    if "plan_hash" not in one.attributes:
        other = archive.Results(
            other.coordinates,
            {name: values for name, values in other.variables.items() if name in one.variables},
            {**other.attributes, "schema_version": one.attributes.get("schema_version")},
            {name: dimensions for name, dimensions in other.dimensions.items() if name in one.variables},
        )
    return one.content_hash() == other.content_hash()


# --- who is at work ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def at_work(folder: Path, *, shared: bool) -> Iterator[None]:
    """Hold a run folder while a run is at work in it; the hold of a process that dies ends with it.

    Shards share the folder with each other. A whole run shares it with nobody. Where the file system knows no locks,
    nobody is kept out: two runs then compute the same points twice, and lose none.

    Raises
    ------
    ConfigError
        If another run is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("ab") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another run is at work in {folder}. Wait for it or stop it, or give another --out; runs that share a "
                "folder are started with --shard i/N each"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
        yield
