"""What a run needs that is not here, and what its pair of agents takes: looked up before anything is loaded.

Models need not be here. Where only their configurations are, sizes are counted from those; where not even these are, a
pair that is to be the paper's is counted from the shapes of LLaVA-1.5-7B and LLaMA-2-7B.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.doctor import Finding
from studies.study_config import StudyConfig

if TYPE_CHECKING:
    import torch

    from semantic.sizes import Sizes

BATCH = 8  # examples of a training step
RESERVE = 0.9  # share of a memory that may be filled
PRODUCTS = 2048  # side of the matrices whose product tells the speed of a device


def diagnose(config: StudyConfig) -> list[Finding]:
    """Look for data and weights of a run, and say what its pair takes.

    Parameters
    ----------
    config : StudyConfig
        Of any study; the pair is that of `models.machine_tokens`.

    Returns
    -------
    list of Finding
        What is missing is not fine, and says what brings it.
    """
    return [_data(config), *_pair(config)]


def _data(config: StudyConfig) -> Finding:
    from studies.sweep import dataset_for

    try:
        dataset = dataset_for(config.data)
    except (OSError, ValueError) as error:
        return Finding("data", str(error), False)
    where = "the shipped split" if config.data.folder is None else f"{config.data.folder}, {config.data.split}"
    return Finding("data", f"{where}: {len(dataset.questions)} questions")


def _pair(config: StudyConfig) -> Iterator[Finding]:

    from semantic.adapters import CONFIG
    from semantic.agent_link import shipped_folder
    from semantic.agent_settings import MODELS, read_agent_settings
    from semantic.loading import precision_of
    from semantic.model_files import read_settings
    from semantic.sizes import measure, paper_pair

    name = config.models.machine_tokens
    folder, settings, configs = Path(), None, list[Any]()
    try:
        folder = shipped_folder(name)
        settings = read_agent_settings(folder)
        yield Finding("pair", f"{folder}: {settings.num_tokens} tokens of {settings.code.width or 'full'} numbers")
        for part in MODELS:
            found, finding = _model(folder, getattr(settings, part).model, getattr(settings, part).revision, part)
            yield finding
            configs += [found] * (found is not None)
    except FileNotFoundError as error:
        way = "`tokenlink agents` makes it, `tokenlink train pair` trains it"
        yield Finding("pair", f"models.machine_tokens: {error}; {way}", False)
    except ValueError as error:
        yield Finding("pair", str(error), False)
        return
    code: dict[str, Any] = {}
    if settings is not None:
        rank = read_settings(folder / CONFIG)["r"]
        code = {"num_tokens": settings.num_tokens, "width": settings.code.width, "r": rank}
    sensor, task_agent = configs if len(configs) == 2 else paper_pair()
    dtype = precision_of(config.models.dtype)
    whose = "its two models" if len(configs) == 2 else "LLaVA-1.5-7B and LLaMA-2-7B, as their shapes are published"
    try:
        sizes = measure(sensor, task_agent, batch=BATCH, dtype=dtype, **code)
    except ValueError as error:
        yield Finding("size", str(error), False)
        return
    yield Finding("counted", whose)
    yield from _sizes(sizes, dtype)
    yield from _room(sizes, config.models.device, dtype)


def _model(folder: Path, address: str, revision: str | None, part: str) -> tuple[Any, Finding]:
    """Return the configuration of a model that is on this machine, None otherwise, and what is to be said of it."""
    from transformers import AutoConfig

    from semantic.loading import cached_snapshot

    what = part.replace("_", " ")
    local = folder / address
    found = local if local.is_dir() else cached_snapshot(address, revision)
    if found is None:
        way = f"download it with a licence for it: hf download {address}" + (f" --revision {revision}" * bool(revision))
        return None, Finding(what, f"{address} is neither a folder nor in the hub's cache; {way}", False)
    weights = sum(file.stat().st_size for file in found.glob("*.safetensors"))
    config = AutoConfig.from_pretrained(found, local_files_only=True, trust_remote_code=False)
    if not weights:
        return config, Finding(what, f"{found} holds no safetensors; other weights are not loaded", False)
    return config, Finding(what, f"{Path(address).name}: {_gib(weights)} of weights")


def _sizes(sizes: "Sizes", dtype: "torch.dtype") -> Iterator[Finding]:
    yield Finding("parameters", f"sensor {sizes.sensor:,}, task agent {sizes.task_agent:,}, both frozen")
    yield Finding(
        "trained",
        f"LoRA {sizes.lora:,}, slots and code {sizes.code:,}: {100 * sizes.trained_share:.2g} % of the sensor",
    )
    kept = {"all activations": sizes.whole, "with gradient checkpointing": sizes.checkpointed}
    parts = ", ".join(f"{what} {_gib(of.num_bytes)}" for what, of in kept.items())
    yield Finding("memory to run", f"{_gib(sizes.frozen_bytes)} of {str(dtype).removeprefix('torch.')} weights")
    yield Finding(
        "memory to train",
        f"weights, and {_gib(sizes.trained_bytes)} for what is trained, and {parts} at {sizes.batch} examples a step",
    )


def _room(sizes: "Sizes", name: str, dtype: "torch.dtype") -> Iterator[Finding]:
    """Say whether the device has room, and how long a step takes at its measured speed."""
    import torch

    from semantic.loading import device_of
    from semantic.training import products_per_second

    try:
        device = device_of(name)
    except ValueError as error:
        yield Finding("device", f"models.{error}", False)
        return
    there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else _main_memory()
    for what, needed in (("run", sizes.frozen_bytes), ("train", sizes.memory(checkpointed=True))):
        fits = needed <= RESERVE * there
        text = f"{_gib(needed)} needed at least, {device} has {_gib(there)}"
        yield Finding(
            f"room to {what}", text + ("" if fits else "; take a larger device, or a smaller models.dtype"), fits
        )
    speed = products_per_second(dtype, PRODUCTS, 2, device) * 2 * PRODUCTS**3
    seconds = sizes.checkpointed.flops / speed
    yield Finding(
        "time to train",
        f"{sizes.checkpointed.flops / 1e12:.3g} TFLOP a step of {sizes.batch} with checkpointing; at the "
        f"{speed / 1e12:.3g} TFLOP/s of matrix products measured on {device}, {seconds:.3g} s",
    )


def _main_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.3g} GiB"
