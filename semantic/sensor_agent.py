"""The sensor agent: an image-text model that expresses images in machine-language tokens."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from semantic.adapters import without_lora
from semantic.task_agent import generate, input_embeddings, with_padding

ImageLike = Image.Image | np.ndarray


class ImageTextProcessor(Protocol):
    """Attributes of a `transformers` processor that the sensor uses; their common base class does not name them."""

    image_processor: Callable[..., Any]
    tokenizer: PreTrainedTokenizerBase
    image_token: str
    image_token_id: int


class SensorAgent(nn.Module):
    """An image-text model with LoRA on keys and values, and `num_tokens` learned slots at the end of its input.

    The tokens are the hidden states of the final block (behind its norm) at the last `num_tokens` positions, the slots.
    Without its LoRA the pretrained model answers questions about noiseless images (the paper's benchmark 1).

    Parameters
    ----------
    model : PreTrainedModel
        Image-text model of `transformers` with `get_image_features`, LoRA already added (`semantic.adapters`).
    processor : ProcessorMixin with an image token
    num_tokens : int
        Machine-language tokens per question.
    prompt : str
        Input of the model, with ``{text}`` and the processor's image token.
    max_new_tokens : int
        Length of the longest answer [word pieces].
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ImageTextProcessor,
        *,
        num_tokens: int = 5,
        prompt: str = "<image>{text}",
        max_new_tokens: int = 8,
    ) -> None:
        super().__init__()
        if num_tokens < 1:
            raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
        if "{text}" not in prompt or processor.image_token not in prompt:
            raise ValueError(f"prompt must contain {{text}} and {processor.image_token}, got {prompt!r}")
        self.model, self.processor = model.eval(), processor
        with_padding(processor.tokenizer)
        self.num_tokens, self.prompt, self.max_new_tokens = num_tokens, prompt, max_new_tokens
        embeddings = input_embeddings(model).weight.detach().float()
        self.slots = nn.Parameter(embeddings.mean(0) + embeddings.std() * torch.randn(num_tokens, embeddings.shape[1]))

    def train(self, mode: bool = True) -> "SensorAgent":
        """Keep the pretrained model in evaluation mode (no dropout); LoRA and slots are trained nevertheless."""
        super().train(mode)
        self.model.eval()
        return self

    @property
    def hidden_size(self) -> int:
        """Length of a token."""
        return self.slots.shape[1]

    @torch.no_grad()
    def image_tokens(self, images: Sequence[ImageLike], batch_size: int = 32) -> list[Float[Tensor, "patches hidden"]]:
        """Return each image's projected features; an image object that occurs several times is computed once."""
        images = list(images)  # a sequence that reads images anew at every access would mix up identities
        unique = {id(image): image for image in images}
        features: dict[int, Tensor] = {}
        keys = list(unique)
        for start in range(0, len(keys), batch_size):
            part = keys[start : start + batch_size]
            pixels = self.processor.image_processor([unique[k] for k in part], return_tensors="pt")["pixel_values"]
            pixels = pixels.to(self.model.device, self.model.dtype)
            features |= dict(zip(part, self.project(pixels), strict=True))
        return [features[id(image)] for image in images]

    def project(self, pixel_values: Float[Tensor, "batch channels height width"]) -> Sequence[Tensor]:
        """Return the features of preprocessed images as the language model gets them: [patches, hidden] each."""
        model: Any = self.model  # not every PreTrainedModel has image features
        return model.get_image_features(pixel_values=pixel_values, return_dict=True).pooler_output

    def tokenize(
        self, texts: Sequence[str], num_patches: int
    ) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
        """Return (input_ids, attention_mask) of prompts, left-padded, the image token repeated for every patch."""
        image = self.processor.image_token
        prompts = [self.prompt.format(text=text).replace(image, image * num_patches) for text in texts]
        inputs = self.processor.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        return inputs["input_ids"].to(self.model.device), inputs["attention_mask"].to(self.model.device)

    def embed(
        self, input_ids: Int[Tensor, "batch length"], image_tokens: Float[Tensor, "batch patches hidden"]
    ) -> Float[Tensor, "batch length hidden"]:
        """Embed tokenized prompts, with image features at the image tokens."""
        embeds = input_embeddings(self.model)(input_ids)
        where = (input_ids == self.processor.image_token_id)[..., None].expand_as(embeds)
        return embeds.masked_scatter(where, image_tokens.to(embeds.dtype))

    def express(
        self,
        image_tokens: Float[Tensor, "batch patches hidden"],
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Express images, given tokenized vague descriptions: return the last hidden states at the slots."""
        batch = len(input_ids)
        embeds = self.embed(input_ids, image_tokens)
        embeds = torch.cat([embeds, self.slots.to(embeds.dtype).expand(batch, -1, -1)], dim=1)
        mask = torch.cat([attention_mask, attention_mask.new_ones(batch, self.num_tokens)], dim=1)
        hidden = self.model.get_decoder()(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state
        return hidden[:, -self.num_tokens :].float()

    @torch.no_grad()
    def tokens(
        self, images: Sequence[ImageLike], descriptions: Sequence[str], batch_size: int = 50
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Express images, given vague descriptions in words; equal pairs are computed once."""
        if len(images) != len(descriptions):
            raise ValueError(f"{len(images)} images came with {len(descriptions)} descriptions; one each is needed")
        images = list(images)
        pairs = {(id(i), d): k for k, (i, d) in reversed(list(enumerate(zip(images, descriptions, strict=True))))}
        features = self.image_tokens(images)
        order = sorted(pairs.values())
        done = []
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            stacked = torch.stack([features[k] for k in part])
            done.append(self.express(stacked, *self.tokenize([descriptions[k] for k in part], stacked.shape[1])))
        row = {k: n for n, k in enumerate(order)}
        index = [row[pairs[id(i), d]] for i, d in zip(images, descriptions, strict=True)]
        return torch.cat(done)[index]

    @torch.no_grad()
    def answer(self, images: Sequence[ImageLike], questions: Sequence[str], batch_size: int = 50) -> list[str]:
        """Answer detailed questions about noiseless images greedily, by the model without LoRA."""
        if len(images) != len(questions):
            raise ValueError(f"{len(images)} images came with {len(questions)} questions; one each is needed")
        answers: list[str] = []
        with without_lora(self.model):
            features = self.image_tokens(images)
            for start in range(0, len(questions), batch_size):
                stacked = torch.stack(features[start : start + batch_size])
                input_ids, mask = self.tokenize(questions[start : start + batch_size], stacked.shape[1])
                embeds = self.embed(input_ids, stacked)
                answers += generate(self.model, self.processor.tokenizer, embeds, mask, self.max_new_tokens)
        return answers
