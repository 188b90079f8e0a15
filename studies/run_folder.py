"""A run's folder: its files, its results, and whether it is whole.

It holds `config.yaml`, `plan.json` (the points that make up the run, and what its archive says of their origin),
`codes/` (what the sensor sends, once per question), `points/`, `events.jsonl`, `results.h5` and `figures/`. The
last two are made from the plan and the points alone, at any time; nothing here needs a model or a link.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies import archive

PLAN_SCHEMA = "tokenlink-plan"


def collect(folder: Path, *, write: bool = True) -> archive.Results:
    """Rebuild a run folder's `results.h5` from its plan and its points, and read it; `write` False leaves the file.

    Raises
    ------
    ValueError
        If the folder holds no run, or no point of it is done.
    """
    plan = read_plan(folder)
    points = [
        ({"scheme": point["scheme"], **point["coordinates"]}, _read_if_done(folder, point["hash"]))
        for point in plan["points"]
    ]
    if not any(point is not None for _, point in points):
        raise ValueError(f"no point of {folder} is done yet; run the study first")
    content = archive.build_results(points, plan["schemes"], plan["axes"], plan["attributes"])
    if write:
        archive.write_atomically(folder / "results.h5", content)
    return archive.parse_results(content)


def read_plan(folder: Path) -> dict[str, Any]:
    """Read a run folder's `plan.json`."""
    path = folder / "plan.json"
    if not path.exists():
        raise ValueError(
            f"{folder} is no run folder: it has no plan.json. `tokenlink run STUDY --out {folder}` makes one."
        )
    plan = json.loads(path.read_text(encoding="utf-8"))
    schema, readable = (plan.get("schema"), plan.get("schema_version")), (PLAN_SCHEMA, archive.SCHEMA_VERSION)
    if schema != readable:
        raise ValueError(f"plan.json stores {schema}, this version reads {readable}; run the study again")
    return plan


@dataclass(frozen=True)
class Check:
    """State of a run folder."""

    num_points: int
    num_done: int
    problems: list[str]


def check(folder: Path) -> Check:
    """Read every file of a run folder again, and compare `results.h5` with the points."""
    plan = read_plan(folder)
    problems, done = [], 0
    for point in plan["points"]:
        try:
            done += _read_if_done(folder, point["hash"]) is not None
        except ValueError as error:
            problems.append(str(error))
    for path in sorted((folder / "codes").glob("*.h5")):
        try:
            archive.read_point(path)
        except ValueError as error:
            problems.append(str(error))
    if not problems and done:
        old = (folder / "results.h5").read_bytes() if (folder / "results.h5").exists() else b""
        collect(folder)
        if old != (folder / "results.h5").read_bytes():
            problems.append("results.h5 was not what the points say; it has been rebuilt")
    return Check(len(plan["points"]), done, problems)


class EventLog:
    """`events.jsonl`: one line of JSON per event, each added in one write: shards may share the file.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path

    def write(self, event: str, **fields: Any) -> None:
        """Add an event with the time (UTC) and its fields."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _read_if_done(folder: Path, name: str) -> archive.Point | None:
    path = folder / "points" / f"{name}.h5"
    return archive.read_point(path) if path.exists() else None
