"""LoRA on the sensor's keys and values: adding, switching, starting, saving and loading, with peft."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

TARGETS = r".*language_model.*\.(k_proj|v_proj)"  # the vision tower has projections of the same names
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def add_lora(model: PreTrainedModel, r: int = 16, lora_alpha: int = 32) -> list[nn.Parameter]:
    """Freeze a model and add LoRA to `k_proj` and `v_proj` of its language model.

    Returns
    -------
    list of nn.Parameter
        Parameters of the adapter, the only trainable ones of the model.
    """
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=r, lora_alpha=lora_alpha, target_modules=TARGETS, lora_dropout=0.0))
    return lora_parameters(model)


def lora_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Make the parameters of a model's LoRA trainable, and nothing else; return them."""
    parameters = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameters.append(parameter)
    if not parameters:
        raise ValueError(
            f"no module of {type(model).__name__} matches {TARGETS!r}; its language model needs k_proj and v_proj"
        )
    return parameters


@torch.no_grad()
def start_lora(model: PreTrainedModel, earlier: PreTrainedModel) -> None:
    """Start a model's LoRA from an earlier one of the same or a lower rank; both then compute the same.

    Additional ranks keep LoRA's own start: A at random, B at zero.

    Raises
    ------
    ValueError
        If the earlier rank is higher, or its ``lora_alpha / r`` differs.
    """
    new, old = (cast(LoraConfig, m.peft_config["default"]) for m in (model, earlier))
    if old.r > new.r or old.lora_alpha * new.r != new.lora_alpha * old.r:
        raise ValueError(
            f"LoRA of rank {new.r} and lora_alpha {new.lora_alpha} cannot start from rank {old.r} and lora_alpha "
            f"{old.lora_alpha}; give r={old.r} or more, and the same lora_alpha / r"
        )
    learned = dict(earlier.named_parameters())
    for name, parameter in model.named_parameters():
        if "lora_A" in name:  # [r, in]
            parameter[: old.r] = learned[name]
        elif "lora_B" in name:  # [out, r]
            parameter[:, : old.r] = learned[name]


@contextmanager
def without_lora(model: PreTrainedModel) -> Iterator[None]:
    """Switch a model's LoRA off within the block, which leaves the pretrained model."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def save_lora(model: PreTrainedModel, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a model's LoRA in peft's layout: adapter_config.json, adapter_model.safetensors in `dtype`."""
    model.peft_config["default"].save_pretrained(folder)
    config = json.loads((folder / CONFIG).read_text())
    config["base_model_name_or_path"] = None  # agents.json has it, relative to this folder
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
    state = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in get_peft_model_state_dict(model).items()}
    save_file(state, folder / WEIGHTS)


def load_lora(model: PreTrainedModel, folder: Path) -> None:
    """Add the LoRA that `save_lora` wrote to a model.

    Raises
    ------
    ValueError
        If names or shapes of the file's tensors do not fit the model.
    """
    model.requires_grad_(False)
    model.add_adapter(LoraConfig.from_pretrained(str(folder)))
    stored = load_file(folder / WEIGHTS)
    given = {name: list(tensor.shape) for name, tensor in stored.items()}
    needed = {name: list(tensor.shape) for name, tensor in get_peft_model_state_dict(model).items()}
    wrong = [name for name in {**needed, **given} if needed.get(name) != given.get(name)]
    if wrong:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit the sensor: the shape of {wrong[0]} is {given.get(wrong[0])} in the file "
            f"and {needed.get(wrong[0])} in the model; it belongs to another base model"
        )
    set_peft_model_state_dict(model, stored)
    model.requires_grad_(False)
