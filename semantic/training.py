"""The training loop that all stages share: AdamW, a schedule in steps, a log, a checkpoint. And the model card."""

import copy
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from semantic.loading import without_progress_bar
from semantic.model_files import ModelFileError, write_atomically

Metrics = dict[str, float]
FLOAT32_ATTENTION = "sdpa_float32"


def attend_in_float32(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, *args, **kwargs):
    """Attend in float32 under any autocast: torch's bfloat16 kernel is slow backwards on CPUs."""
    with torch.autocast(query.device.type, enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *args, **kwargs)


AttentionInterface.register(FLOAT32_ATTENTION, attend_in_float32)


def products_per_second(
    dtype: torch.dtype, size: int = 512, repeats: int = 20, device: torch.device | str = "cpu"
) -> float:
    """Measure the number of matrix products of `size` that a device computes in a second."""
    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    product = torch.mm(a, b)  # the first one sets things up
    product[0, 0].item()  # waits for the device
    start = time.perf_counter()
    for _ in range(repeats):
        product = torch.mm(a, b)
    product[0, 0].item()
    return repeats / (time.perf_counter() - start)


def mixed_precision(*models: PreTrainedModel) -> torch.autocast:
    """Return the autocast for the training of models: matrix products in bfloat16 if these are measured to be faster.

    Processors with AMX gain, others lose. Attention stays in float32, and so does everything that autocast leaves
    alone, including the weights. Models that are not in float32, or on another device, compute as they are.
    """
    if any(model.dtype != torch.float32 or model.device.type != "cpu" for model in models):
        return torch.autocast("cpu", torch.bfloat16, enabled=False)
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
    licence: str = "Apache-2.0, data included",
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
    licence : str
        Licence of the weights.
    """
    given = [(k, part) for k, v in options.items() for part in (v if isinstance(v, list) else [v])]
    named = [(k, v.name if isinstance(v, Path) else v) for k, v in given if v is not None and v is not False]
    flags = [f"--{k.replace('_', '-')}" + ("" if v is True else f" {v}") for k, v in named]
    command = " ".join([f"tokenlink train {stage}", *flags])
    lines = [f"# {title}", "", "Made by", "", f"    {command}", "", "| measured on held-out scenes | |", "|---|---|"]
    lines += [f"| {quantity} | {value} |" for quantity, value in results.items()]
    has_log = name == "README.md" and (Path(folder) / "training.jsonl").exists()
    log = "`training.jsonl` is the log of the run. " if has_log else ""
    lines += ["", f"{log}Licence: {licence}."]
    (Path(folder) / name).write_text("\n".join(lines) + "\n")


LICENCE_OF_OTHERS = "those of the models and of the data set"  # of weights that were trained on what users bring


def described(channel: object) -> str:
    """Return a channel's options as a module prints them; of another callable, its name."""
    if isinstance(channel, torch.nn.Module):
        return channel.extra_repr()
    return getattr(channel, "__name__", type(channel).__name__)


class Stateful(Protocol):
    """Something beside the trained parameters that changes in training, such as a module with running moments."""

    def state_dict(self) -> dict[str, Any]:
        """Return its state: tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take a state over."""
        ...


