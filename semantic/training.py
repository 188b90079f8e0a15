"""The training loop that all stages share: AdamW, warm-up and cosine by time, a log line now and then."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

Metrics = dict[str, float]


def save_half(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's weights as float16 safetensors; it goes on in its own precision."""
    copy.deepcopy(model).half().save_pretrained(folder)


def write_card(
    folder: Path, *, title: str, stage: str, options: Mapping[str, object], results: Mapping[str, object]
) -> None:
    """Write a model card: what the weights are, the command that made them, what was measured.

    Parameters
    ----------
    folder : Path
    title : str
        One sentence on what the weights are.
    stage : str
        Of `tokenlink train`.
    options : mapping
        The stage's options; folders are reduced to their names.
    results : mapping
        What was measured on scenes that the training has not seen.
    """
    command = f"tokenlink train {stage}"
    for name, value in options.items():
        if value is not None and value is not False:
            command += f" --{name.replace('_', '-')}"
            command += "" if value is True else f" {Path(value).name if isinstance(value, Path) else value}"
    lines = [f"# {title}", "", "Made by", "", f"    {command}", "", "| measured on held-out scenes | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in results.items()]
    lines += ["", "`training.jsonl` is the log of the run. Licence: Apache-2.0, data included."]
    (Path(folder) / "README.md").write_text("\n".join(lines) + "\n")


def fit(
    step: Callable[[float], tuple[torch.Tensor, Metrics]],
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
) -> int:
    """Minimise what `step` returns for so many minutes, by AdamW with a linear warm-up and a cosine decay.

    The schedule follows the clock, so that a run ends in time on a fast and on a slow machine alike; `max_steps`
    makes it follow the step count instead, which repeats exactly.

    Parameters
    ----------
    step : callable
        Takes the share of the run that is over (0 to 1), returns the loss and metrics for the log.
    parameters : as for torch.optim.AdamW; a group's own ``lr`` is its peak
    minutes : float
        Wall-clock budget.
    lr : float
        Peak learning rate.
    log : Path
        Gets a JSON line (step, minutes, mean metrics) every `every` steps.
    save : callable, optional
        Called every `save_minutes` and at the end.

    Returns
    -------
    int
        The number of steps taken.

    Raises
    ------
    FloatingPointError
        If the loss is no longer finite.
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
