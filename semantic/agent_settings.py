"""agents.json: how many tokens, which code, where the two large models are, and the hashes of all that is read."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from semantic.adapters import CONFIG, WEIGHTS
from semantic.model_files import (
    HASHES,
    Hashes,
    ModelFileError,
    check_folder_hashes,
    check_hash,
    check_settings,
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
    sha256: Hashes | None = None  # of the files of its folder, if it has one


class CodeSettings(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Arguments of `semantic.jtcc.build_code`."""

    kind: str
    hidden_size: Count
    width: Count | None = None
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
    return address.model, {"revision": address.revision} if address.revision else {}


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
        local = folder / entry["model"]
        if not local.is_dir():
            entry.pop(HASHES, None)
        elif HASHES not in entry:
            entry[HASHES] = hash_folder(local)
        whole[name] = entry
    write_settings(folder / SETTINGS, whole, hash_folder(folder, leave_out=[SETTINGS]))