def fit(
    step: Callable[[float], tuple[Tensor, Metrics]],
    parameters: Iterable[torch.nn.Parameter] | list[dict],
    *,
    steps: int,
    lr: float,
    log: Path,
    rng: random.Random,
    seed: int = 0,
    state: Mapping[str, Stateful] | None = None,
    warmup_share: float = 0.03,
    weight_decay: float = 0.01,
    every: int = 50,
    save: Callable[[], None] | None = None,
    save_steps: int = 500,
    precision: AbstractContextManager | None = None,
) -> None:
    """Minimise a loss by AdamW with a linear warm-up and a cosine decay, over a number of steps.

    A run that was stopped goes on from its last checkpoint when it is started again in the same way. It ends with the
    same weights: every step starts `rng` and torch's global generator anew from the seed and its own number.

    Parameters
    ----------
    step : callable
        Share of the run that is over (0 to 1) to the loss and the metrics of the log.
    parameters : iterable
        Parameters or groups, as for `torch.optim.AdamW`; a group's own ``lr`` is its peak.
    steps : int
        Number of steps.
    lr : float
        Peak learning rate.
    log : Path
        File that gets a JSON line (step, minutes, mean metrics) every `every` steps; it belongs to this run alone. The
        checkpoint lies beside it until the run ends.
    rng : random.Random
        Generator that `step` draws from.
    seed : int
        Seed of the draws of all steps.
    state : mapping, optional
        What else changes, by name.
    warmup_share : float
        Share of the run in which the learning rate rises.
    weight_decay : float
        Weight decay of AdamW.
    save : callable, optional
        Function that is called with every checkpoint, and at the end.
    save_steps : int
        Steps between checkpoints.
    precision : context manager, optional
        Context in which `step` runs: see `mixed_precision`.

    Raises
    ------
    ValueError
        If `steps` is not positive, or the checkpoint is of another run.
    FloatingPointError
        If the loss is not finite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    trainable = [p for group in optimizer.param_groups for p in group["params"]]
    log.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(log.with_suffix(".checkpoint"), trainable, optimizer, dict(state or {}))
    run = {"steps": steps, "seed": seed, "lr": peaks}
    done, minutes = checkpoint.load(run)
    _keep_lines(log, done)
    earlier, start = minutes, time.monotonic() - 60 * minutes
    sums: Metrics = {}
    for number in range(done, steps):
        share = number / steps
        factor = min(1.0, share / warmup_share + 0.01) * 0.5 * (1 + math.cos(math.pi * share))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        rng.seed(f"{seed} {number}")
        torch.manual_seed(rng.getrandbits(63))
        with precision or nullcontext():
            loss, metrics = step(share)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {number}; lower lr (now {lr})")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for name, value in {"loss": loss.item(), **metrics}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
            sums["n_" + name] = sums.get("n_" + name, 0.0) + 1
        minutes = (time.monotonic() - start) / 60
        if (number + 1) % every == 0:
            means = {k: round(v / sums["n_" + k], 4) for k, v in sums.items() if not k.startswith("n_")}
            line = json.dumps({"step": number + 1, "minutes": round(minutes, 2), **means})
            with log.open("a") as file:
                file.write(line + "\n")
            left = (minutes - earlier) / (number + 1 - done) * (steps - number - 1)
            shown = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
            print(f"step {number + 1} of {steps}, about {math.ceil(left)} min left: {shown}", flush=True)
            sums = {}
        if (number + 1) % save_steps == 0 and number + 1 < steps:
            if save:
                save()
            checkpoint.save(run, number + 1, minutes)
    if save:
        save()
    checkpoint.path.unlink(missing_ok=True)


def _keep_lines(log: Path, done: int) -> None:
    """Take out of a log what a run that was stopped wrote after its last checkpoint; all of it where there is none."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text().splitlines(keepends=True):
        with suppress(ValueError):  # half a line
            if json.loads(line)["step"] <= done:
                kept.append(line)
    write_atomically(log, "".join(kept).encode())


class Checkpoint:
    """A file from which a training goes on: parameters, optimizer, and whatever else changes.

    Parameters
    ----------
    path : Path
    parameters : list of torch.nn.Parameter
    optimizer : torch.optim.Optimizer
    state : mapping
        What else changes, by name.
    """

    def __init__(
        self,
        path: Path,
        parameters: list[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Stateful],
    ) -> None:
        self.path, self._parameters, self._optimizer, self._state = path, parameters, optimizer, state

    def save(self, run: dict[str, Any], number: int, minutes: float) -> None:
        """Write the state after a number of steps; a run that is killed meanwhile keeps the checkpoint before."""
        content = {
            "run": run,
            "number": number,
            "minutes": minutes,
            "parameters": [p.detach() for p in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "state": {name: part.state_dict() for name, part in self._state.items()},
        }
        unfinished = self.path.with_suffix(".unfinished")
        torch.save(content, unfinished)
        os.replace(unfinished, self.path)

    def load(self, run: dict[str, Any]) -> tuple[int, float]:
        """Take over the state of a run of the same steps, seed and rates; return its steps and minutes so far.

        Raises
        ------
        ModelFileError
            If the file is damaged, or of another run.
        """
        if not self.path.exists():
            return 0, 0.0
        try:
            content = torch.load(self.path, weights_only=True)
            shapes = [list(p.shape) for p in content["parameters"]]
            of_this_run = content["run"] == run
        except Exception as error:  # of zip, of pickle, of torch: whatever half a file looks like
            raise ModelFileError(self.path, f"is no whole checkpoint: {error}; delete it, and start anew") from error
        if not of_this_run or shapes != [list(p.shape) for p in self._parameters]:
            raise ModelFileError(
                self.path,
                f"is the checkpoint of another training ({content['run']}, this one is {run}); delete it, or train "
                "into another folder",
            )
        with torch.no_grad():
            for parameter, value in zip(self._parameters, content["parameters"], strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(content["optimizer"])
        for name, part in self._state.items():
            part.load_state_dict(content["state"][name])
        print(f"goes on from {self.path} after {content['number']} steps", flush=True)
        return content["number"], content["minutes"]
