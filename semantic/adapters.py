"""LoRA on the sensor's keys and values: adding, switching, starting, saving and loading, with peft."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, cast

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import Linear
from pydantic import BaseModel, Field, TypeAdapter
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from semantic.loading import read_tensors
from semantic.model_files import ModelFileError, check_settings, read_settings

KEYS, VALUES = "k_proj", "v_proj"
FUSED = ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "in_proj", "qkv")  # names of queries, keys and values in one
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class LoraSettings(BaseModel, strict=True, extra="allow"):
    """The keys of adapter_config.json that what a LoRA computes depends on; peft checks no types."""

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(ge=1, le=65536)]
    lora_alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    target_modules: str | list[str]
    lora_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]] | None = None
    alpha_pattern: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    megatron_config: None = None  # peft imports the module that stands beside it


def keys_and_values(model: PreTrainedModel) -> str:
    """Return the pattern of the keys' and values' projections of a model's language model, for peft.

    The vision tower has projections of the same names; it is no part of the language model.

    Raises
    ------
    ValueError
        If there are none, or if they are one projection with the queries.
    """
    decoder: nn.Module = model.get_decoder()
    name = type(decoder).__name__
    leaves = {module: path.rpartition(".")[2] for path, module in decoder.named_modules()}
    if fused := sorted(set(leaves.values()) & set(FUSED)):
        raise ValueError(
            f"{name} has queries, keys and values in one projection, {fused[0]}; LoRA on keys and values alone would "
            "change the queries too. Take a model with k_proj and v_proj, or give add_lora its target_modules"
        )
    if not {KEYS, VALUES} <= set(leaves.values()):
        raise ValueError(f"{name} has no {KEYS} and {VALUES} for LoRA; give add_lora the target_modules of its own")
    place = next(path for path, module in model.named_modules() if module is decoder)
    return rf"{re.escape(place + '.') if place else ''}.*\.({KEYS}|{VALUES})"


def add_lora(
    model: PreTrainedModel, r: int = 16, lora_alpha: int = 32, target_modules: str | None = None
) -> list[nn.Parameter]:
    """Freeze a model and add LoRA to the keys and values of its language model, or to other modules by a pattern.

    Returns
    -------
    list of nn.Parameter
        Parameters of the adapter, the only trainable ones of the model.
    """
    model.requires_grad_(False)
    targets = keys_and_values(model) if target_modules is None else target_modules
    model.add_adapter(LoraConfig(r=r, lora_alpha=lora_alpha, target_modules=targets, lora_dropout=0.0))
    return lora_parameters(model)


def lora_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Make the parameters of a model's LoRA trainable, and nothing else; return them, float32 in any model."""
    parameters = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameters.append(parameter)
    if not parameters:
        raise ValueError(
            f"{type(model).__name__} has no LoRA yet; add_lora adds one to a language model with {KEYS} and {VALUES}"
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


@torch.no_grad()
def merge_lora(base: PreTrainedModel, tuned: PreTrainedModel) -> None:
    r"""Add what a tuned model's LoRA computes to the weights of the same model without one; both then compute the same.

    .. math:: W \leftarrow W + \frac{\alpha}{r} B A

    Source: E. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, section 4.1.
    """
    for name, module in tuned.named_modules():
        if isinstance(module, Linear):
            cast(nn.Linear, base.get_submodule(name)).weight.add_(module.get_delta_weight("default"))


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
    ModelFileError
        If one of the files is damaged, or names or shapes of its tensors do not fit the model.
    """
    model.requires_grad_(False)
    path = folder / CONFIG
    check_settings(path, read_settings(path), TypeAdapter(LoraSettings))
    try:
        model.add_adapter(LoraConfig.from_pretrained(str(folder)))
    except Exception as error:  # peft checks little before it uses it
        raise ModelFileError(path, f"describes no LoRA of the sensor: {type(error).__name__}: {error}") from error
    needed = get_peft_model_state_dict(model)
    set_peft_model_state_dict(
        model, read_tensors(folder / WEIGHTS, needed, "the sensor", hint="; it belongs to another base model")
    )
    model.requires_grad_(False)
