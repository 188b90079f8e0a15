"""The training loop that all stages share: AdamW, a schedule by the clock, a log. And the model card."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from semantic.loading import without_progress_bar

Metrics = dict[str, float]
FLOAT32_ATTENTION = "sdpa_float32"


def attend_in_float32(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, *args, **kwargs):
    """Attend in float32 under any autocast: torch's bfloat16 kernel is slow backwards on CPUs."""
    with torch.autocast(query.device.type, enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *args, **kwargs)


AttentionInterface.register(FLOAT32_ATTENTION, attend_in_float32)


def products_per_second(dtype: torch.dtype, size: int = 512, repeats: int = 20) -> float:
    """Measure the number of matrix products of `size` that this machine computes in a second."""
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    torch.mm(a, b)  # the first product sets things up
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(a, b)
    return repeats / (time.perf_counter() - start)


def mixed_precision(*models: PreTrainedModel) -> torch.autocast:
    """Return the autocast for the training of models: matrix products in bfloat16 if these are measured to be faster.

    Processors with AMX gain, others lose. Attention stays in float32, and so does everything that autocast leaves
    alone, including the weights.
    """
    faster = products_per_second(torch.bfloat16) > 1.5 * products_per_second(torch.float32)
    print(f"matrix products in {'bfloat16' if faster else 'float32'}", flush=True)
    if faster:
        for model in models:
            model.set_attn_implementation(FLOAT32_ATTENTION)
    return torch.autocast("cpu", torch.bfloat16, enabled=faster)


@without_progress_bar()
def save_half(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's weights as float16 safetensors; the model itself keeps its precision."""
    copy.deepcopy(model).half().save_pretrained(folder)


def write_card(
    folder: Path,
    *,
    title: str,
    stage: str,
    options: Mapping[str, object],
    results: Mapping[str, object],
    name: str = "README.md",
) -> None:
    """Write a model card: a title, the command that made the weights, the measured results.

    Parameters
    ----------
    folder : Path
        Folder of the weights.
    title : str
        Short description of the weights.
    stage : str
        Stage of `tokenlink train`.
    options : mapping
        Options of the stage; folders are reduced to their names.
    results : mapping
        Measurements on scenes that the training has not seen.
    name : str
        Name of the file.
    """
    given = {
        k: Path(v).name if isinstance(v, Path) else v for k, v in options.items() if v is not None and v is not False
    }
    flags = [f"--{k.replace('_', '-')}" + ("" if v is True else f" {v}") for k, v in given.items()]
    command = " ".join([f"tokenlink train {stage}", *flags])
    lines = [f"# {title}", "", "Made by", "", f"    {command}", "", "| measured on held-out scenes | |", "|---|---|"]
    lines += [f"| {quantity} | {value} |" for quantity, value in results.items()]
    log = "`training.jsonl` is the log of the run. " if name == "README.md" else ""
    lines += ["", f"{log}Licence: Apache-2.0, data included."]
    (Path(folder) / name).write_text("\n".join(lines) + "\n")


def fit(
    step: Callable[[float], tuple[Tensor, Metrics]],
    parameters: Iterable[torch.nn.Parameter] | list[dict],
    *,
    minutes: float,
    lr: float,
    log: Path,
    warmup_share: float = 0.03,
    weight_decay: float = 0.01,
    every: int = 50,
    save: Callable[[], None] | None = None,
    save_minutes: float = 10.0,
    max_steps: int | None = None,
    precision: AbstractContextManager | None = None,
) -> int:
    """Minimise a loss for some minutes, by AdamW with a linear warm-up and a cosine decay.

    The schedule follows the clock: a run ends in time on fast and slow machines alike. With `max_steps` it follows the
    step count instead, which repeats exactly.

    Parameters
    ----------
    step : callable
        Share of the run that is over (0 to 1) to the loss and the metrics of the log.
    parameters : iterable
        Parameters or groups, as for `torch.optim.AdamW`; a group's own ``lr`` is its peak.
    minutes : float
        Wall-clock budget.
    lr : float
        Peak learning rate.
    log : Path
        File that gets a JSON line (step, minutes, mean metrics) every `every` steps.
    warmup_share : float
        Share of the run in which the learning rate rises.
    weight_decay : float
        Weight decay of AdamW.
    save : callable, optional
        Function that is called every `save_minutes` and at the end.
    max_steps : int, optional
        Number of steps; by default the clock decides.
    precision : context manager, optional
        Context in which `step` runs: see `mixed_precision`.

    Returns
    -------
    int
        Number of steps taken.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    trainable = [p for group in optimizer.param_groups for p in group["params"]]
    log.parent.mkdir(parents=True, exist_ok=True)
    start = last_save = time.monotonic()
    sums: Metrics = {}
    count = number = 0
    while True:
        elapsed = (time.monotonic() - start) / 60
        share = number / max_steps if max_steps else elapsed / minutes
        if share >= 1:
            break
        factor = min(1.0, share / warmup_share + 0.01) * 0.5 * (1 + math.cos(math.pi * share))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        with precision or nullcontext():
            loss, metrics = step(share)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {number}; lower lr (now {lr})")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        number += 1
        for name, value in {"loss": loss.item(), **metrics}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
            sums["n_" + name] = sums.get("n_" + name, 0.0) + 1
        count += 1
        if count == every:
            means = {k: round(v / sums["n_" + k], 4) for k, v in sums.items() if not k.startswith("n_")}
            line = json.dumps({"step": number, "minutes": round(elapsed, 2), **means})
            with log.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)
            sums, count = {}, 0
        if save and time.monotonic() - last_save > 60 * save_minutes:
            save()
            last_save = time.monotonic()
    if save:
        save()
    return number
