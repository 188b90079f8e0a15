"""`events.jsonl`: what ran when, and every error in full. No number depends on it."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

from studies.config import content_hash

LINE_HASH_DIGITS = 16


class EventLog:
    """`events.jsonl`: a line of JSON per event, with its own hash, added in one write: shards may share the file.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path

    def write(self, event: str, **fields: Any) -> None:
        """Add an event with the time (UTC) and its fields; a line that an earlier write left unfinished ends first."""
        content = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
        line = json.dumps({**content, "line_hash": content_hash(content)[:LINE_HASH_DIGITS]}).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    line = b"\n" + line
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read the events of a log that are whole."""
    events = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue  # `event_problems` names it
        if isinstance(content, dict):
            events.append(content)
    return events


def event_problems(path: Path) -> tuple[list[str], int]:
    """Return what is wrong with lines of a log, and how many lines carry no hash."""
    problems, num_unhashed = list[str](), 0
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line and number == len(lines):
            continue
        try:
            content = json.loads(line)
            expected = content.pop("line_hash", None)
            whole = isinstance(content["event"], str) and isinstance(content["time"], str)
            whole &= expected is None or content_hash(content)[:LINE_HASH_DIGITS] == expected
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            whole, expected = False, ""
        num_unhashed += expected is None
        if not whole:
            problems.append(f"{path}, line {number}: cut or changed; no number depends on it, delete the line")
    return problems, num_unhashed
