"""Files that others wrote: regular ones of a bounded size, JSON of a bounded depth, values shown in few characters."""

import json
import re
import reprlib
import stat
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

MAX_DEPTH = 32  # of JSON; CLEVR's files need 6
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)  # an unfinished one reaches to the end: never quadratic
_NAME = re.compile(r"\w[\w.-]*")
_NO_BRACKET = bytes(octet for octet in range(256) if octet not in b"[]{}")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def short(value: object) -> str:
    """Return a value's representation in few characters, however long or deep it is."""
    text = _SHORT.repr(value)  # of few items on each of few levels, which still adds up
    return text if len(text) <= 100 else f"{text[:97]}..."


def whole_characters(text: str) -> str:
    """Return a text; refuse half of a surrogate pair, which JSON can write and nothing can encode.

    Raises
    ------
    ValueError
        If it holds one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(
            f"it holds U+{code:04X}, half of a surrogate pair, which is no character; write the whole pair, or "
            "leave it out"
        ) from error
    return text


def check_split(split: str) -> None:
    """Refuse the name of a split that could lead out of its data set's folder.

    Raises
    ------
    ValueError
        If it holds more than letters, digits, ``_``, ``-`` and ``.``, or begins with a dot.
    """
    if not _NAME.fullmatch(split):
        raise ValueError(f"split must be a name such as 'val', got {short(split)}")


def first_problem(error: ValidationError) -> str:
    """Say in one line what pydantic found wrong first: where, what, and the value seen."""
    first = error.errors(include_url=False, include_context=False)[0]
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] not in ("missing", "value_error"):
        text += f", got {short(first['input'])}"
    return ": ".join([*([".".join(map(str, first["loc"]))] if first["loc"] else []), text])


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file that is neither too large nor a device, a pipe or a folder.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is something else, too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no regular file")
        if status.st_size > most_bytes:
            raise ValueError(
                f"{path} has {status.st_size} bytes, more than the {most_bytes} that are read of such files"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_json(path: Path, content: bytes, *, unique_keys: bool = False) -> Any:
    """Parse the content of a JSON file.

    Parameters
    ----------
    path : Path
        Name of the file in messages.
    content : bytes
    unique_keys : bool
        Whether to refuse an object that has a key twice; json takes the last value in silence.

    Raises
    ------
    ValueError
        If it is no JSON, nested deeper than `MAX_DEPTH`, or holds NaN or infinity, which JSON does not know.
    """

    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is no number")

    def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        whole = dict(pairs)
        if len(whole) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
        return whole

    if _depth(content) > MAX_DEPTH:
        raise ValueError(f"{path} is no JSON that is read here: it is nested deeper than {MAX_DEPTH} levels")
    try:
        hook = refuse_twice if unique_keys else None
        return json.loads(content.decode("utf-8-sig"), parse_constant=refuse_constant, object_pairs_hook=hook)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def _depth(content: bytes) -> int:
    """Return how deep brackets are nested outside of strings."""
    brackets = np.frombuffer(_STRING.sub(b"", content).translate(None, _NO_BRACKET), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return int(np.cumsum(steps).max(initial=0))
