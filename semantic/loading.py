"""Loading models: without a word, for the terminal belongs to the program that loads, and without what does not fit."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import logging

from semantic.model_files import ModelFileError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_of(name: str) -> torch.dtype:
    """Return the precision of a name.

    Raises
    ------
    ValueError
        If it is none of `DTYPES`.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def device_of(name: str) -> torch.device:
    """Return the device of a name: cpu, cuda, or one of several such as cuda:1.

    Raises
    ------
    ValueError
        If it is no such name, or torch sees no such device.
    """
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise ValueError(f"device must be cpu, cuda, or one of several such as cuda:1; got {name!r}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}, and torch sees {torch.cuda.device_count()} GPU(s) here; take cpu")
    return device


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Switch transformers' progress bars off within the block; the user's own setting holds again afterwards."""
    if not logging.is_progress_bar_enabled():
        yield
        return
    downloads_shown = not are_progress_bars_disabled()
    logging.disable_progress_bar()  # those of downloads too
    try:
        yield
    finally:
        logging.enable_progress_bar()
        if not downloads_shown:
            disable_progress_bars()


def load_model(kind: Any, source: str | Path, *, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Load a model of transformers, from safetensors alone, without code of its authors.

    Parameters
    ----------
    kind : class with `from_pretrained`
    source : str or Path
        Folder or hub id.
    dtype : torch.dtype
    **options
        Further arguments of `from_pretrained`.

    Raises
    ------
    ModelFileError
        If it cannot be loaded, or the weights lack a name, or have one too many: transformers would go on with random
        numbers.
    """
    model, report = load_part(kind, source, dtype=dtype, use_safetensors=True, output_loading_info=True, **options)
    for what in ("missing_keys", "unexpected_keys"):
        if names := sorted(map(str, report[what])):
            has = "lack" if what == "missing_keys" else "have, beside those of the model,"
            raise ModelFileError(
                source, f"does not hold the weights of a {type(model).__name__}: they {has} {_few(names)}"
            )
    return model


def load_part(kind: Any, source: str | Path, **options: Any) -> Any:
    """Load a model, processor or tokenizer of transformers; any failure becomes a `ModelFileError`."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:  # a dozen libraries read these files, each with exceptions of its own
        reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
        raise ModelFileError(source, f"cannot be loaded by {kind.__name__}: {reason}") from error


def cached_snapshot(model: str, revision: str | None = None) -> Path | None:
    """Return the folder of the hub's cache that holds a revision of a model; its name is the commit. Downloads nothing.

    None if there is none, or `model` is no hub id.
    """
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def fetched_snapshot(model: str, revision: str | None, names: Iterable[str]) -> Path:
    """Return the folder of the hub's cache with some files of a model; those that it lacks are downloaded.

    Raises
    ------
    ModelFileError
        If one is not there, and cannot be downloaded.
    """
    names = list(names)
    folder = cached_snapshot(model, revision)
    if folder is not None and all((folder / name).is_file() for name in names):
        return folder
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=names))
    except Exception as error:  # of the network, of the hub, of the disk
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelFileError(
            model, f"is not in the hub's cache as a whole, and cannot be downloaded: {reason}"
        ) from error


def read_tensors(path: Path, needed: Mapping[str, Tensor], what: str, hint: str = "") -> dict[str, Tensor]:
    """Read a safetensors file that has the names and shapes of given tensors, all numbers finite; dtypes as stored.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, or does not fit.
    """
    if not path.is_file():
        raise ModelFileError(path, "is missing")
    try:
        stored = load_file(path)
    except Exception as error:  # SafetensorError is no ValueError; OSError, KeyError of unknown dtypes come as well
        raise ModelFileError(path, f"is no safetensors file, or is damaged: {error}") from error
    for name in {**needed, **stored}:
        here, there = (list(part[name].shape) if name in part else None for part in (stored, needed))
        if here != there:
            raise ModelFileError(
                path, f"does not fit {what}: the shape of {name} is {here} in the file and {there} in the model{hint}"
            )
        if not stored[name].is_floating_point():
            raise ModelFileError(path, f"holds {stored[name].dtype} in {name}, weights are real numbers")
        if not stored[name].isfinite().all():
            raise ModelFileError(path, f"holds NaN or infinite values in {name}")
    return stored


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Return the names and shapes of what a function builds, without memory for the numbers."""
    with torch.device("meta"):
        return build().state_dict()


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
