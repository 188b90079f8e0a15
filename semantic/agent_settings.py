"""agents.json: how many tokens, which code, where the two large models are, and the hashes of all that is read."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from semantic.adapters import CONFIG, WEIGHTS
from semantic.loading import cached_snapshot, fetched_snapshot
from semantic.model_files import (
    HASHES,
    Hashes,
    ModelFileError,
    check_folder_hashes,
    check_hash,
    check_settings,
    check_snapshot_hashes,
    hash_folder,
    read_settings,
    write_settings,
)

SETTINGS, CODE = "agents.json", "code.safetensors"
MODELS = ("sensor", "task_agent")
Count = Annotated[int, Field(ge=1, le=2**20)]


class ModelAddress(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Where one of the large models is, and what it is asked with."""

    model: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    prompt: str
    sha256: Hashes | None = None  # of the files of its folder, or of its snapshot in the hub's cache


class CodeSettings(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Arguments of `semantic.jtcc.build_code`."""

    kind: str
    hidden_size: Count
    width: Count | None = None
    received_size: Count | None = None
    num_tokens: Count | None = None
    nested_tokens: Count | None = None


class AgentSettings(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Content of agents.json."""

    num_tokens: Count
    seed: int | None = None
    code: CodeSettings
    sensor: ModelAddress
    task_agent: ModelAddress
    sha256: Hashes | None = None


def read_agent_settings(folder: Path) -> AgentSettings:
    """Read the settings of a folder of agents, and compare its files with the hashes in them.

    Raises
    ------
    ModelFileError
        If a file is missing, damaged, exchanged or foreign.
    """
    path = folder / SETTINGS
    content = read_settings(path)
    settings = check_settings(path, content, TypeAdapter(AgentSettings))
    check_hash(path, content, CONFIG, WEIGHTS, CODE)
    return settings


def source_of(folder: Path, address: ModelAddress) -> tuple[str, dict[str, Any]]:
    """Return where to load a model from: a path relative to the folder if it exists, else hub id and revision.

    Of a hub id with hashes it is the folder in the hub's cache; what that lacks is downloaded.

    Raises
    ------
    FileNotFoundError
        If it is a path, and nothing is there.
    ModelFileError
        If one of its files is not the one that was there when the settings were written.
    """
    local = folder / address.model
    if local.exists():
        if not local.is_dir():
            raise ModelFileError(folder / SETTINGS, f"names the model {address.model}, which is no folder")
        check_folder_hashes(folder / SETTINGS, local, address.sha256)
        return str(local), {"local_files_only": True}
    if address.model.startswith((".", "/")):
        raise FileNotFoundError(
            f"{folder / SETTINGS} names the model {address.model}, which is not there; move the folders together"
        )
    if address.sha256 is not None:
        snapshot = fetched_snapshot(address.model, address.revision, address.sha256)
        check_snapshot_hashes(folder / SETTINGS, snapshot, address.sha256)
        return str(snapshot), {"local_files_only": True}
    return address.model, {"revision": address.revision} if address.revision else {}


def with_hashes(entry: dict[str, Any], folder: Path = Path()) -> dict[str, Any]:
    """Add the hashes of a model's files as they are now: of its folder, or of a hub id's snapshot with its revision.

    A hub id that is not in the cache gets none.
    """
    local = folder / entry["model"]
    if local.is_dir():
        return {**entry, HASHES: hash_folder(local)}
    snapshot = cached_snapshot(entry["model"], entry.get("revision"))
    return entry if snapshot is None else {**entry, "revision": snapshot.name, HASHES: hash_folder(snapshot)}


def write_agent_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write agents.json with the hashes of the files beside it.

    Parameters
    ----------
    folder : Path
        Folder that holds all other files already.
    settings : dict
        As `AgentSettings`, without hashes of the folder; an absolute path of a model becomes relative to it.
    """
    whole = dict(settings)
    for name in MODELS:
        entry = dict(whole[name])
        if Path(entry["model"]).is_absolute():  # loaded from there
            entry["model"] = os.path.relpath(entry["model"], folder.resolve())
        whole[name] = entry if HASHES in entry else with_hashes(entry, folder)
    write_settings(folder / SETTINGS, whole, hash_folder(folder, leave_out=[SETTINGS]))
