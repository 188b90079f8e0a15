"""What a pair of agents takes: parameters, memory and arithmetic of a training step, counted without any weights.

Both models are built on torch's meta device, where tensors have shapes and no numbers, and a training step runs through
them: forward through the vision tower, forward and backward through both language models. Floating-point operations are
those of its matrix products; activations are what autograd keeps for the way back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    PreTrainedConfig,
)

from semantic.adapters import add_lora
from semantic.evaluation_mode import evaluate
from semantic.jtcc import build_code

TRAINED_BYTES = 16  # of a trained number: itself, its gradient and AdamW's two moments, in float32


@dataclass(frozen=True, kw_only=True)
class Activations:
    """A training step that keeps all activations, or those between layers alone.

    Attributes
    ----------
    num_bytes : int
        What autograd keeps at most. Attention is counted with its whole matrix, which fused kernels do not keep.
    flops : int
        Floating-point operations of the step's matrix products, a multiplication and an addition being two.
    """

    num_bytes: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a pair takes.

    Attributes
    ----------
    sensor, task_agent : int
        Parameters of the two frozen models.
    lora, code : int
        Trained parameters: of LoRA, and of slots and code.
    batch : int
        Examples of a training step.
    frozen_bytes, trained_bytes : int
        Memory of the frozen weights, and of what is trained with its gradients and AdamW's moments.
    whole, checkpointed : Activations
        A step without and with gradient checkpointing.
    """

    sensor: int
    task_agent: int
    lora: int
    code: int
    batch: int
    frozen_bytes: int
    trained_bytes: int
    whole: Activations
    checkpointed: Activations

    @property
    def trained_share(self) -> float:
        """Trained parameters over all of the sensor, the code and LoRA; the task agent is the receiver's own."""
        trained = self.lora + self.code
        return trained / (self.sensor + trained)

    def memory(self, checkpointed: bool) -> int:
        """Return the bytes that a training step needs, the channel left out."""
        kept = self.checkpointed if checkpointed else self.whole
        return self.frozen_bytes + self.trained_bytes + kept.num_bytes


def paper_pair() -> tuple[LlavaConfig, LlamaConfig]:
    """Return the shapes of LLaVA-1.5-7B and LLaMA-2-7B.

    Source: config.json of llava-hf/llava-1.5-7b-hf (7 063 427 072 parameters) and of meta-llama/Llama-2-7b-hf
    (6 738 415 616).
    """
    blocks: dict[str, Any] = {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
    }
    tower = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )
    text = LlamaConfig(vocab_size=32064, **blocks)
    return LlavaConfig(vision_config=tower, text_config=text, image_seq_length=576), LlamaConfig(**blocks)


def measure(
    sensor: PreTrainedConfig,
    task_agent: PreTrainedConfig,
    *,
    num_tokens: int = 5,
    width: int | None = 256,
    r: int = 16,
    batch: int = 8,
    text_length: int = 40,
    dtype: torch.dtype = torch.bfloat16,
) -> Sizes:
    """Count what a pair takes.

    Parameters
    ----------
    sensor : PreTrainedConfig
        Configuration of an image-text model that says how long an image is (`image_seq_length`).
    task_agent : PreTrainedConfig
        Configuration of a causal language model.
    num_tokens : int
        Machine-language tokens per question.
    width : int or None
        Real numbers per token; None for uncompressed ones.
    r : int
        Rank of LoRA.
    batch : int
        Examples of a training step.
    text_length : int
        Word pieces of the sensor's prompt, and of question and answer at the task agent.
    dtype : torch.dtype
        Precision of both models and of their activations.

    Raises
    ------
    ValueError
        If the sensor's configuration does not say how long an image is.
    """
    image_length = getattr(sensor, "image_seq_length", None)
    if not image_length:
        raise ValueError(
            f"the configuration of a {sensor.model_type} has no image_seq_length: the length of its prompts is unknown"
        )
    with torch.device("meta"):
        sees = AutoModelForImageTextToText.from_config(sensor, dtype=dtype)
        reads = AutoModelForCausalLM.from_config(task_agent, dtype=dtype).requires_grad_(False)
    counts = {"sensor": _size(sees), "task_agent": _size(reads)}
    lora = sum(p.numel() for p in add_lora(sees, r=r, lora_alpha=2 * r))
    hidden = sees.get_decoder().config.hidden_size
    kind = "uncompressed" if width is None else "jtcc"
    settings: dict[str, Any] = {"kind": kind, "hidden_size": hidden, "num_tokens": num_tokens}
    settings["received_size"] = reads.get_decoder().config.hidden_size
    with torch.device("meta"):
        code = _size(build_code(settings if width is None else {**settings, "width": width})) + num_tokens * hidden
    lengths = {sees: image_length + text_length + num_tokens, reads: 1 + num_tokens + text_length}
    kept, computed = {}, {}
    for checkpointed in (False, True):
        steps = {model: _step(model, batch, length, dtype, checkpointed) for model, length in lengths.items()}
        kept[checkpointed] = {model: num_bytes for model, (num_bytes, _) in steps.items()}
        computed[checkpointed] = sum(flops for _, flops in steps.values()) + _vision_flops(sees, sensor, batch, dtype)
    layer = max(num_bytes // _num_layers(model) for model, num_bytes in kept[False].items())
    whole = Activations(num_bytes=sum(kept[False].values()), flops=computed[False])
    # Going back, a layer's own activations are there again.
    checkpointed = Activations(num_bytes=sum(kept[True].values()) + layer, flops=computed[True])
    return Sizes(
        **counts,
        lora=lora,
        code=code,
        batch=batch,
        frozen_bytes=sum(counts.values()) * dtype.itemsize,
        trained_bytes=(lora + code) * TRAINED_BYTES,
        whole=whole,
        checkpointed=checkpointed,
    )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _num_layers(model: Any) -> int:
    return model.get_decoder().config.num_hidden_layers


def _vision_flops(model: Any, config: Any, batch: int, dtype: torch.dtype) -> int:
    """Return the operations of a forward pass through the vision tower, whose activations nobody keeps."""
    side = config.vision_config.image_size
    pixels = torch.empty(batch, 3, side, side, device="meta", dtype=dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.get_image_features(pixel_values=pixels)
    return counter.get_total_flops()


def _step(model: Any, batch: int, length: int, dtype: torch.dtype, checkpointed: bool) -> tuple[int, int]:
    """Return the bytes that a language model keeps for the way back, and the operations of both ways."""
    decoder = model.get_decoder()
    (decoder.activation_checkpointing_enable if checkpointed else decoder.activation_checkpointing_disable)()
    evaluate(decoder, checkpoint=checkpointed)
    embeds = torch.empty(batch, length, decoder.config.hidden_size, device="meta", dtype=dtype, requires_grad=True)
    mask = torch.empty(batch, 1, length, length, device="meta", dtype=torch.bool)
    with FlopCounterMode(display=False) as counter:
        with _kept() as kept:
            hidden = decoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
        hidden.sum().backward()
    return sum(storage.nbytes() for storage in kept.values()), counter.get_total_flops()


@contextmanager
def _kept() -> Iterator[dict[int, Any]]:
    """Collect the memory of what autograd keeps within the block, parameters left out; each piece counts once."""
    storages: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages
