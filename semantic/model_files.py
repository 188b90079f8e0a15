"""Loading models from files that may be damaged, exchanged or foreign; whatever is wrong is a `ModelFileError`.

A folder of weights is described by one JSON file of settings, which also holds the SHA-256 of every other file that is
read, under `sha256`, and its own, without that entry. `python -m semantic.rehash FOLDER` writes them anew.
"""

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from semantic.foreign_files import first_problem, parse_json, read_regular

HASHES = "sha256"  # key of the settings
MAX_SETTINGS_BYTES = 10 * 2**20
READ_SUFFIXES = (".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken")  # of files that transformers reads
WAY_OUT = "restore it, or accept the files as they are: python -m semantic.rehash"
Hashes = dict[str, str]


class ModelFileError(ValueError):
    """A file or folder of a model that cannot be used.

    Parameters
    ----------
    path : Path or str
    problem : str
        What is wrong, to follow the path in one sentence.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(str(path), problem)  # as arguments, so that it can be pickled
        self.path, self.problem = Path(path), problem

    def __str__(self) -> str:
        return f"{self.path} {self.problem}"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is whole, or as it was before, even if the process dies."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


# --- settings ----------------------------------------------------------------------------------------------------


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, or no such file.
    """
    try:
        content = parse_json(path, read_regular(path, MAX_SETTINGS_BYTES), unique_keys=True)
    except (ValueError, FileNotFoundError) as error:
        raise ModelFileError(path, str(error).removeprefix(f"{path} ")) from error
    if not isinstance(content, dict):
        raise ModelFileError(path, f"holds no JSON object but a {type(content).__name__}")
    return content


def check_settings(path: Path, content: Mapping[str, Any], kind: TypeAdapter[Any]) -> Any:
    """Return the validated content of a settings file; refuse it with the key that is wrong."""
    try:
        return kind.validate_json(json.dumps(content))  # where strict types allow objects for records
    except ValidationError as error:
        raise ModelFileError(path, f"is not what such a file holds: {first_problem(error)}") from error


# --- hashes ------------------------------------------------------------------------------------------------------


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror or error}") from error


def hash_settings(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings without their hashes, whatever the order and the spaces."""
    rest = {key: value for key, value in settings.items() if key != HASHES}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def hash_folder(folder: Path, leave_out: Iterable[str] = ()) -> Hashes:
    """Return the SHA-256 of every file of a folder that is read with a model, by name; not of cards and logs."""
    left_out = set(leave_out)
    return {path.name: hash_file(path) for path in _read_files(folder) if path.name not in left_out}


def _read_files(folder: Path) -> list[Path]:
    paths = (path for path in folder.iterdir() if path.suffix in READ_SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in paths if path.is_file())


def check_hash(settings_path: Path, settings: Mapping[str, Any], *names: str) -> None:
    """Compare files beside the settings, and the settings themselves, with the hashes that these hold.

    Settings without hashes, as they were written before there were any, are taken as they are, with one warning.

    Raises
    ------
    ModelFileError
        If a file is missing, is another one, or was not there when the hashes were written.
    """
    folder, hashes = settings_path.parent, settings.get(HASHES)
    if hashes is None:
        warn_of_no_hashes(settings_path)
        return
    if not isinstance(hashes, dict) or hashes.get(settings_path.name) != hash_settings(settings):
        raise ModelFileError(
            settings_path, f"was changed since its hash was written, or is damaged; {WAY_OUT} {folder}"
        )
    for name in names:
        _compare(folder / name, hashes.get(name), settings_path, folder)


def check_folder_hashes(settings_path: Path, folder: Path, hashes: Hashes | None) -> None:
    """Compare all files of a model's folder with the hashes that other settings hold of them; as for `check_hash`."""
    if hashes is None:
        warn_of_no_hashes(settings_path)
        return
    for name in sorted({*hashes, *(path.name for path in _read_files(folder))}):
        _compare(folder / name, hashes.get(name), settings_path, settings_path.parent)


def check_snapshot_hashes(settings_path: Path, snapshot: Path, hashes: Hashes) -> None:
    """Compare files in the hub's cache with the hashes that settings hold; others may lie beside them there."""
    for name, expected in sorted(hashes.items()):
        _compare(snapshot / name, expected, settings_path, settings_path.parent)


def _compare(path: Path, expected: str | None, settings_path: Path, folder: Path) -> None:
    if not path.is_file():
        raise ModelFileError(path, f"is missing, {settings_path.name} holds its hash; restore it")
    if expected is None:
        raise ModelFileError(
            path, f"was not there when {settings_path.name} was written; remove it, or {WAY_OUT} {folder}"
        )
    if hash_file(path) != expected:
        raise ModelFileError(
            path, f"is not the file whose hash {settings_path.name} holds: damaged or exchanged; {WAY_OUT} {folder}"
        )


@functools.cache
def warn_of_no_hashes(settings_path: Path) -> None:
    """Say once that nothing can tell whether files are still what was saved."""
    warnings.warn(
        f"{settings_path} has no hashes of its files, as before there were any: damage goes unnoticed. "
        f"`python -m semantic.rehash {settings_path.parent}` writes them",
        stacklevel=3,
    )


def write_settings(path: Path, settings: Mapping[str, Any], hashes: Hashes) -> None:
    """Write settings with the hashes of the files beside them, and their own."""
    whole = {**settings, HASHES: {**hashes, path.name: hash_settings(settings)}}
    write_atomically(path, (json.dumps(whole, indent=2) + "\n").encode())


def add_hash(settings_path: Path, name: str) -> None:
    """Put the hash of a file that was written beside settings into these, if they hold hashes; change nothing else."""
    if not settings_path.exists():
        return
    settings = read_settings(settings_path)
    if isinstance(settings.get(HASHES), dict):
        settings[HASHES][name] = hash_file(settings_path.parent / name)
        write_atomically(settings_path, (json.dumps(settings, indent=2) + "\n").encode())
